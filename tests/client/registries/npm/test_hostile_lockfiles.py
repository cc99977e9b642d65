"""Lockfiles in which one reader sees other packages than the installer: refused, or a failure of the entry.

The shapes are those of ``../shared/cases.zip`` and their siblings, as kinds: each test makes the ones of its kind.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kedge.documents import DocumentError
from kedge.registries.npm import Outcome, Policy
from kedge.registries.npm.judge import judge_unsigned
from kedge.registries.npm.locked import LockedPackage, Skip, digest_of
from kedge.registries.npm.lockfiles import NAMES, LockfileKind, read_lockfile

GOOD = digest_of(b"good").sri
EVIL = "http://127.0.0.1:1/evil.tgz"
Require = Callable[[object, str], None]


def read(data: bytes | str, kind: LockfileKind) -> tuple[LockedPackage, ...]:
    return read_lockfile(data.encode() if isinstance(data, str) else data, kind).packages


def is_failure(package: LockedPackage) -> bool:
    """Whether an entry fails whatever a registry serves: by its kind, or since no digest binds it."""
    if package.skip is None:
        return not package.digests
    return judge_unsigned(package, Policy()).outcome is Outcome.NOT_IN_REGISTRY


def fails(data: bytes | str, kind: LockfileKind, name: str) -> None:
    """Check that the file is refused, or an entry of this name fails."""
    try:
        found = read(data, kind)
    except DocumentError:
        return
    assert any(is_failure(package) for package in found if name in (package.name, *package.aliases)), found


def package_lock(**entry: Any) -> str:
    table = {
        "lockfileVersion": 3,
        "packages": {"node_modules/a": {"version": "1.0.0", "integrity": GOOD}, "node_modules/x": entry},
    }
    return json.dumps(table)


def tree(**entry: Any) -> str:
    good = {"version": "1.0.0", "integrity": GOOD}
    return json.dumps({"lockfileVersion": 1, "dependencies": {"a": good, "x": entry}})


UNCHECKED = [
    "git+ssh://git@github.com/e/x.git#1",
    "git+https://example.com/x.git",
    "git://example.com/x.git",
    "ssh://git@h/x.git",
    "git@github.com:e/x.git",
    "github:e/x",
    "gist:1234",
    "gitlab:e/x",
    "bitbucket:e/x",
    "e/x",
    "e/x#main",
    "https://github.com/e/x",
    "https://github.com/e/x.git",
    "http://www.github.com/e/x",
    "https://u:p@github.com/e/x",
    "HTTPS://GitHub.com/e/x",
    "https://gitlab.com/e/g/x",
    "https://bitbucket.org/e/x",
    "https://git.sr.ht/~e/x",
    "https://gist.github.com/e/1",
    "https://codeload.github.com/e/x/tar.gz/1",
    "file:../x",
    "file:../x.tgz",
    "../x",
    "/x",
    "/x.tgz",
    "~/x",
    "C:\\x",
    "file:/x",
    "file:///x",
    "file:a/../../x",
    "file:%2e%2e/x",
    "npm:evil@1.0.0",
    "evil@1.0.0",
    "latest",
    "portal:../x",
    "link:../x",
    "exec:../x",
    "jsr:1.0.0",
    "ftp://h/x.tgz",
    "data:x",
]


@pytest.mark.parametrize("source", UNCHECKED)
def test_what_npm_fetches_without_checking_the_digest_is_a_failure(source: str) -> None:
    fails(package_lock(version="1.0.0", integrity=GOOD, resolved=source), LockfileKind.NPM, "x")
    fails(tree(version="1.0.0", integrity=GOOD, resolved=source), LockfileKind.NPM, "x")
    if not source.startswith("npm:"):  # an alias, which its digest binds
        fails(tree(version=source, integrity=GOOD), LockfileKind.NPM, "x")


@pytest.mark.parametrize("source", UNCHECKED)
def test_what_the_others_fetch_from_elsewhere_is_a_failure(source: str) -> None:
    if source not in ("latest", "evil@1.0.0", "npm:evil@1.0.0"):  # a tag, or an alias: the block's own content counts
        head = f'{json.dumps(f"x@{source}")}:\n  version "1.0.0"\n'
        fails(f'# yarn lockfile v1\n{head}  resolved "{EVIL}"\n', LockfileKind.YARN, "x")
    fails(
        f'# yarn lockfile v1\nx@^1.0.0:\n  version "1.0.0"\n  resolved {json.dumps(source)}\n  integrity {GOOD}\n'
        if not source.endswith(".tgz")
        else "x@^1.0.0:\n  version 1\n",
        LockfileKind.YARN,
        "x",
    )
    table = {"lockfileVersion": 1, "workspaces": {}, "packages": {"x": [f"x@{source}", {}, GOOD]}}
    fails(json.dumps(table), LockfileKind.BUN, "x")
    quoted = json.dumps(f"x@{source}")
    berry = f"__metadata:\n  version: 8\n{quoted}:\n  version: 1.0.0\n  resolution: {quoted}\n"
    fails(berry, LockfileKind.YARN, "x")
    pnpm = f"lockfileVersion: '9.0'\npackages:\n  {quoted}:\n    resolution: {{integrity: {GOOD}}}\nsnapshots: {{}}\n"
    fails(pnpm, LockfileKind.PNPM, "x")
    for key in ("x@1.0.0", "x@file:x.tgz"):
        resolution = f"{{integrity: {GOOD}, tarball: {json.dumps(source)}}}"
        entry = f"  {key}:\n    resolution: {resolution}\n"
        fails(f"lockfileVersion: '9.0'\npackages:\n{entry}snapshots: {{}}\n", LockfileKind.PNPM, "x")


@pytest.mark.parametrize(
    "entry",
    [
        {"resolved": EVIL, "inBundle": True},
        {"inBundle": True},
        {"resolved": EVIL, "bundled": True},
        {"resolved": EVIL},
        {"_resolved": "git+ssh://h/x", "integrity": GOOD},
        {"_integrity": GOOD, "integrity": GOOD},
        {"link": "yes"},
        {"link": True, "resolved": "../x"},
        {"link": True, "resolved": "/x"},
        {"link": True},
        {"resolved": 1},
        {"resolved": None},
        {"resolved": True},
        {"resolved": ["x"]},
        {"integrity": [GOOD]},
        {"inBundle": "true"},
        {"name": "../x", "integrity": GOOD},
        {"name": 1, "integrity": GOOD},
        {"version": "", "integrity": GOOD},
    ],
)
def test_a_flag_or_a_field_exempts_no_entry_of_npm(entry: dict[str, Any]) -> None:
    fails(package_lock(**{"version": "1.0.0", **entry}), LockfileKind.NPM, "x")
    good, *_ = read(package_lock(**{"version": "1.0.0", **entry}), LockfileKind.NPM)
    assert (good.name, is_failure(good)) == ("a", False)


@pytest.mark.parametrize("bundler", [None, [], ["other"], True, "x"])
@pytest.mark.parametrize("place", ["node_modules/x", "node_modules/a/node_modules/x", "packages/w/node_modules/x"])
def test_only_what_a_package_bundles_is_inside_of_its_archive(bundler: Any, place: str) -> None:
    entries = {
        "": {"bundleDependencies": ["x"]},
        "packages/w": {"bundleDependencies": ["x"]},
        "node_modules/a": {"version": "1.0.0", "integrity": GOOD, "bundleDependencies": bundler},
        place: {"version": "1.0.0", "inBundle": True},
    }
    fails(json.dumps({"lockfileVersion": 3, "packages": entries}), LockfileKind.NPM, "x")


def test_what_bundled_packages_need_is_bundled_too() -> None:
    entries: dict[str, Any] = {
        "node_modules/a": {"version": "1.0.0", "integrity": GOOD, "bundleDependencies": ["b"]},
        "node_modules/a/node_modules/b": {"version": "1.0.0", "inBundle": True, "dependencies": {"c": "1"}},
        "node_modules/a/node_modules/c": {"version": "1.0.0", "inBundle": True},
        "node_modules/a/node_modules/b/node_modules/d": {
            "version": "1.0.0",
            "inBundle": True,
            "dependencies": {"e": "1"},
        },
        "node_modules/a/node_modules/e": {"version": "1.0.0", "inBundle": True},
        "node_modules/a/node_modules/f": {"version": "1.0.0", "inBundle": True},
    }
    found = read(json.dumps({"lockfileVersion": 3, "packages": entries}), LockfileKind.NPM)
    assert {package.name: package.skip for package in found} == {
        "a": None,
        "b": Skip.BUNDLED,
        "c": Skip.BUNDLED,
        "d": Skip.BUNDLED,
        "e": Skip.BUNDLED,
        "f": None,
    }


@pytest.mark.parametrize(
    "place",
    [
        "node_modules/../x",
        "../x",
        "/x",
        "node_modules//x",
        "a/node_modules/",
        "xnode_modules/x",
        "node_modules/x/y",
        "node_modules/./x",
        "node_modules/@s",
        "a\\node_modules\\x",
        "node_modules/x/node_modules",
        "NODE_MODULES/../../x",
    ],
)
def test_a_place_that_npm_reads_in_another_way_is_a_failure(place: str) -> None:
    entries = {
        "node_modules/a": {"version": "1.0.0", "integrity": GOOD},
        place: {"version": "1.0.0", "integrity": GOOD},
    }
    found = read(json.dumps({"lockfileVersion": 3, "packages": entries}), LockfileKind.NPM)
    assert [is_failure(package) for package in found] == [False, True]


@pytest.mark.parametrize(
    "second",
    [
        {"version": "1.0.1", "integrity": GOOD},
        {"version": "1.0.0", "integrity": digest_of(b"evil").sri},
        {"version": "npm:evil@1.0.0", "integrity": GOOD},
        {"version": "1.0.0"},
        {"version": EVIL},
        {"version": "1.0.0", "resolved": "git+ssh://h/x", "integrity": GOOD},
    ],
)
def test_two_trees_of_one_lockfile_that_disagree_are_a_failure(second: dict[str, Any]) -> None:
    first = {"version": "1.0.0", "integrity": GOOD}
    table = {"lockfileVersion": 2, "packages": {"node_modules/x": first}, "dependencies": {"x": first}}
    assert [is_failure(package) for package in read(json.dumps(table), LockfileKind.NPM)] == [False]
    table["dependencies"] = {"x": second}
    assert any(is_failure(package) for package in read(json.dumps(table), LockfileKind.NPM))
    other = {"lockfileVersion": 2, "packages": {"node_modules/x": first}, "dependencies": {"x": first, "y": second}}
    assert "y" in {
        name for package in read(json.dumps(other), LockfileKind.NPM) for name in (package.name, *package.aliases)
    }


@pytest.mark.parametrize("version", ["1", 1.0, 1.5, True, None, 0, 4, -1, [3]])
def test_a_version_of_another_type_or_unknown_is_refused(version: Any) -> None:
    with pytest.raises(DocumentError, match="lockfileVersion"):
        read(json.dumps({"lockfileVersion": version, "packages": {}}), LockfileKind.NPM)


def test_every_pattern_of_a_yarn_block_is_judged() -> None:
    block = f'  version "1.0.0"\n  resolved "{EVIL}"\n'
    for heads in ('"x@file:./x", x@^1.0.0', 'x@^1.0.0, "x@file:./x"', '"w@workspace:.", x@^1.0.0', '"x@link:x", y@1'):
        fails(f"{heads}:\n{block}", LockfileKind.YARN, "x" if "x@^" in heads else "y")
    found = read(f"x@^1.0.0, y@^1.0.0:\n{block}  integrity {GOOD}\n", LockfileKind.YARN)
    assert [package.spec for package in found] == ["x@1.0.0", "y@1.0.0"]


def test_an_alias_by_resolutions_is_read_as_the_package_that_it_stands_for() -> None:
    block = f'is-stream@^1.1.0, "is-stream@npm:lodash@4.17.20":\n  version "4.17.20"\n  integrity {GOOD}\n'
    (package,) = read(block, LockfileKind.YARN)
    assert (package.spec, package.aliases, package.skip) == ("lodash@4.17.20", ("is-stream",), None)


def test_a_yarn_lock_is_read_as_yarn_1_reads_it_whatever_it_looks_like() -> None:
    text = (
        'lockfileVersion: "6.0"\n\npackages:\n  "/y@1.0.0":\n    resolution:\n      integrity: "sha512-x"\n\n'
        f'"x@^1.0.0":\n  version: "1.0.0"\n  resolved: "{EVIL}"\n'
        f'\n"y@^1.0.0":\n  "version" "1.0.0"\n  integrity {GOOD}\n'
    )
    found = read(text, LockfileKind.YARN)
    assert {package.name: is_failure(package) for package in found} == {
        "lockfileVersion": True,
        "packages": True,
        "x": True,
        "y": False,
    }
    fails(f'x@^1.0.0:\n  version "1.0.0" resolved "{EVIL}"\n', LockfileKind.YARN, "x")
    fails('"x@^1.0.0" "y@^1.0.0"\n', LockfileKind.YARN, "x")


@pytest.mark.parametrize(
    "lines",
    [
        '  "integrity" {evil}\n',
        "  integrity {evil}\n",
        '  "resolved" "http://h/x"\n  resolved "http://h/y"\n',
        "  odd x\n",
        "   integrity {evil}\n",
        "  integrity\u2028 {evil}\n",
        "  integrity {evil}\r  x y\n",
        "\tx y\n",
    ],
)
def test_a_yarn_line_that_two_readers_take_differently_is_refused_or_a_failure(lines: str) -> None:
    text = f'x@^1.0.0:\n  version "1.0.0"\n  integrity {GOOD}\n{lines.format(evil=digest_of(b"evil").sri)}'
    fails(text, LockfileKind.YARN, "x")


@pytest.mark.parametrize(
    "change",
    [
        ("resolution: {", "<<: {resolution: {type: directory}}\n    resolution: {"),
        ("  x@1.0.0:", "  <<: {}\n  x@1.0.0:"),
        ("x@1.0.0:", "x@1.0.0: &a"),
        ("{integrity", "!!map {integrity"),
        ("\n    res", "\u2028    res"),
        ("\n    res", "\x85    res"),
        ("\n    res", "\r    res"),
        ("integrity: ", "type: directory, directory: ../x, integrity: "),
        ("integrity: ", "type: git, repo: h, commit: c, integrity: "),
        ("integrity: ", "gitHosted: true, integrity: "),
        ("integrity: ", "type: zip, integrity: "),
        ("integrity: ", "odd: 1, integrity: "),
        ("integrity: ", "type: binary, integrity: "),
        ("integrity: ", "integrity: sha512-AA, integrity: "),
        ("    resolution", "    name: y\n    resolution"),
    ],
)
def test_what_pnpm_reads_otherwise_is_refused_or_a_failure(change: tuple[str, str]) -> None:
    text = (
        "lockfileVersion: '9.0'\n\npackages:\n\n  x@1.0.0:\n"
        f"    resolution: {{integrity: {GOOD}}}\n\nsnapshots:\n\n  x@1.0.0: {{}}\n"
    )
    assert [is_failure(package) for package in read(text, LockfileKind.PNPM)] == [False]
    assert change[0] in text
    fails(text.replace(*change), LockfileKind.PNPM, "x")


def test_odd_entries_of_real_files_are_failures_of_their_own() -> None:
    text = (
        "lockfileVersion: '9.0'\nimporters:\n  .: {}\npackages:\n"
        "  node@runtime:26.7.0:\n    resolution:\n      type: variations\n"
        "      variants:\n        - resolution:\n            archive: tarball\n            type: binary\n"
        "            url: https://nodejs.org/download/release/v26.7.0/a.tar.gz\n"
        "          targets:\n            - cpu: x64\n"
        f"    hasBin: true\n  a@1.0.0:\n    resolution: {{integrity: {GOOD}}}\nsnapshots: {{}}\n"
    )
    assert {package.spec: package.skip for package in read(text, LockfileKind.PNPM)} == {
        "node@26.7.0": Skip.REMOTE,
        "a@1.0.0": None,
    }
    text = (
        "lockfileVersion: 5.4\ndependencies:\n  b: '@github.com/e/b/archive/1.tar.gz'\npackages:\n"
        f"  /a/1.0.0:\n    resolution: {{integrity: {GOOD}}}\n"
        f"  /@s/c/2.0.0_react@18.0.0:\n    resolution: {{integrity: {GOOD}}}\n"
        "  '@github.com/e/b/archive/1.tar.gz':\n    resolution: {tarball: https://github.com/e/b/archive/1.tar.gz}\n"
        "    name: b\n    version: 1.0.0\n"
    )
    for version in ("5.4", "'6.0'"):
        keys = text.replace("5.4", version)
        if version != "5.4":
            keys = keys.replace("/a/1.0.0", "/a@1.0.0").replace("/@s/c/2.0.0_react@18.0.0", "/@s/c@2.0.0(react@18.0.0)")
        assert {package.spec: package.skip for package in read(keys, LockfileKind.PNPM)} == {
            "a@1.0.0": None,
            "@s/c@2.0.0": None,
            "b@1.0.0": Skip.GIT,
        }
    assert not is_failure(read(tree(version="1.0.0", resolved=False, integrity=GOOD), LockfileKind.NPM)[1])


@pytest.mark.parametrize("version", ["4", "9", "10", "11", "42"])
def test_yarn_locks_of_newer_versions_with_the_same_form_are_read(version: str) -> None:
    text = (
        f"__metadata:\n  version: {version}\n  cacheKey: 10c0\n"
        '\n"x@npm:^1.0.0":\n  version: 1.0.0\n  resolution: "x@npm:1.0.0"\n'
    )
    assert [package.spec for package in read(text, LockfileKind.YARN)] == ["x@1.0.0"]
    fails(f'{text}  resolved: "{EVIL}"\n', LockfileKind.YARN, "x")
    fails(text.replace("cacheKey", "odd"), LockfileKind.YARN, "x")


def test_aliases_are_known_in_every_form() -> None:
    found = [
        *read(package_lock(name="evil", version="1.0.0", integrity=GOOD), LockfileKind.NPM),
        *read(tree(version="npm:evil@1.0.0", integrity=GOOD), LockfileKind.NPM),
        *read(f'"x@npm:evil@^1":\n  version "1.0.0"\n  integrity {GOOD}\n', LockfileKind.YARN),
        *read(
            '__metadata:\n  version: 8\n"x@npm:evil@^1":\n  version: 1.0.0\n  resolution: "evil@npm:1.0.0"\n',
            LockfileKind.YARN,
        ),
        *read(json.dumps({"lockfileVersion": 1, "packages": {"a/x": ["evil@1.0.0", "", {}, GOOD]}}), LockfileKind.BUN),
    ]
    for version, key in (("9.0", "evil@1.0.0"), ("6.0", "/evil@1.0.0"), ("5.4", "/evil/1.0.0")):
        text = (
            f"lockfileVersion: '{version}'\ndependencies:\n  x:\n    version: {key}\npackages:\n  {key}:\n"
            f"    resolution: {{integrity: {GOOD}}}\nsnapshots: {{}}\n"
        )
        found += read(text, LockfileKind.PNPM)
    assert [package.aliases for package in found if package.name == "evil"] == [("x",)] * 8


def test_the_files_name_says_who_reads_it() -> None:
    assert [LockfileKind.of_name(name) for name in NAMES] == ["npm", "npm", "pnpm", "yarn", "bun"]
    assert LockfileKind.of_name("lock.json") is None


ANSWERS: dict[str, str | set[str]] = {
    "v1-with-packages.package-lock.json": "refused",
    "yarn-quoted-field.yarn.lock": "refused",
    "pnpm-hidden-keys-LS.pnpm-lock.yaml": "refused",
    "pnpm-merge-in-packages.pnpm-lock.yaml": "refused",
    "pnpm-file-with-remote-tarball.pnpm-lock.yaml": {"lodash"},
    "inBundle-no-integrity.package-lock.json": {"lodash"},
    "nb1/package-lock.json": {"is-stream"},
    "yarn-two-heads-first-local.yarn.lock": {"lodash"},
    "bun-http-dot-git.bun.lock": {"lodash"},
    "poly/yarn.lock": {"lockfileVersion", "packages", "is-stream"},
    "pnpm-runtime/pnpm-lock.yaml": {"node"},
    "pnpm6-tarball/pnpm-lock.yaml": {"body-parser"},
    "yres2/yarn.lock": set(),
    "sha1/package-lock.json": set(),
    "resolved-dot-git-url.package-lock.json": set(),  # judged by its digest, which is evil's
    "alias-same-version.package-lock.json": set(),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_shared_cases_have_the_right_answer(name: str, repository: Path, require: Require) -> None:
    shared = repository.parent / "shared" / "cases.zip"
    require(shared.is_file(), "../shared/cases.zip is not beside this repository")
    kind = LockfileKind.of_name(next(each for each in NAMES if name.endswith(each)))
    assert kind is not None
    with zipfile.ZipFile(shared) as archive:
        data = archive.read(f"cases/npm/{name}")
    try:
        found = read(data, kind)
    except DocumentError:
        assert ANSWERS[name] == "refused"
        return
    assert {package.name for package in found if is_failure(package)} == ANSWERS[name]
    if name.startswith("alias"):
        assert [package.aliases for package in found if package.name == "evil-pkg"] == [("lodash",)]
    if name.startswith("yres2"):
        assert ("lodash@4.17.20", ("is-stream",)) in [(package.spec, package.aliases) for package in found]
