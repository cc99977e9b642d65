"""Which files requirements files and pylock.toml name."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.documents import DocumentError
from kedge.errors import InputError
from kedge.registries.pypi.index import IndexFile, base_of, read_listing
from kedge.registries.pypi.locked import LockedFile, Origin, parse_filename
from kedge.registries.pypi.lockfiles import read_lock, read_pylock

A, B = "a" * 64, "b" * 64


PYLOCK = f"""
lock-version = "1.0"
created-by = "a tool"

[[packages]]
name = "sample"
version = "1.0"
sdist = {{ name = "sample-1.0.tar.gz", url = "https://x.example/sample-1.0.tar.gz", hashes = {{ sha256 = "{A}" }} }}
[[packages.wheels]]
url = "https://x.example/sample-1.0-py3-none-any.whl#frag"
hashes = {{ sha256 = "{B}" }}

[[packages]]
name = "from-git"
vcs = {{ type = "git", url = "https://x.example/r.git" }}
"""


def test_a_pylock_names_its_files() -> None:
    assert read_pylock(PYLOCK.encode()) == (
        LockedFile(project="sample", version="1.0", filename="sample-1.0.tar.gz", sha256=A),
        LockedFile(project="sample", version="1.0", filename="sample-1.0-py3-none-any.whl", sha256=B),
        LockedFile(project="from-git", unbound="comes from no index", origin=Origin("git", "https://x.example/r.git")),
    )


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('lock-version = "1.0"', 'lock-version = "2.0"', "lock-version: must be 1.0"),
        ("sample-1.0.tar.gz", "other-1.0.tar.gz", "is a file of other, expected one of sample"),
        (A, "A" * 64, "64 lower-case hexadecimal digits"),
        (f'sha256 = "{A}"', f'sha256 = "{A}", sha512 = "{A}{B}"', "sha512: names a digest by sha512 too"),
        ("vcs = {", "sdist = {}\nvcs = {", "must name files of an index, or one of vcs"),
        ('vcs = { type = "git", url = "https://x.example/r.git" }', "", "must name files of an index, or one of vcs"),
        ("[[packages]]", "[packages]", ""),
    ],
)
def test_a_pylock_that_is_wrong_names_the_place(old: str, new: str, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_pylock(PYLOCK.replace(old, new).encode())
    assert problem in str(caught.value)


UV = f"""
version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "sample"
version = "1.0"
source = {{ registry = "https://index.example/simple" }}
sdist = {{ url = "https://x.example/sample-1.0.tar.gz", hash = "sha256:{A}", size = 7 }}
wheels = [{{ url = "https://x.example/sample-1.0-py3-none-any.whl", hash = "sha256:{B}", size = 7 }}]

[[package]]
name = "own"
version = "0.1.0"
source = {{ virtual = "." }}

[[package]]
name = "from-git"
version = "2.0"
source = {{ git = "https://x.example/r.git?rev=v2#0123456789012345678901234567890123456789" }}
"""
POETRY = f"""
[[package]]
name = "sample"
version = "1.0"
files = [
    {{file = "sample-1.0.tar.gz", hash = "sha256:{A}"}},
    {{file = "sample-1.0-py3-none-any.whl", hash = "sha256:{B}"}},
]

[[package]]
name = "from-git"
version = "2.0"
files = []

[package.source]
type = "git"
url = "https://x.example/r.git"
reference = "HEAD"

[metadata]
lock-version = "2.1"
content-hash = "0"
"""
PDM = f"""
[metadata]
groups = ["default"]
lock_version = "4.5.0"

[[package]]
name = "sample"
version = "1.0"
files = [
    {{file = "sample-1.0.tar.gz", hash = "sha256:{A}"}},
    {{file = "sample-1.0-py3-none-any.whl", hash = "sha256:{B}"}},
]

[[package]]
name = "from-git"
version = "2.0"
git = "https://x.example/r.git"
revision = "0123456789"
"""
PIPFILE = f"""{{
    "_meta": {{"hash": {{"sha256": "{A}"}}, "pipfile-spec": 6, "requires": {{}}, "sources": []}},
    "default": {{"sample": {{"hashes": ["sha256:{A}", "sha256:{B}"], "index": "pypi", "version": "==1.0"}}}},
    "develop": {{"from-git": {{"git": "https://x.example/r.git", "ref": "0123456789"}}}}
}}"""
LOCKS = {"uv.lock": UV, "poetry.lock": POETRY, "pdm.lock": PDM, "Pipfile.lock": PIPFILE}


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_files_of_other_tools_name_the_same_files(name: str) -> None:
    found = read_lock(name, LOCKS[name].encode())
    bound = [(file.project, file.version, file.sha256) for file in found if file.unbound is None]
    assert bound == [("sample", "1.0", A), ("sample", "1.0", B)]
    others = [file for file in found if file.unbound is not None and file.project == "from-git"]
    (other,) = others
    assert other.origin is not None
    assert (other.origin.kind, other.origin.source.partition("?")[0]) == ("git", "https://x.example/r.git")
    assert len(found) == 3


@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize("other", [f"sha512:{A}{B}", f"md5:{'a' * 32}", A, f"sha256:{'A' * 64}"])
def test_a_digest_by_another_algorithm_is_refused_in_each_of_them(name: str, other: str) -> None:
    with pytest.raises(DocumentError, match="must be sha256: and 64 lower-case"):
        read_lock(name, LOCKS[name].replace(f"sha256:{A}", other).encode())


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_under_another_ones_name_is_refused(name: str) -> None:
    for other in {*LOCKS, "pylock.toml", "other.lock", "other.toml", "requirements.txt"} - {name}:
        with pytest.raises(DocumentError):
            read_lock(other, LOCKS[name].encode())


def test_a_folder_of_the_project_is_its_own_and_an_archive_in_it_is_not() -> None:
    assert Origin("local", "packages/one").is_of_project
    assert Origin("local", ".").is_of_project
    for source in (
        "../one",
        "/one",
        "packages/../../one",
        "dist/one-1.0.tar.gz",
        "dist/one.whl",
        "file:one",
        "one\\..",
    ):
        assert not Origin("local", source).is_of_project
    assert not Origin("git", "packages/one").is_of_project


@pytest.mark.parametrize(
    ("filename", "project", "version"),
    [
        ("Sample_Project-1.0.tar.gz", "sample-project", "1.0"),
        ("sample_project-1.0-py3-none-any.whl", "sample-project", "1.0"),
        ("a.b-1.0-1build-cp311-cp311-manylinux_2_17_x86_64.whl", "a-b", "1.0"),
        ("x-y-1.0.zip", "x-y", "1.0"),
    ],
)
def test_a_files_name_says_project_and_version(filename: str, project: str, version: str) -> None:
    named = parse_filename(filename)
    assert (named.project, named.version) == (project, version)


@pytest.mark.parametrize(
    "filename",
    ["x.whl", "x-1.tar", "-1.0.tar.gz", "x-.tar.gz", "../x-1.0.tar.gz/", "a-b-c.whl", "a-1-py3-none-../x.whl"],
)
def test_another_name_is_none(filename: str) -> None:
    with pytest.raises(ValueError, match="is not the name"):
        parse_filename(filename)


def test_a_listing_is_read_in_json_and_in_html() -> None:
    json = f'{{"files": [{{"filename": "a-1.tar.gz", "hashes": {{"sha256": "{A}"}}}}, 7]}}'
    html = f'<html><body><a class="x" href="/p/a-1.tar.gz?q#sha256={A}" data-provenance="u">a</a></body></html>'
    for data in (json, html):
        assert read_listing(data.encode()) == (IndexFile("a-1.tar.gz", A),)
    for junk in (b"", b"{", b"[]", b'{"files": 1}', b"<a href=>", b"\xff"):
        assert read_listing(junk) == ()


def test_an_indexs_url_is_what_pip_takes() -> None:
    assert base_of("https://index.example/simple/") == "https://index.example"
    assert base_of("https://proxy.example/pypi/simple") == "https://proxy.example/pypi"
    for wrong in ("index.example", "ftp://x", "https://user:secret@x/simple", "https://x/simple?q=1"):
        with pytest.raises(InputError) as caught:
            base_of(wrong)
        assert "no URL of an index" in str(caught.value)
        assert "secret" not in str(caught.value)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_whatever_is_given_is_read_or_refused(data: bytes) -> None:
    for name in ("requirements.txt", "pylock.toml", "uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock"):
        with suppress(DocumentError):
            assert isinstance(read_lock(name, data), tuple)
    read_listing(data)
