"""The parts of the page, each from the facts.

HTML and SVG from values: every text and attribute is escaped, whoever wrote it; there is no other way to put one.

An :class:`Element` prints itself. Attributes with a dash are written with an underscore (``aria_label``); ``class_`` is
``class``. There is no style attribute and no script: the page's Content-Security-Policy lets neither in.

Spans of time as bars in SVG: one small picture a row of a table, all of one table on the same scale.

No text stands in a picture, so that its size follows the screen and its words do not: what a bar says stands beside it,
and is the picture's name for those who do not see it. What differs in colour differs in shape as well: a bar in use is
thick, one that is over is thin, one that was revoked is thin and struck through.

Dates, spans and verdicts as the page puts them.

The page: one file, self-contained, with nothing in it that runs.

Its Content-Security-Policy lets in its own style sheet, by digest, and nothing else: no script, no picture from
elsewhere, no frame, no form. It reads well without colours, without sight and on a narrow screen: every chart is a
table with its words beside the bars.

A repository on one static page.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.resources import files
from typing import TypeAlias

from kedge._version import __version__
from kedge.documents import format_time
from kedge.errors import ExitCode
from kedge.registries import KeySet, KeyStatus, RegistryKey, Severity
from kedge_repo.audit.findings import AuditFinding
from kedge_repo.audit.forecast import Basis, Outlook, RoleForecast
from kedge_repo.audit.report_facts import RegistryFacts, ReportFacts, RoleFacts
from kedge_repo.events import EventStatus

_VOID = frozenset({"meta", "col", "br", "rect", "line", "path"})

Child: TypeAlias = "Element | str | Iterable[Child] | None"


@dataclass(frozen=True, slots=True)
class Element:
    """One element with its children; None among them is left out."""

    name: str
    attributes: tuple[tuple[str, str], ...]
    children: tuple[Child, ...]

    def __str__(self) -> str:
        attributes = "".join(f' {name}="{html.escape(value)}"' for name, value in self.attributes)
        if self.name in _VOID:
            return f"<{self.name}{attributes}/>"
        return f"<{self.name}{attributes}>{''.join(text_of(child) for child in self.children)}</{self.name}>"


def element(name: str, *children: Child, **attributes: str | int | None) -> Element:
    """Make an element; an attribute that is None is left out."""
    given = tuple(
        (key.rstrip("_").replace("_", "-"), str(value)) for key, value in attributes.items() if value is not None
    )
    return Element(name, given, children)


def text_of(child: Child) -> str:
    """What a child prints as."""
    if child is None:
        return ""
    if isinstance(child, Element):
        return str(child)
    if isinstance(child, str):
        return html.escape(
            "".join(sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in child)
        )
    return "".join(text_of(part) for part in child)


WIDTH, HEIGHT = 1_000, 20
LONGEST = timedelta(days=8 * 365)
AROUND = timedelta(days=30)


class Kind(StrEnum):
    """What a bar is of; also its class in the style sheet."""

    ACTIVE = "active"
    RETIRED = "retired"
    REVOKED = "revoked"
    DUE = "due"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From when to when a table's bars reach, and when now is."""

    start: datetime
    end: datetime
    now: datetime

    def at(self, moment: datetime) -> int:
        """Where a moment lies, from 0 to ``WIDTH``; what lies outside is at the edge."""
        share = (moment - self.start) / (self.end - self.start)
        return round(min(1.0, max(0.0, share)) * WIDTH)

    def years(self) -> list[datetime]:
        """The beginnings of years inside."""
        first = datetime(self.start.year + 1, 1, 1, tzinfo=UTC)
        return [first.replace(year=year) for year in range(first.year, self.end.year + 1)]


def scale_for(now: datetime, moments: Iterable[datetime | None]) -> Scale:
    """The scale that holds ``now`` and the moments, but not more than some years before and after now."""
    known = [moment for moment in moments if moment is not None]
    start = max(min([now, *known]), now - LONGEST)
    end = min(max([now, *known]), now + LONGEST)
    return Scale(start=start - AROUND, end=end + AROUND, now=now)


def bar(
    scale: Scale,
    start: datetime | None,
    end: datetime | None,
    kind: Kind,
    label: str,
    *,
    marks: Iterable[datetime] = (),
) -> Element:
    """One bar from ``start`` to ``end`` (None: open on that side), called ``label``; ``marks`` are moments in it."""
    left = scale.at(start) if start is not None else 0
    right = scale.at(end) if end is not None else WIDTH
    thick = kind not in {Kind.RETIRED, Kind.REVOKED}
    top, height = (3, 14) if thick else (7, 6)
    return element(
        "svg",
        (_line("year", scale.at(year)) for year in scale.years()),
        element("rect", class_=kind.value, x=left, y=top, width=max(4, right - left), height=height),
        element("line", class_="strike", x1=left, y1=2, x2=right, y2=18) if kind is Kind.REVOKED else None,
        (_line("mark", scale.at(mark)) for mark in marks),
        _line("now", scale.at(scale.now)),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        class_="bar",
        role="img",
        aria_label=label,
    )


def _line(kind: str, x: int) -> Element:
    return element("line", class_=kind, x1=x, y1=0, x2=x, y2=HEIGHT)


_TONES = {
    ExitCode.DONE: ("good", "The repository is in order."),
    ExitCode.COULD_NOT: ("due", "Not all of the repository could be read."),
    ExitCode.FAULTS: ("due", "The repository has findings."),
    ExitCode.EXPIRED: ("bad", "Something in the repository has expired."),
    ExitCode.REFUSED: ("bad", "The repository is broken: clients are refused."),
}


def day(moment: datetime) -> str:
    """The day of a moment."""
    return f"{moment:%Y-%m-%d}"


def ahead(span: timedelta) -> str:
    """How far ahead something is, or how long ago."""
    days = span.total_seconds() / 86_400
    if days < 0:
        return f"{plural(round(-days), 'day')} ago"
    return f"in {plural(round(days), 'day')}" if days >= 2 else f"in {plural(round(days * 24), 'hour')}"


def plural(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def mark(tone: str, text: str) -> Element:
    """A word in a colour that says the same as the word."""
    return element("span", text, class_=tone)


def verdict(facts: ReportFacts) -> Element:
    """The whole in a sentence: the worse of audit and forecast."""
    codes = {facts.audit.exit_code, facts.forecast.exit_code}
    order = (ExitCode.REFUSED, ExitCode.EXPIRED, ExitCode.FAULTS, ExitCode.COULD_NOT, ExitCode.DONE)
    tone, text = _TONES[next(code for code in order if code in codes)]
    return element("strong", text, class_=f"verdict {tone}")


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
_TONES_parts = {Severity.ERROR: "bad", Severity.WARNING: "due", Severity.NOTE: "past"}
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
        less = f", {plural(role.samples, 'event')} took less" if role.samples else ""
        return f"{days}: by the policy{less}"
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
        element(
            "td", mark(_TONES_parts[found.severity], found.severity.value), f"{below}: {found.message}", class_="long"
        ),
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


_PARTS = (
    ("expiry", "What expires next", expiry_part),
    ("roles", "Roles and keys", roles_part),
    ("registries", "Registries", registries_part),
    ("events", "Signing", events_part),
    ("audit", "Audit", audit_part),
    ("history", "History", history_part),
)


def page(facts: ReportFacts) -> bytes:
    """The whole page."""
    style = (files("kedge_repo.audit") / "style.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = f"{facts.repository}: state of the repository on {day(facts.at)}"
    # The style sheet is the one text that must not be escaped: it is ours, and holds nothing that could end it.
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        f"{element('meta', http_equiv='Content-Security-Policy', content=policy)}\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        '<meta name="referrer" content="no-referrer"/>\n'
        f"{element('title', title)}\n<style>{style}</style>\n</head>\n"
    )
    return f"{head}{_body(facts)}\n</html>\n".encode()


def _body(facts: ReportFacts) -> Element:
    links: list[Child] = [element("li", element("a", title, href=f"#{name}")) for name, title, _ in _PARTS]
    sections: list[Child] = [
        element("section", element("h2", title, id=name), part(facts), aria_labelledby=name)
        for name, title, part in _PARTS
    ]
    return element(
        "body",
        element("a", "Skip to the content", href="#content", class_="skip"),
        element(
            "header",
            element("h1", f"Repository {facts.repository}"),
            element("p", "As of ", format_time(facts.at), ". ", verdict(facts), class_="soft"),
            element("nav", element("ul", links), aria_label="Parts of this page"),
        ),
        element("main", sections, id="content"),
        element(
            "footer",
            element(
                "p",
                f"Written by kedge-repo report, version {__version__}. Nothing on this page is signed: what clients "
                "rely on is the metadata itself.",
                class_="soft",
            ),
        ),
    )
