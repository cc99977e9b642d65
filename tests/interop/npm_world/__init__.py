"""An npm registry on loopback, with keys and packages made at run time: what ours and the real tools are shown."""

from __future__ import annotations

from interop.npm_world.issuer import Issuer, key_document
from interop.npm_world.package import Package, packument, sri, tarball

__all__ = ["Issuer", "Package", "key_document", "packument", "sri", "tarball"]
