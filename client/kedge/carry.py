"""Carrying trust across an air gap: making a bundle of what a client trusts, and taking one in.

Whoever takes a bundle in starts from their own anchor and state: the bundle is a mirror that needs no network. On top
of what a client checks of any mirror, everything in the bundle must have been needed and passed, and its first line
must say what the metadata says, or nothing of it is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kedge import checks
from kedge.anchor import Anchor
from kedge.bundle.content import Receiver, bundle_of, summarize
from kedge.bundle.manifest import Manifest, Summary
from kedge.bundle.packing import Bundle, Carried, read_manifest, unpack
from kedge.client import TrustClient
from kedge.clock import Clock
from kedge.document import blame_user, format_time
from kedge.errors import FetchError, InputError, Reason, Refusal, VerificationError
from kedge.folders import state_folder
from kedge.lockfile import Lock
from kedge.registry import find_registry
from kedge.state import StateRecord, TrustedState, sha256_hex
from kedge.store import Store
from kedge.transport import BUNDLE_SUFFIX, Mirror
from kedge.transport.bundle import LOG_PREFIX, BundleTransport, read_bundle_file
from kedge.trust import Trust

__all__ = ["TakenIn", "carried_targets", "default_targets", "make_bundle", "open_bundle", "read_receiver", "take_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenIn:
    """What a bundle was found to be: all that it says of itself is right, and how far trust reaches with it.

    ``extra`` is what other parts of kedge put beside metadata and targets; of it only the digests were checked.
    """

    manifest: Manifest
    file_bytes: int
    trust: Trust
    extra: Mapping[str, bytes]


def default_targets(anchor: Anchor, *, needed: bool = True) -> tuple[str, ...]:
    """The paths of the key documents of the registries that an anchor speaks for.

    Raises:
        InputError: it names none, although it is ``needed``: the user must say what to carry.
    """
    if needed and not anchor.registries:
        raise InputError(
            f"the anchor {anchor.name} names no registry whose keys could be carried",
            hint="say what to carry: --registry ID, --target PATH or --all-targets",
        )
    return tuple(find_registry(registry).target_path(registry) for registry in anchor.registries)


def make_bundle(
    client: TrustClient,
    targets: Iterable[str],
    *,
    receiver: Receiver | None = None,
    extra: Mapping[str, bytes] | None = None,
) -> bytes:
    """Make a bundle of what ``client`` trusts now, with these targets; for a ``receiver``, of what it lacks.

    Where the client follows the repository's log, the bundle carries what proves it: the receiver asks the same of it.

    Raises:
        KedgeError: as ``TrustClient.refresh`` and ``TrustClient.target`` do.
    """
    files = {path: client.target(path).data for path in targets}
    _prove_key_documents(client, files)
    state = client.verified
    log = client.key_log.carried() if client.key_log is not None else {}
    beside = {f"{LOG_PREFIX}{path}": data for path, data in log.items()}
    return bundle_of(state, files, receiver=receiver, extra={**beside, **(extra or {})})


def open_bundle(path: Path) -> bytes:
    """Read the file that the user named.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return read_bundle_file(path)
    except FetchError as error:
        raise InputError(error.message) from error


def carried_targets(mirrors: Iterable[Mirror]) -> tuple[str, ...] | None:
    """The paths of the targets that bundles bring; None where one of the mirrors is no bundle, and may have others.

    Raises:
        InputError: a bundle cannot be read.
        VerificationError: it is none.
    """
    found: dict[str, None] = {}
    for mirror in mirrors:
        path = Path(mirror.url)
        if path.suffix != BUNDLE_SUFFIX or path.is_dir():
            return None
        found.update(dict.fromkeys(sorted(read_manifest(open_bundle(path), file=mirror.url).summary.targets)))
    return tuple(found)


def read_receiver(path: Path, store: Store) -> Receiver:
    """Learn what the receiver holds: from the last bundle that they took in, or from their state folder.

    ``store`` is this machine's own, in which files may be found that the bundle itself stands on.

    Raises:
        InputError: it is neither.
        VerificationError: it is a bundle, and broken, or stands on files that are not held here.
    """
    if not path.is_dir():
        return Receiver.of_bundle(unpack(open_bundle(path), held=store.blob, file=str(path)), store.blob)
    theirs = Store(path)
    record = path / "state.json"
    with blame_user(str(record)):
        held = StateRecord.from_bytes(open_bundle(record))
    newest = theirs.blob(held.roots[-1])
    if newest is None:
        raise InputError(f"{path}: the newest root that its state.json names is not there, or is damaged")
    try:
        version = checks.begin(newest, file=str(path)).root.version
    except VerificationError as error:
        raise InputError(error.message) from error
    return Receiver.of_record(held, root_version=version, held=theirs.blob)


def take_in(
    paths: Sequence[Path],
    anchor: Anchor,
    *,
    keep: bool,
    state: Path | None = None,
    clock: Clock | None = None,
    as_of: datetime | None = None,
    lock: Lock | None = None,
) -> TakenIn:
    """Verify all of a bundle from the verifier's own anchor and state, and with ``keep`` make it the state.

    The last of ``paths`` is taken in; those before it are what it stands on, where they were not taken in themselves.

    Raises:
        InputError: the file cannot be read.
        VerificationError: it is not whole, must not be trusted, is older than what is held, or says what is not so.
        ExpiredError: what it carries has expired beyond what the policy allows.
        StoreError: the disk refuses; what was stored before stays.
    """
    store = Store(state if state is not None else state_folder() / anchor.name)
    bundles, file_bytes = _open_all(paths, store)
    bundle, file = bundles[-1], str(paths[-1])
    _check_beginning(bundle.carried, anchor, file)
    client = TrustClient(
        anchor,
        state=store.folder,
        transport=BundleTransport(paths[-1], store.blob, bundles=bundles),
        clock=clock,
        as_of=as_of,
        require_refresh=True,
        lock=lock,
        hold_back=True,
    )
    with client:
        try:
            client.refresh()
            targets = {target: client.target(target).sha256 for target in sorted(bundle.manifest.summary.targets)}
            _prove_key_documents(client, targets)
        except FetchError as error:
            raise _incomplete(file, error) from error
        _check_all(bundle, client.verified, targets, file)
        if keep:
            client.keep()
        return TakenIn(manifest=bundle.manifest, file_bytes=file_bytes, trust=client.trust, extra=bundle.carried.extra)


def _prove_key_documents(client: TrustClient, targets: Iterable[str]) -> None:
    """Ask the log for the key documents now: behind the gap there is nobody to ask later."""
    if client.key_log is None:
        return
    for path in targets:
        registry = path.rpartition("/")[0]
        if registry and (not client.anchor.registries or registry in client.anchor.registries):
            with suppress(InputError):  # a folder that is no registry's
                if find_registry(registry).target_path(registry) == path:
                    client.registry_keys(registry)


def _open_all(paths: Sequence[Path], store: Store) -> tuple[list[Bundle], int]:
    """Unpack bundles, each on what is held and what those before it carry; and the length of the last one's file."""
    brought: dict[str, bytes] = {}
    bundles: list[Bundle] = []
    data = b""
    for path in paths:
        data = open_bundle(path)
        bundles.append(unpack(data, held=lambda digest: brought.get(digest) or store.blob(digest), file=str(path)))
        brought.update((sha256_hex(each), each) for each in bundles[-1].carried.files())
    return bundles, len(data)


def _check_beginning(carried: Carried, anchor: Anchor, file: str) -> None:
    """Check that roots before the anchor's lead to it, and that its own is among those that are carried, if it may."""
    initial = checks.begin(anchor.initial_root, file=f"the initial root of anchor {anchor.name}")
    version, first = initial.root.version, min(carried.roots, default=initial.root.version + 1)
    if first > version or version not in carried.roots:
        return
    state = checks.begin(carried.roots[first], file=f"{file}: {first}.root.json")
    for number in range(first + 1, version + 1):
        state = checks.accept_root(state, carried.roots[number])
    if state.newest_root.data != anchor.initial_root:
        refusal = Refusal(
            reason=Reason.ANCHOR,
            file=file,
            expected=f"root version {version} with sha256 {sha256_hex(anchor.initial_root)}",
            found=sha256_hex(state.newest_root.data),
        )
        raise VerificationError(
            f"{file}: is of another repository: its root version {version} is not that of the anchor {anchor.name}",
            refusal=refusal,
            hint="name the anchor that it is for: --anchor NAME",
        )


def _check_all(bundle: Bundle, state: TrustedState, targets: Mapping[str, str], file: str) -> None:
    """Check that everything that is carried has passed, and that the first line says what the metadata says."""
    trusted = {f"root {root.version}": root.data for root in state.roots}
    trusted |= {name: role.data for name, role in state.roles.items()}
    trusted |= {role.signed.type: role.data for role in (state.timestamp, state.snapshot) if role is not None}
    before = state.roots[0].version
    for name, data in _metadata(bundle.carried, before):
        if trusted.get(name) != data:
            raise _untrue(file, f"carries a {name} which is not the one that is trusted")
    found = summarize(state, targets)
    for what, stated, real in _differences(bundle.manifest.summary, found):
        raise _untrue(file, f"its first line says {what} {stated}, the metadata says {real}")


def _metadata(carried: Carried, before: int) -> Iterator[tuple[str, bytes]]:
    for version, data in carried.roots.items():
        if version >= before:
            yield f"root {version}", data
    for name, online in (("timestamp", carried.timestamp), ("snapshot", carried.snapshot)):
        if online is not None:
            yield name, online
    yield from carried.roles.items()


def _differences(stated: Summary, real: Summary) -> Iterator[tuple[str, Any, Any]]:
    if stated.valid_until != real.valid_until:
        yield "valid until", format_time(stated.valid_until), format_time(real.valid_until)
    for what, one, other in (
        ("version of", stated.roles, real.roles),
        ("target", stated.targets, real.targets),
        ("signers of", stated.signed_by, real.signed_by),
    ):
        for name in sorted({*one, *other}):
            if one.get(name) != other.get(name):
                yield f"{what} {name}:", one.get(name, "none"), other.get(name, "none")


def _incomplete(file: str, error: FetchError) -> VerificationError:
    refusal = Refusal(reason=Reason.BASELINE, file=file, expected="all that the metadata names", found=error.message)
    return VerificationError(
        f"{file}: lacks what it should carry, or what its baseline brought: {error.message}",
        refusal=refusal,
        hint="apply the bundle before it first, or ask for a whole one",
    )


def _untrue(file: str, problem: str) -> VerificationError:
    refusal = Refusal(reason=Reason.CONTENT, file=file, expected="a bundle as kedge makes it", found=problem)
    return VerificationError(
        f"{file}: {problem}", refusal=refusal, hint="nothing of it is kept; report where it is from"
    )
