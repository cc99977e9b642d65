"""``pnpm@10.1.0+sha512.…``: a package manager as the field ``packageManager`` of package.json names it.

Which package holds it, and which of its bytes Corepack hashes, depends on the name and the version: Yarn 2 and later is
one file inside ``@yarnpkg/cli-dist``; everything else is the whole tarball of the package of the same name.

Source: ``config.json``, ``sources/specUtils.ts`` and ``sources/corepackUtils.ts`` of Corepack 0.30 to 0.36.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kedge.document import DocumentError

__all__ = ["Spec"]

_VERSION = r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?"
_TAG = r"[A-Za-z][A-Za-z0-9._-]{0,99}"
_HASH = r"(sha1|sha224|sha256|sha384|sha512)\.([0-9a-f]{40,128})"
_NAMES = ("npm", "pnpm", "yarn")
_DIGITS = {"sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A package manager's name, its exact version or a tag, and the hash of a former pin if there is one."""

    name: str
    version: str | None
    tag: str | None
    algorithm: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Read ``pnpm@10.1.0``, ``pnpm@10.1.0+sha512.…``, ``pnpm@latest`` or ``pnpm``, which means its tag latest.

        Raises:
            DocumentError: it is none of these; ranges are not: a pin is exact.
        """
        name, at, reference = text.partition("@")
        if name not in _NAMES:
            raise DocumentError("", f"must name npm, pnpm or yarn, as in pnpm@10.1.0, not {text[:80]!r}")
        if not at:
            return cls(name=name, version=None, tag="latest")
        if re.fullmatch(_TAG, reference, re.ASCII) is not None:
            return cls(name=name, version=None, tag=reference)
        match = re.fullmatch(rf"({_VERSION})(\+{_HASH})?", reference, re.ASCII)
        if match is None:
            raise DocumentError("", f"must be an exact version or a tag, as in {name}@10.1.0, not {text[:80]!r}")
        algorithm, digest = match[7], match[8]
        if algorithm is not None and len(digest) != _DIGITS[algorithm]:
            raise DocumentError("", f"holds a {algorithm} of {len(digest)} digits, expected {_DIGITS[algorithm]}")
        return cls(name=name, version=match[1], tag=None, algorithm=algorithm, digest=digest)

    @property
    def is_modern_yarn(self) -> bool:
        """Whether it is Yarn 2 or later. Corepack looks tags up among these, too."""
        return self.name == "yarn" and (self.version is None or int(self.version.partition(".")[0]) >= 2)

    @property
    def package(self) -> str:
        """The package that holds it."""
        return "@yarnpkg/cli-dist" if self.is_modern_yarn else self.name

    @property
    def file(self) -> str | None:
        """The file inside the package that Corepack hashes; None for the whole tarball."""
        return "bin/yarn.js" if self.is_modern_yarn else None
