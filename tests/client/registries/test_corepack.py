"""Pins: the hash that Corepack will check, of bytes that the registry's key vouches for, and a file otherwise kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interop.npm_world import Issuer, Package, key_document, packument, sri, tarball
from kedge.documents import DocumentError
from kedge.errors import InputError, Reason, VerificationError
from kedge.registries.keys import KeySet
from kedge.registries.npm.corepack import Spec, make_pin, read_package_manager, set_package_manager
from kedge.registries.npm.registry import NPM

NOW = datetime(2026, 8, 22, tzinfo=UTC)
BASE = "https://mirror.example"


@dataclass
class Memory:
    """A mirror that holds what it is given."""

    files: dict[str, bytes]
    url: str = BASE

    def packument(self, package: str) -> bytes | None:
        return self.files.get(package)

    def tarball(self, url: str) -> bytes:
        return self.files[url.removeprefix(f"{BASE}/")]

    def change(self, package: Package, **changes: Any) -> None:
        """Say something else of a version."""
        document = json.loads(self.files[package.name])
        version = document["versions"][package.version]
        version.update({name: value for name, value in changes.items() if name != "dist"})
        version["dist"].update(changes.get("dist", {}))
        self.files[package.name] = json.dumps(document).encode()


@pytest.fixture(scope="module")
def npm() -> Issuer:
    return Issuer()


@pytest.fixture(scope="module")
def retired() -> Issuer:
    return Issuer(end="2025-01-29T00:00:00.000Z")


@pytest.fixture
def keys(npm: Issuer, retired: Issuer) -> KeySet:
    return NPM().parse(key_document(retired, npm), registry="registry.example", custom=None, now=NOW)


def served(*packages: Package, **tags: str) -> Memory:
    return Memory(packument(BASE, packages, tags=tags))


def test_a_pin_is_the_hash_of_the_tarball_that_was_signed(npm: Issuer, keys: KeySet) -> None:
    pnpm = Package.made("pnpm", "10.1.0", npm)
    pin = make_pin(Spec.parse("pnpm@10.1.0"), served(pnpm), keys)
    assert pin.reference == f"pnpm@10.1.0+sha512.{hashlib.sha512(pnpm.data).hexdigest()}"
    assert pin.evidence.key.id == npm.keyid
    assert pin.notes == ()


def test_modern_yarn_is_pinned_by_the_file_inside_the_signed_tarball(npm: Issuer, keys: KeySet) -> None:
    yarn = Package.made("@yarnpkg/cli-dist", "4.9.1", npm, files={"bin/yarn.js": b"yarn", "other/bin/yarn.js": b"no"})
    pin = make_pin(Spec.parse("yarn@4.9.1"), served(yarn), keys)
    assert pin.reference == f"yarn@4.9.1+sha512.{hashlib.sha512(b'yarn').hexdigest()}"


def test_classic_yarn_is_pinned_by_its_tarball(npm: Issuer, keys: KeySet) -> None:
    yarn = Package.made("yarn", "1.22.22", npm)
    pin = make_pin(Spec.parse("yarn@1.22.22"), served(yarn), keys)
    assert pin.sha512 == hashlib.sha512(yarn.data).hexdigest()


@pytest.mark.parametrize("text", ["pnpm@latest", "pnpm"])
def test_which_version_a_tag_is_is_said_to_be_the_mirrors_claim(npm: Issuer, keys: KeySet, text: str) -> None:
    pin = make_pin(Spec.parse(text), served(Package.made("pnpm", "10.1.0", npm)), keys)
    assert pin.reference.startswith("pnpm@10.1.0+sha512.")
    assert pin.notes == (f"that pnpm@latest is 10.1.0 is the word of {BASE}: nobody signs it",)


def test_a_tag_of_yarn_is_looked_up_where_corepack_does(npm: Issuer, keys: KeySet) -> None:
    yarn = Package.made("@yarnpkg/cli-dist", "4.9.1", npm, files={"bin/yarn.js": b"yarn"})
    assert make_pin(Spec.parse("yarn@stable"), served(yarn, stable="4.9.1"), keys).spec.version == "4.9.1"


@pytest.mark.parametrize("claim", ["^10", "10.1.0+sha512." + "0" * 128, "latest", "", "../../x"])
def test_a_tag_that_is_no_version_is_refused(npm: Issuer, keys: KeySet, claim: str) -> None:
    mirror = served(Package.made("pnpm", "10.1.0", npm), latest=claim)
    with pytest.raises(VerificationError) as caught:
        make_pin(Spec.parse("pnpm@latest"), mirror, keys)
    assert caught.value.refusal.reason is Reason.MALFORMED


def refused(
    mirror: Memory, keys: KeySet, reason: Reason, *texts: str, spec: str = "pnpm@10.1.0", **options: bool
) -> None:
    with pytest.raises(VerificationError) as caught:
        make_pin(Spec.parse(spec), mirror, keys, **options)
    assert caught.value.refusal.reason is reason
    assert "\n" not in str(caught.value)
    for text in texts:
        assert text in str(caught.value)


def test_a_mirrors_own_key_pins_nothing(npm: Issuer, keys: KeySet) -> None:
    forged = Package.made("pnpm", "10.1.0", Issuer())
    refused(served(forged), keys, Reason.UNKNOWN_KEY, BASE)
    assert make_pin(Spec.parse("pnpm@10.1.0"), served(forged.signed(npm)), keys).evidence.key.id == npm.keyid


def test_another_tarball_than_was_signed_pins_nothing(npm: Issuer, keys: KeySet) -> None:
    pnpm = Package.made("pnpm", "10.1.0", npm)
    mirror = served(pnpm)
    mirror.files[pnpm.file] = tarball("pnpm", "10.1.0", {"evil.js": b""})
    refused(mirror, keys, Reason.CONTENT, "other bytes than were signed")


@pytest.mark.parametrize("signatures", [None, ()])
def test_an_unsigned_package_manager_pins_nothing(
    npm: Issuer, keys: KeySet, signatures: tuple[dict[str, str], ...] | None
) -> None:
    pnpm = replace(Package.made("pnpm", "10.1.0", npm), signatures=signatures)
    refused(served(pnpm), keys, Reason.SIGNATURES, "gives no signature", "registry.example signs everything")


def test_a_changed_digest_pins_nothing(npm: Issuer, keys: KeySet) -> None:
    pnpm = Package.made("pnpm", "10.1.0", npm)
    mirror = served(pnpm)
    mirror.change(pnpm, dist={"integrity": Package.made("pnpm", "10.1.1").integrity})
    refused(mirror, keys, Reason.BAD_SIGNATURE)


@pytest.mark.parametrize("integrity", ["sha1-qqqqqqqqqqqqqqqqqqqqqqqqqqo=", "", None, "sha512-AAAA"])
def test_without_one_sha512_nothing_is_pinned(npm: Issuer, keys: KeySet, integrity: str | None) -> None:
    pnpm = Package.made("pnpm", "10.1.0", npm)
    mirror = served(pnpm)
    mirror.change(pnpm, dist={"integrity": integrity})
    refused(mirror, keys, Reason.MALFORMED, "versions", "dist.integrity")


@pytest.mark.parametrize("changes", [{"name": "npm"}, {"version": "10.1.1"}])
def test_an_answer_about_something_else_pins_nothing(npm: Issuer, keys: KeySet, changes: dict[str, str]) -> None:
    pnpm = Package.made("pnpm", "10.1.0", npm)
    mirror = served(pnpm)
    mirror.change(pnpm, **changes)
    refused(mirror, keys, Reason.MALFORMED, "the answer is about something else")


def test_a_junk_signature_beside_the_right_one_is_noted(npm: Issuer, keys: KeySet) -> None:
    pnpm = Package.made("pnpm", "10.1.0", Issuer(), npm)
    pin = make_pin(Spec.parse("pnpm@10.1.0"), served(pnpm), keys)
    assert pin.evidence.key.id == npm.keyid
    assert len(pin.notes) == 1
    assert "left aside" in pin.notes[0]


def test_a_retired_key_pins_what_the_mirror_dates_back_and_says_that_nobody_signs_the_date(
    retired: Issuer, keys: KeySet
) -> None:
    old = replace(Package.made("pnpm", "8.0.0", retired), published="2023-03-27T00:00:00.000Z")
    pin = make_pin(Spec.parse("pnpm@8.0.0"), served(old), keys)
    assert pin.published == datetime(2023, 3, 27, tzinfo=UTC)
    assert "nobody signs when" in pin.notes[0]
    refused(served(old), keys, Reason.OUTSIDE_VALIDITY, spec="pnpm@8.0.0", strict=True)


@pytest.mark.parametrize("published", ["2025-01-29T00:00:00.000Z", None])
def test_a_retired_key_pins_nothing_that_is_later_or_has_no_date(
    retired: Issuer, keys: KeySet, published: str | None
) -> None:
    new = replace(Package.made("pnpm", "10.1.0", retired), published=published)
    refused(served(new), keys, Reason.OUTSIDE_VALIDITY)


def test_a_revoked_key_pins_nothing(npm: Issuer) -> None:
    custom = {"kedge": {"v": 1, "revoked": [npm.keyid]}}
    keys = NPM().parse(key_document(npm), registry="registry.example", custom=custom, now=NOW)
    refused(served(Package.made("pnpm", "10.1.0", npm)), keys, Reason.REVOKED_KEY)


@pytest.mark.parametrize("algorithm", ["sha1", "sha224", "sha256", "sha384", "sha512"])
def test_a_former_hash_is_checked_against_the_same_bytes(npm: Issuer, keys: KeySet, algorithm: str) -> None:
    pnpm = Package.made("pnpm", "10.1.0", npm)
    right = hashlib.new(algorithm, pnpm.data).hexdigest()
    assert make_pin(Spec.parse(f"pnpm@10.1.0+{algorithm}.{right}"), served(pnpm), keys).spec.version == "10.1.0"
    wrong = ("0" if right[0] != "0" else "1") + right[1:]
    spec = f"pnpm@10.1.0+{algorithm}.{wrong}"
    refused(served(pnpm), keys, Reason.CONTENT, "pins pnpm@10.1.0 to other bytes than the registry signed", spec=spec)


@pytest.mark.parametrize(
    ("files", "text"),
    [({}, "no file bin/yarn.js"), ({"bin/yarn.js.bak": b""}, "no file bin/yarn.js")],
)
def test_modern_yarn_without_its_file_is_refused(npm: Issuer, keys: KeySet, files: dict[str, bytes], text: str) -> None:
    yarn = Package.made("@yarnpkg/cli-dist", "4.9.1", npm, files=files)
    refused(served(yarn), keys, Reason.CONTENT, text, spec="yarn@4.9.1")


def test_a_signed_tarball_that_is_no_archive_is_refused(npm: Issuer, keys: KeySet) -> None:
    made = Package.made("@yarnpkg/cli-dist", "4.9.1")
    broken = replace(made, data=made.data[:40], integrity=sri(made.data[:40])).signed(npm)
    refused(served(broken), keys, Reason.MALFORMED, "cannot be read", spec="yarn@4.9.1")


def test_what_the_mirror_does_not_have_is_said(npm: Issuer, keys: KeySet) -> None:
    mirror = served(Package.made("pnpm", "10.1.0", npm))
    for spec, text in (
        ("pnpm@10.1.1", "has no version 10.1.1"),
        ("npm@11.0.0", "no package npm"),
        ("pnpm@x", "no tag x"),
    ):
        with pytest.raises(InputError, match=text):
            make_pin(Spec.parse(spec), mirror, keys)


@pytest.mark.parametrize("data", [b"<html>", b"[]", b"{", b"\xff", b"null", b"[" * 100_000, b'{"name":"npm"}'])
def test_an_answer_that_is_no_packument_is_refused(keys: KeySet, data: bytes) -> None:
    refused(Memory({"pnpm": data}), keys, Reason.MALFORMED, "pnpm")


@pytest.mark.parametrize(
    "text",
    ["", "deno@1.0.0", "pnpm@", "pnpm@^10", "pnpm@10", "pnpm@10.1", "pnpm@10.1.0+sha512.00", "pnpm@10.1.0+md5.00",
     "pnpm@https://x/y.tgz", "pnpm@010.1.0", "pnpm@10.1.0\n", "PNPM@10.1.0", "pnpm@10.1.0+sha1." + "A" * 40],
)  # fmt: skip
def test_what_is_no_exact_version_or_tag_is_no_spec(text: str) -> None:
    with pytest.raises(DocumentError):
        Spec.parse(text)


@given(st.text(max_size=200))
def test_any_text_is_a_spec_or_is_refused(text: str) -> None:
    for each in (text, f"pnpm@{text}"):
        try:
            spec = Spec.parse(each)
        except DocumentError:
            continue
        assert (spec.version is None) != (spec.tag is None)


PIN = "pnpm@10.1.0+sha512.00"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{\n  "packageManager": "pnpm@9.0.0",\n  "x": 1.50\n}\n', '{\n  "packageManager": "PIN",\n  "x": 1.50\n}\n'),
        ('{"a":{"packageManager":"no"}}', '{"a":{"packageManager":"no"},"packageManager":"PIN"}'),
        ('{\r\n\t"a" : [ 1 ]\r\n}\r\n', '{\r\n\t"a" : [ 1 ],\r\n\t"packageManager": "PIN"\r\n}\r\n'),
        ("\ufeff{}", '\ufeff{\n  "packageManager": "PIN"\n}'),
        ('{\n    "é": "\\u00e9"\n}', '{\n    "é": "\\u00e9",\n    "packageManager": "PIN"\n}'),
        ('{"package\\u004danager" : "x" }', '{"package\\u004danager" : "PIN" }'),
    ],
)
def test_only_the_one_value_changes(before: str, after: str) -> None:
    changed = set_package_manager(before.encode(), PIN)
    assert changed.decode() == after.replace("PIN", PIN)
    assert read_package_manager(changed) == PIN
    assert set_package_manager(changed, PIN) == changed


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'{"a":1', "not a JSON object"),
        (b'{"a":1,}', "not a JSON object"),
        (b'{"a":1} x', "extra data"),
        (b'{"packageManager":"a","packageManager":"b"}', "stands twice"),
        (b'{"packageManager":1}', "must be a text"),
        (b"\xff", "not UTF-8"),
        (b'{"a":' + b"[" * 100_000, "nested too deep"),
    ],
)
def test_a_package_json_that_cannot_be_read_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(DocumentError, match=text):
        set_package_manager(data, PIN)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(
    document=st.dictionaries(st.text(), JSON, max_size=6),
    indent=st.sampled_from([None, 0, 2, 4, "\t"]),
    ascii_only=st.booleans(),
)
def test_every_other_field_stays_as_it_was(
    document: dict[str, Any], indent: int | str | None, ascii_only: bool
) -> None:
    document.pop("packageManager", None)
    before = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    after = json.loads(set_package_manager(before, PIN))
    assert after == {**json.loads(before), "packageManager": PIN}
    assert list(after)[-1] == "packageManager"
