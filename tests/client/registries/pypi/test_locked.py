"""Which files requirements files and pylock.toml name."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.documents import DocumentError
from kedge.errors import InputError
from kedge.registries.pypi.index import IndexFile, base_of, read_listing
from kedge.registries.pypi.locked import LockedFile, parse_filename, read_pylock, read_requirements

A, B = "a" * 64, "b" * 64


def test_each_digest_of_a_requirement_is_a_file_that_is_meant() -> None:
    text = f"""
# made by a tool
--index-url https://index.example/simple
Sample_Project[extra]==1.0 ; python_version > "3" \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
other === 2.0 --hash=sha256:{A}  # a comment
"""
    assert read_requirements(text.encode()) == (
        LockedFile(project="sample-project", version="1.0", sha256=A),
        LockedFile(project="sample-project", version="1.0", sha256=B),
        LockedFile(project="other", version="2.0", sha256=A),
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("sample==1.0", "has no --hash=sha256:"),
        (f"sample==1.0 --hash=sha512:{A}", "has no --hash=sha256:"),
        (f"sample>=1.0 --hash=sha256:{A}", "is not bound to one version"),
        ("sample @ https://x.example/sample-1.0.tar.gz", "is not bound to one version"),
        ("-r other.txt", "is not followed"),
        ("--editable .", "is not followed"),
    ],
)
def test_what_is_bound_to_nothing_is_said(line: str, problem: str) -> None:
    (found,) = read_requirements(line.encode())
    assert found.unbound is not None
    assert problem in found.unbound
    assert found.sha256 is None


@pytest.mark.parametrize(
    ("data", "problem"), [(b"\xff", "is not UTF-8"), (b"a==1 --hash=sha256:abcd", "line 1: --hash=sha256: must be")]
)
def test_a_requirements_file_that_cannot_be_read_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_requirements(data)
    assert problem in str(caught.value)


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
        LockedFile(project="from-git", unbound="comes from vcs, and from no index"),
    )


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('lock-version = "1.0"', 'lock-version = "2.0"', "lock-version: must be 1.0"),
        ("sample-1.0.tar.gz", "other-1.0.tar.gz", "is a file of other, expected one of sample"),
        (A, "A" * 64, "64 hexadecimal digits"),
        ("[[packages]]", "[packages]", ""),
    ],
)
def test_a_pylock_that_is_wrong_names_the_place(old: str, new: str, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_pylock(PYLOCK.replace(old, new).encode())
    assert problem in str(caught.value)


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


@given(st.binary(max_size=300))
def test_whatever_is_given_is_read_or_refused(data: bytes) -> None:
    for read in (read_requirements, read_pylock):
        with suppress(DocumentError):
            assert isinstance(read(data), tuple)
    read_listing(data)
