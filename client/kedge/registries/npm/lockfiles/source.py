"""Where an entry comes from, by the text that package managers write for it: a registry, git, a folder, a URL.

Only what is surely no registry's is told apart; everything else is held against the registry.
"""

from __future__ import annotations

import re

from kedge.registries.npm.locked import Skip

_GIT = re.compile(
    r"(git([+:@]|\+?ssh:)|ssh:|(github|gitlab|bitbucket|gist):|https?://[^?#]*\.git([#?]|$)|[^@/:.][^@/:]*/[^@/:#]+(#|$)"
    r"|https://(codeload\.github\.com/[^/]+/[^/]+/(legacy\.)?tar\.gz/|gitlab\.com/.*/repository/archive"
    r"|bitbucket\.org/[^/]+/[^/]+/get/))"
)
_LOCAL = ("file:", "link:", "portal:", "root:", "exec:", "./", "../", "/", "~/")


def told_apart(text: str) -> Skip | None:
    """Say why this source is no registry; None if it may be one (a version, a range, a tag, an alias)."""
    if text.startswith("workspace:"):
        return Skip.WORKSPACE
    if text.startswith(_LOCAL):
        return Skip.LOCAL
    if _GIT.match(text):
        return Skip.GIT
    return Skip.REMOTE if text.startswith(("http:", "https:")) else None


def split_spec(text: str) -> tuple[str, str]:
    """Split ``name@rest``, where the name may begin with ``@``; the rest is empty where there is none."""
    at = text.find("@", 1)
    return (text, "") if at < 0 else (text[:at], text[at + 1 :])
