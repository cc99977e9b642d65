"""How an export format is found, and that each of ours keeps to the protocol."""

from __future__ import annotations

import pytest

from kedge.errors import InputError
from kedge.registries.export import GROUP, Exporter, find_exporter
from kedge.registries.registry import names_of_extensions


@pytest.mark.parametrize("name", names_of_extensions(GROUP))
def test_each_format_says_what_reads_it(name: str) -> None:
    exporter: Exporter = find_exporter(name)
    assert exporter.summary
    assert exporter.default_registry != ""
    assert exporter.appended_to != ""


def test_an_unknown_format_is_answered_with_those_that_exist() -> None:
    with pytest.raises(InputError) as caught:
        find_exporter("corepack")
    assert str(caught.value) == 'there is no export format "corepack"'
    assert "corepack-env" in (caught.value.hint or "")
