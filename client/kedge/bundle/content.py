"""What a bundle carries, for whom, and what it says of it: all from a state that has been verified.

A whole bundle carries every root of the chain, and of each other role and target what is trusted now. A delta carries
what its receiver, who has taken in the baseline, does not hold yet; it is deflated against the files that it replaces.

:func:`summarize` is one function for both sides: whoever makes a bundle writes down what it gives, and whoever takes
one in compares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kedge.bundle.held import Held
from kedge.bundle.manifest import SHORT_KEYID, Baseline, Summary
from kedge.bundle.packing import Bundle, Carried, pack
from kedge.checks import signers_of
from kedge.metadata import Parsed
from kedge.state import StateRecord, TrustedState, sha256_hex

__all__ = ["Receiver", "bundle_of", "summarize"]


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
