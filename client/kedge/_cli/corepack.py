"""``kedge corepack``: Corepack with keys that were verified just now, and pins of what was verified."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kedge._cli.export import WithoutRetired, export, say_notes, trusted_sources
from kedge._cli.options import AnchorName, Json, RequireRefresh, takes_mirrors
from kedge._cli.output import answer, answer_json, replace_file, visible
from kedge.documents import blame_user, format_time
from kedge.errors import InputError
from kedge.registries.npm import (
    DEFAULT_UPSTREAM,
    VARIABLE,
    Npmrc,
    Pin,
    Spec,
    corepack_json,
    make_pin,
    read_package_manager,
    set_package_manager,
)
from kedge.tuf import Trust

Upstreams = Annotated[
    list[str] | None,
    typer.Option(
        "--upstream",
        metavar="REGISTRY",
        help=f"The id of the registry that signs, not of its mirror: {DEFAULT_UPSTREAM} unless named. May be repeated.",
        show_default=False,
    ),
]


@takes_mirrors
def env(
    upstream: Upstreams = None,
    anchor: AnchorName = None,
    without_retired: WithoutRetired = False,
    require_refresh: RequireRefresh = False,
    json: Json = False,
) -> None:
    """Print the variable that replaces Corepack's own keys.

    For a shell: eval "$(kedge corepack env)". Where it would be stored for later, use kedge corepack exec instead.
    """
    export("corepack-env", upstream, anchor, without_retired, require_refresh=require_refresh, json=json)


@takes_mirrors
def exec_(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="What to run, with its arguments.")],
    upstream: Upstreams = None,
    anchor: AnchorName = None,
    without_retired: WithoutRetired = False,
    require_refresh: RequireRefresh = False,
) -> None:
    """Refresh the keys, and run a command that has them.

    The command takes this process's place: its exit status and its signals are its own. If the keys cannot be had, or
    are refused, it is not run.
    """
    names = upstream or [DEFAULT_UPSTREAM]
    with trusted_sources(names, anchor, require_refresh=require_refresh) as (sources, _):
        exported = corepack_json.export(sources, with_retired=not without_retired)
    say_notes(exported)
    former = os.environ.get(VARIABLE)
    if former in ("", "0"):
        sys.stderr.write(f"kedge: note: {VARIABLE} was set to {former or 'nothing'}, which checks nothing: replaced\n")
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(command[0], command, {**os.environ, VARIABLE: exported.content.decode().strip()})  # noqa: S606 what the user asked for
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{command[0]}: cannot be run: {reason}", hint="give a program that is on the PATH") from error


@takes_mirrors
def pin(
    spec: Annotated[
        str | None,
        typer.Argument(metavar="SPEC", help="Such as pnpm@10.1.0 or pnpm@latest; else what package.json names."),
    ] = None,
    manifest: Annotated[
        Path, typer.Option("--package-json", metavar="FILE", help="The package.json to pin it in.")
    ] = Path("package.json"),
    registry: Annotated[
        str | None,
        typer.Option(
            "--registry",
            metavar="URL",
            help="Where to get it from; else COREPACK_NPM_REGISTRY, or the registry of .npmrc.",
            show_default=False,
        ),
    ] = None,
    upstream: Annotated[
        str, typer.Option("--upstream", metavar="REGISTRY", help="The id of the registry that signs.")
    ] = DEFAULT_UPSTREAM,
    anchor: AnchorName = None,
    strict: Annotated[bool, typer.Option("--strict", help="Take no signature of a retired key.")] = False,
    require_refresh: RequireRefresh = False,
    json: Json = False,
) -> None:
    """Pin a package manager to the bytes that its registry signed.

    Corepack checks a hash in packageManager, and then no signature. So the signature is verified here, and the hash
    is of the bytes that were verified. Only that one value of package.json changes.
    """
    from kedge.registries.npm import PackageMirror, choose_registry

    path, data = _read(manifest)
    with blame_user(str(manifest)):
        former = read_package_manager(data)
    wanted = _spec(spec, former, manifest)
    with blame_user("the settings of npm and Corepack"):
        source = choose_registry(wanted.package, _npmrc(path.parent), os.environ, registry=registry)
    with trusted_sources([upstream], anchor, require_refresh=require_refresh) as ((issuer,), (trust,)):
        keys = issuer.keys
    with PackageMirror(source) as mirror:
        made = make_pin(wanted, mirror, keys, strict=strict)
    changed = set_package_manager(data, made.reference)
    if changed != data:
        replace_file(path, changed, mode=stat.S_IMODE(path.stat().st_mode))
    if json:
        answer_json(_document(made, manifest, former, source.url, trust))
        return
    for note in made.notes:
        sys.stderr.write(f"kedge: note: {visible(note)}\n")
    answer([made.reference])


def _read(manifest: Path) -> tuple[Path, bytes]:
    try:
        path = manifest.resolve(strict=True)
        return path, path.read_bytes()
    except OSError as error:
        text = f"{manifest}: cannot be read: {(error.strerror or str(error)).lower()}"
        raise InputError(text, hint="run it beside a package.json, or name one with --package-json") from error


def _spec(text: str | None, former: str | None, manifest: Path) -> Spec:
    if text is not None:
        with blame_user("SPEC"):
            return Spec.parse(text)
    if former is None:
        raise InputError(f"{manifest}: names no packageManager", hint="name one: kedge corepack pin pnpm@10.1.0")
    with blame_user(f"{manifest}: packageManager"):
        return Spec.parse(former)


def _npmrc(project: Path) -> list[Npmrc]:
    from kedge.registries.npm import parse_npmrc

    users = Path(os.environ.get("NPM_CONFIG_USERCONFIG") or Path.home() / ".npmrc")
    found = []
    for path in dict.fromkeys((project / ".npmrc", users)):
        try:
            found.append(parse_npmrc(path.read_text("utf-8"), is_users=path == users))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return found


def _document(made: Pin, manifest: Path, former: str | None, source: str, trust: Trust) -> dict[str, Any]:
    return {
        "format": "kedge.corepack-pin/1",
        "package_manager": made.reference,
        "former": former,
        "file": str(manifest),
        "package": made.spec.package,
        "version": made.spec.version,
        "tag": made.spec.tag,
        "hashed": made.spec.file or "the tarball",
        "integrity": made.integrity,
        "registry": source,
        "keyid": made.evidence.key.id,
        "key_status": made.evidence.key.status.value,
        "published": format_time(made.published) if made.published is not None else None,
        "target": made.evidence.target,
        "target_sha256": made.evidence.target_sha256,
        "anchor": trust.anchor,
        "notes": list(made.notes),
    }
