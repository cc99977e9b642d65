"""Verifies bundles by one trusted root, without a network and without a file. Pure but for what it is given.

The order of the questions, each of which ends in a refusal that names the part of the bundle:

1. When was this signed, by whose word? By the log's promise, or by a time-stamper. Without such a time there is none.
2. Who signed? A certificate that a trusted authority issued then, and that a certificate log saw; or a key that the
   caller knows, valid then.
3. Did a log take it in, and is its entry about this signature, signer and content?
4. Is the signature right?

Why this is kedge's own, and how it is held against sigstore-python and sigstore-js:
docs/decisions/0014-own-bundle-verifier.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kedge.errors import Reason, VerificationError
from kedge.registries import Evidence, KeySet
from kedge.registries.sigstore.bundle import Bundle, Envelope, MessageSignature, Part, parsing, reading, refuse
from kedge.registries.sigstore.certificate import CertificateJudge, Identity
from kedge.registries.sigstore.content import Content, ManagedKey, require_signature
from kedge.registries.sigstore.entry import check_body, check_log, check_timestamps
from kedge.registries.sigstore.identity import Expected
from kedge.registries.sigstore.statement import PAYLOAD_TYPE, Statement, require_subject
from kedge.registries.sigstore.trustedroot import TrustedRoot


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlace:
    """Where a log's entry stands: the log's URL by the trusted root, and the index in it."""

    log: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What a verified bundle rests on.

    ``identity`` is whom the certificate names, or ``key`` the evidence of a key that the caller knew, or ``managed``
    the SHA-256 of the key that the user gave. ``times`` are the moments of signing that a log or a time-stamper vouches
    for; all of them were checked.
    """

    identity: Identity | None
    key: Evidence | None
    managed: str | None = None
    times: tuple[datetime, ...]
    place: LogPlace
    reference_time: datetime

    @property
    def at(self) -> datetime:
        """The latest moment of signing that somebody vouches for."""
        return max(self.times)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedStatement:
    """A statement that was verified, and what that rests on."""

    statement: Statement
    signed: Signed


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedFile:
    """A file whose signature was verified; ``predicate_type`` is that of the statement about it, None without one."""

    signed: Signed
    predicate_type: str | None


class BundleVerifier:
    """Verifies bundles by one instance's trusted root, which is loaded once."""

    def __init__(self, keys: KeySet) -> None:
        """Verify by the trusted root that ``keys`` were read from.

        Raises:
            DocumentError: these are not the keys of a Sigstore instance.
        """
        self._keys = keys
        self._root = TrustedRoot.from_bytes(keys.document)
        self._judge = CertificateJudge(self._root, keys)
        self._urls = {log.id: log.url for log in self._root.logs}

    def __reduce__(self) -> tuple[type[BundleVerifier], tuple[KeySet]]:
        """Leave a process as the keys, and load the rest anew: loaded certificates cannot leave it."""
        return BundleVerifier, (self._keys,)

    def verify_statement(
        self, bundle: Bundle, *, signers: KeySet | None = None, usage: str = "", managed: ManagedKey | None = None
    ) -> SignedStatement:
        """Verify a bundle that holds an in-toto statement.

        ``signers`` are the keys that may sign with ``usage`` and without a certificate; None: there are none. With a
        ``managed`` key that key alone may sign.

        Raises:
            VerificationError: it is not to be trusted; the text names the part of the bundle.
            StoreError: something on this machine is missing that the check needs.
        """
        if not isinstance(bundle.content, Envelope):
            raise refuse(Part.BUNDLE, "signs a file, expected a statement (dsseEnvelope)", reason=Reason.MALFORMED)
        if bundle.content.payload_type != PAYLOAD_TYPE:
            found = bundle.content.payload_type
            raise refuse(
                Part.PAYLOAD_TYPE, f"must be {PAYLOAD_TYPE}, not {found[:100]!a}", expected=PAYLOAD_TYPE, found=found
            )
        if bundle.certificate is not None and bundle.content.keyid:
            problem = f"a certificate names the signer, and the signature names the key {bundle.content.keyid[:100]!a}"
            raise refuse(Part.SIGNER, problem, reason=Reason.MALFORMED)
        content = Content.of_bytes(bundle.content.signed_bytes)
        signed = self._verify(bundle, content, managed, signers, usage)
        with reading(Part.STATEMENT):
            statement = Statement.from_bytes(bundle.content.payload)
        return SignedStatement(statement=statement, signed=signed)

    def verify_file(self, bundle: Bundle, content: Content, *, managed: ManagedKey | None = None) -> SignedFile:
        """Verify a bundle over a file: a signature of its bytes, or a statement with the file among its subjects.

        Raises:
            VerificationError: it is not to be trusted; the text names the part of the bundle.
            StoreError: something on this machine is missing that the check needs.
        """
        if not isinstance(bundle.content, MessageSignature):
            found = self.verify_statement(bundle, managed=managed)
            require_subject(found.statement, content)
            return SignedFile(signed=found.signed, predicate_type=found.statement.predicate_type)
        stated, algorithm = bundle.content.digest, bundle.content.algorithm
        if stated is not None and stated != content.digest(algorithm).value:
            raise refuse(Part.DIGEST, "is not that of this file", reason=Reason.CONTENT, found=stated.hex())
        return SignedFile(signed=self._verify(bundle, content, managed, None, ""), predicate_type=None)

    def verify_any(
        self,
        bundles: Sequence[Bundle],
        content: Content,
        expected: Expected,
        *,
        managed: ManagedKey | None = None,
    ) -> SignedFile:
        """Verify a file by the first of several bundles that is right and by whoever is expected.

        Raises:
            VerificationError: none is; the text is that of the last, and says how many there are.
            StoreError: something on this machine is missing that the check needs.
        """
        refused: VerificationError | None = None
        for bundle in bundles:
            try:
                found = self.verify_file(bundle, content, managed=managed)
                if found.signed.identity is not None:
                    expected.require(found.signed.identity)
            except VerificationError as error:
                refused = error
            else:
                return found
        if refused is None:
            raise refuse(Part.BUNDLE, "is missing", reason=Reason.NOT_FOUND)
        if len(bundles) == 1:
            raise refused
        text = f"none of {len(bundles)} bundles is right and by whom is expected; the last: {refused.message}"
        raise VerificationError(text, refusal=refused.refusal) from refused

    def _verify(
        self, bundle: Bundle, content: Content, managed: ManagedKey | None, signers: KeySet | None, usage: str
    ) -> Signed:
        times = self._times(bundle)
        identity, key = None, None
        if managed is not None:
            signer = managed.require(bundle, content)
        elif bundle.certificate is not None:
            certificate, identity = self._judge.judge(bundle.certificate, bundle.chain, times)
            with parsing(Part.CERTIFICATE, "its key"):
                require_signature(certificate.public_key(), bundle.content.signature, content, Part.CERTIFICATE)
            signer = bundle.certificate
        else:
            key = _require_key(bundle, content.data or b"", max(times), signers, usage)
            signer = key.key.material
        check_log(bundle.entry, self._keys, max(times))
        check_body(bundle, signer, content)
        return Signed(
            identity=identity,
            key=key,
            managed=managed.fingerprint if managed is not None else None,
            times=times,
            place=LogPlace(log=self._urls[bundle.entry.log_id], index=bundle.entry.index),
            reference_time=self._keys.reference_time,
        )

    def _times(self, bundle: Bundle) -> tuple[datetime, ...]:
        """When it was signed: the log's time, which its promise must be shown to cover later, and signed timestamps."""
        entry = bundle.entry
        promised = (entry.integrated_at,) if entry.promise is not None and entry.integrated_at is not None else ()
        times = (*promised, *check_timestamps(bundle.timestamps, bundle.content.signature, self._root, self._keys))
        if not times:
            raise refuse(Part.LOG_TIME, "is missing: nobody signed a time of signing", reason=Reason.OUTSIDE_VALIDITY)
        return times


def _require_key(bundle: Bundle, message: bytes, at: datetime, signers: KeySet | None, usage: str) -> Evidence:
    """Check a signature by a key that is known, at the time of signing, and give the evidence."""
    content, keyid = bundle.content, bundle.hint or ""
    if signers is None:
        problem = f"no certificate names the signer but the key {keyid[:100]!a}, and none is expected here"
        raise refuse(Part.SIGNER, problem, reason=Reason.UNKNOWN_KEY)
    if isinstance(content, Envelope) and content.keyid != keyid:
        problem = f"the bundle names the key {keyid[:100]!a}, and its signature names {content.keyid[:100]!a}"
        raise refuse(Part.SIGNER, problem, reason=Reason.MALFORMED, expected=keyid, found=content.keyid)
    try:
        return signers.verify(message, keyid=keyid, signature=content.signature, usage=usage, at=at)
    except VerificationError as error:
        part = Part.SIGNATURE if error.refusal.reason is Reason.BAD_SIGNATURE else Part.SIGNER
        raise refuse(part, error.message, reason=error.refusal.reason, found=error.refusal.found or "") from error
