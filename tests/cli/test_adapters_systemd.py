"""Units and timers that ship: systemd itself reads them."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import REPOSITORY, Require

UNITS = sorted((REPOSITORY / "adapters" / "systemd").glob("*.*"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong_with_a_unit(unit: Path, require: Require, tmp_path: Path) -> None:
    require(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    for other in UNITS:
        shutil.copy(other, tmp_path)
    line = ["systemd-analyze", "verify", "--man=no", "--generators=no", str(tmp_path / unit.name)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert (done.returncode, [text for text in done.stderr.splitlines() if unit.name in text]) == (0, [])


@pytest.mark.parametrize("timer", [path for path in UNITS if path.suffix == ".timer"], ids=lambda path: path.name)
def test_a_timer_has_its_service_and_misses_nothing_while_the_machine_sleeps(timer: Path) -> None:
    assert timer.with_suffix(".service") in UNITS
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read_string(timer.read_text())
    assert parsed["Timer"]["Persistent"] == "true"
