"""Attestations inside an evidence file: what was served, what it came to, and what was expected.

The served document is what is judged again. What it is *recorded* to have come to is compared and never believed; only
where nothing was served does the record stand, as it does for a package that was not served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kedge.document import Fields
from kedge.errors import InputError
from kedge.registries.npm.attest import Attestor
from kedge.registries.npm.attestation import Attested, Attesting
from kedge.registries.sigstore.document import Sigstore
from kedge.registries.sigstore.expectations import Expectations, NpmRule
from kedge.registries.sigstore.verify import BundleVerifier

__all__ = ["Attestations", "attested_table", "read_attested"]

_NOT_SERVED = frozenset({Attesting.ABSENT, Attesting.LOST, Attesting.MISSING, Attesting.UNREACHABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestations:
    """What a run went by that asked for attestations: the Sigstore instance, and the rules in their order."""

    instance: str
    everything: bool
    rules: tuple[NpmRule, ...]

    @classmethod
    def of(cls, attestor: Attestor) -> Attestations:
        """What an attestor went by."""
        rules = attestor.expectations.npm
        return cls(instance=attestor.instance, everything=attestor.everything, rules=rules)

    def attestor(self, verifier: BundleVerifier) -> Attestor:
        """An attestor that goes by the same, with another trusted root."""
        expectations = Expectations(npm=self.rules)
        return Attestor(
            instance=self.instance, verifier=verifier, everything=self.everything, expectations=expectations
        )

    def to_table(self) -> dict[str, Any]:
        """This value as part of the evidence file."""
        rules = [
            {
                "package": rule.package,
                "required": rule.required,
                "source_repository": rule.source_repository,
                "builder": rule.builder,
            }
            for rule in self.rules
        ]
        return {"trusted_root": self.instance, "everything": self.everything, "rules": [_told(rule) for rule in rules]}

    @classmethod
    def from_fields(cls, fields: Fields) -> Attestations:
        """Read what :meth:`to_table` wrote.

        Raises:
            DocumentError: it is not that.
        """
        entries, instance = fields.tables("rules"), fields.text("trusted_root")
        try:
            Sigstore().target_path(instance)
        except InputError as error:
            fields.fail("trusted_root", error.message)
        found = cls(
            instance=instance,
            everything=fields.boolean("everything"),
            rules=tuple(
                NpmRule(
                    package=entry.text("package"),
                    required=entry.boolean("required"),
                    source_repository=entry.optional("source_repository", entry.text),
                    builder=entry.optional("builder", entry.text),
                )
                for entry in entries
            ),
        )
        for table in (*entries, fields):
            table.end()
        return found


def attested_table(attested: Attested) -> dict[str, Any]:
    """One package's attestations as part of the evidence file."""
    return _told(
        {
            "status": attested.status.value,
            "detail": attested.detail or None,
            "lost_since": attested.lost_since,
            "served": attested.document.decode("utf-8", errors="replace") if attested.document is not None else None,
        }
    )


def read_attested(fields: Fields) -> Attested:
    """Read what :func:`attested_table` wrote.

    Raises:
        DocumentError: it is not that, or records a status that nothing in it can show.
    """
    values = [status.value for status in Attesting]
    status = Attesting(fields.text("status", pattern="|".join(values), expected=f"one of {', '.join(values)}"))
    served = fields.optional("served", fields.text)
    if served is None and status not in _NOT_SERVED:
        fields.fail("served", f"must be there, since the status is {status.value}")
    attested = Attested(
        status=status,
        detail=fields.optional("detail", fields.text) or "",
        lost_since=fields.optional("lost_since", fields.text),
        document=served.encode() if served is not None else None,
    )
    fields.end()
    return attested


def _told(table: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if value is not None}
