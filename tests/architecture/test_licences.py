"""Everything that an installation of kedge brings may be used and passed on together with it (Apache-2.0)."""

from __future__ import annotations

import re
from importlib import metadata

import pytest

# SPDX identifiers, and the older names by which packages say the same.
ALLOWED = {
    "Apache-2.0": r"apache|asl 2",
    "BSD-2-Clause": r"bsd-2|simplified bsd",
    "BSD-3-Clause": r"bsd",
    "ISC": r"isc",
    "MIT": r"mit",
    "MPL-2.0": r"mpl|mozilla public license 2\.0",
    "PSF-2.0": r"psf|python software foundation",
    "Unlicense": r"unlicense",
}
REQUIREMENT = re.compile(
    r"""([A-Za-z0-9._-]+)(?:\[([A-Za-z0-9_,-]+)\])?(?:.*;.*extra\s*==\s*["']([A-Za-z0-9_-]+)["'])?"""
)


def brought(package: str, extras: set[str], seen: dict[str, set[str]]) -> dict[str, set[str]]:
    """The installed packages that ``package`` with these extras requires, itself among them, each with its extras."""
    name = re.sub(r"[-_.]+", "-", package).lower()
    if name in seen and extras <= seen[name]:
        return seen
    seen.setdefault(name, set()).update(extras)
    for line in metadata.requires(name) or ():
        match = REQUIREMENT.match(line)
        assert match is not None, line
        required, inner, extra = match.groups()
        if extra is not None and extra not in extras:
            continue
        try:
            metadata.version(required)
        except metadata.PackageNotFoundError:
            continue  # for another platform, or an extra that is not installed here
        brought(required, set(inner.split(",")) if inner else set(), seen)
    return seen


EXTRAS = set(metadata.metadata("kedge").get_all("Provides-Extra") or ())
PACKAGES = sorted(set(brought("kedge", EXTRAS, {})))


def stated(package: str) -> str:
    """What a package says of its licence: an SPDX expression, a text, classifiers, or only the licence's own file."""
    about = metadata.metadata(package)
    classifiers = [each for each in about.get_all("Classifier") or () if each.startswith("License ::")]
    said = [*(about.get_all("License-Expression") or ()), *classifiers, *(about.get_all("License") or ())]
    if not said:
        files = [file for file in metadata.files(package) or () if file.name.upper().startswith(("LICENSE", "COPYING"))]
        said = [file.read_text().strip().partition("\n")[0] for file in files]
    return "; ".join(said)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_that_kedge_brings_has_a_licence_that_fits(package: str) -> None:
    said = stated(package).lower()
    assert any(re.search(rf"\b({pattern})", said) for pattern in ALLOWED.values()), f"{package}: {said[:200]!r}"


def test_the_walk_sees_what_everybody_gets() -> None:
    assert {"kedge", "cryptography", "securesystemslib", "tuf", "typer", "urllib3"} <= set(PACKAGES)
