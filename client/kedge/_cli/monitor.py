"""``kedge monitor``: watch logs and mirrors, a line of JSON for each thing that is seen."""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from kedge._cli.options import AnchorName, at_named_mirrors, chosen_anchors, settings, takes_mirrors
from kedge.audit import Expectation, News, exit_code, watch
from kedge.client import SystemClock
from kedge.documents import blame_user
from kedge.errors import InputError
from kedge.files import state_folder


@takes_mirrors
def monitor(
    anchor: AnchorName = None,
    expect: Annotated[
        Path | None,
        typer.Option("--expect", metavar="FILE", help="Which keys and roles its owner knows of (kedge.expect/1)."),
    ] = None,
    max_age_hours: Annotated[
        int, typer.Option("--max-age-hours", metavar="H", min=1, help="How old the witnesses' word may be.")
    ] = 168,
    every_s: Annotated[
        int | None, typer.Option("--every", metavar="SECONDS", min=1, help="Look again and again, until interrupted.")
    ] = None,
) -> None:
    """Say what is new in the logs of repositories, and what nobody expected.

    One line of JSON on stdout for each thing. Exit 3: a log forked, or must not be trusted; 4: no quorum has signed it
    for long; 5: something that is not expected; 1: it could not be reached.
    """
    expected = _expectation(expect)
    while True:
        news = _look(anchor, expected, timedelta(hours=max_age_hours))
        if every_s is None:
            raise typer.Exit(exit_code(news))
        time.sleep(every_s)


def _look(name: str | None, expected: Expectation | None, max_age: timedelta) -> list[News]:
    clock, found = SystemClock(), list[News]()
    timeout_s = float(settings().timeout_s.value)
    for each in chosen_anchors(name):
        folder = state_folder() / each.name / "monitor"
        seen = watch(
            at_named_mirrors(each), folder, clock=clock, expected=expected, max_age=max_age, timeout_s=timeout_s
        )
        for news in seen:
            found.append(news)
            sys.stdout.write(json.dumps(news.to_table(clock.now()), ensure_ascii=True) + "\n")
            sys.stdout.flush()
    return found


def _expectation(file: Path | None) -> Expectation | None:
    if file is None:
        return None
    try:
        text = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    with blame_user(str(file)):
        return Expectation.from_toml(text)
