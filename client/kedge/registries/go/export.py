"""A checksum database's key as the ``go`` command takes it: the variable ``GOSUMDB``.

There is room for one key. It is the first line of the key document that was not revoked; notes say which others wait.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from kedge.errors import InputError, Reason, Refusal, VerificationError
from kedge.registries import Exported, KeySet, KeyStatus, Source
from kedge.registries.go.registry import SumKey, database_name, read_lines

VARIABLE = "GOSUMDB"
"""The environment variable that names the checksum database and its key."""


class Layout(StrEnum):
    """The forms: a line for a shell or an environment file, and the command that settles it for a user."""

    GOSUMDB = "gosumdb"
    GO_ENV = "go-env"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoExporter:
    """One of the layouts, as ``kedge keys export`` finds it (:class:`kedge.registries.export.Exporter`)."""

    layout: Layout
    summary: str
    default_registry: str | None = "go/sum.golang.org"
    appended_to: str | None = None

    def export(self, sources: Sequence[Source], *, with_retired: bool) -> Exported:  # noqa: ARG002 none is retired
        """Put the key of one checksum database into this layout.

        Raises:
            VerificationError: every key was revoked (``no-keys``).
            InputError: several registries were named, or one that is no checksum database.
        """
        if len(sources) != 1:
            raise InputError(f"{self.layout}: a go command asks one checksum database: name one registry")
        keys = sources[0].keys
        chosen, others = _choose(keys)
        value = chosen.to_text()
        line = f"go env -w {shlex.quote(f'{VARIABLE}={value}')}" if self.layout is Layout.GO_ENV else _assignment(value)
        return Exported(
            content=f"{line}\n".encode("ascii"),
            keys=tuple(key for key in keys.keys if key.id == chosen.id),
            left_out=tuple(key for key in keys.keys if key.id != chosen.id),
            notes=tuple(_notes(keys, chosen, others)),
            variable=VARIABLE,
            value=value,
        )


gosumdb = GoExporter(layout=Layout.GOSUMDB, summary="a line for a shell that sets Go's checksum database and its key")
go_env = GoExporter(layout=Layout.GO_ENV, summary="the go command that settles it for a user")


def _choose(keys: KeySet) -> tuple[SumKey, list[SumKey]]:
    database_name(keys.registry)
    revoked = {key.id for key in keys.keys if key.status is KeyStatus.REVOKED}
    left = [line for line in read_lines(keys.document) if line.id not in revoked]
    if not left:
        refusal = Refusal(reason=Reason.NO_KEYS, file=keys.target)
        raise VerificationError(f"{keys.registry}: no key is left to export", refusal=refusal)
    return left[0], left[1:]


def _assignment(value: str) -> str:
    return f"export {VARIABLE}={shlex.quote(value)}"


def _notes(keys: KeySet, chosen: SumKey, others: Sequence[SumKey]) -> list[str]:
    notes = [f"{key.id} is left out: it was revoked" for key in keys.keys if key.status is KeyStatus.REVOKED]
    one = f"a go command takes one key, and {chosen.id} stands first"
    return [*notes, *(f"{line.id} is left out: {one}" for line in others)]
