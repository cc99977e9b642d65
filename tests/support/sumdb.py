"""A Go checksum database, and a module proxy beside it, made in memory: honest, signed by whatever keys a test says.

::

    world = GoWorld("sum.example", [new_key("sum.example")])
    world.add("example.com/a", "v1.0.0", {"a.go": b"package a\\n"})
    with HostileServer(world.files) as server: ...        # /sumdb/…, /proxy/…
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kedge.registries.go.sumdb import tile_path
from kedge.registries.go.sumfile import escaped
from kedge.tlog.note import Note, NoteSignature, SignatureKind, VerifierKey
from kedge.tlog.tree import build_tiles, leaf_hash, root_hash

__all__ = ["GoWorld", "LogKey", "new_key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKey:
    """A key that signs tree heads."""

    private: Ed25519PrivateKey
    public: VerifierKey

    @property
    def vkey(self) -> str:
        return self.public.to_text()

    @property
    def id(self) -> str:
        return f"{self.public.name}+{self.public.id.hex()}"

    def sign(self, text: str) -> NoteSignature:
        return NoteSignature(name=self.public.name, key_id=self.public.id, signature=self.private.sign(text.encode()))


def new_key(name: str, seed: bytes | None = None) -> LogKey:
    """A key of that name, from 32 bytes where it must be the same each time."""
    private = Ed25519PrivateKey.generate() if seed is None else Ed25519PrivateKey.from_private_bytes(seed)
    raw = private.public_key().public_bytes_raw()
    return LogKey(private=private, public=VerifierKey(name=name, kind=SignatureKind.ED25519, public=raw))


@dataclass
class GoWorld:
    """The database and the proxy. ``files`` is what they serve: it is made anew by :meth:`publish`."""

    name: str
    keys: list[LogKey]
    records: list[bytes] = field(default_factory=list)
    sums: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    _modules: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, path: str, version: str, files: Mapping[str, bytes]) -> None:
        """Release a module: the proxy serves it, and the database records its two hashes."""
        mod = f"module {path}\n\ngo 1.19\n".encode()
        archive = zip_of({f"{path}@{version}/{name}": data for name, data in {"go.mod": mod, **files}.items()})
        base = f"proxy/{escaped(path)}/@v/{escaped(version)}"
        self.files[f"{base}.info"] = json.dumps({"Version": version}).encode()
        self.files[f"{base}.mod"], self.files[f"{base}.zip"] = mod, archive
        lines = [f"{path} {version} {hash_of(archive)}", f"{path} {version}/go.mod {h1({'go.mod': mod})}"]
        self.record(path, version, lines)

    def record(self, path: str, version: str, lines: Sequence[str]) -> None:
        """Put a record into the database, whatever it says."""
        self._modules[path, version] = len(self.records)
        self.records.append("".join(f"{line}\n" for line in lines).encode())
        self.sums += lines

    def fill(self, count: int) -> None:
        """Records of modules that nobody asks for, so that the tree has some size."""
        for number in range(count):
            text = f"example.com/filler v1.0.{number} {h1({'n': str(number).encode()})}"
            self._modules["example.com/filler", f"v1.0.{number}"] = len(self.records)
            self.records.append(f"{text}\n".encode())

    def cut(self, size: int) -> None:
        """Forget all records but the first ``size``, as a database never does."""
        del self.records[size:]
        for (path, version), number in list(self._modules.items()):
            if number >= size:
                del self._modules[path, version]
                self.files.pop(f"sumdb/lookup/{escaped(path)}@{escaped(version)}", None)

    def head(self, size: int | None = None, keys: Sequence[LogKey] | None = None) -> bytes:
        """The tree head over the first ``size`` records (default: all), signed."""
        hashes = [leaf_hash(record) for record in self.records[:size]]
        root = base64.b64encode(root_hash(hashes)).decode()
        text = f"go.sum database tree\n{len(hashes)}\n{root}\n"
        return Note(text=text, signatures=tuple(key.sign(text) for key in keys or self.keys)).to_bytes()

    def publish(self, *, stale_lookups: Mapping[tuple[str, str], int] | None = None) -> None:
        """Serve all records under today's head; ``stale_lookups`` name modules whose answer bears an older one."""
        head = self.head()
        self.files["sumdb/latest"] = head
        for (path, version), number in self._modules.items():
            size = (stale_lookups or {}).get((path, version))
            text = self.records[number]
            answer = b"%d\n%b\n%b" % (number, text, head if size is None else self.head(size))
            self.files[f"sumdb/lookup/{escaped(path)}@{escaped(version)}"] = answer
        for tile, data in build_tiles([leaf_hash(record) for record in self.records]):
            self.files[f"sumdb/{tile_path(tile)}"] = data


def h1(files: Mapping[str, bytes]) -> str:
    """Go's hash of a set of files."""
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())]
    return "h1:" + base64.b64encode(hashlib.sha256("".join(lines).encode()).digest()).decode()


def hash_of(archive: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return h1({name: opened.read(name) for name in opened.namelist()})


def zip_of(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data)
    return out.getvalue()
