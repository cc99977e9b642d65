"""Requirements files: what kedge reads in them is what pip's own parser reads, or they are refused."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pip._internal.exceptions import InstallationError
from pip._internal.req import req_file
from pip._vendor.packaging.requirements import InvalidRequirement, Requirement

from kedge.documents import DocumentError
from kedge.registries.pypi.locked import LockedFile, Origin
from kedge.registries.pypi.requirements import read_requirements
from kedge.registries.sigstore import normalized

A, B = "a" * 64, "b" * 64


def test_each_digest_of_a_requirement_is_a_file_that_is_meant() -> None:
    text = f"""
# made by a tool
--index-url https://index.example/simple
Sample_Project[extra]==1.0 ; python_version > "3" \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
    # via nobody
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
        (f"sample>=1.0 --hash=sha256:{A}", "is not bound to one version"),
        ("sample", "is not bound to one version"),
        ("sample==1.*", "is not bound to one version"),
        ("-r other.txt", "is not followed"),
        ("--constraint=other.txt", "is not followed"),
    ],
)
def test_what_is_bound_to_nothing_is_said(line: str, problem: str) -> None:
    (found,) = read_requirements(line.encode())
    assert found.unbound is not None
    assert problem in found.unbound
    assert found.sha256 is None


@pytest.mark.parametrize(
    ("line", "origin"),
    [
        ("sample @ https://x.example/sample-1.0.tar.gz", Origin("remote", "https://x.example/sample-1.0.tar.gz")),
        (f"https://x.example/s-1.0.zip --hash=sha256:{A}", Origin("remote", "https://x.example/s-1.0.zip")),
        ("sample@git+https://github.com/corp/x@v1#egg=x", Origin("git", "git+https://github.com/corp/x")),
        ("-e git+ssh://git@github.com/corp/x", Origin("git", "git+ssh://git@github.com/corp/x")),
        ("--editable .", Origin("local", ".")),
        ("./dist/sample-1.0.tar.gz", Origin("local", "./dist/sample-1.0.tar.gz")),
        ("sample @ file:///srv/x.whl", Origin("local", "file:///srv/x.whl")),
    ],
)
def test_what_comes_from_no_index_says_where_it_comes_from(line: str, origin: Origin) -> None:
    (found,) = read_requirements(line.encode())
    assert found.origin == origin
    assert found.sha256 is None


HASHED = f"sample==1.0 --hash=sha256:{A}"
REFUSED = (
    f"{HASHED} --hash=sha512:{A}{B}",
    f"{HASHED} --hash=sha384:{A}{B[:32]}",
    f"sample==1.0 --hash=md5:{A[:32]}",
    f'{HASHED} --hash="sha256:{B}"',
    f"{HASHED} '--hash=sha256:{B}'",
    f"{HASHED} --has=sha256:{B}",
    f"{HASHED} --hash=sha256:abcd",
    f"{HASHED} -r other.txt",
    f"{HASHED} --config-settings=a=b",
    "-rother.txt",
    "-r=other.txt",
    "-r  other.txt",
    "--req other.txt",
    "--requirement 'other.txt'",
    "-r https://x.example/other.txt",
    "-iother",
    "--pre -r other.txt",
    "--no-require-hashes",
    "--require-hashes --no-require-hashes",
    "-c/etc/other.txt",
    "-e.",
    "-f'x'",
    "--index-url https://${HOST}/simple",
    f"sample==${{VERSION}} --hash=sha256:{A}",
    f"sample==1.0\t--hash=sha256:{A}",
    f"sample==1.0 \\ \n--hash=sha256:{A}",
    f"sample==1.0 # why \\\n--hash=sha256:{A}",
    f"sample==1.0 \\\\\n--hash=sha256:{A}",
    f"s\\ample==1.0 --hash=sha256:{A}",
    f"# x\x0csample==1.0 --hash=sha256:{A}",
    f"# x\rsample==1.0 --hash=sha256:{A}",
    f"# x\x85sample==1.0 --hash=sha256:{A}",
    f"# x\u2028sample==1.0 --hash=sha256:{A}",
    f"# x\x1esample==1.0 --hash=sha256:{A}",
    f"# -*- coding: utf-7 -*-\n{HASHED}",
    f"{HASHED}\n#coding=latin-1",
    f"s\u0430mple==1.0 --hash=sha256:{A}",
    f"{HASHED}; python_version > '3'",
    "sample one",
    "<html>",
)


@pytest.mark.parametrize("text", REFUSED)
def test_what_pip_may_read_otherwise_is_refused(text: str) -> None:
    assert len(read_requirements(HASHED.encode())) == 1
    with pytest.raises(DocumentError):
        read_requirements(text.encode())
    with pytest.raises(DocumentError):
        read_requirements(f"{HASHED}\n".encode() + text.encode() if "coding" not in text else text.encode())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "latin-1"])
def test_another_encoding_than_utf_8_is_refused(encoding: str) -> None:
    data = f"{HASHED} # ü+\n".encode(encoding)
    with pytest.raises(DocumentError):
        read_requirements(b"# coding: utf-7\n" + data if encoding == "utf-7" else data)


PIECES = st.sampled_from(
    [
        *("sample", "Sam_ple", "other", "==", "===", ">=", "1.0", "2.0.post1+x", "[extra]", " ", "  ", "\t", "\n"),
        *(
            "\r\n",
            "\r",
            "\x0c",
            "\u2028",
            "\\\n",
            "\\",
            " \\\n    ",
            "#",
            " # c",
            "\n# c \\\n",
            "; ",
            ";python_version>'3'",
        ),
        *(
            " --hash=sha256:",
            " --hash sha256:",
            A,
            B,
            f" --hash=sha256:{A}",
            f" \\\n    --hash=sha256:{B}",
            " --hash=md5:",
        ),
        *(
            '"',
            "'",
            "-r ",
            "-r",
            "--req ",
            "--requirement=",
            "base.txt",
            "-e ",
            ".",
            "./x",
            "-c ",
            "git+https://x.example/r",
        ),
        *(
            " @ ",
            "https://x.example/a.zip",
            "--index-url ",
            "-i ",
            "--pre",
            "--no-index",
            "${X}",
            "-*- coding: utf-8 -*-",
        ),
        *(
            "\ufeff",
            "\n-",
            " -",
            "--",
            "=",
            "\nsample==1.0",
            f"\nother==2.0 --hash=sha256:{B}",
            ",",
            "(",
            ")",
            "*",
            "~=",
        ),
    ]
)
Meant = tuple[str, str | None, str | None]


def as_pip_reads(path: Path) -> Counter[Meant] | None:
    """What pip's parser finds: project, version and digest of each; None, if pip refuses the file."""
    found: Counter[Meant] = Counter()
    parse = req_file.get_line_parser(None)
    try:
        _, content = req_file.get_file_content(str(path), None)  # type: ignore[arg-type] # no session: it is a path
        for _, line in req_file.preprocess(content):
            found.update(_meant(*parse(line)))
    except (InstallationError, req_file.OptionParsingError, InvalidRequirement, UnicodeDecodeError, LookupError):
        return None
    return found


def _meant(args: str, opts: Any) -> set[Meant]:
    if not args:
        named = (opts.editables or opts.requirements or opts.constraints or [None])[0]
        assert not opts.no_require_hashes
        return {("from " + _last(named), None, None)} if named is not None else set()
    digests = (
        {f"{algorithm}:{each.lower()}" for algorithm, values in opts.hashes.items() for each in values}
        if (opts.hashes)
        else set()
    )
    if "://" in args or args.startswith((".", "/")) or "/" in args.partition(";")[0]:
        return {("from " + _last(args.partition(";")[0].rpartition("@ ")[2].strip()), None, None)}
    wanted = Requirement(args)
    exact = [each for each in wanted.specifier if each.operator in ("==", "===")]
    # What is no version in form (sample====) binds nothing for kedge, which is a failure of that line.
    pins = [each for each in exact if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._!+-]*", each.version)]
    if len(pins) != 1 or len(wanted.specifier) != 1:
        return {(normalized(wanted.name), None, None)}
    return {(normalized(wanted.name), pins[0].version, each) for each in (digests or [None])}


def _last(source: str) -> str:
    return source.rpartition("/")[2].partition("#")[0]


def as_kedge_reads(data: bytes) -> Counter[Meant] | None:
    try:
        files = read_requirements(data)
    except DocumentError:
        return None
    found: Counter[Meant] = Counter()
    for file in files:
        if file.origin is not None:
            found["from " + _last(file.origin.source), None, None] += 1
        else:
            found[file.project, file.version or None, f"sha256:{file.sha256}" if file.sha256 else None] += 1
    return found


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PIECES, max_size=14).map("".join))
def test_what_is_accepted_is_what_pips_own_parser_reads(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """A file that pip refuses installs nothing; in every other, pip and kedge must mean the same files."""
    data = text.encode()
    ours = as_kedge_reads(data)
    if ours is None:
        return
    file = tmp_path_factory.getbasetemp() / "requirements.txt"
    file.write_bytes(data)
    theirs = as_pip_reads(file)
    assert theirs is None or set(theirs) == set(ours)


def test_pips_parser_reads_what_tools_write_as_kedge_does(tmp_path: Path) -> None:
    """The control: the comparison is of files that both accept."""
    text = f"-i https://x.example\n\n{HASHED} \\\n    --hash=sha256:{B}\n    # via x\nother==2.0\n-e .\n-r base.txt\n"
    file = tmp_path / "requirements.txt"
    file.write_text(text)
    theirs = as_pip_reads(file)
    assert theirs is not None
    assert len(theirs) == 5
    assert set(theirs) == set(as_kedge_reads(text.encode()) or ())
