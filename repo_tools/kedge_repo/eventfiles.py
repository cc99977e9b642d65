"""Signing events on disk: ``events/<name>/`` in the workspace (the layout stands in :mod:`kedge_repo.event`).

``event.json`` is written last and names everything else by digest: it is the commit point. A crash before it leaves
files that nobody names, which the next write removes. What is read back is checked: each file against its digest, each
payload against its role and version, each signature against the keys that may sign.

Readers take no lock. One beside a writer sees from ``event.json``, which each write renews, that it has read across a
write, and reads again.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from kedge.document import DocumentError, blame_user
from kedge.errors import InputError, KedgeError, StoreError
from kedge_repo import disk
from kedge_repo.event import Event, EventIndex
from kedge_repo.payload import Payload, digest
from kedge_repo.signed import SignedMetadata
from kedge_repo.threshold import check_signature
from kedge_repo.workspace import Workspace

__all__ = ["discard_event", "load_event", "save_event"]

_READS = 100
_HEX = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)


def load_event(workspace: Workspace, name: str, signed: SignedMetadata) -> Event:
    """Read the open event ``name`` whole, with its signatures verified against ``signed``.

    Beside a writer it is the event before a write or after it, never parts of both; signatures, each a file and
    verified by itself, come and go one by one.

    Raises:
        InputError: there is no such event, or one of its files is missing, malformed or not what its digest says.
        VerificationError: a signature file holds no valid signature.
        StoreError: it was written each time that it was read.
    """
    for _ in range(_READS):
        before = _last_write(workspace, name)
        try:
            event = _load(workspace, name, signed)
        except KedgeError:
            if _last_write(workspace, name) == before:
                raise
            continue
        if _last_write(workspace, name) == before:
            return event
    raise StoreError(
        f"events/{name}: was written each of the {_READS} times that it was read", hint="run the command again"
    )


def _last_write(workspace: Workspace, name: str) -> tuple[int, int] | None:
    """What differs after each write of the event: its ``event.json`` is a new file then. None: there is no event."""
    if name not in workspace.events():
        return None
    try:
        status = (workspace.event_folder(name) / "event.json").stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _load(workspace: Workspace, name: str, signed: SignedMetadata) -> Event:
    if name not in workspace.events():
        opened = ", ".join(workspace.events()) or "none"
        raise InputError(f'there is no open event "{name}"; open are: {opened}')
    file = f"events/{name}/event.json"
    data = disk.read(workspace.event_folder(name) / "event.json", what="event")
    with blame_user(file):
        index = EventIndex.from_bytes(data)
    if index.name != name:
        raise InputError(f'{file}: name: must be "{name}", as its folder is called, not "{index.name}"')
    event = Event(
        name=index.name,
        reason=index.reason,
        opened=index.opened,
        base=index.base,
        changes=index.changes,
        payloads=tuple(_payload(workspace, name, entry, position) for position, entry in enumerate(index.payloads)),
        targets={
            path: None if sha256 is None else _blob(workspace, name, sha256) for path, sha256 in index.targets.items()
        },
        keys={keyholder: _blob(workspace, name, sha256) for keyholder, sha256 in index.keys.items()},
        policy_text=_text(workspace, name, index.policy_sha256),
    )
    return _with_signatures(workspace, event, signed)


def save_event(workspace: Workspace, event: Event) -> None:
    """Write the event; the workspace's lock must be held.

    Raises:
        StoreError: the disk refused; the event on disk is the former one, whole.
    """
    folder = workspace.event_folder(event.name)
    wanted = {folder / "files" / sha256: data for sha256, data in event.files().items()}
    for sha256, signatures in event.signatures.items():
        for keyid, signature in signatures.items():
            path = folder / "signatures" / sha256 / quote(keyid, safe="")
            wanted[path] = f"{signature}\n".encode()
    for path, data in wanted.items():
        if not path.exists():
            disk.replace(path, data)
    disk.replace(folder / "event.json", event.to_bytes())
    for path in [*folder.glob("files/*"), *folder.glob("signatures/*/*")]:
        if path not in wanted:
            disk.remove(path)


def discard_event(workspace: Workspace, name: str) -> None:
    """Remove the event's folder; the workspace's lock must be held.

    Raises:
        StoreError: the disk refused.
    """
    disk.remove_folder(workspace.event_folder(name))


def _payload(workspace: Workspace, name: str, entry: tuple[str, int, str], position: int) -> Payload:
    role, version, sha256 = entry
    data = _blob(workspace, name, sha256)
    with blame_user(f"events/{name}/files/{sha256}"):
        payload = Payload.from_bytes(role, data)
    if payload.version != version:
        raise InputError(
            f"events/{name}/event.json: payloads[{position}].version: must be {payload.version}, as the payload says, "
            f"not {version}"
        )
    return payload


def _blob(workspace: Workspace, name: str, sha256: str) -> bytes:
    path = workspace.event_folder(name) / "files" / sha256
    data = disk.read(path, what="file, which event.json names")
    if digest(data) != sha256:
        raise InputError(f"events/{name}/files/{sha256}: holds other bytes than its name says")
    return data


def _text(workspace: Workspace, name: str, sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    try:
        return _blob(workspace, name, sha256).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"events/{name}/files/{sha256}: is not UTF-8, as a policy is") from error


def _with_signatures(workspace: Workspace, event: Event, signed: SignedMetadata) -> Event:
    for payload in event.payloads:
        folder = workspace.event_folder(event.name) / "signatures" / payload.sha256
        for path in sorted(folder.glob("[!.]*")):
            file = f"events/{event.name}/signatures/{payload.sha256}/{path.name}"
            try:
                data = disk.read(path, what="signature", max_bytes=100_000)
            except InputError:
                if path.is_symlink() or path.exists():
                    raise
                continue  # a writer has dropped it since the folder was listed
            signature = data.decode("ascii", "replace").strip()
            if not _HEX.fullmatch(signature):
                raise InputError(f"{file}: must be a signature in lower-case hexadecimal digits")
            keyid = unquote(path.name)
            try:
                groups = event.groups(payload, signed)
            except DocumentError as error:
                raise InputError(f"events/{event.name}/event.json: {error}") from error
            check_signature(payload, keyid, signature, groups, file=file)
            event = event.with_signature(payload, keyid, signature)
    return event
