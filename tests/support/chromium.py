"""Debian's Chromium without a screen, driven over a pipe (the DevTools protocol): what a page really does and shows.

::

    with Chromium("/usr/bin/chromium", tmp_path / "profile") as browser:
        page = browser.open(file.as_uri(), width=360, dark=True)
        assert page.evaluate("document.title") == "…"
        assert page.log == []

Each browser has a profile of its own, asks nothing of any network, and ends with the block.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["FLAGS", "Chromium", "Page"]

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip
ANSWER_S = 30.0


class Chromium:
    """A browser process."""

    def __init__(self, program: str, profile: Path) -> None:
        ours, theirs = os.pipe(), os.pipe()
        self._write, self._read, self._buffer, self._next = ours[1], theirs[0], b"", 0
        self.events: list[dict[str, Any]] = []

        def as_three_and_four() -> None:  # where the pipe is expected; in the child, before the program runs
            source, target = os.dup(ours[0]), os.dup(theirs[1])
            os.dup2(source, 3)
            os.dup2(target, 4)

        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=as_three_and_four,  # noqa: PLW1509 the test has no threads when it starts a browser
        )
        os.close(ours[0])
        os.close(theirs[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.send("Browser.close")
            self._process.wait(10)
        except (OSError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait(10)
        os.close(self._write)
        os.close(self._read)

    def open(self, url: str, *, width: int = 1200, height: int = 900, dark: bool = False) -> Page:
        """Open ``url`` in a window of its own, and wait until it is loaded."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Log", "Runtime", "Network", "Accessibility"):
            page.send(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.send("Emulation.setEmulatedMedia", features=[scheme])
        page.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        page.send("Page.navigate", url=url)
        page.wait_for("Page.loadEventFired")
        return page

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._next += 1
        message: dict[str, Any] = {"id": self._next, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        for received in self.messages():
            if received.get("id") == self._next:
                assert "error" not in received, received["error"]
                result: dict[str, Any] = received["result"]
                return result
            self.events.append(received)
        raise TimeoutError(method)

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the browser says, until it is silent for too long."""
        end = time.monotonic() + ANSWER_S
        while time.monotonic() < end:
            whole, zero, rest = self._buffer.partition(b"\0")
            if zero:
                self._buffer = rest
                yield json.loads(whole)
                continue
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self._read, 1 << 20) if ready else b""
            if not data:
                break
            self._buffer += data
        raise TimeoutError("the browser says nothing")


@dataclass
class Page:
    """A page that is open."""

    browser: Chromium
    session: str
    seen: list[dict[str, Any]] = field(default_factory=list)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to this page."""
        return self.browser.send(method, self.session, **parameters)

    def wait_for(self, event: str) -> None:
        """Wait until this page has said ``event``."""
        if any(said["method"] == event for said in self._events()):
            return
        for received in self.browser.messages():
            self.browser.events.append(received)
            if received.get("sessionId") == self.session and received.get("method") == event:
                return

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; this is the debugger's, which no policy of the page binds."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    def accessibility(self) -> list[dict[str, Any]]:
        """The nodes of the accessibility tree that are not ignored."""
        nodes: list[dict[str, Any]] = self.send("Accessibility.getFullAXTree")["nodes"]
        return [node for node in nodes if not node.get("ignored")]

    @property
    def log(self) -> list[str]:
        """What the console and the browser's log say."""
        found = []
        for said in self._events():
            if said["method"] == "Log.entryAdded":
                found.append(said["params"]["entry"]["text"])
            elif said["method"] == "Runtime.consoleAPICalled":
                found.append(str(said["params"]["args"]))
        return found

    @property
    def requests(self) -> list[str]:
        """Every URL that the page asked for."""
        return [
            said["params"]["request"]["url"] for said in self._events() if said["method"] == "Network.requestWillBeSent"
        ]

    @property
    def blocked(self) -> list[str]:
        """Why requests were not made: ``csp`` where the page's own policy forbade them."""
        return [
            said["params"].get("blockedReason", said["params"]["errorText"])
            for said in self._events()
            if said["method"] == "Network.loadingFailed"
        ]

    def _events(self) -> list[dict[str, Any]]:
        return [said for said in self.browser.events if said.get("sessionId") == self.session and "method" in said]
