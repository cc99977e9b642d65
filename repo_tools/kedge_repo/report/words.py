"""Dates, spans and verdicts as the page puts them."""

from __future__ import annotations

from datetime import datetime, timedelta

from kedge.errors import ExitCode
from kedge_repo.report.facts import ReportFacts
from kedge_repo.report.markup import Element, element

__all__ = ["ahead", "day", "mark", "plural", "verdict"]

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
