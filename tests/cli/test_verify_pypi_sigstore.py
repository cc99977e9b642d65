"""``kedge verify pypi`` and ``kedge verify sigstore`` as processes, with a real sdist and its real attestation."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from architecture import schemas
from cli.conftest import World
from cli.shell import Done
from support.attested import RealAttestations
from support.server import HostileServer

Require = Callable[[object, str], None]

INSTANCE = "sigstore/acme"
SDIST = "pypi_attestations-0.0.19.tar.gz"
SHA256 = "9bb1add04b1b4e182be6b0b80931593f7a291eb49d69b4fd728a5d4cbcdc4bd3"
PUBLISHER = "https://github.com/trailofbits/pypi-attestations/.github/workflows/release.yml@refs/tags/v0.0.19"
ISSUER = "https://token.actions.githubusercontent.com"
POLICY = """
format = "kedge.provenance/1"
[[pypi]]
project = "PyPI.attestations"
publisher = { kind = "GitHub", repository = "trailofbits/pypi-attestations", workflow = "release.yml" }
"""


@pytest.fixture(scope="session")
def sdist(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real source distribution, by name, from the package registry that pip is set up with."""
    folder = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    done = subprocess.run(
        [*command, "--dest", folder, "pypi-attestations==0.0.19"], capture_output=True, timeout=120, check=False
    )
    require(done.returncode == 0 and (folder / SDIST).is_file(), "pip can download no source distribution")
    return folder / SDIST


@dataclass
class User:
    """A user whose anchor carries Sigstore's real trusted root, with the real file and what attests it beside it."""

    world: World
    folder: Path
    facts: RealAttestations

    def pypi(self, *options: str | Path, policy: str = POLICY, **environment: str) -> Done:
        file = self.folder / "provenance.toml"
        file.write_text(policy)
        command = ("verify", "pypi", "--provenance-policy", file, "--trusted-root", INSTANCE)
        return self.world.shell.run(*command, *options, **environment)

    def sigstore(self, *options: str | Path, file: Path | None = None, identity: str = PUBLISHER) -> Done:
        chosen = ("--bundle", self.folder / "bundle.json", "--identity", identity, "--trusted-root", INSTANCE)
        vouching = () if "--issuer" in options else ("--issuer", ISSUER)
        return self.world.shell.run("verify", "sigstore", file or self.folder / SDIST, *chosen, *vouching, *options)


@pytest.fixture
def user(world: World, shared_vectors: Path, sdist: Path) -> User:
    facts = RealAttestations(shared_vectors)
    world.repo.add_target(f"{INSTANCE}/trusted_root.json", facts.trusted_root)
    world.repo.publish()
    world.publish()
    world.add_anchor("repo", "--registry", INSTANCE)
    folder = world.shell.folder / "work"
    folder.mkdir()
    shutil.copy(sdist, folder)
    (folder / f"{SDIST}.provenance").write_bytes(facts.pypi_provenance)
    (folder / "bundle.json").write_text(json.dumps(facts.pypi_bundle()))
    return User(world=world, folder=folder, facts=facts)


def test_a_real_sdist_is_verified_offline_for_the_publisher_that_is_expected(user: User) -> None:
    done = user.pypi(user.folder / SDIST, "--provenance", user.folder)
    assert (done.code, done.err) == (0, "")
    assert "1 of 1 file verified" in done.out
    assert "where it was built" in done.out
    assert "github.com/trailofbits/pypi-attestations" in done.out
    done = user.pypi(
        user.folder / SDIST, "--provenance", user.folder, policy=POLICY.replace("release.yml", "other.yml")
    )
    assert done.code == 5
    assert "wrong-publisher" in done.out


@pytest.mark.parametrize("columns", [60, 140])
def test_the_answer_fits_the_terminal(user: User, columns: int) -> None:
    done = user.pypi(user.folder / SDIST, "--provenance", user.folder, "--all", COLUMNS=str(columns))
    assert [line for line in done.out.splitlines() if len(line) > columns and " " in line.strip()] == []


def test_the_answer_as_json_fits_its_schema(user: User) -> None:
    answer = json.loads(user.pypi(user.folder / SDIST, "--provenance", user.folder, "--json").out)
    assert schemas.faults("checklist", answer) == []
    assert (answer["kind"], answer["counts"]) == ("pypi", {"verified": 1})
    assert answer["items"][0]["facts"]["build"]["repository"] == "https://github.com/trailofbits/pypi-attestations"


class IndexFiles:
    """An index that lists the file and serves its provenance."""

    def __init__(self, facts: RealAttestations) -> None:
        page = f'<a href="../../p/{SDIST}#sha256={SHA256}" data-provenance="x">{SDIST}</a>'
        self.files = {
            "simple/pypi-attestations/": page.encode(),
            f"integrity/pypi-attestations/0.0.19/{SDIST}/provenance": facts.pypi_provenance,
        }


ALLOW = """
format = "kedge.config/1"
allow = [{{ kind = "git", source = "github.com/corp/*", until = {}, reason = "our own" }}]
"""


def test_a_requirements_file_with_hashes_is_held_against_an_index(user: User) -> None:
    file = user.folder / "requirements.txt"
    file.write_text(f"pypi_attestations==0.0.19 \\\n  --hash=sha256:{SHA256}\n")
    with HostileServer(IndexFiles(user.facts)) as server:
        done = user.pypi(file, "--index", f"{server.url}/simple")
        assert (done.code, done.err) == (0, "")
        assert len(server.paths) == 2
        more = f"pypi_attestations==0.0.19 --hash=sha256:{'0' * 64}\nother==1.0\n"
        file.write_text(file.read_text() + more)
        done = user.pypi(file, "--index", f"{server.url}/simple", "--json")
    answer = json.loads(done.out)
    assert (done.code, answer["counts"]) == (5, {"verified": 1, "not-found": 1, "not-bound": 1})
    assert schemas.faults("checklist", answer) == []


REFUSED_CASES = (
    ("sha512-beside", "sample==1.0 --hash=sha256:{0} --hash=sha512:{0}{0}\n", "--hash=sha512: names another algorithm"),
    ("quoted-hash", 'sample==1.0 --hash=sha256:{0} --hash="sha256:{1}"\n', "is no option of a requirement"),
    ("glued-r", "-revil.txt\nsample==1.0 --hash=sha256:{0}\n", "is no option that kedge reads"),
)


@pytest.mark.parametrize(("case", "text", "problem"), REFUSED_CASES, ids=[case for case, _, _ in REFUSED_CASES])
def test_c13_what_pip_reads_otherwise_is_refused_by_its_name(user: User, case: str, text: str, problem: str) -> None:
    file = user.folder / f"{case}.requirements.txt"
    file.write_text(text.format(SHA256, "0" * 64))
    done = user.pypi(file, "--provenance", user.folder)
    assert (done.code, done.out) == (2, "")
    assert problem in done.err


def test_c14_what_a_file_exempts_fails_in_text_and_json_unless_the_user_allows_it(user: User) -> None:
    file, config = user.folder / "uv.lock", user.world.shell.config / "config.toml"
    file.write_text(
        'version = 1\n[[package]]\nname = "pypi-attestations"\nversion = "0.0.19"\nsource = { registry = "x" }\n'
        f'sdist = {{ url = "https://x.example/{SDIST}", hash = "sha256:{SHA256}" }}\n'
        '[[package]]\nname = "tool"\nversion = "1"\nsource = { git = "https://github.com/corp/tool?rev=1#0123" }\n'
    )
    done = user.pypi(file, "--provenance", user.folder)
    assert done.code == 5
    assert "unvouched: comes from git https://github.com/corp/tool" in done.out
    answer = json.loads(user.pypi(file, "--provenance", user.folder, "--json").out)
    assert answer["counts"] == {"verified": 1, "unvouched": 1}
    assert answer["items"][1]["facts"]["source"].startswith("git:https://github.com/corp/tool")
    config.write_text(ALLOW.format("2099-01-01"))
    assert user.pypi(file, "--provenance", user.folder).code == 0
    config.write_text(ALLOW.format("2020-01-01"))
    over = user.pypi(file, "--provenance", user.folder)
    assert over.code == 5
    assert "ended on 2020-01-01" in over.out
    assert user.pypi(file, "--provenance", user.folder, "--allow", "git=github.com/corp/*").code == 0


def test_a_file_that_is_included_has_to_be_named_too(user: User) -> None:
    base, file = user.folder / "base.txt", user.folder / "requirements.txt"
    base.write_text(f"pypi_attestations==0.0.19 --hash=sha256:{SHA256}\n")
    file.write_text("-r base.txt\n")
    with HostileServer(IndexFiles(user.facts)) as server:
        index = ("--index", f"{server.url}/simple")
        assert user.pypi(file, base, *index).code == 0
        done = user.pypi(file, *index)
    assert done.code == 5
    assert "name that file too" in done.out


def test_a_pylock_names_its_files_itself(user: User) -> None:
    file = user.folder / "pylock.toml"
    hashes = f'hashes = {{ sha256 = "{SHA256}" }}'
    file.write_text(
        'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "pypi-attestations"\nversion = "0.0.19"\n'
        f'sdist = {{ name = "{SDIST}", {hashes} }}\n'
    )
    assert user.pypi(file, "--provenance", user.folder).code == 0
    file.write_text(file.read_text().replace(SHA256, "0" * 64))
    done = user.pypi(file, "--provenance", user.folder)
    assert done.code == 5
    assert "subject's digest: is sha256 9bb1add0" in done.out


def test_a_policy_must_be_given(user: User) -> None:
    done = user.world.shell.run("verify", "pypi", user.folder / SDIST)
    assert (done.code, done.out) == (2, "")
    assert "--provenance-policy" in done.err


@pytest.fixture
def with_sigstore_python(require: Require) -> None:
    require(find_spec("sigstore"), "sigstore-python is not installed: run make signers")


def test_a_file_is_verified_by_the_verified_root(user: User) -> None:
    done = user.sigstore()
    assert (done.code, done.err) == (0, "")
    assert "verified by   kedge\n" in done.out
    assert f"signed by {PUBLISHER}, for whom {ISSUER} vouches; log entry 153454663" in done.out
    answer = json.loads(user.sigstore("--json").out)
    assert schemas.faults("checklist", answer) == []
    assert answer["items"][0]["facts"]["predicate_type"] == "https://docs.pypi.org/attestations/publish/v1"


def test_what_is_refused_ends_in_3_and_what_cannot_be_read_in_2(user: User) -> None:
    done = user.sigstore(identity=PUBLISHER + "x")
    assert (done.code, done.out) == (3, "")
    assert f"identity: the certificate's identity is '{PUBLISHER}', expected '{PUBLISHER}x'" in done.err
    done = user.sigstore("--issuer", "https://accounts.google.com")
    assert (done.code, done.out) == (3, "")
    other = user.folder / "other"
    other.write_bytes(b"other")
    done = user.sigstore(file=other)
    assert (done.code, done.out) == (3, "")
    assert "none with the bytes of this file" in done.err
    bundle = user.folder / "bundle.json"
    for text, problem in (
        ("{}", "mediaType"),
        ("{", "is not JSON"),
        ('{"base64Signature": "x", "cert": "y"}', "the former format of cosign's --bundle"),
    ):
        bundle.write_text(text)
        done = user.sigstore()
        assert (done.code, done.out) == (2, "")
        assert problem in done.err
        assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--repo", "trailofbits/pypi-attestations"), 0),
        (("--repo", "TrailOfBits/PyPI-attestations"), 0),
        (("--repo", "trailofbits/pypi"), 3),
        (("--owner", "trailofbits"), 0),
        (("--owner", "trailofbit"), 3),
        (("--owner", "trailofbits", "--issuer", "https://gitlab.com"), 3),
        (("--identity-regexp", "https://github.com/trailofbits/.*", "--issuer", ISSUER), 0),
        (("--identity-regexp", "https://github.com/trailofbits/", "--issuer", ISSUER), 3),
        (("--identity-regexp", "https://.*", "--issuer-regexp", r"https://token\.actions\..*"), 0),
        (("--identity-regexp", "https://.*", "--issuer-regexp", "https://gitlab.com.*"), 3),
        (("--identity-regexp", "(", "--issuer", ISSUER), 2),
        (("--identity-regexp", ".*"), 2),
        (("--issuer", ISSUER), 2),
        (("--repo", "trailofbits"), 2),
        (("--key", "absent.pem"), 2),
        (("--key", "absent.pem", "--repo", "o/r"), 2),
        (("--repo", "o/r", "--second-opinion"), 2),
        ((), 2),
    ],
)
def test_who_must_have_signed_is_stated_in_one_of_several_ways(user: User, options: tuple[str, ...], code: int) -> None:
    chosen = ("--bundle", user.folder / "bundle.json", "--trusted-root", INSTANCE)
    done = user.world.shell.run("verify", "sigstore", user.folder / SDIST, *chosen, *options)
    assert (done.code, "Traceback" in done.err) == (code, False), done.err
    if code:
        assert len([line for line in done.err.splitlines() if not line.startswith("hint:")]) >= 1


def test_one_right_bundle_of_several_lines_is_enough(user: User) -> None:
    bundle = user.folder / "bundle.json"
    right = json.loads(bundle.read_text())
    wrong = json.loads(bundle.read_text())
    wrong["dsseEnvelope"]["signatures"][0]["sig"] = "AAAA"
    bundle.write_text("\n".join(json.dumps(each) for each in (wrong, right)) + "\n")
    assert user.sigstore().code == 0
    bundle.write_text("\n".join(json.dumps(each) for each in (wrong, wrong)) + "\n")
    done = user.sigstore()
    assert (done.code, done.out) == (3, "")
    assert "none of 2 bundles is right" in done.err
    bundle.write_text(json.dumps(right) + "\n{}\n")
    assert user.sigstore().code == 2


@pytest.mark.usefixtures("with_sigstore_python")
def test_the_second_opinion_is_sigstore_pythons_by_the_same_root(user: User) -> None:
    done = user.sigstore("--second-opinion")
    assert (done.code, done.err) == (0, "")
    assert "verified by   kedge and sigstore-python " in done.out


@pytest.mark.usefixtures("with_sigstore_python")
def test_s2_a_cached_root_that_was_changed_is_never_used(user: User) -> None:
    """formats.md §12, s2: sigstore-python's own offline mode would return it."""
    assert user.sigstore("--second-opinion").code == 0
    held = next(
        blob
        for blob in (user.world.shell.state / "repo" / "blobs").rglob("*")
        if blob.is_file() and blob.read_bytes() == user.facts.trusted_root
    )
    held.write_bytes(held.read_bytes().replace(b"sigstore.dev", b"sigstore.bad", 1))
    shutil.move(user.world.folder, user.world.folder.with_name("gone"))
    done = user.sigstore()
    assert (done.code, done.out) == (1, "")
    shutil.move(user.world.folder.with_name("gone"), user.world.folder)  # the control: it is fetched again
    assert user.sigstore().code == 0


READ_REPOSITORY = """
import sys
from pathlib import Path
from sigstore.models import ClientTrustConfig
config = ClientTrustConfig.from_tuf(sys.argv[1], bootstrap_root=Path(sys.argv[2]))
print(len(config.trusted_root.get_fulcio_certs()), config.signing_config.get_oidc_url())
"""


@pytest.mark.usefixtures("with_sigstore_python")
def test_a_mirror_is_a_repository_for_sigstores_own_clients(user: User, tmp_path: Path) -> None:
    """The layout that ``cosign initialize --mirror`` reads too: metadata at the top, targets below ``targets/``."""
    for name in ("trusted_root.json", "signing_config.v0.2.json"):
        user.world.repo.add_target(name, (user.facts.vectors / "sigstore" / name).read_bytes())
    user.world.repo.publish()
    user.world.publish()
    copy, home = tmp_path / "mirror", tmp_path / "home"
    home.mkdir()
    layout = ("--metadata", "", "--targets", "targets")
    done = user.world.shell.run("mirror", "sync", copy, "--anchor", "repo", *layout)
    assert done.code == 0, done.err
    assert (copy / "timestamp.json").is_file()
    with HostileServer(Folder(copy)) as server:
        command = [sys.executable, "-W", "ignore", "-c", READ_REPOSITORY, server.url, str(tmp_path / "root.json")]
        read = subprocess.run(command, capture_output=True, text=True, env={"HOME": str(home)}, timeout=60, check=False)
    assert (read.returncode, read.stdout) == (0, "3 https://oauth2.sigstore.dev/auth\n"), read.stderr


class Folder:
    """What lies in a folder, to be served."""

    def __init__(self, folder: Path) -> None:
        self.files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
