"""``kedge-repo status``: what is signed, for how long, and what is open."""

from __future__ import annotations

from collections.abc import Iterator

from kedge.document import format_time
from kedge_repo._cli.options import AsJson, WorkspaceFolder, open_workspace, present
from kedge_repo._cli.output import answer, answer_json, table
from kedge_repo.status import WorkspaceStatus, workspace_status

__all__ = ["status"]


def status(folder: WorkspaceFolder = None, as_json: AsJson = False) -> None:
    """Show what is signed, how long it is valid, when signing must begin, and which events are open."""
    found = workspace_status(open_workspace(folder), now=present())
    if as_json:
        answer_json(_value(found))
    else:
        answer(*_lines(found))


def _lines(found: WorkspaceStatus) -> Iterator[str]:
    yield f"repository {found.repository}"
    yield ""
    if found.roles:
        yield from table(
            (role.role, str(role.version), f"until {format_time(role.expires)}", role.health.value)
            for role in found.roles
        )
    else:
        yield "nothing is signed yet"
    for bins in found.bins:
        until = f"the first until {format_time(bins.first_expiry)}" if bins.first_expiry else "not signed yet"
        yield f"{bins.role}: {bins.targets} targets in {bins.bins} bins, {until}"
    if found.targets:
        yield ""
        yield from (f"{target.path}  {target.length} bytes  {target.sha256[:16]}" for target in found.targets)
    yield ""
    yield f"open events: {', '.join(found.events) or 'none'}"


def _value(found: WorkspaceStatus) -> dict[str, object]:
    return {
        "format": "kedge.repo-status/1",
        "repository": found.repository,
        "roles": [
            {
                "role": role.role,
                "version": role.version,
                "expires": format_time(role.expires),
                "signing_from": format_time(role.signing_from),
                "health": role.health.value,
            }
            for role in found.roles
        ],
        "bins": [
            {
                "role": bins.role,
                "bins": bins.bins,
                "targets": bins.targets,
                "first_expiry": format_time(bins.first_expiry) if bins.first_expiry else None,
            }
            for bins in found.bins
        ],
        "targets": [
            {"path": target.path, "role": target.role, "length": target.length, "sha256": target.sha256}
            for target in found.targets
        ],
        "events": list(found.events),
    }
