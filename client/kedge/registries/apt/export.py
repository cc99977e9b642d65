"""Verified keys as apt is told them: a deb822 source with the keys in it, and a hook that renews a keyring file.

``Signed-By`` takes the armoured key inline, every line indented by a blank and the empty one written as a dot
(sources.list(5)), so that the source file alone is enough. The hook runs before each ``apt update``, as root, with a
state folder of root's own: what was accepted there can never be rolled back by whoever sits on the network. If trust is
refused, so is the update.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self

from kedge.errors import InputError
from kedge.registries import Exported, Source, take_settings
from kedge.registries.pgp import armor, choose

_SOURCES = {
    "uris": "where the archive lies",
    "suites": "such as bookworm",
    "components": "such as main; none for a flat repository",
    "types": "deb (if left out), or deb deb-src",
}
_HOOK = {
    "keyring": "the keyring file to renew (/etc/apt/keyrings/NAME.gpg if left out)",
    "state": "root's state folder (/var/lib/kedge if left out)",
    "config": "where root's anchors are kept (root's own configuration if left out)",
    "program": "the kedge to run, with its whole path (kedge if left out)",
    "anchor": "the anchor to start from, where several speak for the registry",
}
_LINE = re.compile(r"[ -~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """A file for ``/etc/apt/sources.list.d``: one stanza, with its keys."""

    summary: str = "a deb822 source with its keys in it (--set uris=URL --set suites=SUITE --set components=main)"
    default_registry: str | None = None
    appended_to: str | None = None
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType(_SOURCES))
    given: Mapping[str, str] = field(default_factory=dict)

    def adjusted(self, given: Mapping[str, str]) -> Self:
        """Take the user's settings.

        Raises:
            InputError: one is not known, or no field of a source can hold it.
        """
        for name, value in take_settings(given, self.settings).items():
            if _LINE.fullmatch(value) is None:
                raise InputError(f"--set {name}: must be one line of visible ASCII characters")
        return replace(self, given=dict(given))

    def export(self, sources: Sequence[Source], *, with_retired: bool) -> Exported:
        """Write the stanza.

        Raises:
            VerificationError: no key is left to export (``no-keys``).
            InputError: it is not said where the archive lies, or a registry's keys are no OpenPGP keys.
        """
        for name in ("uris", "suites"):
            if name not in self.given:
                raise InputError(f"a source needs {name}", hint=f"--set {name}=..., {_SOURCES[name]}")
        chosen = choose(sources, with_retired=with_retired)
        fields = {"Types": self.given.get("types", "deb"), "URIs": self.given["uris"], "Suites": self.given["suites"]}
        if "components" in self.given:
            fields["Components"] = self.given["components"]
        lines = [f"{name}: {value}" for name, value in fields.items()]
        lines += ["Signed-By:", *(f" {line or '.'}" for line in armor(chosen.keyring).splitlines())]
        return Exported(
            content="".join(f"{line}\n" for line in lines).encode("ascii"),
            keys=chosen.keys,
            left_out=chosen.left_out,
            notes=(*chosen.notes, "a source is not renewed by itself: after a rotation it must be exported again"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A file for ``/etc/apt/apt.conf.d``: renew the keyring before each update."""

    summary: str = "an apt.conf file that renews the keyring before each update (--set keyring=FILE)"
    default_registry: str | None = None
    appended_to: str | None = None
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType(_HOOK))
    given: Mapping[str, str] = field(default_factory=dict)

    def adjusted(self, given: Mapping[str, str]) -> Self:
        """Take the user's settings.

        Raises:
            InputError: one is not known, or is no plain path or name.
        """
        for name, value in take_settings(given, self.settings).items():
            if _LINE.fullmatch(value) is None or set(value) & set("\"'\\"):
                raise InputError(f"--set {name}: must be a path or name without quotes and backslashes")
            if name not in ("program", "anchor") and not value.startswith("/"):
                raise InputError(f"--set {name}: must be a whole path, for apt runs it from anywhere")
        return replace(self, given=dict(given))

    def export(self, sources: Sequence[Source], *, with_retired: bool) -> Exported:
        """Write the hook.

        Raises:
            VerificationError: no key is left to export (``no-keys``).
            InputError: not one registry is named, or its keys are no OpenPGP keys.
        """
        chosen = choose(sources, with_retired=with_retired)
        if len(sources) != 1:
            raise InputError("a hook renews one keyring: name one registry")
        registry = sources[0].keys.registry
        keyring = self.given.get("keyring", f"/etc/apt/keyrings/{registry.rpartition('/')[2]}.gpg")
        environment = {"KEDGE_STATE_DIR": self.given.get("state", "/var/lib/kedge")}
        if "config" in self.given:
            environment["KEDGE_CONFIG_DIR"] = self.given["config"]
        words = [self.given.get("program", "kedge"), "keys", "export", "apt-keyring", registry, "--output", keyring]
        words += ["--anchor", self.given["anchor"]] if "anchor" in self.given else []
        words += [] if with_retired else ["--without-retired"]
        command = " ".join(
            [*(f"{name}={shlex.quote(value)}" for name, value in environment.items()), shlex.join(words)]
        )
        lines = [
            f"// Renews {keyring} before each update, from what the keyholders of {registry} signed.",
            f'APT::Update::Pre-Invoke {{ "{command}"; }};',
        ]
        return Exported(
            content="".join(f"{line}\n" for line in lines).encode("ascii"),
            keys=chosen.keys,
            left_out=chosen.left_out,
            notes=chosen.notes,
        )


sources = Sources()
hook = Hook()
