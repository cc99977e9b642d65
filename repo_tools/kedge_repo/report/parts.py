"""The parts of the page, each from the facts."""

from __future__ import annotations

from collections.abc import Iterable

from kedge.document import format_time
from kedge.findings import Severity
from kedge.keys import KeySet, KeyStatus, RegistryKey
from kedge_repo.audit import AuditFinding
from kedge_repo.collect import EventStatus
from kedge_repo.forecast import Basis, Outlook, RoleForecast
from kedge_repo.report.bars import Kind, Scale, bar, scale_for
from kedge_repo.report.facts import RegistryFacts, ReportFacts, RoleFacts
from kedge_repo.report.markup import Child, Element, element
from kedge_repo.report.words import ahead, day, mark, plural

__all__ = ["audit_part", "events_part", "expiry_part", "history_part", "registries_part", "roles_part"]

_OUTLOOKS = {
    Outlook.CALM: ("good", "calm", Kind.ACTIVE),
    Outlook.SIGNING_DUE: ("due", "signing is due", Kind.DUE),
    Outlook.LATE: ("bad", "late: no event is open", Kind.DUE),
    Outlook.EXPIRED: ("bad", "expired", Kind.EXPIRED),
}
_STATUS = {
    KeyStatus.ACTIVE: ("good", Kind.ACTIVE),
    KeyStatus.RETIRED: ("past", Kind.RETIRED),
    KeyStatus.REVOKED: ("bad", Kind.REVOKED),
}
_TONES = {Severity.ERROR: "bad", Severity.WARNING: "due", Severity.NOTE: "past"}
SHOWN_VERSIONS = 200


def roles_part(facts: ReportFacts) -> Child:
    """Who may sign what, how many must, and who did."""
    if facts.problem is not None:
        return element("p", mark("bad", f"The signed metadata cannot be relied on: {facts.problem}"))
    return [_role(role) for role in facts.roles] or element("p", "Nothing is signed yet.")


def _role(role: RoleFacts) -> Child:
    signed = sum(key.signed for key in role.keys)
    return [
        element("h3", role.role),
        element(
            "p",
            f"Version {role.version}: {role.threshold} of {plural(len(role.keys), 'key')} must sign, {signed} did.",
        ),
        _table(
            f"Keys of {role.role}",
            ("Keyholder", "Key", "Signed"),
            [
                (
                    element("th", key.owner, scope="row"),
                    element("td", key.algorithm, element("span", element("code", key.fingerprint), class_="sub")),
                    element("td", mark("good", "yes") if key.signed else mark("past", "no")),
                )
                for key in role.keys
            ],
        ),
    ]


def expiry_part(facts: ReportFacts) -> Child:
    """A bar for each role from now to its expiry, with the last safe day to begin signing."""
    scale = scale_for(facts.at, [role.expires for role in facts.forecast.roles])
    rows = [_expiry(facts, role, scale) for role in facts.forecast.roles]
    caption = "From now to each role's expiry, the first that is due at the top. The dashed line is the last safe day."
    return [_chart(caption, ("Role", "Valid"), rows), _axis(scale)]


def _expiry(facts: ReportFacts, role: RoleForecast, scale: Scale) -> tuple[Child, Element]:
    tone, words, kind = _OUTLOOKS[role.outlook]
    who = "a machine signs it" if role.online else f"open an event by {day(role.last_safe)}"
    label = f"{role.role} is valid until {day(role.expires)}"
    said: list[Child] = [
        f"{role.role} version {role.version}",
        element("span", f"until {day(role.expires)}, {ahead(role.expires - facts.at)}", class_="sub"),
        element("span", mark(tone, words), f"; {who}", class_="sub"),
        element("span", _basis(role), class_="sub"),
    ]
    return said, bar(scale, facts.at, role.expires, kind, label, marks=[role.last_safe])


def _basis(role: RoleForecast) -> str:
    if role.online:
        return "by the policy's signing period"
    days = f"signing takes {role.takes.total_seconds() / 86_400:.1f} days"
    if role.basis is Basis.POLICY:
        return f"{days}: assumed from the policy"
    return f"{days}: measured on {plural(role.samples, 'event')}"


def registries_part(facts: ReportFacts) -> Child:
    """The keys of each registry, a bar for each validity."""
    parts: list[Child] = [_registry(facts, registry) for registry in facts.registries]
    if not parts:
        parts.append(element("p", "No key document is signed."))
    if facts.other_targets:
        rows = [
            (element("th", path, scope="row"), element("td", role), element("td", f"{length}", class_="number"))
            for path, role, length in facts.other_targets
        ]
        parts += [element("h3", "Other targets"), _table("Other targets", ("Path", "Role", "Bytes"), rows)]
    return parts


def _registry(facts: ReportFacts, registry: RegistryFacts) -> Child:
    head: list[Child] = [
        element("h3", registry.registry),
        element("p", f"{registry.target}, signed by {registry.role}, sha256 ", element("code", registry.sha256)),
    ]
    if registry.keys is None:
        return [*head, element("p", mark("bad", f"cannot be read: {registry.problem}"))]
    keys = registry.keys
    scale = scale_for(facts.at, [moment for key in keys.keys for moment in (key.valid_from, key.valid_until)])
    gone = [keyid for keyid in keys.revoked if all(key.id != keyid for key in keys.keys)]
    rows = [_key(key, keys, scale) for key in keys.keys]
    caption = f"Keys of {registry.registry} and when they are valid; the thick line is today."
    revoked = element("p", f"Revoked, and no longer in the document: {', '.join(gone)}") if gone else None
    return [*head, _chart(caption, ("Key", "Validity"), rows), _axis(scale), revoked]


def _key(key: RegistryKey, keys: KeySet, scale: Scale) -> tuple[Child, Element]:
    status = KeyStatus.REVOKED if key.id in keys.revoked else key.status
    tone, kind = _STATUS[status]
    start = day(key.valid_from) if key.valid_from is not None else "any time"
    end = day(key.valid_until) if key.valid_until is not None else "open"
    label = f"{key.id} for {', '.join(key.usages)}: {status}, valid from {start} to {end}"
    said: list[Child] = [
        element("code", key.id),
        element("span", mark(tone, status.value), f", {', '.join(key.usages)}", class_="sub"),
        element("span", f"{start} to {end}; {key.algorithm}", class_="sub"),
    ]
    return said, bar(scale, key.valid_from, key.valid_until, kind, label)


def events_part(facts: ReportFacts) -> Child:
    """What is open, and how long signing took before."""
    parts: list[Child] = [_event(event) for event in facts.events] or [element("p", "No signing event is open.")]
    if facts.signings:
        rows = [
            (
                element("th", signing.event, element("span", signing.reason, class_="sub"), scope="row"),
                element("td", day(signing.opened), class_="number"),
                element("td", f"{signing.took.total_seconds() / 86_400:.1f}", class_="number"),
                element("td", ", ".join(signing.keyholders), class_="optional"),
            )
            for signing in reversed(facts.signings)
        ]
        parts.append(_table("Events that were merged", ("Event", "Opened", "Days", "Signed by"), rows, optional={3}))
    return parts


def _event(event: EventStatus) -> Element:
    state = mark("good", "has all its signatures") if event.due else mark("due", "needs more signatures")
    groups = [
        element(
            "li",
            f"{role.role} version {role.version}: {len(group.have)} of {group.threshold} that {group.asked_by} asks "
            f"for; signed by {', '.join(group.have) or 'nobody'}, missing {', '.join(group.missing) or 'nobody'}",
        )
        for role in event.roles
        for group in role.groups
    ]
    return element(
        "div",
        element("h3", f"Open: {event.name}"),
        element("p", event.reason, ". It ", state, "."),
        element("ul", [element("li", change) for change in event.changes]),
        element("ul", groups),
        class_="panel",
    )


def audit_part(facts: ReportFacts) -> Child:
    """What the audit found."""
    result = facts.audit
    floors = ", ".join(
        f"{name} from root version {version}" if version is not None else f"{name} from no root"
        for name, version in result.floors.items()
    )
    head = element("p", f"{plural(result.roots, 'root')}; clients of today get through: {floors}.")
    if not result.findings:
        return [head, element("p", mark("good", "Nothing was found."))]
    rows = [_finding(found) for found in result.findings]
    return [head, _table("Findings of the audit", ("File", "Finding"), rows)]


def _finding(found: AuditFinding) -> tuple[Element, ...]:
    below = " (below the bootstrap floor)" if found.below_floor else ""
    return (
        element("th", found.file, element("span", found.rule.value, class_="sub"), scope="row"),
        element("td", mark(_TONES[found.severity], found.severity.value), f"{below}: {found.message}", class_="long"),
    )


def history_part(facts: ReportFacts) -> Child:
    """Every version that is there, who signed it and under which delegator."""
    versions = facts.audit.history
    rows = [
        (
            element("th", f"{fact.role} {fact.version}", scope="row"),
            element(
                "td",
                ", ".join(facts.owners.get(keyid, keyid[:8]) for keyid in fact.signed_by) or "nobody",
                class_="long",
            ),
            element("td", fact.under or "nobody", class_="optional"),
            element("td", day(fact.expires), class_="number"),
        )
        for fact in versions[-SHOWN_VERSIONS:]
    ]
    left = len(versions) - len(rows)
    note = element("p", f"{left} older versions are left out; kedge-repo audit --json has them all.") if left else None
    head = ("Version", "Signed by", "As asked by", "Expires")
    return [note, _table("Versions, in order of role", head, rows, optional={2})]


def _table(
    caption: str, head: tuple[str, ...], rows: Iterable[tuple[Element, ...]], *, optional: Iterable[int] = ()
) -> Element:
    left_out = set(optional)
    columns = [
        element("th", text, scope="col", class_="optional" if position in left_out else None)
        for position, text in enumerate(head)
    ]
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", columns)),
        element("tbody", [element("tr", row) for row in rows]),
    )


def _chart(caption: str, head: tuple[str, str], rows: Iterable[tuple[Child, Element]]) -> Element:
    """A table of words and bars. Its roles are written out: on a narrow screen its cells stand above each other."""
    columns = [
        element("th", text, scope="col", role="columnheader", class_="wide" if position else None)
        for position, text in enumerate(head)
    ]
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", columns, role="row"), role="rowgroup"),
        element(
            "tbody",
            [
                element(
                    "tr",
                    element("th", words, scope="row", role="rowheader"),
                    element("td", picture, role="cell"),
                    role="row",
                )
                for words, picture in rows
            ],
            role="rowgroup",
        ),
        class_="chart",
        role="table",
    )


def _axis(scale: Scale) -> Element:
    text = f"The bars reach from {day(scale.start)} to {day(scale.end)}; now is {format_time(scale.now)}."
    return element("p", text, class_="soft")
