"""The program that takes checks out: it finds them, it notices a loss, and it does not cry where nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants.mutants import HARMLESS, MODULES, PACKAGE, ROOM, Mutant, find_mutants, judge, unchanged, why_harmless

TESTS = ("tests/client/test_workflow_root.py",)


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    return {module: (PACKAGE / ROOM / module).read_text() for module in MODULES}


@pytest.fixture(scope="module")
def mutants(sources: dict[str, str]) -> list[Mutant]:
    return find_mutants(sources)


def test_every_step_of_the_specification_that_a_comment_names_is_taken_out(
    sources: dict[str, str], mutants: list[Mutant]
) -> None:
    taken_out = ", ".join(mutant.step for mutant in mutants)
    # These are no checks: asking for a file, and passing over the expiry of a root that has a successor.
    no_checks = {"§5.3.6", "§5.6.7", "§5.7.1"}
    for module in ("checks.py", "workflow.py"):
        for line in sources[module].splitlines():
            if line.strip().startswith("# §"):
                step = line.split()[1].rstrip(";:,")
                assert step in taken_out or step in no_checks, line


def test_each_mutant_is_a_module_of_its_own(sources: dict[str, str], mutants: list[Mutant]) -> None:
    assert len(mutants) > 100
    assert len({(mutant.module, mutant.source) for mutant in mutants}) == len(mutants)
    for mutant in mutants:
        compile(mutant.source, mutant.module, "exec")
    assert all(mutant.source != unchanged(mutant.module, sources[mutant.module]).source for mutant in mutants)


def test_each_mutant_that_is_called_harmless_is_there(mutants: list[Mutant]) -> None:
    assert sum(why_harmless(mutant) is not None for mutant in mutants) == len(HARMLESS)


def test_a_check_that_is_taken_out_is_missed(mutants: list[Mutant]) -> None:
    (mutant,) = (mutant for mutant in mutants if mutant.step == "§5.3.5" and "new.signed.version != " in mutant.what)
    verdict = judge(mutant, TESTS)
    assert verdict.killer is not None
    assert "test_workflow_root.py::test_a_root_that_is_not_the_next_version_is_refused" in verdict.killer


def test_nothing_is_missed_where_nothing_is_taken_out(sources: dict[str, str]) -> None:
    assert judge(unchanged("checks.py", sources["checks.py"]), TESTS).killer is None


def test_a_mutant_that_cannot_even_be_read_is_noticed() -> None:
    broken = Mutant(module="checks.py", line=1, step="-", what="all of it", source="raise ValueError")
    assert judge(broken, TESTS).killer is not None


def test_the_tests_that_are_run_are_there() -> None:
    from mutants.mutants import REPOSITORY
    from mutants.mutants import TESTS as ALL_TESTS

    assert [test for test in ALL_TESTS if not Path(REPOSITORY, test.partition("::")[0]).is_file()] == []
