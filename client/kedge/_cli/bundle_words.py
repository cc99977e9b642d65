"""What a bundle is, in words and as ``kedge.bundle-report/1``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from kedge._cli.output import Screen, Tone
from kedge._cli.tables import trust_entry
from kedge._cli.words import moment_text, trust_rows
from kedge.bundle.manifest import Manifest
from kedge.document import format_time
from kedge.trust import Trust

__all__ = ["Report", "Standing", "report_document", "report_lines"]


class Standing(StrEnum):
    """What was done with a bundle."""

    READ = "read"
    """Nothing was checked: it is what the file says of itself."""
    MADE = "made"
    VERIFIED = "verified"
    APPLIED = "applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A bundle, what was done with it, and how far trust reaches with it where that is known."""

    file: Path
    file_bytes: int
    manifest: Manifest
    standing: Standing
    trust: Trust | None = None


def report_document(report: Report) -> dict[str, Any]:
    """The answer to ``--json``."""
    manifest, summary = report.manifest, report.manifest.summary
    return {
        "format": "kedge.bundle-report/1",
        "file": str(report.file),
        "file_bytes": report.file_bytes,
        "standing": report.standing.value,
        "tool": manifest.tool,
        "sha256": manifest.sha256,
        "payload_bytes": manifest.payload_bytes,
        "valid_until": format_time(summary.valid_until),
        "baseline": manifest.baseline.sha256 if manifest.baseline is not None else None,
        "carries": {
            "first_root": manifest.first_root,
            "roles": list(manifest.carried_roles),
            "targets": list(manifest.carried_targets),
            "extra": sorted(manifest.extra),
        },
        "roles": [
            {"name": name, "version": version, "signed_by": list(summary.signed_by.get(name, ()))}
            for name, version in sorted(summary.roles.items())
        ],
        "targets": [{"path": path, "sha256": digest} for path, digest in sorted(summary.targets.items())],
        "trust": trust_entry(report.trust) if report.trust is not None else None,
    }


def report_lines(screen: Screen, report: Report) -> list[str]:
    """The same for people."""
    manifest, summary = report.manifest, report.manifest.summary
    rows: list[tuple[str, str] | tuple[str, str, Tone]] = [
        ("standing", *_STANDINGS[report.standing]),
        ("size", f"{report.file_bytes:,} bytes, {manifest.payload_bytes:,} unpacked"),
        ("sha256", f"{manifest.sha256} (unpacked)"),
        ("made by", manifest.tool),
        ("valid until", f"{moment_text(summary.valid_until)} (signed)"),
    ]
    if manifest.baseline is not None:
        rows.append(("since", manifest.baseline.sha256))
    rows.append(("carries", _carries(manifest)))
    lines = [*screen.heading(str(report.file)), *screen.rows(rows)]
    lines += ["", *screen.heading("roles"), *screen.rows([*_roles(manifest)])]
    if summary.targets:
        lines += [
            "",
            *screen.heading("targets"),
            *screen.rows([(path, ("sha256 " + digest)) for path, digest in sorted(summary.targets.items())]),
        ]
    if report.trust is not None:
        lines += ["", *screen.heading(f"trust (anchor {report.trust.anchor})"), *screen.rows(trust_rows(report.trust))]
    return lines


_STANDINGS: dict[Standing, tuple[str, Tone]] = {
    Standing.READ: ("unverified: this is what the file says of itself", Tone.CAUTION),
    Standing.MADE: ("made from what this machine trusts", Tone.GOOD),
    Standing.VERIFIED: ("verified, all of it; nothing was kept", Tone.GOOD),
    Standing.APPLIED: ("verified, all of it, and kept", Tone.GOOD),
}


def _carries(manifest: Manifest) -> str:
    last = manifest.summary.roles["root"]
    parts = [*manifest.carried_roles, *manifest.carried_targets, *sorted(manifest.extra)]
    if manifest.first_root is not None:
        parts.insert(0, f"roots {manifest.first_root} to {last}" if manifest.first_root < last else f"root {last}")
    return ", ".join(parts) or "nothing: nothing is new"


def _roles(manifest: Manifest) -> list[tuple[str, str]]:
    summary = manifest.summary
    return [
        (name, f"version {version}, signed by {', '.join(summary.signed_by.get(name, ())) or 'nobody who is named'}")
        for name, version in sorted(summary.roles.items())
    ]
