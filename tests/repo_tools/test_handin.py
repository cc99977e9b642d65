"""Self-service of a delegated role: prepared from what is published alone, taken within the policy, refused outside."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, TargetFile, Targets
from typer.testing import CliRunner

from kedge.client.anchor import Anchor
from kedge.client.client import TrustClient
from kedge.errors import ExitCode, ExpiredError, InputError, ThresholdError, VerificationError
from kedge.transport.mirror import Mirror
from kedge_repo._cli.app import app
from kedge_repo.events.changes import merge_event
from kedge_repo.events.hand_in import HandIn, Taken, Wished, prepare, read_published, take_hand_in
from kedge_repo.events.plan import add_target
from kedge_repo.events.plan_keys import add_key, revoke_registry_key
from kedge_repo.events.plan_roles import plan_renewal, plan_role
from kedge_repo.events.signatures import sign_event
from kedge_repo.publish.publish import publish_workspace
from kedge_repo.signing.keyholder import TrustedRoot, sign_request, verify_request
from kedge_repo.signing.request import Request, Response, RoleSignature, TargetChange
from kedge_repo.workspace.metadata import Payload
from repo_tools.ceremony import NPM, Ceremony, contents

PATH = f"{NPM}/keys.json"
EXPIRY = timedelta(days=182)
BOUNDS = f"""
[delegations."{NPM}".hand_in]
max_bytes = 10000
max_targets = 2
max_expiry_days = 200
key_documents_only = true
sub_delegations = false
"""


def allow(made: Ceremony, bounds: str = BOUNDS) -> None:
    file = made.workspace.root / "kedge-repo.toml"
    file.write_text(file.read_text().replace("\n[[destination]]", f"{bounds}\n[[destination]]"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Ceremony:
    made = Ceremony(tmp_path_factory.mktemp("handin")).ready()
    allow(made)
    publish_workspace(made.workspace, made.folder / "public", now=made.now)
    return made


def copied(made: Ceremony, folder: Path) -> Ceremony:
    shutil.copytree(made.folder, folder)
    copy = Ceremony(folder, made.now)
    copy.signers = dict(made.signers)
    return copy


@pytest.fixture
def ceremony(template: Ceremony, tmp_path: Path) -> Ceremony:
    return copied(template, tmp_path / "copy")


def document(made: Ceremony) -> bytes:
    """npm's document with other white space: in order, and another file."""
    return json.dumps(json.loads(made.workspace.target(PATH)), indent=3).encode()


def root_of(made: Ceremony) -> bytes:
    return (made.folder / "public/metadata/1.root.json").read_bytes()


def requested(made: Ceremony, wished: Wished | None = None, *, expiry: timedelta = EXPIRY) -> Request:
    published = read_published(str(made.folder / "public"), root_of(made), NPM, now=made.now)
    put = Wished(put={PATH: document(made)}) if wished is None else wished
    return prepare(published, NPM, put, reason="new layout", expiry=expiry, now=made.now)


def signed_by(made: Ceremony, request: Request, *names: str) -> HandIn:
    verified = verify_request(request, TrustedRoot(data=root_of(made), file="own root"))
    return HandIn(request=request, responses=tuple(sign_request(verified, made.signers[name]) for name in names))


def take(made: Ceremony, hand_in: HandIn, **options: Any) -> Taken:
    return take_hand_in(made.workspace, HandIn.from_bytes(hand_in.to_bytes()), now=made.now, **options)


def test_a_hand_in_from_nothing_but_what_is_published_reaches_clients(ceremony: Ceremony) -> None:
    made, new = ceremony, document(ceremony)
    hand_in = signed_by(made, requested(made), "npm-team")
    taken = take(made, hand_in)
    assert (taken.role, taken.version, taken.findings) == (NPM, 2, ())
    assert taken.merged is not None
    assert made.workspace.events() == ()
    assert made.workspace.target(PATH) == new
    made.online()
    publish_workspace(made.workspace, made.folder / "public", now=made.now)
    anchor = Anchor(name="t", initial_root=root_of(made), mirrors=(Mirror(url=str(made.folder / "public")),))
    with TrustClient(anchor, state=made.folder / "client") as client:
        assert client.target(PATH).data == new


def test_a_renewal_changes_the_expiry_and_nothing_else(ceremony: Ceremony) -> None:
    before = ceremony.workspace.target(PATH)
    taken = take(ceremony, signed_by(ceremony, requested(ceremony, Wished()), "npm-team"))
    assert taken.changes == (f"hand-in: renew {NPM} as version 2",)
    assert ceremony.workspace.target(PATH) == before


def forged(made: Ceremony, change: Callable[[Targets], object], *brought: TargetChange) -> HandIn:
    """A hand-in whose payload says what ``change`` makes of it, signed by the role's own key all the same."""
    request = requested(made)
    payload = request.payloads[0]
    signed = payload.signed
    assert isinstance(signed, Targets)
    change(signed)
    lie = Payload.of(NPM, signed)
    signature = made.signers["npm-team"].sign(lie.data)
    response = Response(
        repository=request.repository,
        event=request.event,
        code="0000-0000-0000-0000-0000-0000-0000",
        signatures=(
            RoleSignature(role=NPM, payload_sha256=lie.sha256, keyid=signature.keyid, signature=signature.signature),
        ),
    )
    targets = brought or request.targets
    return HandIn(request=replace(request, payloads=(lie,), targets=targets), responses=(response,))


def further(signed: Targets, days: float) -> None:
    signed.expires = signed.expires + timedelta(days=days)


def delegating(signed: Targets) -> None:
    role = DelegatedRole("deeper", ["0" * 64], 1, True, paths=[f"{NPM}/*"])
    key = CryptoSigner.generate_ed25519().public_key
    role.keyids = [key.keyid]
    signed.delegations = Delegations(keys={key.keyid: key}, roles={"deeper": role})


def listing(path: str, data: bytes = b"{}") -> Callable[[Targets], object]:
    return lambda signed: signed.targets.__setitem__(path, TargetFile.from_data(path, data, ["sha256"]))


def added(path: str, data: bytes = b"{}") -> TargetChange:
    return TargetChange(path=path, old=None, new=data)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda signed: setattr(signed, "version", 3), "version 3, expected exactly 2"),
        (lambda signed: setattr(signed, "version", 1_000_000), "version 1000000, expected exactly 2"),
        (lambda signed: setattr(signed, "version", 1), "version 1, expected exactly 2"),
        (lambda signed: further(signed, 30 * 365), "would expire at 20"),
        (lambda signed: further(signed, 19), "would expire at 20"),
        (lambda signed: further(signed, -160), "would expire at 20"),
        (delegating, "delegates to others, which its hand-ins may not"),
        (listing("elsewhere.example/keys.json"), "is outside the paths of"),
        (listing(f"{NPM}/../keys.json"), "targets: "),
        (listing(f"{NPM}/more.json"), f"the bytes of {NPM}/more.json are missing"),
        (listing(PATH), f"the bytes of {PATH} are not those that were signed"),
        (lambda signed: signed.targets.pop(PATH), "that is a matter for the maintainers"),
        (
            lambda signed: [listing(f"{NPM}/{name}.json")(signed) for name in "ab"],
            "3 targets, and hand-ins may have 2 at most",
        ),
        (lambda signed: setattr(signed.targets[PATH], "length", 10_001), "10001 bytes of targets"),
        (lambda signed: signed.unrecognized_fields.update(x="y" * 80_000), "bytes of metadata, expected at most 75536"),
    ],
)
def test_d9_what_is_outside_the_policy_is_refused_and_nothing_kept(
    ceremony: Ceremony, change: Callable[[Targets], object], text: str
) -> None:
    before = contents(ceremony.folder)
    if "matter for the maintainers" in text:
        hand_in = forged(ceremony, change, TargetChange(path=PATH, old=ceremony.workspace.target(PATH), new=None))
    else:
        hand_in = forged(ceremony, change)
    with pytest.raises(VerificationError) as refused:
        take(ceremony, hand_in)
    assert text in refused.value.message
    assert refused.value.exit_code == ExitCode.REFUSED
    assert contents(ceremony.folder) == before


def test_d9_bytes_of_a_target_that_does_not_change_are_not_taken(ceremony: Ceremony) -> None:
    hand_in = signed_by(ceremony, requested(ceremony, Wished()), "npm-team")
    smuggled = TargetChange(path=PATH, old=None, new=b"other keys")
    with pytest.raises(VerificationError, match="which the signed payload does not change"):
        take(ceremony, replace(hand_in, request=replace(hand_in.request, targets=(smuggled,))))
    assert take(ceremony, hand_in).merged is not None


def test_d9_control_the_same_way_of_making_it_is_taken_where_nothing_is_wrong(ceremony: Ceremony) -> None:
    assert take(ceremony, forged(ceremony, lambda signed: further(signed, 18))).merged is not None


def test_d9_an_old_hand_in_is_refused(ceremony: Ceremony) -> None:
    first = signed_by(ceremony, requested(ceremony), "npm-team")
    second = signed_by(ceremony, requested(ceremony, Wished()), "npm-team")
    assert take(ceremony, first).merged is not None
    before = contents(ceremony.folder)
    for old in (first, second):
        with pytest.raises(VerificationError, match="version 2, expected exactly 3") as refused:
            take(ceremony, old)
        assert "old hand-in" in str(refused.value.hint)
    assert contents(ceremony.folder) == before


def test_a_file_that_is_no_key_document_or_breaks_its_clients_is_refused(ceremony: Ceremony) -> None:
    path = f"{NPM}/more.json"
    with pytest.raises(VerificationError, match="is no key document, and nothing else is taken"):
        take(ceremony, signed_by(ceremony, requested(ceremony, Wished(put={path: b"{}"})), "npm-team"))
    with pytest.raises(VerificationError, match=r"lint: .*document/unreadable"):
        take(ceremony, signed_by(ceremony, requested(ceremony, Wished(put={PATH: b"{}"})), "npm-team"))
    entries = json.loads(ceremony.workspace.target(PATH))["keys"]
    dropped = json.dumps({"keys": entries[2:]}).encode()
    with pytest.raises(VerificationError, match=r"lint: .* is no longer there for npm:signatures"):
        take(ceremony, signed_by(ceremony, requested(ceremony, Wished(put={PATH: dropped})), "npm-team"))


def test_a_signature_by_somebody_else_or_over_something_else_is_refused(ceremony: Ceremony) -> None:
    request = requested(ceremony)
    mine = signed_by(ceremony, request, "npm-team")
    item = mine.responses[0].signatures[0]
    stranger = CryptoSigner.generate_ed25519()
    over = stranger.sign(request.payloads[0].data)
    for wrong, text in (
        (replace(item, keyid=over.keyid, signature=over.signature), "this key signs nothing in"),
        (replace(item, signature=over.signature), "is not a signature of this key"),
        (replace(item, payload_sha256="0" * 64), "signs another payload"),
    ):
        response = replace(mine.responses[0], signatures=(wrong,))
        with pytest.raises(VerificationError, match=text):
            take(ceremony, replace(mine, responses=(response,)))
    assert take(ceremony, mine).merged is not None


def test_without_the_table_and_for_other_roles_nothing_is_taken(tmp_path: Path) -> None:
    made = Ceremony(tmp_path).ready()
    publish_workspace(made.workspace, made.folder / "public", now=made.now)
    hand_in = signed_by(made, requested(made), "npm-team")
    with pytest.raises(InputError, match="takes no hand-ins for") as refused:
        take(made, hand_in)
    assert "hand_in]" in str(refused.value.hint)
    allow(made)
    made.change(lambda view: plan_renewal(view, [NPM]))
    with pytest.raises(InputError, match=r"changes registry\.npmjs\.org already"):
        take(made, hand_in)


def test_two_owners_neither_of_them_alone(tmp_path: Path) -> None:
    """A delegation of two keys, the registry's and the repository's, that asks for both."""
    made = Ceremony(tmp_path).found()
    made.signers["steward"] = CryptoSigner.generate_ed25519()
    made.sign("alice", "bob", "npm-team")
    made.merge()
    made.change(lambda view: add_key(view, "steward", made.signers["steward"].public_key, roles=[NPM]))
    made.change(lambda view: plan_role(view, NPM, threshold=2))
    made.sign("alice", "bob", "npm-team", "steward")
    made.merge()
    made.online()
    allow(made)
    public = made.folder / "public"
    publish_workspace(made.workspace, public, now=made.now)

    taken = take(made, signed_by(made, requested(made), "npm-team"))
    assert taken.merged is None
    assert made.workspace.events() == (taken.event,)
    with pytest.raises(ThresholdError, match=r"has 1 of 2 .* missing: steward"):
        merge_event(made.workspace)
    assert sign_event(made.workspace, made.signers["steward"]).due
    assert merge_event(made.workspace).versions == {NPM: 3}

    # The repository alone changes nothing either.
    made.change(lambda view: add_target(view, PATH, made.workspace.target(PATH) + b"\n"))
    made.sign("steward")
    with pytest.raises(ThresholdError, match="missing: npm-team"):
        made.merge()


def test_what_a_mirror_shows_the_keyholders_is_verified(ceremony: Ceremony) -> None:
    public = ceremony.folder / "public"
    with pytest.raises(ExpiredError):
        read_published(str(public), root_of(ceremony), NPM, now=ceremony.now + timedelta(days=8))
    with pytest.raises(InputError, match="has no role elsewhere"):
        read_published(str(public), root_of(ceremony), "elsewhere", now=ceremony.now)
    file = public / "metadata" / f"1.{NPM}.json"
    metadata: Metadata[Targets] = Metadata.from_bytes(file.read_bytes())
    metadata.sign(CryptoSigner.generate_ed25519())
    file.write_bytes(metadata.to_bytes())
    with pytest.raises(VerificationError, match="is not the file that the signed snapshot names"):
        read_published(str(public), root_of(ceremony), NPM, now=ceremony.now)


def test_revoked_keys_stay_revoked_through_a_hand_in(ceremony: Ceremony) -> None:
    made = ceremony
    old = "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA"
    made.change(lambda view: revoke_registry_key(view, NPM, old))
    made.sign("npm-team")
    made.merge()
    made.online()
    publish_workspace(made.workspace, made.folder / "public", now=made.now)
    kept = signed_by(made, requested(made), "npm-team")
    dropped = signed_by(made, requested(made, Wished(put={PATH: document(made)}, customs={PATH: {"x": 1}})), "npm-team")
    with pytest.raises(VerificationError, match="was revoked, and would be trusted again"):
        take(made, dropped)
    assert take(made, kept).merged is not None


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_the_commands_from_the_published_folder_to_the_merge(ceremony: Ceremony, tmp_path: Path) -> None:
    key = tmp_path / "npm.pem"
    key.write_bytes(ceremony.signers["npm-team"].private_bytes)
    (tmp_path / "keys.json").write_bytes(document(ceremony))
    (tmp_path / "root.json").write_bytes(root_of(ceremony))
    line = [
        "hand-in", "new", ceremony.folder / "public", "--root", tmp_path / "root.json", "--role", NPM,
        "--reason", "new layout", "--target", f"{PATH}={tmp_path / 'keys.json'}",
    ]  # fmt: skip
    signing = ["--key", f"file:{key}", "--allow-unencrypted-key-file", "--yes", "-o", tmp_path / "hand-in.json"]
    made = run(*line, *signing)
    assert (made.exit_code, made.stdout) == (0, f"{tmp_path / 'hand-in.json'}\n"), made.output
    assert "replaces target" in made.stderr
    workspace = ["-w", ceremony.workspace.root]
    before = contents(ceremony.workspace.root)
    dry = run("hand-in", "take", tmp_path / "hand-in.json", "--dry-run", *workspace)
    assert dry.exit_code == 0
    assert "would be taken" in dry.stdout
    assert contents(ceremony.workspace.root) == before
    taken = run("hand-in", "take", tmp_path / "hand-in.json", *workspace)
    assert (taken.exit_code, taken.stdout.splitlines()[0]) == (
        0,
        f"{tmp_path / 'hand-in.json'}: {NPM} version 2 merged",
    )
    again = run("hand-in", "take", tmp_path / "hand-in.json", tmp_path / "root.json", "--json", *workspace)
    assert again.exit_code == 3
    answer = json.loads(again.stdout)
    assert [(entry["exit_code"], entry["file"]) for entry in answer["refused"]] == [
        (3, str(tmp_path / "hand-in.json")),
        (2, str(tmp_path / "root.json")),
    ]


def test_several_keyholders_sign_the_request_and_pack_it(ceremony: Ceremony, tmp_path: Path) -> None:
    root, request = tmp_path / "root.json", tmp_path / "request.json"
    root.write_bytes(root_of(ceremony))
    line = ["hand-in", "new", ceremony.folder / "public", "--root", root, "--role", NPM, "--reason", "renewal"]
    assert run(*line, "-o", request).exit_code == 0
    verified = verify_request(
        Request.from_bytes(request.read_bytes()), TrustedRoot(data=root.read_bytes(), file="root")
    )
    answer = tmp_path / "npm.response.json"
    answer.write_bytes(sign_request(verified, ceremony.signers["npm-team"]).to_bytes())
    packed = run("hand-in", "pack", request, answer, "-o", tmp_path / "hand-in.json")
    assert packed.exit_code == 0
    assert run("hand-in", "take", tmp_path / "hand-in.json", "-w", ceremony.workspace.root).exit_code == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--role", "elsewhere"], "has no role elsewhere"),
        (["--role", NPM, "--target", "keys.json"], "--target: must be PATH=FILE"),
        (["--role", NPM, "--target", f"{PATH}=nowhere.json"], "there is no such file"),
        (["--role", NPM, "--remove", "nothing"], "has no target nothing"),
        (["--role", NPM, "--key", "file:nowhere.pem"], "there is no terminal to ask on"),
    ],
)
def test_bad_input_of_the_keyholder_ends_in_one_line(
    ceremony: Ceremony, tmp_path: Path, options: list[str], text: str
) -> None:
    (tmp_path / "root.json").write_bytes(root_of(ceremony))
    line = ["hand-in", "new", ceremony.folder / "public", "--root", tmp_path / "root.json", "--reason", "x", *options]
    done = run(*line, "-o", tmp_path / "out.json")
    assert isinstance(done.exception, InputError), done.output
    assert text in str(done.exception)
    assert not (tmp_path / "out.json").exists()
