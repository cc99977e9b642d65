"""An air gap: a repository and a client outside, a verifier inside, and bundles that are carried over in between."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from kedge.client.store import Store
from kedge.errors import KedgeError, Reason, VerificationError
from kedge.mirror.bundle import TakenIn, make_bundle, read_receiver, take_in
from support.world import KEYS, World

__all__ = ["Gap"]


class Gap:
    """``world`` is outside; ``inside`` is the state folder of the verifier, who never sees more than bundles."""

    def __init__(self, folder: Path, world: World) -> None:
        self.world = world
        self.folder = folder
        self.inside = folder / "inside"
        self.inside_options: dict[str, Any] = {}
        """More options for the verifier's anchor, such as ``max_staleness``."""
        self._count = 0

    def bundle(self, *targets: str, since: Path | None = None, extra: dict[str, bytes] | None = None) -> Path:
        """Make a bundle of what is published now (of :data:`KEYS`, if no targets are named)."""
        self._count += 1
        path = self.folder / f"{self._count}.kedge"
        receiver = read_receiver(since, Store(self.world.folder)) if since is not None else None
        with self.world.client() as client:
            path.write_bytes(make_bundle(client, targets or [KEYS], receiver=receiver, extra=extra))
        return path

    def spoilt(self, data: bytes) -> Path:
        """A file with these bytes, as a courier might bring it."""
        path = self.folder / "spoilt.kedge"
        path.write_bytes(data)
        return path

    def take_in(self, *paths: Path, keep: bool = True, as_of: datetime | None = None) -> TakenIn:
        """Verify a bundle inside, the last of these on those before it, and keep it."""
        anchor = self.world.anchor(**self.inside_options)
        return take_in(paths, anchor, keep=keep, state=self.inside, clock=self.world.clock, as_of=as_of)

    def files(self) -> dict[str, bytes]:
        """Everything in the verifier's state folder, but for the lock that writers hold."""
        return {
            path.relative_to(self.inside).as_posix(): path.read_bytes()
            for path in sorted(self.inside.rglob("*"))
            if path.is_file() and path.name != "lock"
        }

    def refused(
        self, path: Path, *texts: str, kind: type[KedgeError] = VerificationError, reason: Reason | None = None
    ) -> KedgeError:
        """Assert that a bundle is refused in one line, and that not a byte of the state has changed."""
        before = self.files()
        with pytest.raises(KedgeError) as caught:
            self.take_in(path)
        error = caught.value
        assert type(error) is kind, repr(error)
        assert "\n" not in str(error)
        assert str(path) in str(error)
        for text in texts:
            assert text in str(error)
        if reason is not None:
            assert isinstance(error, VerificationError)
            assert error.refusal.reason is reason
        assert self.files() == before
        return error
