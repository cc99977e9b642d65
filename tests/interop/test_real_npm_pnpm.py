"""npm, pnpm and kedge before the same mirrors, honest and hostile: three verdicts a row, kept in a golden table.

Packages, signatures and keys are npm's own, of 2023 and 2025. npm has no option for its TUF mirror: it runs as a
private copy with one constant and the seeded root changed (npm_world/npm_copy.py), against Sigstore's public repository
served on loopback, at 2026-08-22, when that repository was current. The table says so.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cli.shell import Shell
from conftest import Require
from interop.npm_world import Issuer, Package, packument
from interop.npm_world.npm_copy import private_npm
from interop.npm_world.project import write_project
from interop.npm_world.tools import Tools
from kedge_repo.demo.story import REGISTRY
from support.server import HostileServer

GOLDEN = Path(__file__).with_name("npm_world") / "mirrors.md"
NOW = "@2026-08-22 00:00:00"

HEAD = f"""# What three tools say of one mirror

Written by `tests/interop/test_real_npm_pnpm.py`, which runs all three and compares: npm 12.2.0 and pnpm 12.21.0 with
`audit signatures`, kedge with `verify npm --upstream {REGISTRY}`. The clock is set to 2026-08-22 (faketime). npm
runs as a private copy of the installed package with two things changed, since it has no option for either: the constant
`DEFAULT_MIRROR_URL` of its TUF client, and the root that is seeded for it. It and kedge get Sigstore's public
repository from the loopback or from a folder. The lockfile holds what npm's registry published, unless the row says
otherwise.

| row | the mirror | npm | pnpm | kedge |
|---|---|---|---|---|
"""


@dataclass
class Mirror:
    """What the mirror serves, and what is locked."""

    url: str
    files: dict[str, bytes]
    new: Package
    old: Package
    keys: list[dict[str, object]]
    locked: Package

    def serve(self, package: Package, *, keys: list[dict[str, object]] | None) -> None:
        self.files.update(packument(self.url, [package]))
        if keys is not None:
            self.files["-/npm/v1/keys"] = json.dumps({"keys": keys}).encode()

    def forge(self, package: Package) -> Package:
        """The same version with a tarball, an integrity and a key of the mirror's own, and its own keys endpoint."""
        forger = Issuer()
        forged = Package.made(package.name, package.version, forger, files={"evil.js": b""})
        self.serve(forged, keys=[forger.endpoint_entry])
        return forged

    def change(self, name: str, change: Callable[[dict[str, object]], None]) -> None:
        document = json.loads(self.files[name])
        change(document)
        self.files[name] = json.dumps(document).encode()


Play = Callable[[Mirror], None]


def honest(mirror: Mirror) -> None:
    mirror.serve(mirror.new, keys=mirror.keys)


def honest_old(mirror: Mirror) -> None:
    mirror.locked = mirror.old
    mirror.serve(mirror.old, keys=mirror.keys)


def no_endpoint(mirror: Mirror) -> None:
    mirror.serve(mirror.new, keys=None)


def forged(mirror: Mirror) -> None:
    mirror.forge(mirror.new)


def forged_and_locked(mirror: Mirror) -> None:
    mirror.locked = mirror.forge(mirror.new)


def stripped(mirror: Mirror) -> None:
    mirror.serve(replace(mirror.new, signatures=None), keys=mirror.keys)


def emptied(mirror: Mirror) -> None:
    mirror.serve(replace(mirror.new, signatures=()), keys=mirror.keys)


def stripped_of_all(mirror: Mirror) -> None:
    mirror.serve(replace(mirror.new, signatures=None), keys=None)


def with_junk(mirror: Mirror) -> None:
    junk = {"keyid": "SHA256:junk", "sig": "MEUCIQDlkgmNyZjT7KUY8AO6jH7G"}
    mirror.serve(replace(mirror.new, signatures=(*(mirror.new.signatures or ()), junk)), keys=mirror.keys)


def redated(mirror: Mirror) -> None:
    mirror.locked = mirror.old
    mirror.serve(replace(mirror.old, published="2026-08-21T00:00:00.000Z"), keys=mirror.keys)


def undated(mirror: Mirror) -> None:
    mirror.locked = mirror.old
    mirror.serve(replace(mirror.old, published=None), keys=mirror.keys)


def another_version(mirror: Mirror) -> None:
    mirror.serve(mirror.new, keys=mirror.keys)

    def swap(document: dict[str, object]) -> None:
        versions = document["versions"]
        assert isinstance(versions, dict)
        versions[mirror.new.version] = {**mirror.old.manifest(mirror.url), "name": "pnpm", "version": "9.15.5"}

    mirror.change("pnpm", swap)


def another_package(mirror: Mirror) -> None:
    mirror.serve(mirror.old, keys=mirror.keys)
    mirror.files["pnpm"] = mirror.files[mirror.old.name]


def old_packument(mirror: Mirror) -> None:
    mirror.serve(mirror.new, keys=mirror.keys)
    mirror.change("pnpm", lambda document: document.update({"dist-tags": {"latest": "10.1.0"}}))


ROWS: list[tuple[str, str, Play]] = [
    ("control", "honest, serves npm's keys", honest),
    ("control", "honest, a release from before the rotation", honest_old),
    ("control", "honest, has no keys endpoint", no_endpoint),
    ("C1", "own tarball, own integrity, own key, own keys endpoint", forged),
    ("C2", "as C1, and the lockfile was made through it", forged_and_locked),
    ("C3", "strips `dist.signatures`, serves npm's keys", stripped),
    ("C3", "leaves `dist.signatures` empty, serves npm's keys", emptied),
    ("C4", "strips signatures and keys", stripped_of_all),
    ("C5", "adds a junk signature", with_junk),
    ("C6", "states its own time for a release from before the rotation", redated),
    ("C6", "states no time for a release from before the rotation", undated),
    ("C7", "answers for another version", another_version),
    ("C7", "answers for another package", another_package),
    ("C8", "serves an old packument that hides newer versions", old_packument),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The three tools, ready to be asked about one project."""

    tools: Tools
    npm: list[str]
    shell: Shell

    def ask(self, project: Path, url: str) -> tuple[str, str, str]:
        npm = self._run([*self.npm, "audit", "signatures"], project)
        pnpm = self._run([*self.tools.pnpm, "audit", "signatures", "--json"], project)
        line = self.shell.command("verify", "npm", "package-lock.json", "--registry", url + "/")
        own = {"KEDGE_STATE_DIR": str(self.shell.state), "KEDGE_CONFIG_DIR": str(self.shell.config)}
        kedge = self._run([*line, "--upstream", REGISTRY, "--anchor", "shared", "--json"], project, **own)
        return npm_verdict(*npm), pnpm_verdict(*pnpm), kedge_verdict(*kedge)

    def _run(self, command: list[str], project: Path, **environment: str) -> tuple[int, str, str]:
        home = project.parent / f"home-{project.name}"
        home.mkdir(exist_ok=True)
        more = {"HOME": str(home), "TZ": "UTC", **environment}
        ran = self.tools.run(["faketime", "-f", NOW, *command], cwd=project, environment=more)
        return ran.code, ran.out, ran.err


def npm_verdict(code: int, out: str, err: str) -> str:
    if match := re.search(r"npm error code (E\w+)", err):
        return f"exit {code}: {match[1]}, no report"
    if match := re.search(r"npm error (found no .*)", err):
        return f"exit {code}: {match[1]}"
    said = re.findall(r"^\d+ packages? ha(?:s|ve) an? (verified|missing|invalid) registry", out, re.MULTILINE)
    assert said, out + err
    return f"exit {code}: {', '.join(said)}"


def pnpm_verdict(code: int, out: str, err: str) -> str:
    if not out.startswith("{"):
        said = (out + err).strip().splitlines()
        return f"exit {code}: {said[0] if said else 'nothing said'}"
    found = json.loads(out)
    if "audited" not in found:
        return f"exit {code}: {found.get('error', found).get('code')}"
    parts = [f"audited {found['audited']}", f"verified {found['verified']}"]
    parts += [f"{name} {len(found[name])}" for name in ("missing", "invalid") if found[name]]
    return f"exit {code}: {', '.join(parts)}"


def kedge_verdict(code: int, out: str, err: str) -> str:
    assert out, err
    (package,) = json.loads(out)["packages"]
    return f"exit {code}: {', '.join([package['outcome'], *package['also']])}"


@pytest.fixture(scope="module")
def played(
    npm_tools_of_module: Tools, shared_vectors: Path, require: Require, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The table as it comes out today, in a file of its own."""
    require(shutil.which("faketime"), "faketime is not installed")
    folder = tmp_path_factory.mktemp("mirrors")
    repository = shared_vectors / "sigstore-repo"
    root = repository / "metadata" / "10.root.json"
    shell = Shell(folder=folder / "user")
    shell.folder.mkdir()
    files: dict[str, bytes] = {}
    with HostileServer(_sigstore(repository)) as sigstore, HostileServer(files) as registry:
        npm = private_npm(npm_tools_of_module.modules, folder / "npm", mirror=sigstore.url, root=root.read_bytes())
        bench = Bench(tools=npm_tools_of_module, npm=npm, shell=shell)
        added = shell.run("anchor", "add", "shared", "--root", root, "--mirror", repository, "--registry", REGISTRY)
        assert added.code == 0, added.err
        table = HEAD
        for number, (row, words, play) in enumerate(ROWS):
            files.clear()
            mirror = _mirror(shared_vectors / "npm", npm_tools_of_module, registry.url, files)
            play(mirror)
            project = folder / f"project-{number}"
            locked = mirror.locked
            write_project(project, {locked.name: (locked.version, locked.integrity)}, registry=registry.url)
            table += f"| {row} | {words} | {' | '.join(bench.ask(project, registry.url))} |\n"
        (folder / GOLDEN.name).write_text(table)
        yield folder / GOLDEN.name


def _mirror(vectors: Path, tools: Tools, url: str, files: dict[str, bytes]) -> Mirror:
    found = {each["name"]: each for each in json.loads((vectors / "registry-signature-vectors.json").read_bytes())}
    keys = json.loads((vectors / "COREPACK_INTEGRITY_KEYS.json").read_bytes())["npm"]
    listed = json.loads((vectors / "registry-signature-vectors.json").read_bytes())
    (new,) = [each for each in listed if (each["name"], each["version"]) == ("pnpm", "10.1.0")]
    packages = [
        Package(
            name=each["name"],
            version=each["version"],
            data=(tools.tarballs / "pnpm-10.1.0.tgz").read_bytes() if each is new else b"not needed",
            integrity=each["integrity"],
            signatures=({"keyid": each["keyid"], "sig": each["sig"]},),
            published=published,
        )
        for each, published in ((new, "2025-01-27T12:00:00.000Z"), (found["sigstore"], "2023-01-20T12:00:00.000Z"))
    ]
    return Mirror(url=url, files=files, new=packages[0], old=packages[1], keys=keys, locked=packages[0])


def _sigstore(repository: Path) -> dict[str, bytes]:
    """Sigstore's own layout: metadata at the top, targets below."""
    files = {path.name: path.read_bytes() for path in (repository / "metadata").iterdir()}
    targets = repository / "targets"
    below = {f"targets/{path.relative_to(targets)}": path for path in targets.rglob("*") if path.is_file()}
    return {**files, **{name: path.read_bytes() for name, path in below.items()}}


def test_the_three_verdicts_are_those_of_the_table(played: Path) -> None:
    assert played.read_text().splitlines() == GOLDEN.read_text().splitlines(), f"what is right now stands in {played}"


def test_every_row_of_the_threat_model_stands_in_the_table(played: Path) -> None:
    rows = {row for row, _, _ in ROWS}
    assert rows == {"control", *(f"C{number}" for number in range(1, 9))}
    assert played.read_text().count("\n| ") == len(ROWS) + 1
