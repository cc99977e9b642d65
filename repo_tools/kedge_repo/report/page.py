"""The page: one file, self-contained, with nothing in it that runs.

Its Content-Security-Policy lets in its own style sheet, by digest, and nothing else: no script, no picture from
elsewhere, no frame, no form. It reads well without colours, without sight and on a narrow screen: every chart is a
table with its words beside the bars.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from kedge._version import __version__
from kedge.document import format_time
from kedge_repo.report.facts import ReportFacts
from kedge_repo.report.markup import Child, Element, element
from kedge_repo.report.parts import audit_part, events_part, expiry_part, history_part, registries_part, roles_part
from kedge_repo.report.words import day, verdict

__all__ = ["page"]

_PARTS = (
    ("roles", "Roles and keys", roles_part),
    ("expiry", "What expires next", expiry_part),
    ("registries", "Registries", registries_part),
    ("events", "Signing", events_part),
    ("audit", "Audit", audit_part),
    ("history", "History", history_part),
)


def page(facts: ReportFacts) -> bytes:
    """The whole page."""
    style = (files("kedge_repo.report") / "style.css").read_text("utf-8")
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
