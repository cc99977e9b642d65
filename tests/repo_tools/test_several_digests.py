"""Targets that list several digests: each name that a client may ask for is published, mirrored and audited."""

from __future__ import annotations

import hashlib
from contextlib import closing
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.client.settings import FixedClock
from kedge.errors import InputError
from kedge.mirror.folder import MirrorFolder
from kedge.mirror.sync import Layout, Options, copy_repository
from kedge.registries import Severity
from kedge.transport.mirror import Mirror
from kedge.transport.open import open_mirror
from kedge_repo.audit.examine import audit
from kedge_repo.audit.findings import Audit
from kedge_repo.audit.source import open_source
from kedge_repo.publish.publish import publish_workspace
from repo_tools.ceremony import NPM, Ceremony, contents
from repo_tools.test_audit import rewrite

ALGORITHMS = ("sha256", "sha384", "sha512")
ORDERS = [order for count in (1, 2, 3) for order in permutations(ALGORITHMS, count) if "sha256" in order]


def with_digests(folder: Path, order: tuple[str, ...], **wrong: str) -> Ceremony:
    """Ready to be published; the digests of npm's only target are listed in this ``order``."""
    made = Ceremony(folder).found()
    made.sign("alice", "bob", "npm-team")
    made.merge()
    data = (made.workspace.root / "targets" / NPM / "keys.json").read_bytes()

    def change(value: dict[str, Any]) -> None:
        hashes = {name: hashlib.new(name, data).hexdigest() for name in order}
        value["signed"]["targets"][f"{NPM}/keys.json"]["hashes"] = {**hashes, **wrong}

    rewrite(made.workspace.root / "metadata" / f"1.{NPM}.json", change, made.signers["npm-team"])
    made.online()
    return made


def examine(place: Path, made: Ceremony) -> Audit:
    with closing(open_source(str(place)).transport):
        return audit(open_source(str(place)), now=made.now)


def names(folder: Path) -> set[str]:
    return {path.rpartition("/")[2] for path in contents(folder) if path.startswith("targets/")}


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_every_name_that_a_client_may_ask_for_is_published_mirrored_and_audited(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    made = with_digests(tmp_path, order)
    public = tmp_path / "public"
    publish_workspace(made.workspace, public, now=made.now)
    data = (made.workspace.root / "targets" / NPM / "keys.json").read_bytes()
    expected = {f"{hashlib.new(name, data).hexdigest()}.keys.json" for name in order}
    assert names(public) == expected
    assert publish_workspace(made.workspace, public, now=made.now)[0].written == ()

    anchor = Anchor(
        name="example",
        initial_root=(public / "metadata/1.root.json").read_bytes(),
        mirrors=(Mirror(url=str(public)),),
    )
    copy = tmp_path / "copy"
    for _ in range(2):
        with (
            TrustClient(anchor, state=tmp_path / "state", clock=FixedClock(made.now)) as client,
            closing(open_mirror(anchor.mirrors[0])) as source,
        ):
            copy_repository(client, [source], MirrorFolder(copy), Options(layout=Layout()), now=made.now)
        assert names(copy) == expected
        next(path for path in copy.rglob("*.keys.json")).unlink()  # the second run brings it back

    for place in (public, made.workspace.root):
        assert [finding.message for finding in examine(place, made).findings] == []
    for name in expected:
        file = public / "targets" / NPM / name
        whole = file.read_bytes()
        for content, rule in ((None, "missing"), (b"x" * len(whole), "content")):
            file.unlink()
            if content is not None:
                file.write_bytes(content)
            (finding,) = examine(public, made).findings
            assert (finding.rule.value, finding.file) == (rule, f"targets/{NPM}/{name}")
            assert finding.severity is Severity.ERROR
            file.write_bytes(whole)


def test_a_digest_that_is_not_the_files_is_not_published(tmp_path: Path) -> None:
    made = with_digests(tmp_path, ("sha256",), sha512="ab" * 64)
    with pytest.raises(InputError, match="names digests beside its sha256, and not all of them are its own"):
        publish_workspace(made.workspace, tmp_path / "public", now=made.now)
