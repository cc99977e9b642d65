"""Copies every target of a repository with python-tuf, one after the other: python copy_with_python_tuf.py URL FOLDER.

The initial root comes on stdin.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tuf.api.metadata import Metadata, Targets
from tuf.ngclient import Updater

url, place = sys.argv[1:]
folder = Path(place)
for name in ("metadata", "targets"):
    (folder / name).mkdir(parents=True)
updater = Updater(
    str(folder / "metadata"),
    f"{url}/metadata/",
    str(folder / "targets"),
    f"{url}/targets/",
    bootstrap=sys.stdin.buffer.read(),
)
updater.refresh()
listed: Metadata[Targets] = Metadata.from_file(str(folder / "metadata" / "targets.json"))
for path in listed.signed.targets:
    info = updater.get_targetinfo(path)
    if info is None:
        raise SystemExit(f"{path} is listed and not found")
    updater.download_target(info)
