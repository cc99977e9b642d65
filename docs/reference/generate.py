"""Writes the reference pages that come from the code: the commands, and the errors.

python docs/reference/generate.py            writes the pages
python docs/reference/generate.py --check    exit status 1 where a page is not what it would write
"""

from __future__ import annotations

import ast
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from typer.main import get_command

HERE = Path(__file__).parent
WIDTH = 98
NOTE = "<!-- Written by generate.py from the code: change it there. -->"


MEANING = {
    "DONE": "what was asked for was done",
    "COULD_NOT": "the network, a server or this machine's disk failed: try again, or fix the machine",
    "USAGE": "an option is wrong, or a file that the user gave cannot be read",
    "REFUSED": "what was served must not be trusted, or cannot be parsed",
    "EXPIRED": "trust has expired, or is older than the policy allows",
    "FAULTS": "a check found failures: packages, findings",
    "MORE_SIGNATURES": "more signatures are needed",
    "INTERRUPTED": "interrupted",
}
SITUATIONS = (
    ("kedge VERB --no-such-option", "an option that does not exist, for every verb", 2),
    ("kedge VERB --help", "help, for every verb", 0),
    ("kedge refresh", "everything is up to date and stored", 0),
    ("kedge refresh", "the repository cannot be reached; what is stored is valid", 1),
    ("kedge refresh", "what is new cannot be stored", 1),
    ("kedge refresh", "what is stored is there and cannot be read", 1),
    ("kedge refresh", "what is served is not signed by the repository's keys", 3),
    ("kedge refresh", "the repository's metadata has expired", 4),
    ("kedge refresh --mirror FILE", "the file is no bundle", 3),
    ("kedge bundle inspect FILE", "the file is no bundle", 3),
    ("kedge keys show REGISTRY", "no trust anchor is configured for the registry", 2),
    ("kedge status", "nothing is stored yet", 1),
    ("kedge status", "what is stored has expired", 4),
    ("kedge monitor", "the repository has no log", 3),
    ("kedge monitor", "the repository cannot be reached", 1),
    ("kedge doctor --offline", "there is nothing to mend", 0),
)
"""What some commands end with; tests/cli/test_exit_codes.py brings each of these about."""


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them."""
    os.environ["COLUMNS"] = "100"
    os.environ["NO_COLOR"] = "1"
    stale = [name for name, text in pages() if not _same(HERE / name, text)]
    if "--check" in arguments:
        sys.stderr.writelines(f"{name} is not what the code says: run make reference\n" for name in stale)
        return 1 if stale else 0
    for name, text in pages():
        (HERE / name).write_text(text)
    return 0


def pages() -> Iterator[tuple[str, str]]:
    """Give each page's name and text."""
    from kedge._cli import app as verifier
    from kedge_repo._cli import app as maintainer

    yield "kedge.md", commands_page("kedge", get_command(verifier.application()))
    yield "kedge-repo.md", commands_page("kedge-repo", get_command(maintainer.app))
    yield "errors.md", errors_page()


def commands_page(program: str, command: Any) -> str:
    """Put the help of a program and of all its commands on one page."""
    parts = [f"# {program}", NOTE]
    for path, each, context in _walk(program, command, None):
        level = min(path.count(" ") + 2, 4) if path != program else 2
        parts += [f"{'#' * level} {path}", f"```text\n{each.get_help(context).rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def errors_page() -> str:
    """Put the error tree, the exit codes and the reasons of refusals on one page."""
    from kedge import errors

    tree = inspect.getdoc(errors) or ""
    codes = [
        f"| {code.value} | {code.name.lower().replace('_', ' ')} | {MEANING[code.name]} |" for code in errors.ExitCode
    ]
    reasons = [f"| `{reason.value}` | {', '.join(_places(reason.name)) or 'nobody yet'} |" for reason in errors.Reason]
    return (
        "\n\n".join(
            [
                "# Errors and exit codes",
                NOTE,
                tree.replace("::\n\n", "```text\n").replace("\n\nInvariants:", "\n```\n\nInvariants:"),
                "## Exit codes\n\n| code | name | means |\n|---|---|---|\n" + "\n".join(codes),
                "Where several hold, the order is 3, 4, 5, 1.",
                "## Exit codes by situation\n\n| command | situation | exit |\n|---|---|---|\n"
                + "\n".join(f"| `{command}` | {situation} | {code} |" for command, situation, code in SITUATIONS),
                "## Reasons of a refusal\n\nThe values of `reason` in `--json` answers and evidence, and the modules "
                "that give them.\n\n| reason | given by |\n|---|---|\n" + "\n".join(reasons),
            ]
        )
        + "\n"
    )


def _walk(path: str, command: Any, parent: Any) -> Iterator[tuple[str, Any, Any]]:
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent, **settings)
    yield path, command, context
    if hasattr(command, "list_commands"):
        for name in sorted(command.list_commands(context)):
            found = command.get_command(context, name)
            if not found.hidden:
                yield from _walk(f"{path} {name}", found, context)


def _places(name: str) -> list[str]:
    client = HERE.parents[1] / "client" / "kedge"
    found = set()
    for file in sorted(client.rglob("*.py")):
        if any(
            isinstance(node, ast.Attribute) and node.attr == name and getattr(node.value, "id", "") == "Reason"
            for node in ast.walk(ast.parse(file.read_bytes()))
        ):
            found.add(f"`{file.relative_to(client).with_suffix('').as_posix()}`")
    return sorted(found)


def _same(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text() == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
