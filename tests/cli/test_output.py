"""How answers are laid out, and what never reaches a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress

from cli.conftest import World
from kedge._cli.output import Screen, Tone, visible

WIDE = Screen(columns=None, colour=False)
NARROW = Screen(columns=40, colour=False)
COLOUR = Screen(columns=None, colour=True)


def test_values_stand_in_one_column() -> None:
    assert WIDE.rows([("root", "version 1"), ("valid until", "2025-01-29"), ("", "more")]) == [
        "  root         version 1",
        "  valid until  2025-01-29",
        "               more",
    ]


def test_long_values_are_folded_below_themselves_where_the_width_is_known() -> None:
    assert NARROW.rows([("fingerprint", "0123456789" * 4), ("root", "version 15, expires 2026-11-20 13:58:18Z")]) == [
        "  fingerprint  0123456789012345678901234",
        "               567890123456789",
        "  root         version 15, expires",
        "               2026-11-20 13:58:18Z",
    ]


def test_a_label_that_leaves_no_room_stands_above_its_value() -> None:
    assert NARROW.rows([("a-usage-with-a-rather-long-name", "active")]) == [
        "  a-usage-with-a-rather-long-name",
        "    active",
    ]


def test_only_the_first_word_of_a_toned_value_has_colour() -> None:
    assert COLOUR.rows([("use", "retired, valid until 2025", Tone.CAUTION)]) == [
        "  use  \x1b[33mretired\x1b[0m, valid until 2025"
    ]
    assert WIDE.rows([("use", "retired, valid until 2025", Tone.CAUTION)]) == ["  use  retired, valid until 2025"]


def test_what_somebody_else_chose_cannot_move_the_cursor() -> None:
    assert visible("a\x1b[2Jb\nc\u202ed") == r"a\x1b[2Jb\nc\u202ed"
    assert COLOUR.rows([("la\x1b[2Jbel", "va\x1b[2Jlue")]) == [r"  la\x1b[2Jbel  va\x1b[2Jlue"]


def test_a_narrow_terminal_gets_all_of_the_answer_within_its_width(world: World) -> None:
    world.add_anchor()
    for command in (["refresh"], ["keys", "show", "registry.example"], ["keys", "list"], ["anchor", "show", "repo"]):
        wide, narrow = world.shell.run(*command), world.shell.run(*command, COLUMNS="40")
        assert (wide.code, narrow.code) == (0, 0)
        assert max(map(len, narrow.out.splitlines())) <= 40
        without_times = [
            re.sub(r"20\d\d-\d\d-\d\d\d\d:\d\d:\d\dZ", "", "".join(done.out.split())) for done in (wide, narrow)
        ]
        assert without_times[0] == without_times[1]


def typed_on_a_terminal(world: World, *arguments: str, **environment: str) -> str:
    """What a terminal shows of a command."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        world.shell.command(*arguments),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=world.shell.environment(TERM="xterm", **environment),
    ) as process:
        os.close(follower)
        shown = b"".join(read_until_closed(leader))
    assert process.returncode == 0
    return shown.decode()


def read_until_closed(leader: int) -> Iterator[bytes]:
    with os.fdopen(leader, "rb", buffering=0) as terminal, suppress(OSError):  # Linux ends a terminal with EIO
        while data := terminal.read(65_536):
            yield data


def test_a_terminal_gets_colour_unless_no_color_is_set(world: World) -> None:
    world.add_anchor()
    assert "\x1b[33mretired\x1b[0m, valid" in typed_on_a_terminal(world, "keys", "show", "registry.example")
    assert "\x1b" not in typed_on_a_terminal(world, "keys", "show", "registry.example", NO_COLOR="1")
    assert "\x1b" not in world.shell.run("keys", "show", "registry.example", TERM="xterm").out
