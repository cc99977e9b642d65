"""The forecast: what expires next, by when signing must begin, from how long it took here before; and its forms."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import icalendar
import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from kedge.documents import DocumentError, format_time
from kedge.errors import ExitCode, InputError
from kedge_repo._cli.app import app
from kedge_repo.audit.forecast import (
    Basis,
    Forecast,
    Outlook,
    RoleForecast,
    forecast_calendar,
    forecast_expiry,
    forecast_metrics,
)
from kedge_repo.events.changes import merge_event
from kedge_repo.events.event import Signing, read_signings
from kedge_repo.events.open_event import open_roles, read_signed
from kedge_repo.events.plan import add_target
from repo_tools.ceremony import NPM, Ceremony

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROOT_EVENTS = (13.0, 1.0, 16.4, 12.0, 10.8)  # days from opening to merging: Sigstore's roots 11 to 15


def took(days: float, *roles: str, opened: datetime = NOW) -> Signing:
    return Signing(
        event="event",
        reason="a reason",
        opened=opened,
        merged=opened + timedelta(days=days),
        roles=roles,
        keyholders=("alice",),
    )


@pytest.fixture(scope="module")
def ceremony(tmp_path_factory: pytest.TempPathFactory) -> Ceremony:
    return Ceremony(tmp_path_factory.mktemp("forecast"), now=NOW).ready()


def look(made: Ceremony, *signings: Signing, after_days: float = 0, **options: Any) -> Forecast:
    at = NOW + timedelta(days=after_days)
    return forecast_expiry(read_signed(made.workspace), made.workspace.policy(), signings, now=at, **options)


def role(found: Forecast, name: str) -> RoleForecast:
    return next(role for role in found.roles if role.role == name)


def test_d7_the_last_safe_day_follows_from_measured_signing_times(ceremony: Ceremony) -> None:
    root = role(look(ceremony, *(took(days, "root") for days in (*ROOT_EVENTS, 71.4))), "root")
    assert (root.basis, root.samples, root.takes) == (Basis.ROLE, 6, timedelta(days=71.4))
    assert root.expires == NOW + timedelta(days=365)
    assert root.last_safe == root.expires - timedelta(days=71.4)


def test_d7_a_role_that_is_late_is_exit_5_and_one_that_expired_is_exit_4(ceremony: Ceremony) -> None:
    signings = [took(days, NPM) for days in (22.0, 11.0, 23.0)]  # of 31 days: what npm's delegation took
    calm, due, late, over = (look(ceremony, *signings, after_days=days) for days in (140, 151, 152, 183))
    outlooks = [role(found, NPM).outlook for found in (calm, due, late, over)]
    assert outlooks == [Outlook.CALM, Outlook.SIGNING_DUE, Outlook.LATE, Outlook.EXPIRED]
    assert role(late, NPM).last_safe == NOW + timedelta(days=151)
    # The timestamp of this repository lives for a week, so that everything later has expired with it.
    assert look(ceremony, *signings, after_days=3).exit_code == ExitCode.DONE
    assert look(ceremony, *signings, after_days=5).exit_code == ExitCode.FAULTS
    assert late.exit_code == ExitCode.EXPIRED


def test_an_open_event_is_not_late(ceremony: Ceremony) -> None:
    found = look(ceremony, took(23, NPM), after_days=160, open_events={"renewal": (NPM,)})
    assert role(found, NPM).outlook is Outlook.SIGNING_DUE
    assert role(found, NPM).events == ("renewal",)


def test_of_many_events_one_in_ten_may_have_been_slower(ceremony: Ceremony) -> None:
    many = [took(days, "root") for days in range(61, 71)]
    assert role(look(ceremony, *many), "root").takes == timedelta(days=69)


def test_what_is_not_measured_is_said_to_be_assumed(ceremony: Ceremony) -> None:
    root = role(look(ceremony), "root")
    assert (root.basis, root.samples, root.takes) == (Basis.POLICY, 0, timedelta(days=60))
    others = role(look(ceremony, took(75, NPM)), "root")
    assert (others.basis, others.samples, others.takes) == (Basis.REPOSITORY, 1, timedelta(days=75))
    timestamp = role(look(ceremony, took(75, NPM)), "timestamp")
    assert (timestamp.basis, timestamp.online, timestamp.takes) == (Basis.POLICY, True, timedelta(days=3))


def test_the_role_that_is_due_first_stands_first(ceremony: Ceremony) -> None:
    assert [role.role for role in look(ceremony, took(9, NPM)).roles] == [
        "timestamp",
        NPM,
        "root",
        "snapshot",
        "targets",
    ]


def test_merging_keeps_how_long_signing_took(tmp_path: Path) -> None:
    made = Ceremony(tmp_path, now=NOW).ready()
    assert read_signings(made.workspace) == ()
    made.change(lambda view: add_target(view, f"{NPM}/a.json", b""))
    assert open_roles(made.workspace, read_signed(made.workspace)) == {"2026-01-01-add-a-json": (NPM,)}
    made.sign("npm-team")
    merged = NOW + timedelta(days=4, hours=6)
    merge_event(made.workspace, now=merged)
    (signing,) = read_signings(made.workspace)
    assert (signing.took, signing.roles, signing.keyholders) == (timedelta(days=4, hours=6), (NPM,), ("npm-team",))
    (file,) = (made.workspace.root / "signings").iterdir()
    file.write_text("{}")
    with pytest.raises(InputError, match=r"signings/.*json: format: is missing"):
        read_signings(made.workspace)


def test_a_record_that_ends_before_it_begins_is_refused() -> None:
    value = json.loads(took(1, "root").to_bytes())
    assert Signing.from_bytes(json.dumps(value).encode()) == took(1, "root")
    with pytest.raises(DocumentError, match="merged: must not be before opened"):
        Signing.from_bytes(json.dumps({**value, "merged": "2025-01-01T00:00:00Z"}).encode())


def test_the_calendar_is_read_back_as_it_was_meant(ceremony: Ceremony) -> None:
    found = look(ceremony, *(took(days, "root") for days in ROOT_EVENTS))
    data = forecast_calendar(found)
    calendar = icalendar.Calendar.from_ical(data)
    events = {str(event["uid"]): event for event in calendar.walk("VEVENT")}
    assert len(events) == 3 + 5  # a last safe day for each role that people sign, an expiry for each
    root = events["last-safe.1.root.example@kedge-repo"]
    assert root.decoded("dtstart") == (NOW + timedelta(days=365 - 60)).date()
    assert root.walk("VALARM")[0].decoded("trigger") == timedelta(days=-7)
    assert events["expires.1.root.example@kedge-repo"].decoded("dtstart") == NOW + timedelta(days=365)
    assert "last-safe.1.timestamp.example@kedge-repo" not in events
    assert data == forecast_calendar(found)
    assert max(len(line) for line in data.split(b"\r\n")) <= 75  # RFC 5545 §3.1


def test_the_metrics_are_read_back_by_prometheus_own_parser(ceremony: Ceremony) -> None:
    found = look(ceremony, took(90, NPM))
    families = {family.name: family for family in text_string_to_metric_families(forecast_metrics(found))}
    expiry = families["kedge_repo_role_expires_timestamp_seconds"]
    values = {sample.labels["role"]: sample.value for sample in expiry.samples}
    assert values["root"] == (NOW + timedelta(days=365)).timestamp()
    assert {sample.labels["repository"] for sample in expiry.samples} == {"example"}
    takes = {sample.labels["role"]: sample.value for sample in families["kedge_repo_role_signing_seconds"].samples}
    assert takes[NPM] == 90 * 86_400


def test_the_command_answers_in_every_form(ceremony: Ceremony, tmp_path: Path) -> None:
    at = format_time(NOW + timedelta(days=1))
    line = ["forecast", "-w", str(ceremony.workspace.root), "--as-of", at]
    files = ["--calendar", str(tmp_path / "x.ics"), "--prometheus", str(tmp_path / "x.prom")]
    text = CliRunner().invoke(app, [*line, *files])
    assert text.exit_code == 0
    assert text.stdout.splitlines()[0] == f"repository example at {at}"
    assert "by the policy, nothing is measured yet" in text.stdout
    assert (tmp_path / "x.ics").read_bytes().startswith(b"BEGIN:VCALENDAR\r\n")
    assert (tmp_path / "x.prom").read_text().startswith("# HELP kedge_repo_role_version ")
    answer = json.loads(CliRunner().invoke(app, [*line, "--json"]).stdout)
    assert answer["format"] == "kedge.forecast/1"
    assert answer["roles"][0]["role"] == "timestamp"
    late = CliRunner().invoke(app, ["forecast", "-w", str(ceremony.workspace.root), "--as-of", "2026-01-09T00:00:00Z"])
    assert late.exit_code == 4
    wrong = CliRunner().invoke(app, ["forecast", "-w", str(ceremony.workspace.root), "--as-of", "tomorrow"])
    assert isinstance(wrong.exception, InputError)


@pytest.mark.parametrize("signings", [[took(0, "root")], [took(0, NPM)], [took(0, "root")] * 12])
def test_quick_events_never_bring_the_safe_day_nearer_than_the_policy_does(
    ceremony: Ceremony, signings: list[Signing]
) -> None:
    for found in look(ceremony, *signings).roles:
        planned = ceremony.workspace.policy().role(found.role)
        assert planned is not None
        assert (found.basis, found.takes) == (Basis.POLICY, planned.signing)
        # Late comes before expired, for each role.
        after_days = (found.expires - NOW).total_seconds() / 86_400 - 0.01
        assert role(look(ceremony, *signings, after_days=after_days), found.role).outlook is Outlook.LATE
