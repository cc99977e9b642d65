"""YAML as lockfiles use it, and nothing beside it: mappings, lists and texts.

Every scalar is a text (``1.10`` stays what it is). Anchors, aliases and tags are refused, so is a name that stands
twice in one mapping: two readers must not see two lockfiles in the same bytes. It is built from the parser's events,
with a limit on depth, so that no input can exhaust the stack.

The parser is PyYAML's, which the extra ``yaml`` brings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from kedge.documents import DocumentError
from kedge.errors import StoreError

MAX_DEPTH = 32

Node: TypeAlias = "str | list[Node] | dict[str, Node]"


def load_all(text: str) -> list[Node]:
    """Read every document of a YAML stream.

    Raises:
        DocumentError: it is not YAML, or uses more of YAML than lockfiles do.
        StoreError: PyYAML is not installed.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise StoreError("this lockfile is YAML, which needs: pip install 'kedge[yaml]'") from error
    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        return list(_documents(yaml.parse(text, Loader=loader)))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "a character that YAML does not allow"
        place = f" (line {mark.line + 1})" if mark is not None else ""
        raise DocumentError("", f"is not YAML: {problem}{place}") from error


class _Document:
    """One document while it is built; beside each open collection stands the name that waits for its value."""

    def __init__(self) -> None:
        self.root: Node = ""
        self.stack: list[tuple[list[Node] | dict[str, Node], list[str]]] = []

    def add(self, node: Node, event: Any) -> None:
        if event.anchor is not None or getattr(event, "tag", None) is not None:
            raise _fault(event, "uses an anchor, an alias or a tag, which no lockfile needs")
        if self.stack:
            _put(*self.stack[-1], node, event)
        else:
            self.root = node
        if not isinstance(node, str):
            self.stack.append((node, []))
            if len(self.stack) > MAX_DEPTH:
                raise _fault(event, f"is nested more than {MAX_DEPTH} deep")


def _documents(events: Iterator[Any]) -> Iterator[Node]:
    from yaml import events as kinds

    document = _Document()
    for event in events:
        if isinstance(event, kinds.ScalarEvent | kinds.AliasEvent):
            document.add(getattr(event, "value", ""), event)
        elif isinstance(event, kinds.MappingStartEvent):
            document.add({}, event)
        elif isinstance(event, kinds.SequenceStartEvent):
            document.add([], event)
        elif isinstance(event, kinds.CollectionEndEvent):
            document.stack.pop()
        elif isinstance(event, kinds.DocumentEndEvent):
            yield document.root
            document = _Document()


def _put(parent: list[Node] | dict[str, Node], key: list[str], node: Node, event: Any) -> None:
    if isinstance(parent, list):
        parent.append(node)
    elif key:
        parent[key.pop()] = node
    elif not isinstance(node, str):
        raise _fault(event, "has a name that is no text")
    elif node in parent:
        raise _fault(event, f"holds the name {node[:80]!a} twice in one mapping")
    else:
        key.append(node)


def _fault(event: Any, problem: str) -> DocumentError:
    return DocumentError(f"line {event.start_mark.line + 1}", problem)
