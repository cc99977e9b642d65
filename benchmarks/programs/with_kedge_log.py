"""Refreshes with kedge, as a whole process: PROGRAM URL FOLDER off|require.

FOLDER holds root.json, the initial root, policy, the log policy that is pinned, and the state.
"""

import sys
from pathlib import Path

from kedge.client.anchor import Anchor, Transparency
from kedge.client.client import TrustClient
from kedge.transport.mirror import Mirror

url, folder, mode = sys.argv[1], Path(sys.argv[2]), Transparency(sys.argv[3])
anchor = Anchor(
    name="bench",
    initial_root=(folder / "root.json").read_bytes(),
    mirrors=(Mirror(url=url),),
    transparency=mode,
    log_policy=(folder / "policy").read_text(),
)
with TrustClient(anchor, state=folder / f"state-{mode}") as client:
    client.refresh()
