"""A small installer that trusts no mirror: what it unpacks, the registry signed, byte for byte.

python install.py NAME VERSION --registry URL [--signer ID] [--anchor NAME] [--into DIR]
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

from kedge.client.client import TrustClient
from kedge.errors import KedgeError, VerificationError
from kedge.registries.keys import KeySet
from kedge.registries.npm.judge import verify_signature

MAX_BYTES = 200 << 20


def main() -> int:
    """Install one package, or say in one line why not."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("version")
    parser.add_argument("--registry", required=True, help="where the bytes come from: a registry or any mirror of it")
    parser.add_argument("--signer", default="registry.npmjs.org", help="the registry whose keys must have signed them")
    parser.add_argument("--anchor", default="sigstore")
    parser.add_argument("--into", type=Path, default=Path("node_modules"))
    asked = parser.parse_args()
    try:
        with TrustClient(asked.anchor) as client:
            keys = client.registry_keys(asked.signer)
        data = download(asked.registry, asked.name, asked.version, keys)
        folder = unpack(data, asked.into / asked.name)
    except KedgeError as error:
        print(f"install: {error}", file=sys.stderr)
        return error.exit_code
    except (OSError, ValueError, KeyError, tarfile.TarError) as error:
        print(f"install: {asked.name}@{asked.version}: {error!r}", file=sys.stderr)
        return 1
    print(folder)
    return 0


def download(registry: str, name: str, version: str, keys: KeySet) -> bytes:
    """Get a package's archive, and give it back only if one of the registry's keys signed its digest."""
    manifest = json.loads(get(f"{registry}/{quote(name, safe='@')}/{quote(version)}"))
    dist = manifest["dist"]
    data = get(dist["tarball"])
    # The digest is computed from the bytes that will be unpacked. What the mirror says of them is never asked.
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    refused: VerificationError | None = None
    for entry in dist.get("signatures") or []:
        try:
            verify_signature(keys, name, version, integrity, keyid=entry["keyid"], signature=entry["sig"])
        except VerificationError as error:
            refused = error
        else:
            return data
    raise refused or ValueError("the registry signs everything, and this has no signature: the mirror took it away")


def unpack(data: bytes, folder: Path) -> Path:
    """Unpack an npm archive, whose files lie below one folder; nothing leaves ``folder``."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for member in archive.getmembers():
            member.name = member.name.partition("/")[2]
            if member.isfile() and member.name:
                archive.extract(member, folder, filter="data")
    return folder


def get(url: str) -> bytes:
    """Fetch a URL, at most ``MAX_BYTES`` of it."""
    with urlopen(url, timeout=30) as response:
        data: bytes = response.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{url}: is longer than {MAX_BYTES >> 20} MiB")
    return data


if __name__ == "__main__":
    sys.exit(main())
