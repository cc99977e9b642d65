"""``kedge config``: what the commands go by, and where each value came from."""

from __future__ import annotations

import os
import sys

from kedge._cli.options import Json
from kedge._cli.output import Screen, answer, answer_json
from kedge.client import SETTINGS_FILE, Setting, read_settings, unknown_variables
from kedge.files import config_folder, state_folder


def show(json: Json = False) -> None:
    """Show every setting, and where its value came from.

    An option goes before a variable, a variable before the file, the file before the default.
    """
    found = settings_by_name()
    if json:
        entries = {name: {"value": each.value, "origin": each.origin} for name, each in found.items()}
        answer_json(
            {"format": "kedge.config-show/1", "file": str(config_folder() / SETTINGS_FILE), "settings": entries}
        )
        return
    for name, nearest in unknown_variables(os.environ).items():
        meant = f"; perhaps {nearest} is meant" if nearest is not None else ""
        sys.stderr.write(f"kedge: warning: {name} is set, and is no variable that kedge reads{meant}\n")
    screen = Screen.of_stdout()
    rows = [(name, f"{_shown(each.value)} (from: {each.origin})") for name, each in found.items()]
    answer([*screen.heading(str(config_folder() / SETTINGS_FILE)), *screen.rows(rows)])


def settings_by_name() -> dict[str, Setting[object]]:
    """Every setting by its name, the folders first.

    Raises:
        InputError: a variable or the file holds what it cannot mean.
    """
    settings = read_settings(config_folder(), os.environ)
    return {
        "config_dir": _folder("KEDGE_CONFIG_DIR", str(config_folder())),
        "state_dir": _folder("KEDGE_STATE_DIR", str(state_folder())),
        "anchor": Setting(value=settings.anchor.value, origin=settings.anchor.origin),
        "require_refresh": Setting(value=settings.require_refresh.value, origin=settings.require_refresh.origin),
        "timeout_s": Setting(value=settings.timeout_s.value, origin=settings.timeout_s.origin),
        "colour": _colour(),
    }


def _folder(variable: str, path: str) -> Setting[object]:
    return Setting(value=path, origin=variable if os.environ.get(variable) else "default")


def _colour() -> Setting[object]:
    if os.environ.get("NO_COLOR"):
        return Setting(value=False, origin="NO_COLOR")
    if os.environ.get("TERM") == "dumb":
        return Setting(value=False, origin="TERM")
    return Setting(value=True, origin="default")


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
