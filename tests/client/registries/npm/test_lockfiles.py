"""Lockfiles: every kind, what cannot be held against a registry, and damage of every sort."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.documents import DocumentError
from kedge.registries.npm.locked import LockedPackage, Lockfile, Skip, digest_of
from kedge.registries.npm.lockfiles import LockfileKind, read_lines
from kedge.registries.npm.lockfiles import read_lockfile as read_kind

SRI = digest_of(b"a").sri
OTHER = digest_of(b"b").sri
SHA1 = digest_of(b"a", "sha1").sri


def read_lockfile(data: bytes) -> Lockfile:
    """Read a lockfile as the package manager does whose form it has; the tests below name none where that is clear."""
    kind = LockfileKind.YARN
    if data.lstrip().startswith((b"{", b"[")):
        kind = LockfileKind.BUN if b'"workspaces"' in data else LockfileKind.NPM
    elif b"lockfileVersion" in data:
        kind = LockfileKind.PNPM
    return read_kind(data, kind)


def by_name(lockfile: Lockfile) -> dict[str, LockedPackage]:
    found = {package.name: package for package in lockfile.packages}
    assert len(found) == len(lockfile.packages)
    return found


def summary(lockfile: Lockfile) -> dict[str, tuple[str, tuple[str, ...], Skip | None]]:
    return {
        name: (package.version, tuple(digest.sri for digest in package.digests), package.skip)
        for name, package in by_name(lockfile).items()
    }


def package_lock(version: int, **entries: Any) -> bytes:
    field = "dependencies" if version == 1 else "packages"
    return json.dumps({"name": "p", "lockfileVersion": version, field: entries}).encode()


@pytest.mark.parametrize("version", [2, 3])
def test_a_package_lock_lists_packages_by_their_folder(version: int) -> None:
    data = package_lock(
        version,
        **{
            "": {"name": "p"},
            "node_modules/a": {"version": "1.0.0", "resolved": "https://r.example/a-1.0.0.tgz", "integrity": SRI}
            | {"bundleDependencies": ["inner"]},
            "node_modules/@s/b": {"version": "2.0.0", "integrity": f"{SHA1} {SRI}", "optional": True},
            "node_modules/a/node_modules/@s/b": {"version": "2.0.0", "integrity": f"{SHA1} {SRI}"},
            "node_modules/alias": {"name": "real", "version": "3.0.0-rc.1+build", "integrity": OTHER},
            "node_modules/bare": {"version": "1.0.0"},
            "node_modules/tool": {"resolved": "packages/tool", "link": True},
            "packages/tool": {"name": "tool-itself", "version": "1.0.0"},
            "node_modules/git": {"version": "1.0.0", "resolved": "git+ssh://git@github.com/x/y.git#abc"},
            "node_modules/disk": {"version": "1.0.0", "resolved": "file:../disk.tgz", "integrity": SRI},
            "node_modules/a/node_modules/inner": {"version": "1.0.0", "inBundle": True},
            "node_modules/loose": {"version": "1.0.0", "inBundle": True},
        },
    )
    lockfile = read_lockfile(data)
    assert lockfile.kind == f"package-lock v{version}"
    assert summary(lockfile) == {
        "a": ("1.0.0", (SRI,), None),
        "@s/b": ("2.0.0", (SHA1, SRI), None),
        "real": ("3.0.0-rc.1+build", (OTHER,), None),
        "bare": ("1.0.0", (), None),
        "tool": ("", (), Skip.WORKSPACE),
        "tool-itself": ("", (), Skip.WORKSPACE),
        "git": ("1.0.0", (), Skip.GIT),
        "disk": ("1.0.0", (), Skip.OUTSIDE),
        "inner": ("1.0.0", (), Skip.BUNDLED),
        "loose": ("1.0.0", (), None),
    }
    assert by_name(lockfile)["@s/b"].where == ("node_modules/@s/b", "node_modules/a/node_modules/@s/b")


def test_a_package_lock_of_version_1_is_a_tree() -> None:
    data = package_lock(
        1,
        a={
            "version": "1.0.0",
            "integrity": SRI,
            "requires": {"b": "1"},
            "dependencies": {
                "b": {"version": "1.0.0", "integrity": OTHER},
                "inner": {"version": "1.0.0", "bundled": True, "resolved": False},
            },
        },
        alias={"version": "npm:@s/real@2.0.0", "integrity": SRI},
        disk={"version": "file:../disk"},
        git={"version": "git+https://example.com/x.git#abc", "from": "git+https://example.com/x.git"},
        short={"version": "github:x/y#abc"},
        far={"version": "https://evil.example/far.tgz", "integrity": SRI},
        loose={"version": "1.0.0", "bundled": True, "resolved": False},
    )
    assert summary(read_lockfile(data)) == {
        "a": ("1.0.0", (SRI,), None),
        "b": ("1.0.0", (OTHER,), None),
        "@s/real": ("2.0.0", (SRI,), None),
        "disk": ("", (), Skip.OUTSIDE),
        "git": ("", (), Skip.GIT),
        "short": ("", (), Skip.GIT),
        "far": ("", (), Skip.REMOTE),
        "inner": ("1.0.0", (), Skip.BUNDLED),
        "loose": ("1.0.0", (), None),
    }


def test_the_same_version_with_another_digest_is_counted_apart() -> None:
    entries = {
        "node_modules/a": {"version": "1.0.0", "integrity": SRI},
        "node_modules/b/node_modules/a": {"version": "1.0.0", "integrity": OTHER},
    }
    assert len(read_lockfile(package_lock(3, **entries)).packages) == 2


def test_an_archive_of_any_address_is_held_against_the_registry() -> None:
    entry = {"version": "1.0.0", "resolved": "https://evil.example/a.tgz", "integrity": SRI}
    assert summary(read_lockfile(package_lock(3, **{"node_modules/a": entry})))["a"] == ("1.0.0", (SRI,), None)


def test_an_empty_package_lock_is_empty() -> None:
    assert read_lockfile(package_lock(3, **{"": {}})).packages == ()
    assert read_lockfile(b'{"lockfileVersion": 1}').packages == ()


PNPM_6 = f"""lockfileVersion: '6.0'
settings:
  autoInstallPeers: true
dependencies:
  a:
    specifier: ^1.0.0
    version: 1.0.0
packages:

  /a@1.0.0:
    resolution: {{integrity: {SRI}}}
    dev: false

  /@s/b@2.0.0(react@18.0.0)(@s/c@1.0.0):
    resolution: {{integrity: {OTHER}, tarball: https://r.example/b.tgz}}

  github.com/x/y/abc:
    resolution: {{tarball: https://codeload.github.com/x/y/tar.gz/abc}}
    name: y
    version: 1.0.0

  file:disk:
    resolution: {{directory: disk, type: directory}}
    name: disk
"""
PNPM_9 = f"""---
lockfileVersion: '9.0'
importers:
  .:
    packageManagerDependencies:
      pnpm: {{specifier: 12.0.0, version: 12.0.0}}
packages:
  pnpm@12.0.0:
    resolution: {{integrity: {OTHER}}}
snapshots:
  pnpm@12.0.0: {{}}
---
lockfileVersion: '9.0'

importers:
  .:
    dependencies:
      a:
        specifier: ^1.0.0
        version: 1.0.0

packages:

  a@1.10:
    resolution: {{integrity: {SRI}}}
    engines: {{node: '>=10'}}

  '@s/b@2.0.0':
    resolution: {{integrity: {OTHER}}}
    deprecated: |
      an old thing
      not kept

  git@https://codeload.github.com/x/y/tar.gz/abc:
    resolution: {{tarball: https://codeload.github.com/x/y/tar.gz/abc}}
    version: 1.0.0

  repo@git+https://example.com/r.git#abc:
    resolution: {{commit: abc, repo: 'https://example.com/r.git', type: git}}
    version: 1.0.0

  far@https://far.example/far.tgz:
    resolution: {{integrity: {SRI}, tarball: https://far.example/far.tgz}}
    version: 2.0.0

  disk@file:disk.tgz:
    resolution: {{integrity: {SRI}, tarball: file:disk.tgz}}
    version: 1.0.0

snapshots:

  a@1.10: {{}}
"""


def test_a_pnpm_lock_of_version_6_is_read() -> None:
    assert summary(read_lockfile(PNPM_6.encode())) == {
        "a": ("1.0.0", (SRI,), None),
        "@s/b": ("2.0.0", (OTHER,), None),
        "y": ("1.0.0", (), Skip.GIT),
        "disk": ("", (), Skip.LOCAL),
    }


def test_a_pnpm_lock_of_version_9_is_read_with_all_its_documents() -> None:
    assert summary(read_lockfile(PNPM_9.encode())) == {
        "pnpm": ("12.0.0", (OTHER,), None),
        "a": ("1.10", (SRI,), None),  # a text, and not the number 1.1
        "@s/b": ("2.0.0", (OTHER,), None),
        "git": ("1.0.0", (), Skip.GIT),
        "repo": ("1.0.0", (), Skip.GIT),
        "far": ("2.0.0", (), Skip.REMOTE),
        "disk": ("1.0.0", (), Skip.LOCAL),
    }


CLASSIC = f"""# THIS IS AN AUTOGENERATED FILE. DO NOT EDIT THIS FILE DIRECTLY.
# yarn lockfile v1


"@s/b@^2.0.0", "@s/b@~2.0.0":
  version "2.0.0"
  resolved "https://registry.yarnpkg.com/@s/b/-/b-2.0.0.tgz#{digest_of(b"b", "sha1").value.hex()}"
  integrity {OTHER}
  dependencies:
    a "^1.0.0"
    "@s/c" "1 || 2"
  optionalDependencies:
    d "*"

a@^1.0.0, a@1.x:
  version "1.0.0"
  resolved "https://registry.yarnpkg.com/a/-/a-1.0.0.tgz#{digest_of(b"a", "sha1").value.hex()}"

"alias@npm:real@^3.0.0":
  version "3.0.0"
  resolved "https://registry.yarnpkg.com/real/-/real-3.0.0.tgz#abc"
  integrity {SRI}

"disk@file:../disk":
  version "0.0.0"

"git@git+https://example.com/git.git":
  version "1.0.0"
  resolved "git+https://example.com/git.git#abc"

short@x/y:
  version "1.0.0"
  resolved "https://codeload.github.com/x/y/tar.gz/abc"

"far@https://far.example/far.tgz":
  version "1.0.0"
  resolved "https://far.example/far.tgz#abc"
"""


def test_a_yarn_lock_of_version_1_is_read() -> None:
    assert summary(read_lockfile(CLASSIC.encode())) == {
        "@s/b": ("2.0.0", (OTHER,), None),
        "a": ("1.0.0", (SHA1,), None),
        "real": ("3.0.0", (SRI,), None),
        "disk": ("0.0.0", (), Skip.OUTSIDE),
        "git": ("1.0.0", (), Skip.GIT),
        "short": ("1.0.0", (), Skip.GIT),
        "far": ("1.0.0", (), Skip.REMOTE),
    }


BERRY = """# This file is generated by running "yarn install" inside your project.

__metadata:
  version: 8
  cacheKey: 10c0

"@s/b@npm:^2.0.0, @s/b@npm:~2.0.0":
  version: 2.0.0
  resolution: "@s/b@npm:2.0.0"
  dependencies:
    a: "npm:^1.0.0"
  checksum: 10c0/0123456789abcdef
  languageName: node
  linkType: hard

"alias@npm:real@^3.0.0":
  version: 3.0.0
  resolution: "real@npm:3.0.0::__archiveUrl=https%3A%2F%2Fr.example%2Freal.tgz"
  checksum: 10c0/0123456789abcdef
  languageName: node
  linkType: hard

"project@workspace:.":
  version: 0.0.0-use.local
  resolution: "project@workspace:."
  languageName: unknown
  linkType: soft

"real@patch:real@npm%3A3.0.0#~builtin<compat/real>":
  version: 3.0.0
  resolution: "real@patch:real@npm%3A3.0.0#~builtin<compat/real>::version=3.0.0&hash=abc"
  checksum: 10c0/0123456789abcdef
  languageName: node
  linkType: hard

"git@https://example.com/git.git":
  version: 1.0.0
  resolution: "git@https://example.com/git.git#commit=abc"
  languageName: node
  linkType: hard
"""


def test_a_yarn_lock_of_berry_is_read_and_says_that_it_cannot_be_bound() -> None:
    lockfile = read_lockfile(BERRY.encode())
    assert [(package.spec, package.skip, package.unbound is not None) for package in lockfile.packages] == [
        ("@s/b@2.0.0", None, True),
        ("real@3.0.0", None, True),
        ("project@0.0.0-use.local", Skip.WORKSPACE, False),
        ("real@3.0.0", Skip.LOCAL, False),
        ("git@1.0.0", Skip.GIT, False),
    ]
    assert lockfile.packages[1].resolved == "https://r.example/real.tgz"


BUN = f"""{{
  // written by hand, in parts
  "lockfileVersion": 1,
  "configVersion": 1,
  "workspaces": {{
    "": {{ "name": "p", "dependencies": {{ "a": "^1.0.0", }}, }},
    "packages/tool": {{ "name": "tool", }},
  }},
  "packages": {{
    "@s/b": ["@s/b@2.0.0", "", {{ "dependencies": {{ "a": "1.0.0" }} }}, "{OTHER}"],

    "a": ["a@1.0.0", "https://r.example/a.tgz", {{ "bin": {{ "a": "a,}}.js" }}, }}, "{SRI}"], /* , }} */

    "alias": ["real@3.0.0", "", {{}}, "{SRI}"],
    "tool": ["tool@workspace:packages/tool"],
    "git": ["git@github:x/y#abc", {{}}, "x-y-abc"],
    "far": ["far@https://far.example/far.tgz", {{}}, "{SRI}"],
    "disk": ["disk@file:./disk", {{}}],
    "bare": ["bare@1.0.0", "", {{}}, ""],
  }},
}}
"""


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_bun_lock_is_read_with_its_comments_and_commas(version: int) -> None:
    data = BUN.replace('"lockfileVersion": 1', f'"lockfileVersion": {version}').encode()
    lockfile = read_lockfile(data)
    assert lockfile.kind == f"bun.lock v{version}"
    assert summary(lockfile) == {
        "@s/b": ("2.0.0", (OTHER,), None),
        "a": ("1.0.0", (SRI,), None),
        "real": ("3.0.0", (SRI,), None),
        "tool": ("", (), Skip.WORKSPACE),
        "git": ("", (), Skip.GIT),
        "far": ("", (), Skip.REMOTE),
        "disk": ("", (), Skip.LOCAL),
        "bare": ("1.0.0", (), None),
    }


def test_an_empty_bun_lock_is_empty() -> None:
    assert read_lockfile(b'{"lockfileVersion": 1, "workspaces": {"": {}}, "packages": {},}').packages == ()


def test_lines_are_read() -> None:
    lockfile = read_lines(f"# a comment\n\na 1.0.0 {SRI}\r\n  @s/b\t2.0.0  {SHA1} {SRI}\na 1.0.0 {SRI}".encode())
    assert summary(lockfile) == {"a": ("1.0.0", (SRI,), None), "@s/b": ("2.0.0", (SHA1, SRI), None)}
    assert lockfile.packages[0].where == ("line 3", "line 5")


FAULTS = [
    (b"", "is empty, expected a lockfile"),
    (b"\xff\xfe{}", "is not UTF-8 (byte 0)"),
    (b"hello", "line 1: must be ranges such as lodash@^4.17.0"),
    (b"#!/usr/bin/env bun\nbun-lockfile-format-v0\n\x00", "is Bun's binary lockfile"),
    (b"{}", "lockfileVersion: is missing"),
    (b"[]", "must be a table, not a list"),
    (b'{"lockfileVersion": 3,\n<<<<<<< HEAD\n', "line 2: is a marker of a merge conflict"),
    (b"lockfileVersion: '9.0'\r\n=======\r\n", "line 2: is a marker of a merge conflict"),
    (b"# yarn lockfile v1\n>>>>>>> branch\n", "line 2: is a marker of a merge conflict"),
    (b'{"lockfileVersion": 1, "packages": {}}', "packages: stands in a lockfile of version 1"),
    (b'{"lockfileVersion": 3, "packages": {}, "dependencies": {}}', "dependencies: stands in a lockfile of version 3"),
    (package_lock(3, **{"": {"dependencies": {"a": "1"}}}), "has dependencies, and no package is locked"),
    (
        b"lockfileVersion: '9.0'\nimporters:\n  .:\n    dependencies:\n      a: {specifier: '1', version: 1.0.0}\n",
        "packages",
    ),
    (b'{"lockfileVersion": 1, "workspaces": {"": {"dependencies": {"a": "1"}}}, "packages": {}}', "packages: is empty"),
    (b"lockfileVersion: '9.0'\nodd: {}\n", "has the field 'odd'"),
    (b'{"lockfileVersion": 4, "packages": {}}', "lockfileVersion: is 4; 1, 2 and 3 are read"),
    (b'{"lockfileVersion": "3"}', "lockfileVersion: must be a whole number"),
    (b'{"lockfileVersion": 3}', "packages: is missing"),
    (b'{"lockfileVersion": 3, "lockfileVersion": 2}', 'holds the name "lockfileVersion" twice'),
    (package_lock(3, **{"node_modules/a": {"version": "1.0.0", "integrity": SRI}})[:-20], "is the file cut off?"),
    (package_lock(3, **{"node_modules/a": {"integrity": SRI}}), 'packages."node_modules/a".version: is missing'),
    (package_lock(3, **{"node_modules/a": 1}), "must be a table"),
    (package_lock(3, **{"node_modules/a": {"version": "1.0.0", "integrity": "sha512-AA"}}), "integrity: must"),
    (package_lock(3, **{"node_modules/a": {"version": "1.0.0", "integrity": "md5-AA=="}}), "must be a digest such as"),
    (package_lock(3, **{"node_modules/a": {"version": "1.0.0", "integrity": ""}}), "integrity: must not be empty"),
    (package_lock(3, **{"node_modules/../x": {"version": "1.0.0", "integrity": SRI}}), "must be a package name"),
    (package_lock(3, **{"node_modules/a": {"version": "1/../2", "integrity": SRI}}), "must be a version"),
    (b'{"lockfileVersion": 3, "packages": ' + b"[" * 100_000, "is nested too deep"),
    (b'{"lockfileVersion": 3, "packages": {"": ' + b"9" * 5000 + b"}}", "holds a number that is too long"),
    (b"lockfileVersion: 4.4\npackages: {}\n", "lockfileVersion: is 4.4; 5, 6 and 9 are read"),
    (b"lockfileVersion: '9.0'\n", "is the file cut off?"),
    (b"lockfileVersion: '9.0'\npackages:\n  a@1.0.0: {}\n", "snapshots: is missing (is the file cut off?)"),
    (b"lockfileVersion: '6.0'\npackages:\n  /a@1.0.0: {}\n", "resolution: is missing"),
    (b"lockfileVersion: '9.0'\nimporters: &a {}\npackages: *a\n", "line 2: holds an anchor"),
    (b"lockfileVersion: '9.0'\npackages: !!python/object:os.system {}\n", "line 2: holds a tag"),
    (b"lockfileVersion: '9.0'\nlockfileVersion: '6.0'\n", "holds the key 'lockfileVersion' twice"),
    (b"lockfileVersion: '6.0'\npackages: {a@1.0.0: {resolution: {type: zip}}}\n", "resolution.type: is 'zip'"),
    (b"lockfileVersion: '9.0'\npackages: [\n", "line 2: holds a value"),
    (b"lockfileVersion: '9.0'\npackages: " + b"[" * 40, "is nested more than 32 deep"),
    (b"lockfileVersion: '9.0'\npackages: " + b"[" * 5000, "nest"),  # newer PyYAMLs have a limit of their own
    (b"lockfileVersion: '9.0'\npackages:\n  ? [a]\n  : b\n", "line 3: holds a value that lockfiles do not"),
    (b"lockfileVersion: '9.0'\npackages: \x01\n", "line 2: holds the character U+0001"),
    (b"__metadata:\n  version: 3\n", "__metadata.version: is 3; 4 and later are read"),
    (b"__metadata:\n  version: 8\n---\nx: y\n", "must be one YAML document, not 2"),
    (b'__metadata:\n  version: 8\n"a@npm:1":\n  version: 1.0.0\n', "resolution: is missing"),
    (b'__metadata:\n  version: 8\na:\n  version: 1.0.0\n  resolution: "a@odd:1"\n', "is 'odd:1', which is not known"),
    (b"# yarn lockfile v2\n", "is a yarn.lock of an unknown version"),
    (b"# yarn lockfile v1\n  version x\n", "line 2: is indented, and belongs to nothing"),
    (b"# yarn lockfile v1\na@1\n", "line 2: must be ranges"),
    (b"# yarn lockfile v1\na@1:\n", "line 2: a@1 has no version (is the file cut off?)"),
    (b'# yarn lockfile v1\na@1:\n  version "1"\n  version "2"\n', "line 4: version stands there twice"),
    (b'# yarn lockfile v1\na@1:\n  version "1"\na@1:\n  version "2"\n', "line 4: a@1 stands there twice"),
    (b'# yarn lockfile v1\na@1:\n  version "1"\n???\n', "line 4: is not a line of a yarn.lock"),
    (b'# yarn lockfile v1\na@1:\n  version "1.0.0"\n  resolved "https://r/a.tgz#xyz"\n', "resolved: the part after #"),
    (b'{"lockfileVersion": 9, "workspaces": {}, "packages": {}}', "lockfileVersion: is 9; 0, 1 and 2 are read"),
    (b'{"lockfileVersion": 1, "workspaces": {}, "packages": {"a": ["a"]}}', "must be a version"),
    (b'{"lockfileVersion": 1, "workspaces": {}, "packages": {"a": [1]}}', "must be a list that begins with a text"),
    (b'{"lockfileVersion": 1, "workspaces": {}, "packages": {"a": ["a@1.0.0", "", {}, 1]}}', "must be a text such as"),
]


@pytest.mark.parametrize(("data", "text"), FAULTS, ids=range(len(FAULTS)))
def test_damage_is_refused_or_a_failure_of_its_entry_in_one_line(data: bytes, text: str) -> None:
    try:
        told = [package.unbound or "" for package in read_lockfile(data).packages if package.skip is Skip.UNKNOWN]
    except DocumentError as error:
        told = [str(error)]
    assert any(text in each for each in told), told
    assert "\n" not in "".join(told)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("a 1.0.0", 'line 1: must be "name version integrity"'),
        (f"../a 1.0.0 {SRI}", "line 1: must be a package name"),
        (f"a ^1 {SRI}", "line 1: must be a version"),
        ("a 1.0.0 sha512", "line 1: must be a digest"),
    ],
)
def test_a_line_that_is_not_right_is_refused_with_its_number(line: str, text: str) -> None:
    with pytest.raises(DocumentError, match="line 1") as caught:
        read_lines(line.encode())
    assert text in str(caught.value)


def attempt(read: Callable[[bytes], Lockfile], data: bytes) -> tuple[Lockfile, str]:
    """What is read, or an empty lockfile and the problem."""
    try:
        return read(data), ""
    except DocumentError as error:
        return Lockfile(kind="", packages=()), str(error)


SAMPLES = [
    package_lock(3, **{"node_modules/a": {"version": "1.0.0", "integrity": SRI, "resolved": "https://r/a.tgz"}}),
    package_lock(1, a={"version": "1.0.0", "integrity": SRI, "dependencies": {"b": {"version": "1.0.0"}}}),
    PNPM_6.encode(),
    PNPM_9.encode(),
    CLASSIC.encode(),
    BERRY.encode(),
    BUN.encode(),
]


@settings(max_examples=400, deadline=None)
@given(
    sample=st.sampled_from(SAMPLES),
    at=st.integers(0, 3000),
    cut=st.integers(0, 40),
    insert=st.binary(max_size=12) | st.sampled_from([b'"', b"{", b"}", b"[", b"- ", b": ", b"\n", b"  ", b"@", b"://"]),
)
def test_no_damage_ends_in_anything_but_one_line(sample: bytes, at: int, cut: int, insert: bytes) -> None:
    at %= len(sample)
    lockfile, problem = attempt(read_lockfile, sample[:at] + insert + sample[at + cut :])
    assert "\n" not in problem
    assert all(package.version and package.name for package in lockfile.packages if package.skip is None)


@settings(max_examples=300, deadline=None)
@given(sample=st.sampled_from(SAMPLES), share=st.floats(0, 1))
def test_a_lockfile_that_is_cut_off_never_gains_a_package(sample: bytes, share: float) -> None:
    whole = {package.spec for package in read_lockfile(sample).packages}
    try:
        part = read_lockfile(sample[: int(len(sample) * share)])
    except DocumentError:
        return
    assert len(part.packages) <= len(whole) + 1


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_whatever_is_no_lockfile_is_refused(data: bytes) -> None:
    for read in (read_lockfile, read_lines):
        assert "\n" not in attempt(read, data)[1]
