"""``kedge doctor`` names what would make other commands fail; ``kedge config show`` says which word went first."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import World
from cli.shell import Shell
from kedge.audit.doctor import Machine, diagnose
from kedge.registries.registry import Finding
from support.clock import SettableClock


def found(world: World, *arguments: str, code: int = 0, **environment: str) -> dict[str, dict[str, Any]]:
    """The findings of ``kedge doctor``, the last of each rule."""
    done = world.shell.run("doctor", "--anchor", "repo", "--json", *arguments, **environment)
    assert (done.code, done.err) == (code, "")
    return {finding["rule"]: finding for finding in json.loads(done.out)["findings"]}


def test_a_machine_in_order_has_nothing_to_mend(world: World) -> None:
    world.add_anchor()
    assert world.shell.run("refresh").code == 0
    done = world.shell.run("doctor", "--anchor", "repo")
    assert (done.code, done.out.splitlines()[-1]) == (0, "nothing to mend")
    rules = found(world)
    assert rules["mirror/answers"]["place"] == f"anchor repo: {world.folder}"
    assert "valid until 2098-" in rules["trust/stored"]["message"]


def test_a_mirror_without_metadata_is_a_fault_unless_nothing_may_be_asked(world: World, tmp_path: Path) -> None:
    world.add_anchor()
    (tmp_path / "repo").rename(tmp_path / "elsewhere")
    (tmp_path / "repo" / "metadata").mkdir(parents=True)
    assert found(world, code=5)["mirror/no-timestamp"]["severity"] == "error"
    assert "mirror/no-timestamp" not in found(world, "--offline")


def test_damaged_trust_is_named_with_what_mends_it(world: World) -> None:
    world.add_anchor()
    assert world.shell.run("refresh").code == 0
    (world.shell.state / "repo" / "state.json").write_bytes(b"")
    (world.shell.state / "repo" / "state.json.prev").unlink(missing_ok=True)
    finding = found(world, "--offline")["trust/incomplete"]
    assert (finding["severity"], bool(finding["hint"])) == ("warning", True)


def test_two_anchors_that_claim_one_registry_are_a_fault(world: World) -> None:
    world.add_anchor()
    world.add_anchor("other")
    done = world.shell.run("doctor", "--offline")
    assert done.code == 5
    assert "the anchors other and repo both speak for it" in done.out


def test_a_broken_file_of_settings_is_named_by_the_doctor(world: World) -> None:
    world.add_anchor()
    (world.shell.config / "config.toml").write_text('format = "kedge.config/1"\ntimeout_s = 0\n')
    finding = found(world, "--offline", code=5)["config/unreadable"]
    assert finding["message"].endswith("config.toml: timeout_s: must be at least 1, not 0")


def test_a_proxy_is_named_without_its_password(world: World) -> None:
    world.add_anchor()
    finding = found(world, "--offline", HTTPS_PROXY="http://me:secret@proxy.example:3128")["config/proxy"]
    assert finding["message"] == "is set: http://proxy.example:3128"


def test_a_clock_before_the_anchors_own_past_is_a_fault(world: World) -> None:
    world.add_anchor()
    anchor = world.shell.config / "anchors" / "repo" / "anchor.toml"
    anchor.write_text(anchor.read_text().replace("\n\n[[", '\nnot_before = "2026-05-31T00:00:00Z"\n\n[[', 1))

    def seen(clock: datetime) -> list[Finding]:
        machine = Machine(
            config_folder=world.shell.config,
            state_folder=world.shell.state,
            environment={},
            clock=SettableClock(clock),
            anchor="repo",
            ask_mirrors=False,
        )
        return [finding for finding in diagnose(machine) if finding.rule == "clock/behind"]

    past = datetime(2026, 5, 30, tzinfo=UTC)
    assert len(seen(past)) == 1
    assert seen(past + timedelta(days=2)) == []


def settings_of(shell: Shell, **environment: str) -> dict[str, tuple[object, str]]:
    done = shell.run("config", "show", "--json", **environment)
    assert done.code == 0, done.err
    return {name: (each["value"], each["origin"]) for name, each in json.loads(done.out)["settings"].items()}


def test_a_variable_goes_before_the_file_and_the_file_before_the_default(shell: Shell) -> None:
    assert settings_of(shell)["timeout_s"] == (60, "default")
    shell.config.mkdir()
    file = shell.config / "config.toml"
    file.write_text('format = "kedge.config/1"\ntimeout_s = 20\nrequire_refresh = true\n')
    assert settings_of(shell)["timeout_s"] == (20, f"{file}: timeout_s")
    assert settings_of(shell, KEDGE_TIMEOUT_S="5")["timeout_s"] == (5, "KEDGE_TIMEOUT_S")
    assert settings_of(shell)["require_refresh"] == (True, f"{file}: require_refresh")
    assert settings_of(shell, KEDGE_REQUIRE_REFRESH="no")["require_refresh"] == (False, "KEDGE_REQUIRE_REFRESH")


def test_the_anchor_of_the_settings_is_used_where_none_is_named(world: World) -> None:
    world.add_anchor()
    world.add_anchor("other")
    assert world.shell.run("keys", "show", "registry.example").code == 2
    assert world.shell.run("keys", "show", "registry.example", KEDGE_ANCHOR="other").code == 0
    (world.shell.config / "config.toml").write_text('format = "kedge.config/1"\nanchor = "other"\n')
    assert "other" in world.shell.run("keys", "show", "registry.example").out
    assert "repo" in world.shell.run("keys", "show", "registry.example", "--anchor", "repo").out


def test_require_refresh_of_the_settings_refuses_what_is_only_stored(world: World, tmp_path: Path) -> None:
    world.add_anchor()
    assert world.shell.run("keys", "list").code == 0
    (tmp_path / "repo").rename(tmp_path / "elsewhere")
    (tmp_path / "repo").write_text("no folder")
    assert world.shell.run("keys", "list").code == 0
    assert world.shell.run("keys", "list", KEDGE_REQUIRE_REFRESH="1").code == 1


@pytest.mark.parametrize(
    ("variable", "value"), [("KEDGE_TIMEOUT_S", "0"), ("KEDGE_REQUIRE_REFRESH", "maybe"), ("KEDGE_ANCHOR", "../x")]
)
def test_a_variable_that_means_nothing_is_a_usage_error_in_one_line(world: World, variable: str, value: str) -> None:
    world.add_anchor()
    done = world.shell.run("refresh", **{variable: value})
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"kedge: {variable}: ")


def test_a_shell_completes_verbs_registries_and_formats(world: World) -> None:
    world.add_anchor()

    def completed(words: str) -> list[str]:
        at = str(len(words.split(" ")) - 1)
        return world.shell.run(_KEDGE_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=at).out.splitlines()

    assert completed("kedge verif") == ["verify"]
    assert "registry.example" in completed("kedge keys show ")
    assert "corepack-env" in completed("kedge keys export ")
    assert completed("kedge status --anchor re") == ["repo"]
