"""Verifies distribution files: each by its provenance, against the publisher that the user expects of its project.

Who is expected comes from the user's file: a publisher, or an earlier release's file by its digest, whose publisher it
was by its certificate. Where there is no rule, the outcome says whom the certificate names, and is a fault: an index
must not be the one to say whom to trust.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from kedge.documents import DocumentError
from kedge.errors import FetchError, KedgeError, StoreError, VerificationError
from kedge.registries import Allowances, Checked
from kedge.registries.pypi.attestation import Attestation, is_published_by, verify_provenance
from kedge.registries.pypi.index import Index
from kedge.registries.pypi.locked import LockedFile, Origin, parse_filename
from kedge.registries.sigstore import Build, BundleVerifier, Expectations, Publisher


class Outcome(StrEnum):
    """The outcome for one file. The values stand in ``--json``."""

    VERIFIED = "verified"
    WRONG_PUBLISHER = "wrong-publisher"
    NO_EXPECTATION = "no-expectation"
    NO_PROVENANCE = "no-provenance"
    REFUSED = "refused"
    NOT_FOUND = "not-found"
    UNREACHABLE = "unreachable"
    NOT_BOUND = "not-bound"
    UNVOUCHED = "unvouched"
    ALLOWED = "allowed"
    SKIPPED = "skipped"


GOOD = frozenset({Outcome.VERIFIED})
_FAULTLESS = frozenset({*GOOD, Outcome.ALLOWED, Outcome.SKIPPED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where provenance comes from: a folder of ``FILENAME.provenance``, and an index for what is not there."""

    folder: Path | None = None
    index: Index | None = None

    def find(self, project: str, sha256: str) -> str | None:
        """The name of the file with this digest; None, if nobody knows it."""
        return self.index.find(project, sha256) if self.index is not None else None

    def provenance(self, project: str, version: str, filename: str) -> bytes | None:
        """The provenance of a file; None, if there is none.

        Raises:
            FetchError: it cannot be had.
            StoreError: the folder cannot be read.
        """
        if self.folder is not None:
            file = self.folder / f"{filename}.provenance"
            try:
                if file.is_file():
                    return file.read_bytes()
            except OSError as error:
                raise StoreError(f"{file}: cannot be read: {(error.strerror or str(error)).lower()}") from error
        return self.index.provenance(project, version, filename) if self.index is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One file's outcome, and its build where it is verified."""

    checked: Checked
    build: Build | None


def verify_files(
    files: Sequence[LockedFile],
    sources: Sources,
    expectations: Expectations,
    verifier: BundleVerifier,
    *,
    allowances: Allowances,
    progress: Callable[[int], None] = lambda _count: None,
) -> Iterator[Result]:
    """Give the result for every file, in their order."""
    judge = _Judge(sources, expectations, verifier, allowances)
    for file in files:
        yield judge.judge(file)
        progress(1)


class _Judge:
    def __init__(
        self, sources: Sources, expectations: Expectations, verifier: BundleVerifier, allowances: Allowances
    ) -> None:
        self._sources = sources
        self._allowances = allowances
        self._expectations = expectations
        self._verifier = verifier
        self._expected: dict[str, Publisher | KedgeError | None] = {}

    def judge(self, file: LockedFile) -> Result:
        if file.origin is not None and file.origin.kind != "include":
            return self._elsewhere(file, file.origin)
        if file.unbound is not None or file.sha256 is None:
            return _result(file, Outcome.NOT_BOUND, file.unbound or "has no digest")
        try:
            filename = file.filename or self._sources.find(file.project, file.sha256)
            if filename is None:
                missing = f"the index lists no file of {file.project} with this digest"
                unasked = "only its digest is known, and no index was asked for its name (--index)"
                return _result(file, Outcome.NOT_FOUND, missing if self._sources.index is not None else unasked)
            found = self._attestations(file.project, filename, file.sha256)
        except FetchError as error:
            return _result(file, Outcome.UNREACHABLE, error.message)
        except StoreError as error:
            return _result(
                file, Outcome.UNREACHABLE, f"{error.message} ({error.hint})" if error.hint else error.message
            )
        except VerificationError as error:
            return _result(file, Outcome.REFUSED, error.message)
        except (DocumentError, ValueError) as error:
            return _result(file, Outcome.REFUSED, f"its provenance cannot be read: {error}")
        if not found:
            return _result(file, Outcome.NO_PROVENANCE, "has no provenance", filename=filename)
        return self._against_expectation(file, filename, found)

    def _elsewhere(self, file: LockedFile, origin: Origin) -> Result:
        """The result for what comes from no index: a failure, unless it is of the project or the user allows it."""
        if origin.is_of_project:
            return _result(file, Outcome.SKIPPED, f"is a folder of the project: {origin.source}")
        allowed = self._allowances.find(origin.kind, origin.source)
        if allowed is not None:
            return _result(file, Outcome.ALLOWED, allowed.text)
        why = self._allowances.explain(origin.kind, origin.source)
        return _result(file, Outcome.UNVOUCHED, f"comes from {origin.kind} {origin.source or 'of no name'}: {why}")

    def _attestations(self, project: str, filename: str, sha256: str) -> tuple[Attestation, ...]:
        named = parse_filename(filename)
        if named.project != project:
            raise ValueError(f"{filename} is a file of {named.project}, expected one of {project}")
        data = self._sources.provenance(project, named.version, filename)
        if data is None:
            return ()
        return verify_provenance(data, filename=filename, sha256=sha256, verifier=self._verifier)

    def _against_expectation(self, file: LockedFile, filename: str, found: tuple[Attestation, ...]) -> Result:
        expected = self._expect(file.project)
        publishers = [each.publisher for each in found]
        named = ", ".join(dict.fromkeys(each.text for each in publishers if each is not None)) or "nobody it can name"
        if isinstance(expected, KedgeError):
            detail = f"whom to expect is not known: {expected.message}"
            return _result(file, Outcome.NO_EXPECTATION, detail, filename=filename)
        if expected is None:
            detail = f"no rule says who publishes {file.project}; its certificate names {named}"
            return _result(file, Outcome.NO_EXPECTATION, detail, filename=filename)
        by = [each for each in found if each.publisher is not None and is_published_by(each.publisher, expected)]
        if not by:
            detail = f"was published by {named}, expected {expected.text}"
            return _result(file, Outcome.WRONG_PUBLISHER, detail, filename=filename)
        others = [each for each in found if each not in by]
        notes = [f"beside it: an attestation by {_signer(each)}" for each in others]
        return _result(file, Outcome.VERIFIED, "", filename=filename, found=by[0], notes=notes)

    def _expect(self, project: str) -> Publisher | KedgeError | None:
        if project not in self._expected:
            try:
                self._expected[project] = self._from_rule(project)
            except KedgeError as error:
                self._expected[project] = error
        return self._expected[project]

    def _from_rule(self, project: str) -> Publisher | None:
        """Whom the user expects; for a pinned release, whom its certificate names.

        Raises:
            KedgeError: the pinned release cannot be had, or is refused.
        """
        rule = self._expectations.pypi_rule(project)
        if rule is None or rule.pinned is None:
            return rule.publisher if rule is not None else None
        what = f"the release pinned as sha256:{rule.pinned}"
        filename = self._sources.find(project, rule.pinned)
        if filename is None:
            raise FetchError(f"{what} is not listed by the index")
        try:
            found = self._attestations(project, filename, rule.pinned)
        except (DocumentError, ValueError) as error:
            raise FetchError(f"{what} has no provenance that can be read: {error}") from error
        named = [each.publisher for each in found if each.publisher is not None]
        if not named:
            raise FetchError(f"{what} names no publisher")
        return named[0]


def _signer(attestation: Attestation) -> str:
    return attestation.publisher.text if attestation.publisher is not None else attestation.build.signer


def _result(
    file: LockedFile,
    outcome: Outcome,
    detail: str,
    *,
    filename: str | None = None,
    found: Attestation | None = None,
    notes: Sequence[str] = (),
) -> Result:
    facts: dict[str, Any] = {
        "project": file.project,
        "version": file.version or None,
        "filename": filename or file.filename,
        "sha256": file.sha256,
        "source": f"{file.origin.kind}:{file.origin.source}" if file.origin is not None else None,
        "publisher": found.publisher.text if found is not None and found.publisher is not None else None,
        "build": found.build.to_table() if found is not None else None,
    }
    checked = Checked(
        name=filename or file.name,
        outcome=outcome,
        detail=detail,
        is_fault=outcome not in _FAULTLESS,
        notes=tuple(notes),
        facts=facts,
    )
    return Result(checked=checked, build=found.build if found is not None else None)
