"""A private copy of npm whose TUF mirror and first root are other ones.

npm has no option for its TUF mirror. So this copies the installed package and changes three things in the copy, and
nothing else: the constant ``DEFAULT_MIRROR_URL`` of @sigstore/tuf, the root that is seeded for it in ``seeds.json``,
and the targets that are seeded beside that root, which are left out.
"""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

__all__ = ["private_npm"]

CONSTANT = "exports.DEFAULT_MIRROR_URL = 'https://tuf-repo-cdn.sigstore.dev';"


def private_npm(modules: Path, folder: Path, *, mirror: str, root: bytes) -> list[str]:
    """Copy the npm of ``modules`` to ``folder``, let it start from ``root`` and ask ``mirror``; give its command."""
    shutil.copytree(modules / "npm", folder / "npm", symlinks=True)
    tuf = folder / "npm" / "node_modules" / "@sigstore" / "tuf"
    index = tuf / "dist" / "index.js"
    text = index.read_text()
    assert text.count(CONSTANT) == 1, "npm's package @sigstore/tuf has changed"
    index.write_text(text.replace(CONSTANT, f"exports.DEFAULT_MIRROR_URL = {json.dumps(mirror)};"))
    seed = {"root.json": base64.b64encode(root).decode(), "targets": {}}
    (tuf / "seeds.json").write_text(json.dumps({mirror: seed}))
    return [str(modules / ".bin" / "node"), str(folder / "npm" / "bin" / "npm-cli.js")]
