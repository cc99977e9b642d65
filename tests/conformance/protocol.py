"""kedge as a client under test of the public TUF conformance suite.

The suite (theupdateframework/tuf-conformance, CLIENT-CLI.md) runs one process a step::

    kedge-conformance --metadata-dir D init ROOT
    kedge-conformance --metadata-dir D --metadata-url URL refresh
    kedge-conformance --metadata-dir D --metadata-url URL \\
        --target-name PATH … --target-base-url URL --target-dir T download

and looks at the exit status (0, or exactly 1), at the requests, at D and at T. What it asks of D is not how kedge keeps
its state, so the state lives in ``D/kedge/``, and after each run, also a refused one, the files that the state holds
are laid out in D under their plain names, byte for byte as they were served.

Nothing here decides anything: every answer is :class:`kedge.TrustClient`'s, which runs strictly sequentially, since the
suite compares the log of requests.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.client.store import Store
from kedge.errors import InputError, KedgeError
from kedge.transport.mirror import Mirror
from kedge.tuf.state import StateRecord
from kedge.tuf.steps import Limits

__all__ = ["main"]

INITIAL_ROOT = "initial-root"
SEQUENTIAL = Limits(root_window=0)


def main(arguments: Sequence[str]) -> int:
    """Do one step, and return its exit status."""
    options = _parser().parse_args(arguments)
    state: Path = options.metadata_dir / "kedge"
    try:
        if options.command == "init":
            _init(options.metadata_dir, state, options.trusted_root.read_bytes())
            return 0
        with TrustClient(
            _anchor(options, state), state=state / "state", limits=SEQUENTIAL, require_refresh=True
        ) as client:
            try:
                client.refresh()
                for path in options.target_name or ():
                    _put(options.target_dir / quote(path, safe=""), client.target(path).data)
            finally:
                _lay_out(Store(state / "state"), options.metadata_dir)
    except KedgeError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="kedge-conformance")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-name", action="append")
    parser.add_argument("--target-base-url")
    parser.add_argument("--target-dir", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    return parser


def _init(folder: Path, state: Path, root: bytes) -> None:
    state.mkdir(parents=True)
    (state / INITIAL_ROOT).write_bytes(root)
    (folder / "root.json").write_bytes(root)


def _refresh(options: Namespace, state: Path) -> None:
    anchor = _anchor(options, state)
    with TrustClient(anchor, state=state / "state", limits=SEQUENTIAL, require_refresh=True) as client:
        client.refresh()
        for path in options.target_name or ():
            _put(options.target_dir / quote(path, safe=""), client.target(path).data)


def _anchor(options: Namespace, state: Path) -> Anchor:
    metadata = urlsplit(options.metadata_url)
    targets = urlsplit(options.target_base_url or options.metadata_url)
    if metadata[:2] != targets[:2]:
        raise InputError("one mirror serves both: metadata and targets have the same origin")
    mirror = Mirror(url=f"{metadata.scheme}://{metadata.netloc}", metadata=metadata.path, targets=targets.path)
    return Anchor(name="conformance", initial_root=(state / INITIAL_ROOT).read_bytes(), mirrors=(mirror,))


def _lay_out(store: Store, folder: Path) -> None:
    record = store.read().state
    if record is None:
        return
    for name, digest in _held(StateRecord.from_bytes(record)):
        data = store.blob(digest)
        if data is not None:
            _put(folder / f"{quote(name, safe='')}.json", data)


def _held(record: StateRecord) -> Iterator[tuple[str, str]]:
    yield "root", record.roots[-1]
    for name, digest in (("timestamp", record.timestamp), ("snapshot", record.snapshot)):
        if digest is not None:
            yield name, digest
    yield from record.roles.items()


def _put(path: Path, data: bytes) -> None:
    # The suite goes by the time of the last change: what is there already stays as it is.
    if not path.is_file() or path.read_bytes() != data:
        path.write_bytes(data)
