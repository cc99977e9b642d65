"""A Hex repository's key as Hex's clients are told it: a PEM, mix's command line, rebar3's configuration.

All of them have one slot for a repository, and mix takes a PEM file with exactly one key in it. So one key is exported:
the one that signs now by ``active_from``. The notes say when the next one's time comes, for then it must be exported
again; nothing on the client can hold both.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self

from kedge.documents import format_time
from kedge.errors import InputError, Reason, Refusal, VerificationError
from kedge.registries import Exported, KeySet, KeyStatus, RegistryKey, Source, take_settings
from kedge.registries.hex.registry import ALGORITHM, fingerprint, signing_key

_MIX = {
    "pem": "the file that hex-pem was exported to (NAME.pem if left out)",
    "url": "where a repository lies that mix does not know yet",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """The one key, its repository's name, and what is to be said beside it."""

    name: str
    key: RegistryKey
    pem: str
    left_out: tuple[RegistryKey, ...]
    notes: tuple[str, ...]


def _choose(sources: Sequence[Source]) -> _Chosen:
    if len(sources) != 1:
        raise InputError("a Hex client holds the keys of each repository by itself: name one registry")
    keys = sources[0].keys
    if any(key.algorithm != ALGORITHM for key in keys.keys):
        raise InputError(f"{keys.registry}: is no Hex repository, whose keys this form holds")
    key = signing_key(keys)
    if key is None or key.pem is None:
        refusal = Refusal(reason=Reason.NO_KEYS, file=keys.target)
        raise VerificationError(f"{keys.registry}: no key's time is now, so there is none to export", refusal=refusal)
    return _Chosen(
        name=keys.registry.removeprefix("hex/"),
        key=key,
        pem=key.pem,
        left_out=tuple(other for other in keys.keys if other is not key),
        notes=tuple(_notes(keys, key)),
    )


def _notes(keys: KeySet, key: RegistryKey) -> list[str]:
    notes = [f"the key is {fingerprint(key)}"]
    for other in keys.keys:
        if other is key:
            continue
        if other.status is KeyStatus.REVOKED:
            notes.append(f"{other.id} is left out: it was revoked")
        elif other.valid_from is not None and other.valid_from > keys.reference_time:
            notes.append(f"{other.id} takes over at {format_time(other.valid_from)}: export again then")
        else:
            notes.append(f"{other.id} is left out: a Hex client has one slot, and it does not sign now")
    return notes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pem:
    """The key that signs now, as a PEM file."""

    summary: str = "the one key that signs now, as the PEM file that mix takes"
    default_registry: str | None = "hex/hexpm"
    appended_to: str | None = None

    def export(self, sources: Sequence[Source], *, with_retired: bool) -> Exported:  # noqa: ARG002 there is one slot
        """Write the key.

        Raises:
            VerificationError: no key's time is now (``no-keys``).
            InputError: not one Hex repository is named.
        """
        chosen = _choose(sources)
        return Exported(
            content=chosen.pem.encode("ascii"), keys=(chosen.key,), left_out=chosen.left_out, notes=chosen.notes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """The commands that put the key into mix's configuration."""

    summary: str = "the commands that give mix this key (--set pem=FILE, --set url=URL)"
    default_registry: str | None = "hex/hexpm"
    appended_to: str | None = None
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType(_MIX))
    given: Mapping[str, str] = field(default_factory=dict)

    def adjusted(self, given: Mapping[str, str]) -> Self:
        """Take the user's settings.

        Raises:
            InputError: one is not known.
        """
        return replace(self, given=dict(take_settings(given, self.settings)))

    def export(self, sources: Sequence[Source], *, with_retired: bool) -> Exported:  # noqa: ARG002 there is one slot
        """Write the commands: export the key to a file, and name the file to mix.

        Raises:
            VerificationError: no key's time is now (``no-keys``).
            InputError: not one Hex repository is named.
        """
        chosen = _choose(sources)
        file = self.given.get("pem", f"{chosen.name}.pem")
        verb = ["add", chosen.name, self.given["url"]] if "url" in self.given else ["set", chosen.name]
        lines = [
            ["kedge", "keys", "export", "hex-pem", chosen.key.registry, "--output", file],
            ["mix", "hex.repo", *verb, "--public-key", file],
        ]
        return Exported(
            content="".join(f"{shlex.join(line)}\n" for line in lines).encode(),
            keys=(chosen.key,),
            left_out=chosen.left_out,
            notes=chosen.notes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebar3:
    """The Erlang term for rebar3's global configuration."""

    summary: str = "the term for ~/.config/rebar3/rebar.config that gives rebar3 this key"
    default_registry: str | None = "hex/hexpm"
    appended_to: str | None = None

    def export(self, sources: Sequence[Source], *, with_retired: bool) -> Exported:  # noqa: ARG002 there is one slot
        """Write the term.

        Raises:
            VerificationError: no key's time is now (``no-keys``).
            InputError: not one Hex repository is named.
        """
        chosen = _choose(sources)
        text = chosen.pem.replace("\n", "\\n")
        term = f'{{hex, [{{repos, [#{{name => <<"{chosen.name}">>,\n  repo_public_key => <<"{text}">>}}]}}]}}.\n'
        return Exported(content=term.encode("ascii"), keys=(chosen.key,), left_out=chosen.left_out, notes=chosen.notes)


pem = Pem()
mix = Mix()
rebar3 = Rebar3()
