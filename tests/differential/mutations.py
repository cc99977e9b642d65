"""Odd and hostile lockfiles, made from honest ones: what an author may write so that two readers see two things.

A mutation takes the text, the address of an evil archive and a source of chance, and gives another text. Several are
put on top of each other. Which text comes out follows from the seed alone.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Scene", "mutate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a mutation may use: an evil archive's address and digest, and the good one's."""

    evil: str
    evil_git: str
    evil_integrity: str
    good_integrity: str
    random: random.Random


Mutation = Callable[[str, Scene], str]


def mutate(text: str, kind: str, scene: Scene) -> str:
    """Put one to three mutations for this kind of lockfile on ``text``."""
    choices = {"npm": JSON_LOCK, "bun": BUN_LOCK, "pnpm": YAML_LOCK, "berry": YAML_LOCK, "yarn": YARN_LOCK}[kind]
    for _ in range(scene.random.choice((1, 1, 2, 2, 3))):
        text = scene.random.choice((*choices, *ANY_TEXT))(text, scene)
    return text


def _lines(change: Callable[[list[str], Scene], None]) -> Mutation:
    def mutation(text: str, scene: Scene) -> str:
        lines = text.split("\n")
        change(lines, scene)
        return "\n".join(lines)

    return mutation


def _replace(pattern: str, new: Callable[[re.Match[str], Scene], str]) -> Mutation:
    """Replace one of the places that a pattern matches."""

    def mutation(text: str, scene: Scene) -> str:
        found = list(re.finditer(pattern, text, re.MULTILINE))
        if not found:
            return text
        match = scene.random.choice(found)
        return text[: match.start()] + new(match, scene) + text[match.end() :]

    return mutation


def _duplicate_line(lines: list[str], scene: Scene) -> None:
    index = scene.random.randrange(len(lines))
    copied = re.sub(r"https?://[^\s\"',}]+", scene.evil, lines[index])
    copied = re.sub(r"sha512-[A-Za-z0-9+/=]+", scene.evil_integrity, copied)
    lines.insert(index + scene.random.choice((0, 1)), copied)


def _swap_lines(lines: list[str], scene: Scene) -> None:
    index = scene.random.randrange(max(1, len(lines) - 1))
    lines[index : index + 2] = reversed(lines[index : index + 2])


def _drop_line(lines: list[str], scene: Scene) -> None:
    del lines[scene.random.randrange(len(lines))]


def _other_line_end(text: str, scene: Scene) -> str:
    found = [match.start() for match in re.finditer("\n", text)]
    if not found:
        return text
    place = scene.random.choice(found)
    end = scene.random.choice(("\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\n\n", "\n\t"))
    return text[:place] + end + text[place + 1 :]


def _odd_character(text: str, scene: Scene) -> str:
    place = scene.random.randrange(len(text))
    return text[:place] + scene.random.choice("\x00\ufeff\u00a0\u200b\t'\"#&*!|>%@`{}[],:?-") + text[place:]


ANY_TEXT: Sequence[Mutation] = (
    _lines(_duplicate_line),
    _lines(_swap_lines),
    _lines(_drop_line),
    _other_line_end,
    _odd_character,
    _replace(r"https?://[^\s\"',}]+", lambda _, scene: scene.random.choice((scene.evil, scene.evil_git))),
    _replace(r"sha512-[A-Za-z0-9+/=]+", lambda _, scene: scene.evil_integrity),
    _replace(r"sha512-[A-Za-z0-9+/=]+", lambda match, scene: f"{scene.evil_integrity} {match[0]}"),
    _replace(r"sha512-[A-Za-z0-9+/=]+", lambda match, scene: f"{match[0]} {scene.evil_integrity}"),
    _replace(r"\b(good|other)\b", lambda _, scene: scene.random.choice(("evil", "good ", "Good", "g\\u006fod"))),
)


# Values that an entry of a package-lock.json may have where another is expected.
_ODD_VALUES: Sequence[Any] = (None, False, True, 0, "", [], {}, "1.0.0", "npm:evil@1.0.0", "evil@1.0.0", "file:evil")
_KEYS = (
    *("version", "resolved", "integrity", "link", "inBundle", "bundled", "extraneous", "name", "requires", "from"),
    *("hasInstallScript", "dependencies", "optional", "peer", "dev", "devOptional", "bundleDependencies", "__proto__"),
)


def _json(change: Callable[[dict[str, Any], Scene], None]) -> Mutation:
    def mutation(text: str, scene: Scene) -> str:
        try:
            document = json.loads(text)
        except ValueError:
            return text
        if isinstance(document, dict):
            change(document, scene)
        return json.dumps(document, indent=scene.random.choice((None, 2)))

    return mutation


def _entries(document: dict[str, Any]) -> dict[str, Any]:
    found = document.get("packages") or document.get("dependencies")
    return found if isinstance(found, dict) else {}


def _odd_entry(document: dict[str, Any], scene: Scene) -> None:
    entries = {name: entry for name, entry in _entries(document).items() if name and isinstance(entry, dict)}
    if not entries:
        return
    entry = entries[scene.random.choice(sorted(entries))]
    key = scene.random.choice(_KEYS)
    if scene.random.random() < 0.3:
        entry.pop(key, None)
    else:
        evil = (scene.evil, scene.evil_git, f"git+{scene.evil_git}", scene.evil_integrity, scene.good_integrity)
        entry[key] = scene.random.choice((*_ODD_VALUES, *evil, *evil))


def _exempted(document: dict[str, Any], scene: Scene) -> None:
    """An entry that says that it need not be checked, and leads to the evil archive."""
    entry = _entries(document).get("node_modules/good")
    if isinstance(entry, dict):
        entry["resolved"] = scene.random.choice((scene.evil, scene.evil_git))
        entry |= scene.random.choice(
            ({"inBundle": True}, {"bundled": True}, {"link": False}, {"extraneous": True}, {"optional": True}, {})
        )
        if scene.random.random() < 0.7:
            entry.pop("integrity", None)


def _moved_entry(document: dict[str, Any], scene: Scene) -> None:
    entries = _entries(document)
    names = [name for name in entries if name]
    if names:
        name = scene.random.choice(names)
        change = ("{}/", "./{}", "{}/node_modules/good", "x/../{}", "NODE_MODULES/good", "node_modules\\good", "good")
        moved = scene.random.choice(change).format(name)
        entries[moved] = entries.pop(name) if scene.random.random() < 0.5 else {"resolved": scene.evil}


def _other_version(document: dict[str, Any], scene: Scene) -> None:
    document["lockfileVersion"] = scene.random.choice((1, 2, 3, 4, "3", None, 1.5, True))


def _second_tree(document: dict[str, Any], scene: Scene) -> None:
    document["dependencies"] = {
        "good": {"version": scene.random.choice(("1.0.0", scene.evil)), "resolved": scene.evil}
        | scene.random.choice(({}, {"integrity": scene.evil_integrity}, {"integrity": scene.good_integrity})),
    }
    document["lockfileVersion"] = scene.random.choice((1, 2, 3))


def _escaped_key(text: str, scene: Scene) -> str:
    key = scene.random.choice(("resolved", "integrity", "version", "packages", "lockfileVersion"))
    escaped = key[:3] + f"\\u{ord(key[3]):04x}" + key[4:]
    value = {"resolved": scene.evil, "integrity": scene.evil_integrity, "version": "npm:evil@1.0.0"}.get(key, "3")
    places = [match.start() for match in re.finditer(f'"{key}"', text)]
    if not places:
        return text
    place = scene.random.choice(places)
    return f'{text[:place]}"{escaped}": "{value}", {text[place:]}'


JSON_LOCK: Sequence[Mutation] = (
    _json(_odd_entry),
    _json(_odd_entry),
    _json(_exempted),
    _json(_exempted),
    _json(_moved_entry),
    _json(_other_version),
    _json(_second_tree),
    _escaped_key,
)

BUN_LOCK: Sequence[Mutation] = (
    _escaped_key,
    _replace(
        r'\["(good|other)@[^"]+", "[^"]*"',
        lambda match, scene: f'["{match[1]}@{scene.random.choice((scene.evil, scene.evil_git, "npm:evil@1.0.0"))}", ""',
    ),
    _replace(r'"(good|other)@[0-9.]+"', lambda match, scene: f'"{match[1]}@{scene.evil}"'),
    _replace(r'"(good|other)@[0-9.]+", ""', lambda match, scene: f'{match[0][:-2]}"{scene.evil}"'),
    _replace(r'", \{\}, "sha512-[^"]+"\]', lambda _, __: '", {}]'),
    _replace(r"\n", lambda _, scene: f"\n // {scene.evil}\n"),
    _replace(r"\n", lambda _, scene: f"\n /* {scene.evil} */\n"),
)


def _resolution(text: str, scene: Scene) -> str:
    forms = (
        f"tarball: {scene.evil}",
        f"tarball: '{scene.evil}', integrity: {scene.evil_integrity}",
        f"integrity: {scene.evil_integrity}",
        f"<<: {{tarball: {scene.evil}, integrity: {scene.evil_integrity}}}",
        f"type: git, repo: {scene.evil_git}, commit: '1'",
        f"directory: evil, type: directory, tarball: {scene.evil}",
    )
    return _replace(r"resolution: \{[^}]*\}", lambda _, __: f"resolution: {{{scene.random.choice(forms)}}}")(
        text, scene
    )


def _yaml_trick(lines: list[str], scene: Scene) -> None:
    index = scene.random.randrange(len(lines))
    line = lines[index]
    indent = line[: len(line) - len(line.lstrip())]
    name, colon, value = line.strip().partition(":")
    tricks = (
        f"{indent}? {name}\n{indent}: {value.strip() or '{}'}",
        f"{indent}!!str {name}{colon}{value}",
        f"{indent}&anchor {name}{colon}{value}",
        f"{indent}'{name}'{colon}{value}",
        f'{indent}"{name}"{colon}{value}',
        f"{indent}{name} {colon}{value}",
        f"{indent}{name}{colon}{value} # {scene.evil}",
        f"{indent}{name}{colon} >-\n{indent}  {value.strip()}",
        f"{indent}<<{colon} {{tarball: {scene.evil}}}\n{line}",
        f"---\n{line}",
        f"{line}\n...\n",
        f"%YAML 1.1\n---\n{line}",
        f"{indent}{name}{colon}{value}\u2028{indent}resolution: {{tarball: {scene.evil}}}",
    )
    lines[index] = scene.random.choice(tricks)


YAML_LOCK: Sequence[Mutation] = (
    _resolution,
    _resolution,
    _lines(_yaml_trick),
    _lines(_yaml_trick),
    _lines(_yaml_trick),
    _replace(r"(good|other)@1?2?\.0\.0", lambda match, scene: f"{match[1]}@{scene.evil}"),
    _replace(r"(good|other)@npm:[0-9.]+", lambda match, scene: f"{match[1]}@{scene.evil}"),
    _replace(r"(good|other)@npm:[0-9.]+", lambda match, _: f"{match[1]}@npm:evil@1.0.0"),
    _replace(r"^  checksum: .*\n", lambda _, __: ""),
    _replace(r"resolution: \"[^\"]+\"", lambda _, scene: f'resolution: "good@{scene.evil}"'),
    _replace(r"resolution: \"[^\"]+\"", lambda _, __: 'resolution: "evil@npm:1.0.0"'),
)


def _yarn_field(lines: list[str], scene: Scene) -> None:
    places = [index for index, line in enumerate(lines) if re.match(r"  (version|resolved|integrity) ", line)]
    if not places:
        return
    index = scene.random.choice(places)
    name = lines[index].split()[0]
    value = {"resolved": scene.evil, "integrity": scene.evil_integrity, "version": "npm:evil@1.0.0"}[name]
    forms = (
        f'  "{name}" "{value}"',
        f"  {name} {value}",
        f'  {name}: "{value}"',
        f'  {name} "{value}"\n  {name}2 "x"',
        f'  {name} "{value}" # {scene.evil}',
        f'{lines[index]}\n  "{name}" "{value}"',
        f'  "{name}" "{value}"\n{lines[index]}',
        f"{lines[index]}\r  {name} {value}",
        f'{lines[index]} {name} "{value}"',
        f'    {name} "{value}"',
        "",
    )
    lines[index] = scene.random.choice(forms)


YARN_LOCK: Sequence[Mutation] = (
    _lines(_yarn_field),
    _lines(_yarn_field),
    _lines(_yarn_field),
    _replace(r"^(good|other)@([0-9.]+):", lambda match, _: f"evil@1.0.0, {match[0]}"),
    _replace(r"^(good|other)@([0-9.]+):", lambda match, _: f'"good@file:./x", {match[0]}'),
    _replace(r"^(good|other)@([0-9.]+):", lambda match, scene: f"{match[1]}@{scene.evil}:"),
    _replace(r"^(good|other)@([0-9.]+):", lambda match, _: f'"{match[1]}@npm:evil@1.0.0", {match[0]}'),
    _replace(r"^# yarn lockfile v1", lambda _, __: "__metadata:\n  version: 8\n\n# yarn lockfile v1"),
    _replace(r"^# yarn lockfile v1", lambda _, scene: scene.random.choice(("# yarn lockfile v2", "", "# x"))),
    _replace(r"^# yarn lockfile v1", lambda match, _: f"{match[0]}\nlockfileVersion: '9.0'\npackages: {{}}\n"),
)
