"""Where fuzzing starts: documents that are right, from what stands in this repository, and answers worth bending.

What fuzzing has found, or what is too odd to be made here, lies in ``corpus/<target>/``, a file each.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from tuf.api.metadata import Targets

from fuzz import apt_hex, listings
from kedge.mirror.bundle import to_frames
from kedge.transport.bundle_format import Carried, Summary, pack
from kedge_repo.signing.request import Request, TargetChange
from kedge_repo.workspace.metadata import Payload

__all__ = ["CORPUS", "npm_key_document", "seeds"]

REPOSITORY = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).with_name("corpus")
FORMATS = REPOSITORY / "docs" / "reference" / "formats.md"
REFERENCE = REPOSITORY / "metadata" / "reference" / "metadata"
SIGSTORE = REPOSITORY / "client" / "kedge" / "_anchors" / "sigstore" / "root.json"
CATALOGUE = REPOSITORY / "metadata" / "registries" / "registry.npmjs.org.json"

BY_ECOSYSTEM = {**apt_hex.SEEDS, **listings.SEEDS}

SHA512 = base64.b64encode(bytes(64)).decode()
PACKUMENT = {
    "name": "name",
    "dist-tags": {"latest": "1.0.0"},
    "versions": {
        "1.0.0": {
            "name": "name",
            "version": "1.0.0",
            "dist": {
                "integrity": f"sha512-{SHA512}",
                "shasum": "0" * 40,
                "signatures": [{"keyid": "SHA256:x", "sig": "MEUCIQ=="}],
            },
        }
    },
    "time": {"1.0.0": "2020-01-01T00:00:00.000Z"},
}
PACKAGE_LOCK = {
    "name": "project",
    "lockfileVersion": 3,
    "packages": {
        "": {"name": "project"},
        "node_modules/name": {
            "version": "1.0.0",
            "resolved": "https://registry.npmjs.org/name/-/name-1.0.0.tgz",
            "integrity": f"sha512-{SHA512}",
        },
    },
}
PNPM_LOCK = f"""lockfileVersion: '9.0'
packages:
  name@1.0.0:
    resolution: {{integrity: sha512-{SHA512}}}
"""
CLASSIC_LOCK = f"""# yarn lockfile v1

name@^1.0.0, "name@>=1":
  version "1.0.0"
  resolved "https://registry.yarnpkg.com/name/-/name-1.0.0.tgz#{"0" * 40}"
  integrity sha512-{SHA512}
"""
BERRY_LOCK = """__metadata:
  version: 8
  cacheKey: 10c0

"name@npm:^1.0.0":
  version: 1.0.0
  resolution: "name@npm:1.0.0"
  checksum: 10c0/00
  languageName: node
  linkType: hard
"""
BUN_LOCK = f"""{{
  "lockfileVersion": 1,
  "workspaces": {{ "": {{ "name": "project" }}, }},
  "packages": {{ "name": ["name@1.0.0", "", {{}}, "sha512-{SHA512}"], }}
}}
"""
NPMRC = "registry=https://registry.example/npm/\n@scope:registry = https://a:b@other.example\n//x/:_authToken=${T}\n"


def seeds(target: str) -> list[bytes]:
    """The documents to start from, and what lies in the target's corpus."""
    kept = sorted((CORPUS / target).iterdir()) if (CORPUS / target).is_dir() else []
    return [*_made(target), *(path.read_bytes() for path in kept)]


@cache
def npm_key_document() -> bytes:
    """A key document with npm's own keys."""
    return json.dumps(json.loads(CATALOGUE.read_bytes())["document"]).encode()


def _made(target: str) -> list[bytes]:
    match target:
        case "root" | "timestamp" | "snapshot" | "targets":
            found = [path.read_bytes() for path in sorted(REFERENCE.glob(f"*{target}.json"))]
            return [*found, SIGSTORE.read_bytes()] if target == "root" else found
        case "json":
            return [*_written().values(), b'[0,-1,true,null,"\\u00e9\\ud83d\\ude00",{"a":{}}]']
        case "npm-keys":
            return [npm_key_document(), b'{"keys":[]}']
        case "npm-custom":
            return [_written()["target-custom"]]
        case "catalogue":
            return [CATALOGUE.read_bytes(), _written()["catalogue"]]
        case "request":
            return [_request()]
        case _ if target in BY_ECOSYSTEM:
            return BY_ECOSYSTEM[target]()
        case "bundle" | "manifest" | "frames":
            return _carried(target)
        case _ if target in _TEXTS:
            return [text.encode() for text in _TEXTS[target]]
        case _:
            return [_written()[target]]


_TEXTS: dict[str, tuple[str, ...]] = {
    "lockfile": (json.dumps(PACKAGE_LOCK), PNPM_LOCK, CLASSIC_LOCK, BERRY_LOCK, BUN_LOCK),
    "lines": (f"# a comment\nname 1.0.0 sha512-{SHA512}\n@scope/name 2.0.0-rc.1 sha512-{SHA512}\n",),
    "packument": (json.dumps(PACKUMENT), json.dumps(PACKUMENT, indent=1)),
    "npmrc": (NPMRC,),
    "package-json": ('{"name":"x"}', '{\n  "packageManager": "pnpm@9.0.0",\n  "a": [{}, "\\u0000"]\n}\n', "{}"),
    "integrity": (f"sha512-{SHA512} sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=?x",),
    "package-manager": ("pnpm@9.0.0+sha512.00ff", "yarn@4.1.0", "npm@^11"),
    "http": (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 503 X\r\nRetry-After: 1\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\n{}",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
    ),
}


def _written() -> dict[str, bytes]:
    """The examples of docs/reference/formats.md: the first fenced block below each heading."""
    found: dict[str, bytes] = {}
    for part in re.split(r"^### ", FORMATS.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        heading = re.match(r"kedge\.([a-z-]+)/1|`custom\.kedge`", part)
        block = re.search(r"^```(?:json|toml)\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
        if heading and block:
            found[heading[1] or "target-custom"] = block[1].encode()
    return found


def _carried(target: str) -> list[bytes]:
    line = _bundle().partition(b"\n")[0] + b"\n"
    made = {"bundle": [_bundle()], "manifest": [_written()["bundle"], line]}
    return made.get(target) or ["\n".join(to_frames(_bundle())).encode()]


@cache
def _bundle() -> bytes:
    """A bundle of a small repository, whole; its signatures do not matter here."""
    carried = Carried(
        roots={1: b"{}", 2: b"{ }"}, timestamp=b"{}", snapshot=b"{}", roles={"targets": b"{}"}, targets={"a/b": b"1"}
    )
    versions = {"root": 2, "timestamp": 1, "snapshot": 1, "targets": 1}
    digest = hashlib.sha256(b"1").hexdigest()
    end = datetime(2026, 1, 1, tzinfo=UTC)
    return pack(carried, Summary(valid_until=end, roles=versions, targets={"a/b": digest}, signed_by={"root": ("a",)}))


def _request() -> bytes:
    payload = Payload.of("targets", Targets(version=2, expires=datetime(2026, 1, 1, tzinfo=UTC)))
    return Request(
        repository="example",
        event="npm-2025-01",
        reason="npm signs with a new key",
        payloads=(payload,),
        roots=(b"{}",),
        base={"targets": b"{}"},
        targets=(TargetChange(path="a/b.json", old=b"", new=b"new"),),
        keyholders={"0" * 64: "alice"},
    ).to_bytes()
