"""``mix.lock``: Elixir's literal terms, read and never evaluated."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Require
from kedge.documents import DocumentError
from kedge.registries.hex.mixlock import Locked, read_lock

INNER, OUTER = "a" * 64, "b" * 64
LOCK = f"""%{{
  "exfmt": {{:hex, :exfmt, "0.5.0", "{INNER}", [:mix], [], "hexpm", "{OUTER}"}},
  "plug": {{:hex, :plug, "1.16.1", "{INNER.upper()}", [:mix],
    [{{:mime, "~> 1.0 or ~> 2.0", [hex: :mime, repo: "hexpm", optional: false]}}], "hexpm:acme", "{OUTER}"}},
  "old": {{:hex, :old_name, "0.1.0", "{INNER}", [:mix, :"rebar3"], []}},
  "ancient": {{:hex, :ancient, "0.0.1"}},
  "git": {{:git, "https://git.example/git.git", "{"c" * 40}", [ref: "main"]}}, # a comment
}}
"""


def test_a_lock_file_is_read_with_what_its_age_holds() -> None:
    assert read_lock(LOCK.encode()) == (
        Locked(app="exfmt", kind="hex", name="exfmt", version="0.5.0", repository="hexpm", inner=INNER, outer=OUTER),
        Locked(
            app="plug", kind="hex", name="plug", version="1.16.1", repository="hexpm:acme", inner=INNER, outer=OUTER
        ),
        Locked(app="old", kind="hex", name="old_name", version="0.1.0", repository="hexpm", inner=INNER),
        Locked(app="ancient", kind="hex", name="ancient", version="0.0.1", repository="hexpm"),
        Locked(app="git", kind="git", source="https://git.example/git.git"),
    )
    assert read_lock(b"%{}\n") == ()
    assert read_lock(b'%{a: {:path, "../a"}}') == (Locked(app="a", kind="path", source="../a"),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must be a map"),
        ("[]", "must be a map"),
        ("%{} %{}", "goes on after the map"),
        ('%{"a": {:hex, :a, "1"}, "a": {:hex, :a, "2"}}', "holds a twice"),
        ('%{"a" => {:hex, :a, "1.0"}}', "expected a key such as"),
        ('%{"a": {:hex, :a, "1.0"}, "b": 1}', "b: must be a tuple"),
        ('%{"a": {:hex, :a, "1", nil, [], [], nil}}', "a: names no repository"),
        ('%{"a": {:hex, :a, "1", [b: 1, :c]}}', "expected a keyword after a keyword"),
        ('%{"a": {:hex, :a, "1", b: 1}}', "holds keywords in a tuple"),
        ('%{"a": {:hex, :a, "\\xZZ"}}', "holds an escape that Elixir does not know"),
        ('%{"a": {:hex, :a, "\\uD800"}}', "holds an escape that is no character"),
        ('%{"a": {:hex, :a, ~s"1"}}', "holds something that is no literal term"),
        ("<<<<<<< HEAD\n%{}", "markers of a merge conflict"),
        ("\ufeff%{}", "holds something that is no literal term"),
        ('%{"a": {}}', "a: must be a tuple"),
        ('%{"a": {"hex", :a, "1"}}', "a: must be a tuple"),
        ('%{"a": {:hex, :a}}', "a: names no version"),
        ('%{"a": {:hex, :a, "../1"}}', "a: names no version"),
        ('%{"a": {:hex, "../a", "1.0"}}', "a: names no name"),
        ('%{"a": {:hex, :a, "1.0", "abc"}}', "holds 'abc' where a SHA-256 should stand"),
        ('%{"a": {:hex, :a, "1.0", nil, [], [], :"../x"}}', "a: names no repository"),
        ('%{\n"a": System.cmd("x")}', "line 2: holds something that is no literal term"),
        ('%{\n"a": self}', "line 2: self is no literal"),
        ('%{"a": "#{1}"}', "holds something that is no literal term"),
        ('%{"a": {:hex', "line 1: expected a comma or }"),
        ('%{"a" {:hex, :a, "1"}}', "expected a key such as"),
        ('%{"a": ' + "[" * 40, "is nested more than 32 deep"),
    ],
)
def test_a_lock_file_that_is_none_names_the_line_or_the_package(text: str, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_lock(text.encode())
    assert problem in str(caught.value)


def test_a_lock_file_that_is_no_text_is_named() -> None:
    with pytest.raises(DocumentError, match="is not UTF-8"):
        read_lock(b"%{\xff}")


def test_charlists_and_sigils_are_read_as_mix_writes_them() -> None:
    text = (
        """%{"g": {:git, "https://x.example/g.git", "0", [tag: 'v1.2.0']}, "h": {:git, "https://x.example/h", ~c"x"}}"""
    )
    assert [each.source for each in read_lock(text.encode())] == ["https://x.example/g.git", "https://x.example/h"]


@pytest.mark.parametrize(
    "atom", [r':"\x68ex"', r':"\u0068ex"', r':"\u{68}ex"', r':"h\ex"'.replace(r"\e", r"\x65"), ':"hex"']
)
def test_c13_an_escaped_atom_is_read_as_elixir_reads_it(atom: str) -> None:
    (found,) = read_lock(
        f'%{{"jason": {{{atom}, :jason, "1.4.0", "{INNER}", [:mix], [], "hexpm", "{OUTER}"}}}}'.encode()
    )
    assert (found.kind, found.outer) == ("hex", OUTER)


EVALUATE = r"""
hex = fn
  nil -> "-"
  value when is_binary(value) -> "t" <> Base.encode16(value)
  value when is_atom(value) -> "t" <> Base.encode16(Atom.to_string(value))
  value -> "o" <> Base.encode16(inspect(value))
end
told = fn
  {app, tuple} when is_atom(app) and is_tuple(tuple) and tuple_size(tuple) > 0 and is_atom(elem(tuple, 0)) ->
    part = fn index -> if tuple_size(tuple) > index, do: elem(tuple, index), else: nil end
    kind = elem(tuple, 0)
    fields = if kind == :hex do
      name = part.(1)
      named = if is_atom(name), do: Atom.to_string(name), else: name
      [named, part.(2), part.(3), (if tuple_size(tuple) > 6, do: part.(6), else: "hexpm"), part.(7)]
    else
      [if(is_binary(part.(1)), do: part.(1), else: "")]
    end
    Enum.map_join([Atom.to_string(app), Atom.to_string(kind) | fields], ",", hex)
  _ -> "odd"
end
for file <- System.argv() do
  line = try do
    case Code.eval_string(File.read!(file), [], file: file) do
      {lock, _} when is_map(lock) -> Enum.map_join(lock, ";", told)
      _ -> "none"
    end
  rescue _ -> "fails"
  catch _, _ -> "fails"
  end
  IO.puts("answer " <> line)
end
"""
MUTATIONS = (
    *(
        r"\x68",
        r"\u{62}",
        r"\n",
        '\\"',
        "\\\n",
        "\n",
        "\r\n",
        "\r",
        "\x0b",
        "\x0c",
        "\u2028",
        "\t",
        "#",
        "# c\n",
        "#{1}",
    ),
    *(
        '"',
        "'",
        ":",
        ",",
        "%{",
        "}",
        "{",
        "[",
        "]",
        "=>",
        "~c",
        "~s",
        "nil",
        "true",
        "hex",
        ":hex",
        "git",
        ";",
        "@",
        "?a",
    ),
    *('"a": ', "'a': ", "a: ", "%{}", "<<1>>", "1.0", "-1", "0", "_", "\\", '"""', "|", "<>", "++", "(", ")"),
)


def mutated(seed: int) -> bytes:
    """A lock file as mix writes it, changed in one place or two."""
    chance = random.Random(seed)
    text = chance.choice(
        [
            f'%{{\n  "jason": {{:hex, :jason, "1.4.0", "{INNER}", [:mix], [], "hexpm", "{OUTER}"}},\n}}\n',
            f"""%{{"one": {{:hex, :one, "1.0", "{INNER}"}}, "g": {{:git, "https://x.example/g", "0", [tag: 'v1']}}}}""",
            f'%{{"p": {{:hex, :p, "1", "{INNER}", [:mix], [{{:m, "~> 1", [hex: :m]}}], "acme:x", "{OUTER}"}}}} # end',
        ]
    )
    for _ in range(chance.randint(0, 2)):
        place = chance.randrange(len(text))
        text = text[:place] + chance.choice(MUTATIONS) + text[place + chance.choice((0, 0, 1, 3)) :]
    return text.encode()


def test_c13_what_is_read_is_what_elixir_evaluates(tmp_path: Path, require: Require) -> None:
    """Where kedge reads a file and Elixir evaluates it, both find the same packages."""
    elixir = shutil.which("elixir")
    require(elixir, "Elixir is not installed: apt-get install elixir")
    files: list[Path] = []
    for seed in range(3000):
        data = mutated(seed)
        try:
            read_lock(data)
        except DocumentError:
            continue
        files.append(tmp_path / f"{seed}.lock")
        files[-1].write_bytes(data)
    (tmp_path / "evaluate.exs").write_text(EVALUATE)
    done = subprocess.run(
        [str(elixir), str(tmp_path / "evaluate.exs"), *map(str, files)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    answers = [line.removeprefix("answer ") for line in done.stdout.splitlines() if line.startswith("answer ")]
    assert len(answers) == len(files)
    compared = 0
    for file, answer in zip(files, answers, strict=True):
        if answer == "fails":
            continue
        compared += 1
        assert sorted(answer.split(";")) == sorted(
            [_as_elixir_tells(each) for each in read_lock(file.read_bytes())] or [""]
        ), file.read_bytes()
    assert compared > 500


def _as_elixir_tells(locked: Locked) -> str:
    def told(value: str | None) -> str:
        return f"t{value.encode().hex().upper()}" if value is not None else "-"

    fields = [locked.app, locked.kind]
    more = (
        [locked.name, locked.version, locked.inner, locked.repository, locked.outer]
        if locked.kind == "hex"
        else [locked.source]
    )
    return ",".join(told(each) for each in (*fields, *more))


@given(st.text(alphabet='%{}[]"\\#:,=> \nahex1.', max_size=80))
def test_any_text_is_a_lock_file_or_a_named_fault(text: str) -> None:
    try:
        read_lock(text.encode())
    except DocumentError:
        return


@given(st.binary(max_size=80))
def test_any_bytes_are_a_lock_file_or_a_named_fault(data: bytes) -> None:
    try:
        read_lock(LOCK.encode() + data)
    except DocumentError:
        return
