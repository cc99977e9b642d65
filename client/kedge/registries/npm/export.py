"""A registry's verified keys in the forms that other tools read: a mirror's keys endpoint, and Corepack's variable.

What these forms can say is less than what the keys say, so each export carries notes on what was lost:

- Corepack reads ``keyid`` and ``key`` and nothing else: a retired key is trusted for every version. It is included all
  the same, unless it is asked away, because package managers from before the rotation are signed with it.
- npm and pnpm compare ``expires`` with the time of publishing that the mirror states, and that nobody signs.
- No form has a place for ``valid_from``, nor for which registry a key is from: the notes say it.

A revoked key is never exported, also where only one of several issuers revoked it. A key of a kind that these tools
cannot use is left out and named. The order is that of the key documents: Corepack takes the first key that fits.

Sources: ``sources/npmRegistryUtils.ts`` of Corepack 0.30 to 0.36; npm's ``GET /-/npm/v1/keys``.
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from kedge.documents import format_time
from kedge.errors import InputError, Reason, Refusal, VerificationError
from kedge.registries import Exported, KeySet, KeyStatus, RegistryKey, Source
from kedge.registries.npm.judge import SIGNATURES

DEFAULT_UPSTREAM = "registry.npmjs.org"
"""The registry whose keys npm's tools ask for when nobody says which."""

VARIABLE = "COREPACK_INTEGRITY_KEYS"
"""The environment variable that replaces the keys that are compiled into Corepack."""

_USABLE = "PKIX_ECDSA_P256_SHA_256"
_SCHEME = "ecdsa-sha2-nistp256"


class Layout(StrEnum):
    """The forms: what a mirror's operator serves, and five ways to hand the keys to Corepack's variable."""

    NPM_ENDPOINT = "npm-endpoint"
    COREPACK_ENV = "corepack-env"
    COREPACK_JSON = "corepack-json"
    COREPACK_DOTENV = "corepack-dotenv"
    GITHUB_ENV = "github-env"


def export_keys(issuers: Sequence[KeySet], layout: Layout, *, with_retired: bool = True) -> Exported:
    """Put the keys with which the issuers sign packages into one form.

    Raises:
        VerificationError: no key is left to export (``no-keys``).
        InputError: two issuers name different keys by the same keyid.
    """
    chosen, left_out, notes = _choose(issuers, with_retired=with_retired)
    if not chosen:
        names = ", ".join(keys.registry for keys in issuers)
        refusal = Refusal(reason=Reason.NO_KEYS, file=issuers[0].target if issuers else None)
        hint = "a retired key is exported without --without-retired" if not with_retired and left_out else None
        raise VerificationError(f"{names}: no key is left to export", refusal=refusal, hint=hint)
    notes += _notes_on(chosen, issuers, layout)
    entries = [_entry(key) for key in chosen]
    value = _json({"keys": entries} if layout is Layout.NPM_ENDPOINT else {"npm": entries})
    return Exported(
        content=_text(layout, value).encode("ascii"),
        keys=tuple(chosen),
        left_out=left_out,
        notes=tuple(notes),
        variable=None if layout is Layout.NPM_ENDPOINT else VARIABLE,
        value=value,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NpmExporter:
    """One of the layouts, as ``kedge keys export`` finds it (:class:`kedge.registries.export.Exporter`)."""

    layout: Layout
    summary: str
    default_registry: str | None = DEFAULT_UPSTREAM
    appended_to: str | None = None

    def export(self, sources: Sequence[Source], *, with_retired: bool) -> Exported:
        """Put the keys of npm registries into this layout.

        Raises:
            VerificationError: no key is left to export (``no-keys``).
            InputError: two issuers name different keys by the same keyid.
        """
        return export_keys([source.keys for source in sources], self.layout, with_retired=with_retired)


npm_endpoint = NpmExporter(layout=Layout.NPM_ENDPOINT, summary="what a mirror of npm serves as its keys endpoint")
corepack_env = NpmExporter(layout=Layout.COREPACK_ENV, summary="a line for a shell that sets Corepack's keys")
corepack_json = NpmExporter(layout=Layout.COREPACK_JSON, summary="the value of Corepack's variable")
corepack_dotenv = NpmExporter(layout=Layout.COREPACK_DOTENV, summary="a .corepack.env file")
github_env = NpmExporter(
    layout=Layout.GITHUB_ENV, summary="a line for a GitHub job's environment", appended_to="GITHUB_ENV"
)


def _choose(
    issuers: Sequence[KeySet], *, with_retired: bool
) -> tuple[list[RegistryKey], tuple[RegistryKey, ...], list[str]]:
    revoked = {keyid for keys in issuers for keyid in keys.revoked}
    chosen: dict[str, RegistryKey] = {}
    left_out: list[RegistryKey] = []
    notes: list[str] = []
    for key in (key for keys in issuers for key in keys.keys if SIGNATURES in key.usages):
        why = None
        if key.status is KeyStatus.REVOKED or key.id in revoked:
            why = "it was revoked"
        elif key.status is KeyStatus.RETIRED and not with_retired:
            why = "it is retired"
        elif key.algorithm != _USABLE:
            why = f"npm, pnpm and Corepack cannot use {key.algorithm} keys"
        if why is not None:
            left_out.append(key)
            notes.append(f"{key.id} of {key.registry} is left out: {why}")
        elif chosen.setdefault(key.id, key).material != key.material:
            both = f"{chosen[key.id].registry} and {key.registry}"
            raise InputError(f"{both} name different keys {key.id}", hint="export them one by one")
    return list(chosen.values()), tuple(left_out), notes


def _notes_on(chosen: Sequence[RegistryKey], issuers: Sequence[KeySet], layout: Layout) -> list[str]:
    notes = []
    for key in chosen:
        if key.status is KeyStatus.RETIRED:
            until = f" until {_day(key.valid_until)}" if key.valid_until else ""
            notes.append(f"{key.id} is retired (it signed{until}): {_MEANING[layout is Layout.NPM_ENDPOINT]}")
        if key.valid_from is not None and key.valid_from > issuers[0].reference_time:
            notes.append(
                f"{key.id} is valid from {_day(key.valid_from)} on, and is trusted at once: this form has no dates"
            )
    if len(issuers) > 1:
        targets = {keys.registry: keys.target for keys in issuers}
        notes += [f"{key.id} comes from {targets[key.registry]}" for key in chosen]
    return notes


_MEANING = {
    False: "Corepack reads no dates and trusts it for every version; --without-retired leaves it out",
    True: "it is checked against times of publishing that the mirror itself states; --without-retired leaves it out",
}


def _entry(key: RegistryKey) -> dict[str, str | None]:
    return {
        "expires": _milliseconds(key.valid_until),
        "keyid": key.id,
        "keytype": _SCHEME,
        "scheme": _SCHEME,
        "key": base64.b64encode(key.material).decode("ascii"),
    }


def _json(document: dict[str, object] | dict[str, list[dict[str, str | None]]]) -> str:
    # An apostrophe inside a text is written as an escape, so that no quoting, a dotenv file's least of all, meets one.
    return json.dumps(document, separators=(",", ":")).replace("'", "\\u0027")


def _text(layout: Layout, value: str) -> str:
    match layout:
        case Layout.COREPACK_ENV:
            return f"export {VARIABLE}={shlex.quote(value)}\n"
        case Layout.COREPACK_DOTENV:
            return f"{VARIABLE}='{value}'\n"
        case Layout.GITHUB_ENV:
            return f"{VARIABLE}={value}\n"
        case Layout.COREPACK_JSON | Layout.NPM_ENDPOINT:
            return f"{value}\n"


def _milliseconds(moment: datetime | None) -> str | None:
    return format_time(moment).replace("Z", ".000Z") if moment is not None else None


def _day(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d") if moment is not None else ""
