"""Carrying trust across an air gap: making a bundle of what a client trusts, and taking one in.

Whoever takes a bundle in starts from their own anchor and state: the bundle is a mirror that needs no network. On top
of what a client checks of any mirror, everything in the bundle must have been needed and passed, and its first line
must say what the metadata says, or nothing of it is kept.

What a bundle carries, for whom, and what it says of it: all from a state that has been verified.

A whole bundle carries every root of the chain, and of each other role and target what is trusted now. A delta carries
what its receiver, who has taken in the baseline, does not hold yet; it is deflated against the files that it replaces.

:func:`summarize` is one function for both sides: whoever makes a bundle writes down what it gives, and whoever takes
one in compares.

A bundle as texts that fit QR codes, for a gap that only light crosses.

::

    frame = "KEDGE1:" number "/" count ":" name ":" data

``name`` is the first 16 hexadecimal digits of the file's SHA-256, so that frames of two bundles are never mixed;
``data`` is a piece of the file in base 32 (RFC 4648, without padding). All of it is within the alphabet that a QR code
packs most densely, and no reader of codes is tempted to take blanks away from it. Frames may be read in any order, and
twice.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from kedge import tuf
from kedge.client import Anchor, Clock, Lock, Store, TrustClient
from kedge.documents import DocumentError, blame_user, format_time
from kedge.errors import FetchError, InputError, Reason, Refusal, VerificationError
from kedge.files import state_folder
from kedge.registries import find_registry
from kedge.transport import (
    BUNDLE_SUFFIX,
    LOG_PREFIX,
    SHORT_KEYID,
    Baseline,
    Bundle,
    BundleTransport,
    Carried,
    Held,
    Manifest,
    Mirror,
    Summary,
    pack,
    read_bundle_file,
    read_manifest,
    unpack,
)
from kedge.tuf import Parsed, StateRecord, Trust, TrustedState, sha256_hex, signers_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """What the receiver holds after the baseline: versions, digests where they are known, and files as far as here.

    ``sha256`` names the baseline. ``file`` gives a role's or a target's bytes as they were, if they can be had.
    """

    sha256: str
    roles: Mapping[str, int | str]
    targets: Mapping[str, str]
    file: Callable[[str], bytes | None] = field(repr=False)

    @classmethod
    def of_bundle(cls, bundle: Bundle, held: Held) -> Receiver:
        """Whoever has taken in this bundle; ``held`` are files of this machine."""
        summary, carried = bundle.manifest.summary, bundle.carried
        root = carried.roots.get(summary.roles["root"])
        files: dict[str, bytes | None] = {"root": root, "timestamp": carried.timestamp, "snapshot": carried.snapshot}
        files.update(carried.roles)

        def file(name: str) -> bytes | None:
            if name in files or name in carried.targets:
                return files.get(name, carried.targets.get(name))
            return held(summary.targets[name]) if name in summary.targets else None

        return cls(sha256=bundle.manifest.sha256, roles=summary.roles, targets=summary.targets, file=file)

    @classmethod
    def of_record(cls, record: StateRecord, *, root_version: int, held: Held) -> Receiver:
        """Whoever has this state (``state.json``), whose newest root is of ``root_version``."""
        digests = {"timestamp": record.timestamp, "snapshot": record.snapshot, **record.roles}
        known = {name: digest for name, digest in digests.items() if digest is not None}
        names = {**known, "root": record.roots[-1], **record.targets}
        return cls(
            sha256=sha256_hex(record.to_bytes()),
            roles={**known, "root": root_version},
            targets=record.targets,
            file=lambda name: held(names[name]) if name in names else None,
        )

    def has_role(self, name: str, version: int, data: bytes) -> bool:
        """Whether the receiver has this very file of a role."""
        return self.roles.get(name) in (version, sha256_hex(data))


def bundle_of(
    state: TrustedState,
    targets: Mapping[str, bytes],
    *,
    receiver: Receiver | None = None,
    extra: Mapping[str, bytes] | None = None,
) -> bytes:
    """Make the bundle of a complete, verified state and of these verified targets; for a ``receiver``, a delta.

    Raises:
        StoreError: it is too large for one bundle.
    """
    summary = summarize(state, {path: sha256_hex(data) for path, data in targets.items()})
    carried = Carried(
        roots={root.version: root.data for root in state.roots},
        timestamp=_held(state.timestamp).data,
        snapshot=_held(state.snapshot).data,
        roles={name: role.data for name, role in state.roles.items()},
        targets=dict(targets),
        extra=dict(extra or {}),
    )
    if receiver is None:
        return pack(carried, summary)
    carried = _news(carried, summary, receiver)
    replaced = _replaced(carried, receiver, state)
    files = {sha256_hex(data): data for data in replaced}
    online = {"timestamp": carried.timestamp, "snapshot": carried.snapshot}
    baseline = Baseline(
        sha256=receiver.sha256,
        dictionary=tuple(files),
        roles=tuple(sorted((*carried.roles, *(name for name, data in online.items() if data is not None)))),
        targets=tuple(sorted(carried.targets)),
    )
    return pack(carried, summary, baseline=baseline, held=files.get)


def summarize(state: TrustedState, targets: Mapping[str, str]) -> Summary:
    """Describe a complete, verified state and the targets that are carried with it, by path and digest."""
    held: dict[str, Parsed[Any]] = {
        "root": state.newest_root,
        "timestamp": _held(state.timestamp),
        "snapshot": _held(state.snapshot),
        **state.roles,
    }
    return Summary(
        valid_until=min(parsed.signed.expires for parsed in held.values()),
        roles={name: parsed.signed.version for name, parsed in held.items()},
        targets=dict(targets),
        signed_by={
            name: tuple(sorted({keyid[:SHORT_KEYID] for keyid in signers_of(state, name, parsed)}))
            for name, parsed in held.items()
        },
    )


def _news(carried: Carried, summary: Summary, receiver: Receiver) -> Carried:
    roles, targets = summary.roles, summary.targets
    newest = int(receiver.roles["root"])
    roots = {version: data for version, data in carried.roots.items() if version > newest}

    # A root that replaces an online key makes its receiver drop the snapshot (TUF 1.0.34 §5.3.11); the timestamp is
    # what every client asks for.
    snapshot = carried.snapshot
    if not roots and snapshot is not None and receiver.has_role("snapshot", roles["snapshot"], snapshot):
        snapshot = None
    return Carried(
        roots=roots,
        timestamp=carried.timestamp,
        snapshot=snapshot,
        roles={name: data for name, data in carried.roles.items() if not receiver.has_role(name, roles[name], data)},
        targets={path: data for path, data in carried.targets.items() if receiver.targets.get(path) != targets[path]},
        extra=carried.extra,
    )


def _replaced(carried: Carried, receiver: Receiver, state: TrustedState) -> list[bytes]:
    """What the receiver holds of the files that are replaced; the likest file stands last, where matches are cheap."""
    names = [*carried.targets, *carried.roles]
    names += ["snapshot"] if carried.snapshot is not None else []
    names += ["timestamp"] if carried.timestamp is not None else []
    former = [data for name in names if (data := receiver.file(name)) is not None]
    if carried.roots:
        newest = next((root.data for root in state.roots if root.version == receiver.roles["root"]), None)
        former = [newest, *former] if newest is not None else former
    return former


def _held(parsed: Parsed[Any] | None) -> Parsed[Any]:
    if parsed is None:
        raise RuntimeError("a bundle is made of a complete state")
    return parsed


# A code of version 20 with error correction M holds 970 characters: a screen shows it, and a webcam reads it.
FRAME_CHARS = 970
MAX_FRAMES = 9_999
_FRAME = re.compile(r"KEDGE1:([1-9]\d{0,3})/([1-9]\d{0,3}):([0-9A-F]{16}):([A-Z2-7]+)", re.ASCII)


def to_frames(data: bytes) -> list[str]:
    """Split a bundle into frames of at most :data:`FRAME_CHARS` characters.

    Raises:
        ValueError: it is too long for so many frames.
    """
    text = base64.b32encode(data).decode("ascii").rstrip("=")
    name = sha256_hex(data)[:16].upper()
    room = FRAME_CHARS - len(f"KEDGE1:{MAX_FRAMES}/{MAX_FRAMES}:{name}:")
    pieces = [text[start : start + room] for start in range(0, len(text), room)]
    if len(pieces) > MAX_FRAMES:
        raise ValueError(f"{len(data)} bytes are more than {MAX_FRAMES} frames hold")
    return [f"KEDGE1:{number}/{len(pieces)}:{name}:{piece}" for number, piece in enumerate(pieces, 1)]


def from_frames(texts: Iterable[str]) -> bytes:
    """Put a bundle together from the texts of its frames, in any order.

    Raises:
        DocumentError: one of them is no frame, or of another bundle, or some are missing, or the whole is not the file.
    """
    pieces: dict[int, str] = {}
    kind: tuple[str, str] | None = None
    for text in texts:
        match = _FRAME.fullmatch(text)
        if match is None:
            raise DocumentError("", f"holds what is no frame of a bundle: {text[:40]}")
        number, count, name, piece = match.groups()
        kind = kind or (count, name)
        if (count, name) != kind or int(number) > int(count) or pieces.get(int(number), piece) != piece:
            raise DocumentError("", f"holds frames of two bundles: {kind[1]} and {name}, frame {number} of {count}")
        pieces[int(number)] = piece
    if kind is None:
        raise DocumentError("", "holds no frame of a bundle")
    missing = [str(number) for number in range(1, int(kind[0]) + 1) if number not in pieces]
    if missing:
        raise DocumentError("", f"lacks frame {', '.join(missing[:20])} of {kind[0]}")
    whole = "".join(pieces[number] for number in sorted(pieces))
    try:
        data = base64.b32decode(whole + "=" * (-len(whole) % 8))
    except binascii.Error as error:
        raise DocumentError("", f"is not base 32: {error}") from error
    if sha256_hex(data)[:16].upper() != kind[1]:
        raise DocumentError("", "does not give the bundle that its frames name: a character was read wrongly")
    return data


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
        version = tuf.begin(newest, file=str(path)).root.version
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
    initial = tuf.begin(anchor.initial_root, file=f"the initial root of anchor {anchor.name}")
    version, first = initial.root.version, min(carried.roots, default=initial.root.version + 1)
    if first > version or version not in carried.roots:
        return
    state = tuf.begin(carried.roots[first], file=f"{file}: {first}.root.json")
    for number in range(first + 1, version + 1):
        state = tuf.accept_root(state, carried.roots[number])
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
