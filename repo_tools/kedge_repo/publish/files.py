"""The files of a published repository, by path, as one value.

Consistent snapshots: every file but ``timestamp.json`` has a version or a digest in its name and never changes. Hash
bins and their targets, of which there may be millions, are read when they are asked for, and only those are asked for
that a destination does not have.

The hash bins of a role, and their targets, as files that are published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from tuf.api.metadata import Targets

from kedge.errors import InputError
from kedge.tuf import Parsed, content_matches, prefixes
from kedge_repo.bins import BinStore, Delegation, bin_delegations, bin_file, path_of, read_bin
from kedge_repo.publish.destination import TIMESTAMP_PATH
from kedge_repo.workspace import Content, SignedMetadata, Workspace, file_name


def target_place(path: str, digest: str) -> str:
    """Where the bytes of a target are published: ``targets/packages/<sha256>.args.tgz``, and so for other digests."""
    folder, _, name = path.rpartition("/")
    return "/".join(part for part in ("targets", folder, f"{digest}.{name}") if part)


def collect_bins(workspace: Workspace, signed: SignedMetadata) -> tuple[PublishedBins, ...]:
    """The bins that the snapshot of ``signed`` names.

    Raises:
        InputError: it does not name all of them, or the policy does not speak of them.
    """
    meta = signed.snapshot.signed.meta if signed.snapshot is not None else {}
    found: list[PublishedBins] = []
    for role, delegation in bin_delegations(signed, workspace.policy()).items():
        names = list(delegation.succinct.get_roles())
        missing = next((name for name in names if f"{name}.json" not in meta), None)
        if missing is not None:
            raise InputError(
                f"the newest snapshot does not name the bin {missing}", hint="sign a new one with kedge-repo online"
            )
        store = BinStore(workspace=workspace, role=role)
        versions = {name: meta[f"{name}.json"].version for name in names}
        found.append(PublishedBins(store=store, delegation=delegation, versions=versions))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedBins:
    """The bins of one role in the ``versions`` that the snapshot names."""

    store: BinStore
    delegation: Delegation
    versions: Mapping[str, int]

    def paths(self) -> Iterator[str]:
        """The path of each bin."""
        return (f"metadata/{bin_file(version, name)}" for name, version in self.versions.items())

    def read(self, path: str) -> bytes | None:
        """The bytes of a bin, or None where the path is none of these.

        Raises:
            InputError: it cannot be read.
        """
        file = path.removeprefix("metadata/")
        version, _, rest = file.partition(".")
        name = rest.removesuffix(".json")
        if str(self.versions.get(name)) != version or path != f"metadata/{bin_file(int(version), name)}":
            return None
        return self.store.data(file)

    def changed(self, there: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        """Path and bytes of each bin that is not ``there`` in this version, verified.

        Raises:
            InputError: one cannot be read.
            VerificationError: one is not signed as its delegation asks.
        """
        for name, version in self._changed(there):
            data, _ = self._verified(name, version)
            yield f"metadata/{bin_file(version, name)}", data

    def changed_targets(self, there: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        """Path and bytes of the targets in those bins, where it is we who publish them.

        Raises:
            InputError: a target cannot be read, or is not what was signed.
            VerificationError: a bin is not signed as its delegation asks.
        """
        if self.delegation.policy.content is Content.ELSEWHERE:
            return
        for name, version in self._changed(there):
            for line in self._verified(name, version)[1]:
                path, length, sha256 = line.decode().split(" ")[:3]
                data = self.store.workspace.target(path)
                if hashlib.sha256(data).hexdigest() != sha256 or len(data) != int(length):
                    raise InputError(f"targets/{path}: is not what {bin_file(version, name)} names")
                yield target_place(path, sha256), data

    def some_paths(self) -> Iterator[str]:
        """Target paths, one of each bin that holds some."""
        for name, version in self.versions.items():
            lines = self._verified(name, version)[1]
            if lines:
                yield path_of(lines[0]).decode()

    def _changed(self, there: Mapping[str, int]) -> Iterator[tuple[str, int]]:
        return ((name, version) for name, version in self.versions.items() if there.get(name) != version)

    def _verified(self, name: str, version: int) -> tuple[bytes, list[bytes]]:
        file = bin_file(version, name)
        data = self.store.data(file)
        held = read_bin(data, name=name, file=file, delegator=self.delegation.delegator)
        if held.version != version:
            raise InputError(f"bins/{self.store.role}/{file}: is version {held.version}, which its name does not say")
        return data, held.lines


_SAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFiles:
    """Everything that is published.

    ``immutable`` is in the order in which it may become visible: targets, then the metadata that names them, so that
    no client is led to a file that is not there; ``bins`` come between the two. Roots and the timestamp come after all
    of it; which of the two goes first is decided where they are written.
    """

    immutable: Mapping[str, bytes]
    root_files: Mapping[str, bytes]
    timestamp: bytes
    timestamp_version: int
    targets: tuple[str, ...]
    bins: tuple[PublishedBins, ...] = ()

    @property
    def roots(self) -> tuple[bytes, ...]:
        """Every root, from the first."""
        return tuple(self.root_files.values())

    def everything(self) -> Mapping[str, bytes]:
        """All files by path; those of bins are read when they are asked for."""
        top = {**self.immutable, **self.root_files, TIMESTAMP_PATH: self.timestamp}
        return _WithBins(top, self.bins) if self.bins else top

    def contents(self, there: Mapping[str, int]) -> Iterator[Iterable[tuple[str, bytes]]]:
        """Path and bytes of the immutable files, in groups that follow one another; inside one any order will do.

        Of bins there are those that are not ``there`` in this version.

        Raises:
            InputError: a bin, or a target of one, cannot be read or is not what was signed.
            VerificationError: a bin is not signed as its delegation asks.
        """
        yield [item for item in self.immutable.items() if item[0].startswith("targets/")]
        yield from (bins.changed_targets(there) for bins in self.bins)
        yield from (bins.changed(there) for bins in self.bins)
        yield from ([item] for item in self.immutable.items() if not item[0].startswith("targets/"))

    def samples(self) -> tuple[str, ...]:
        """Some paths in the bins, to be looked up."""
        return tuple(path for bins in self.bins for path in islice(bins.some_paths(), _SAMPLES))


class _WithBins(Mapping[str, bytes]):
    """The files of a repository with bins."""

    def __init__(self, top: Mapping[str, bytes], bins: tuple[PublishedBins, ...]) -> None:
        self._top = top
        self._bins = bins

    def __getitem__(self, path: str) -> bytes:
        if path in self._top:
            return self._top[path]
        for bins in self._bins:
            data = bins.read(path)
            if data is not None:
                return data
        raise KeyError(path)

    def __iter__(self) -> Iterator[str]:
        return chain(self._top, *(bins.paths() for bins in self._bins))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def collect_files(workspace: Workspace) -> PublishedFiles:
    """Read what the workspace publishes.

    Raises:
        InputError: something is missing, or a target's bytes are not those that were signed.
        VerificationError: the signed metadata does not verify.
    """
    signed = workspace.signed()
    signed.verify()
    if signed.targets is None or signed.snapshot is None or signed.timestamp is None:
        raise InputError("metadata/timestamp.json: is missing", hint="sign it with kedge-repo online")
    targets, paths = _targets(workspace, signed)
    roles: dict[str, Parsed[Any]] = {**signed.delegated, "targets": signed.targets, "snapshot": signed.snapshot}
    metadata = {f"metadata/{file_name(name, parsed.signed.version)}": parsed.data for name, parsed in roles.items()}
    return PublishedFiles(
        immutable={**targets, **metadata},
        root_files={f"metadata/{file_name('root', root.signed.version)}": root.data for root in signed.roots},
        timestamp=signed.timestamp.data,
        timestamp_version=signed.timestamp.signed.version,
        targets=paths,
        bins=collect_bins(workspace, signed),
    )


def _targets(workspace: Workspace, signed: SignedMetadata) -> tuple[dict[str, bytes], tuple[str, ...]]:
    found: dict[str, bytes] = {}
    paths: list[str] = []
    roles: list[Parsed[Targets]] = [*signed.delegated.values()]
    if signed.targets is not None:
        roles.append(signed.targets)
    for parsed in roles:
        for path, target in parsed.signed.targets.items():
            data = workspace.target(path)
            sha256 = hashlib.sha256(data).hexdigest()
            if target.hashes.get("sha256") != sha256 or target.length != len(data):
                raise InputError(f"targets/{path}: is not what {parsed.file} names: its sha256 is {sha256}")
            if not content_matches(target, data):
                raise InputError(
                    f"targets/{path}: {parsed.file} names digests beside its sha256, and not all of them are its own",
                    hint="sign it with the right digests, or with its sha256 alone",
                )
            # Under each of its names: clients ask for any of them.
            found.update((target_place(path, digest), data) for digest in prefixes(target.hashes))
            paths.append(path)
    return found, tuple(paths)
