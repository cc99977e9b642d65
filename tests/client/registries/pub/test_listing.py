"""Listings, answers, lock files and sources: what is read of each, and what is refused by name."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.documents import DocumentError
from kedge.errors import InputError
from kedge.registries.keys import KeySet
from kedge.registries.pub.listing import Listing, read_answer, read_listing, version_order
from kedge.registries.pub.lockfile import read_lock
from kedge.registries.pub.registry import Pub, default_source, listing_path, read_source
from kedge.registries.registry import Registry, Severity
from support.pub import PubRegistry, sha256_of

NOW = datetime(2026, 8, 22, tzinfo=UTC)
SHA = "ab" * 32


def listing(**more: Any) -> bytes:
    return json.dumps({"format": "kedge.pub-listing/1", "name": "args", "versions": {"1.0.0": SHA}, **more}).encode()


def answer(**more: Any) -> bytes:
    return json.dumps({"name": "args", "versions": [{"version": "1.0.0", "archive_sha256": SHA}], **more}).encode()


def test_an_answer_becomes_a_listing_and_comes_back() -> None:
    registry = PubRegistry()
    registry.release("args", "1.0.0", "1.10.0", "1.9.0")
    registry.release("args", "2.0.0-dev.1", retracted=True)
    registry.release("args", "0.9.0", archive_sha256=None)
    read = read_answer(registry.answer("args"), "args")
    assert read.versions["1.9.0"] == sha256_of("args", "1.9.0")
    assert read.versions["0.9.0"] is None
    assert read.retracted == {"2.0.0-dev.1"}
    again = read_listing(read.to_bytes())
    assert again == read
    assert list(again.versions) == ["1.0.0", "1.9.0", "1.10.0", "2.0.0-dev.1", "0.9.0"]


def test_a_discontinued_package_says_what_replaces_it() -> None:
    read = read_answer(answer(isDiscontinued=True, replacedBy="argparse", latest={"version": "1.0.0"}), "args")
    assert (read.discontinued, read.replaced_by, read.latest) == (True, "argparse", "1.0.0")
    assert read_listing(read.to_bytes()) == read


def test_versions_are_in_pubs_order() -> None:
    ordered = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0",
        "1.0.0+1",
        "1.0.0+2",
        "1.2.0",
        "1.10.0",
    ]
    assert sorted(sorted(ordered), key=version_order) == ordered


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (listing(format="kedge.pub-listing/2"), "format: is"),
        (listing(name="a b"), "name: must be a package's name"),
        (listing(versions={}), "versions: is empty: the package has no version"),
        (listing(versions={"1.0": SHA}), 'versions."1.0": is no version such as 1.2.3'),
        (listing(versions={"1.0.0": "AB" * 32}), 'versions."1.0.0": must be 64 lower-case hexadecimal digits'),
        (listing(without_digest=["1.0.0"]), "without_digest: 1.0.0 stands among the versions too, or twice"),
        (listing(latest="2.0.0"), "latest: 2.0.0 is not among the versions"),
        (listing(retracted=["2.0.0"]), "retracted: 2.0.0 is not among the versions"),
        (listing(more=1), "more: is not a field of this document"),
        (b" " * 16_000_001, "is longer than 16000000 bytes"),
    ],
)
def test_a_listing_that_is_not_in_order_is_refused_by_path(data: bytes, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_listing(data)
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"<html>", "is not JSON, or nested too deep"),
        (b"[" * 100_000, "is not JSON, or nested too deep"),
        (b'{"name": "args", "name": "other"}', "holds a key twice in one object"),
        (b'{"name": NaN}', "holds NaN, which is not JSON"),
        (answer(name="other"), "name: must be args: this is about another package"),
        (answer(versions=[]), "versions: is empty: the package has no version"),
        (answer(versions=[{}]), "versions[0].version: is missing"),
        (answer(versions=[{"version": "1"}]), "versions[0].version: must be a version such as 1.2.3"),
        (answer(versions=[{"version": "1.0.0"}] * 2), "versions[1].version: 1.0.0 stands there twice"),
        (answer(versions=[{"version": "1.0.0", "archive_sha256": "x"}]), "versions[0].archive_sha256: must be 64"),
        (answer(latest={"version": "9.9.9"}), "latest: 9.9.9 is not among the versions"),
        (answer(versions=[{"version": "1.0.0"}] * 20_001), "versions: holds 20001 entries, at most 20000 are read"),
    ],
)
def test_an_answer_that_is_not_in_order_is_refused_by_path(data: bytes, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_answer(data, "args")
    assert str(caught.value).startswith(problem)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=6) | st.just(SHA) | st.just("1.0.0"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "versions", "version", "archive_sha256", "latest", "1.0.0"]), inner)
    ),
    max_leaves=15,
)


@given(JUNK)
def test_whatever_is_answered_is_read_or_refused_by_name(value: Any) -> None:
    data = json.dumps(value).encode()
    try:
        found: Listing = read_answer(data, "args")
    except DocumentError:
        return
    assert read_listing(found.to_bytes()) == found


@given(st.binary(max_size=200))
def test_whatever_is_signed_is_read_or_refused_by_name(data: bytes) -> None:
    with pytest.raises(DocumentError):
        read_listing(data)


# pubspec.lock


def test_a_lock_file_is_read_as_pub_writes_it() -> None:
    text = PubRegistry().lock("args 1.0.0", digests={"args 1.0.0": None})
    text = text.replace(
        "sdks:",
        '  flutter:\n    dependency: "direct main"\n    description: flutter\n    source: sdk\n    version: "0.0.0"\n'
        '  mine:\n    dependency: "direct main"\n    description:\n      path: "../mine"\n      relative: true\n'
        '    source: path\n    version: "1.0.0"\n'
        '  theirs:\n    dependency: transitive\n    description:\n      path: "."\n      ref: HEAD\n'
        '      resolved-ref: "0123456789abcdef"\n      url: "https://git.example/x.git"\n    source: git\n'
        '    version: "1.0.0"\nsdks:',
    )
    packages = read_lock(text.encode())
    assert [(each.name, each.source, each.url) for each in packages] == [
        ("args", "hosted", "https://pub.dev"),
        ("flutter", "sdk", None),
        ("mine", "path", None),
        ("theirs", "git", None),
    ]
    assert (packages[0].sha256, packages[0].where) == (None, 4)


def test_no_packages_at_all_is_an_empty_lock() -> None:
    assert read_lock(b"packages: {}\nsdks:\n  dart: any\n") == ()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("packages:", "packages: &a"), "line 3: holds a value that is not in the form"),
        (("  args:", "   args:"), "line 4: is not in the form in which pub writes this file"),
        (("  args:", "        args:"), "line 4: is not in the form in which pub writes this file"),
        (("      name: args", "      name: [args]"), "line 7: holds a value that is not in the form"),
        (("      name: args", "      name: other"), "packages.args.description.name: must be args, as the entry says"),
        (("      name: args", "      - args"), "line 7: is not in the form in which pub writes this file"),
        (('    version: "1.0.0"', '    version: "1"'), "packages.args.version: must be a version such as 1.2.3"),
        (("    source: hosted", "    source: hosted\n    source: git"), "line 11: source stands there twice"),
        (("    source: hosted", ""), "packages.args.source: is missing"),
        (('      sha256: "', '      sha256: "x'), "packages.args.description.sha256: must be 64 lower-case"),
        (("  args:", '  "args\\q":'), "line 4: holds a text whose quotes cannot be read"),
        (("  args:", '  "a/b":'), "packages.a/b: must be a package and its table (line 4)"),
    ],
)
def test_a_lock_file_in_another_form_is_refused_by_line(change: tuple[str, str], problem: str) -> None:
    text = PubRegistry().lock("args 1.0.0")
    assert change[0] in text
    with pytest.raises(DocumentError) as caught:
        read_lock(text.replace(*change, 1).encode())
    assert str(caught.value).startswith(problem)


@given(
    st.text(alphabet="ab: \n\"'-#{}[]&*|>1.0", max_size=120)
    | st.binary(max_size=80).map(lambda data: data.decode("latin-1"))
)
def test_a_lock_file_is_read_or_refused_by_name(text: str) -> None:
    try:
        packages = read_lock(text.encode())
    except DocumentError:
        return
    assert all(package.name for package in packages)


@given(st.text(alphabet="ab: \n\"'-#{}1.0", max_size=200))
def test_what_is_read_of_a_lock_file_is_what_yaml_reads(text: str) -> None:
    import yaml

    from kedge.registries.pub.lockfile import _read_tree

    try:
        tree, _ = _read_tree(text)
    except DocumentError:
        return

    def said(node: Any) -> Any:
        return {str(key): said(value) for key, value in node.items()} if isinstance(node, dict) else node or {}

    assert said(tree) == said(yaml.load(text, Loader=yaml.BaseLoader))


# The source


def source(**more: Any) -> bytes:
    return json.dumps({"format": "kedge.pub-source/1", "url": "https://pub.dev", **more}).encode()


def parsed(data: bytes) -> KeySet:
    module: Registry = Pub()
    return module.parse(data, registry="pub/pub.dev", custom=None, now=NOW)


def test_a_mirror_that_keyholders_list_is_the_same_source() -> None:
    known = read_source(source(mirrors=["https://mirror.example/pub"]))
    assert known.names("https://mirror.example/pub/")
    assert not known.names("https://mirror.example")
    assert parsed(source()).keys == ()


def test_without_a_document_pub_dev_has_the_two_urls_that_pub_knows() -> None:
    known = default_source("pub/pub.dev")
    assert [known.names(url) for url in ("https://pub.dev", "https://pub.dartlang.org", "https://x")] == [
        True,
        True,
        False,
    ]
    assert default_source("pub/dart.example:8080/a").url == "https://dart.example:8080/a"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (source(url="ftp://x"), "url: must be a URL with a host and without a last slash"),
        (source(url="https://x/"), "url: must be a URL with a host and without a last slash"),
        (source(mirrors=["x"]), "mirrors[0]: must be a URL"),
        (source(mirrors=["https://m"] * 1_001), "mirrors: holds 1001 URLs, at most 1000 are read"),
        (source(more=1), "more: is not a field of this document"),
    ],
)
def test_a_source_that_is_not_in_order_is_refused_by_path(data: bytes, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parsed(data)
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize("registry", ["pub", "pub/", "pub/a b", "dart/pub.dev"])
def test_what_is_no_registrys_id_is_refused(registry: str) -> None:
    with pytest.raises(InputError, match="is not a pub registry's id"):
        Pub().target_path(registry)


def test_a_name_that_leads_elsewhere_is_no_package() -> None:
    assert listing_path("pub/pub.dev", "args") == "pub/pub.dev/packages/args.json"
    with pytest.raises(InputError, match="is no name of a package"):
        listing_path("pub/pub.dev", "../x")


def test_a_url_that_is_dropped_is_stopped_before_anybody_signs() -> None:
    old = parsed(source(mirrors=["https://m.example"]))
    assert Pub().lint(None, old) == ()
    (warned,) = Pub().lint(old, parsed(source()))
    assert (warned.rule, warned.severity) == ("pub/url-dropped", Severity.WARNING)
    (stopped,) = Pub().lint(parsed(source()), parsed(source(url="https://other.example")))
    assert stopped.severity is Severity.ERROR
