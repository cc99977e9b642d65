"""Is this machine fit to refresh and verify? What ``kedge doctor`` looks at, as findings.

A note is a fact, a warning works today and may not tomorrow, an error is what a command would stumble over. Nothing is
changed and nothing is kept: mirrors are asked for one small file, whose content is not judged here.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

from kedge import tuf
from kedge.client import (
    Anchor,
    Clock,
    TrustClient,
    anchor_for_registry,
    anchor_names,
    load_anchor,
    read_settings,
    unknown_variables,
)
from kedge.documents import format_time
from kedge.errors import ExpiredError, KedgeError, StoreError, extra_hint
from kedge.registries import Finding, Severity
from kedge.transport import Deadline, Mirror, open_mirror
from kedge.tuf import Area, Fetch, Limits, Missing

SOFTWARE = ("kedge", "tuf", "securesystemslib", "cryptography", "urllib3")
PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")
MIRROR_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where to look: the folders, the environment, the clock.

    ``anchor`` is the one to look at, None all of them; ``ask_mirrors`` is false where nothing may be asked.
    """

    config_folder: Path
    state_folder: Path
    environment: Mapping[str, str]
    clock: Clock
    anchor: str | None
    ask_mirrors: bool


def diagnose(machine: Machine) -> Iterator[Finding]:
    """Look at everything, and go on after each fault. The rules' first parts are the areas, in order."""
    yield from _software()
    yield from _extras()
    yield from _configuration(machine)
    yield from _state_folder(machine)
    found: list[Anchor] = []
    for name in anchor_names(machine.config_folder) if machine.anchor is None else [machine.anchor]:
        try:
            found.append(load_anchor(name, machine.config_folder))
        except KedgeError as error:
            yield _fault("anchor/unreadable", f"anchor {name}", error)
    yield from _claims(found, machine)
    for anchor in found:
        yield from _trust(anchor, machine)
        if machine.ask_mirrors:
            for mirror in anchor.mirrors:
                yield _mirror(anchor, mirror)


def _software() -> Iterator[Finding]:
    yield _note("software/version", "Python", platform.python_version())
    for name in SOFTWARE:
        try:
            yield _note("software/version", name, metadata.version(name))
        except metadata.PackageNotFoundError:
            hint = f"pip install {name}"
            yield Finding(
                rule="software/missing", severity=Severity.ERROR, place=name, message="is not installed", hint=hint
            )


def _extras() -> Iterator[Finding]:
    for extra, missing in sorted(_missing_by_extra("kedge").items()):
        if missing:
            hint = f"if you need it: {extra_hint(extra)}"
            text = f"is not installed ({', '.join(sorted(missing))})"
            yield Finding(rule="extra/missing", severity=Severity.NOTE, place=extra, message=text, hint=hint)
        else:
            yield _note("extra/present", extra, "is installed")


def _missing_by_extra(package: str) -> dict[str, set[str]]:
    """For each extra of an installed package the requirements that are not installed, one level down as well."""
    found: dict[str, set[str]] = {}
    for line in metadata.requires(package) or ():
        match = re.match(r"""([A-Za-z0-9._-]+)(?:\[([A-Za-z0-9_-]+)\])?.*extra\s*==\s*["']([A-Za-z0-9_-]+)["']""", line)
        if match is None:
            continue
        name, inner, extra = match.groups()
        missing = found.setdefault(extra, set())
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.add(name)
        else:
            missing.update(_missing_by_extra(name).get(inner, ()) if inner else ())
    return found


def _configuration(machine: Machine) -> Iterator[Finding]:
    place = str(machine.config_folder)
    try:
        settings = read_settings(machine.config_folder, machine.environment)
        names = anchor_names(machine.config_folder)
    except KedgeError as error:
        yield _fault("config/unreadable", place, error)
        return
    yield _note("config/read", place, f"can be read; anchors: {', '.join(names)}")
    chosen = settings.anchor
    if chosen.value is not None and chosen.value not in names:
        text = f"{chosen.origin} names the anchor {chosen.value}, and there is none of that name"
        hint = f"anchors: {', '.join(names)}"
        yield Finding(rule="config/no-such-anchor", severity=Severity.ERROR, place=place, message=text, hint=hint)
    for name, nearest in unknown_variables(machine.environment).items():
        perhaps = f"perhaps {nearest} is meant" if nearest is not None else None
        text = "is set, and is no variable that kedge reads"
        yield Finding(rule="config/unknown-variable", severity=Severity.WARNING, place=name, message=text, hint=perhaps)
    for name in PROXIES:
        value = machine.environment.get(name)
        if value:
            yield _note("config/proxy", name, f"is set: {_without_credentials(value)}")


def _state_folder(machine: Machine) -> Iterator[Finding]:
    folder = machine.state_folder
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        yield _note("state/writable", str(folder), "can be written")
    else:
        yield Finding(
            rule="state/not-writable",
            severity=Severity.WARNING,
            place=str(folder),
            message="cannot be written: what is accepted is not remembered, and nothing guards against a rollback",
            hint="mend the permissions, or set KEDGE_STATE_DIR to a folder of this user",
        )


def _claims(found: list[Anchor], machine: Machine) -> Iterator[Finding]:
    for registry in sorted({each for anchor in found for each in anchor.registries}):
        try:
            anchor_for_registry(registry, machine.config_folder)
        except KedgeError as error:
            yield _fault("anchor/two-claimants", registry, error)


def _trust(anchor: Anchor, machine: Machine) -> Iterator[Finding]:
    place = f"anchor {anchor.name}"
    now = machine.clock.now()
    if anchor.not_before is not None and now < anchor.not_before:
        text = f"this machine's clock says {format_time(now)}, which is before {format_time(anchor.not_before)}"
        yield Finding(rule="clock/behind", severity=Severity.ERROR, place=place, message=text, hint="set the clock")
    folder = machine.state_folder / anchor.name
    if not folder.exists():
        yield _note("trust/none", place, "nothing is stored yet: the first refresh starts from the initial root")
        return
    try:
        with TrustClient(anchor, state=folder, clock=machine.clock) as client:
            trust = client.status()
    except ExpiredError as error:
        yield Finding(
            rule="trust/expired",
            severity=Severity.WARNING,
            place=place,
            message=error.message,
            hint="kedge refresh brings newer metadata, if the repository has any",
        )
    except StoreError as error:
        yield Finding(
            rule="trust/incomplete", severity=Severity.WARNING, place=place, message=error.message, hint=error.hint
        )
    except KedgeError as error:
        yield _fault("trust/refused", place, error)
    else:
        left = tuf.describe_age(trust.valid_until - trust.reference_time) if not trust.stale else "no more"
        yield _note("trust/stored", place, f"valid until {format_time(trust.valid_until)}, {left} from now")
        for text in trust.warnings:
            yield Finding(rule="trust/warning", severity=Severity.WARNING, place=place, message=text)


def _mirror(anchor: Anchor, mirror: Mirror) -> Finding:
    rule, place = "mirror/unreachable", f"anchor {anchor.name}: {mirror.url}"
    request = Fetch(Area.METADATA, "timestamp.json", Limits().timestamp_bytes)
    began = monotonic()
    try:
        transport = open_mirror(mirror)
        try:
            data = transport.get(request, Deadline(MIRROR_TIMEOUT_S))
        finally:
            transport.close()
    except KedgeError as error:
        return _fault(rule, place, error)
    if isinstance(data, Missing):
        hint = "is the address right, and the folder of the metadata below it?"
        text = f"answers, and has no timestamp.json: {data.where}"
        return Finding(rule="mirror/no-timestamp", severity=Severity.ERROR, place=place, message=text, hint=hint)
    return _note("mirror/answers", place, f"answers in {(monotonic() - began) * 1000:.0f} ms")


def _without_credentials(value: str) -> str:
    if "@" not in value:
        return value
    parts = urlsplit(value if "://" in value else f"//{value}")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().removeprefix("//")


def _note(rule: str, place: str, message: str) -> Finding:
    return Finding(rule=rule, severity=Severity.NOTE, place=place, message=message)


def _fault(rule: str, place: str, error: KedgeError) -> Finding:
    return Finding(rule=rule, severity=Severity.ERROR, place=place, message=error.message, hint=error.hint)
