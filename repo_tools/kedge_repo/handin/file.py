"""The one file that a role's keyholders hand in (``kedge.hand-in/1``): their signing request and their responses.

::

    {"format": "kedge.hand-in/1", "request": {…kedge.request/1…}, "responses": [{…kedge.response/1…}]}

The request is the same that any keyholder signs, so that the same tool reviews and signs it. What a hand-in says is not
yet true: the repository judges it by its own signed metadata and policy (:mod:`kedge_repo.handin.check`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from kedge.document import DocumentError, Fields, load_json
from kedge_repo.request import Request, Response

__all__ = ["HANDIN_FORMAT", "HandIn"]

HANDIN_FORMAT = "kedge.hand-in/1"

V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class HandIn:
    """A request and the responses to it."""

    request: Request
    responses: tuple[Response, ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> HandIn:
        """Read a hand-in.

        Raises:
            DocumentError: it is not one; the path leads to the fault.
        """
        value = load_json(data)
        fields = Fields(value)
        fields.format(HANDIN_FORMAT)
        fields.table("request")
        responses = fields.tables("responses")
        fields.end()
        hand_in = cls(
            request=_nested("request", value["request"], Request.from_bytes),
            responses=tuple(
                _nested(f"responses[{position}]", value["responses"][position], Response.from_bytes)
                for position in range(len(responses))
            ),
        )
        if not hand_in.responses:
            fields.fail("responses", "must hold at least one response")
        return hand_in

    def to_bytes(self) -> bytes:
        """Write the hand-in as a JSON file."""
        value = {
            "format": HANDIN_FORMAT,
            "request": json.loads(self.request.to_bytes()),
            "responses": [json.loads(response.to_bytes()) for response in self.responses],
        }
        return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def _nested(place: str, value: Any, read: Callable[[bytes], V]) -> V:
    try:
        return read(json.dumps(value, ensure_ascii=False).encode("utf-8"))
    except DocumentError as error:
        raise DocumentError(f"{place}.{error.path}" if error.path else place, error.problem) from error
