"""How the module of a registry is found, and who is blamed for a key document."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kedge.errors import Reason, VerificationError
from kedge.registries.npm.registry import NPM
from kedge.registries.registry import Registry, find_registry, read_served_keys

NOW = datetime(2026, 8, 22, tzinfo=UTC)

FIND = """
import sys
from kedge.errors import KedgeError
from kedge.registries.registry import find_registry
try:
    print(type(find_registry(sys.argv[1])).__name__)
except KedgeError as error:
    print(type(error).__name__, error)
"""


def find_beside(folder: Path, registry: str, entry_points: str, *, package: str = "plug") -> str:
    """What is found where one more package is installed: ``folder`` stands for it on the path of a new process."""
    about = folder / f"{package}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[kedge.registries]\n{entry_points}\n")
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); {FIND}"
    done = subprocess.run([sys.executable, "-c", code, registry], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("registry", ["registry.example", "proxy.example/repo/npm", "npm/anything", ""])
def test_an_id_that_names_no_module_is_npms(registry: str) -> None:
    module: Registry = find_registry(registry)
    assert isinstance(module, NPM)
    assert module.name == "npm"


def test_the_first_segment_of_an_id_names_its_module(tmp_path: Path) -> None:
    (tmp_path / "moon.py").write_text("class Moon: pass\n")
    assert find_beside(tmp_path, "moon/base", "moon = moon:Moon") == "Moon"


@pytest.mark.parametrize("broken", ["moon = absent_module:Moon", "moon = json:Moon"])
def test_a_module_that_cannot_be_loaded_is_this_machines_fault(tmp_path: Path, broken: str) -> None:
    found = find_beside(tmp_path, "moon/base", broken)
    assert found.startswith("StoreError the registry module moon of plug cannot be loaded: ")


def test_a_second_package_cannot_take_npms_place(tmp_path: Path) -> None:
    (tmp_path / "moon.py").write_text("class Moon: pass\n")
    found = find_beside(tmp_path, "registry.example", "npm = moon:Moon")
    assert found == (
        "StoreError two installed packages offer the registry module npm: kedge.registries.npm:NPM and moon:Moon"
    )


@pytest.mark.parametrize(
    ("document", "reason", "text"),
    [
        (b"{}", Reason.MALFORMED, "registry.example/keys.json: keys: is missing"),
        (b"keys", Reason.MALFORMED, "registry.example/keys.json: is not JSON: expecting value (line 1, column 1)"),
        (
            json.dumps({"keys": []}).encode(),
            Reason.NO_KEYS,
            "registry.example/keys.json: keys: is empty: the document names no key",
        ),
    ],
)
def test_a_served_key_document_is_the_repositorys_fault(document: bytes, reason: Reason, text: str) -> None:
    with pytest.raises(VerificationError) as caught:
        read_served_keys(NPM(), document, registry="registry.example", custom=None, now=NOW)
    assert (str(caught.value), caught.value.refusal.reason) == (text, reason)
