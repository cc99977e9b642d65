"""Frames as QR codes: images beside each other, or on the terminal (extra ``qr``)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kedge._cli.outfile import replace_file
from kedge.errors import InputError, StoreError

__all__ = ["TERMINAL", "codes_on_terminal", "write_codes"]

TERMINAL = "-"
_KINDS = {".png": "png", ".svg": "svg"}


def write_codes(path: Path, frames: Sequence[str]) -> list[Path]:
    """Write an image a frame: ``path`` itself, or, where there are several, its name with ``-1``, ``-2`` and so on.

    Raises:
        InputError: the name is neither of a PNG nor of an SVG file.
        StoreError: segno is not installed, or a file cannot be written.
    """
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: QR codes are written as .png or .svg", hint="or name - to show them on the terminal")
    written: list[Path] = []
    for number, code in enumerate(_codes(frames), 1):
        place = path if len(frames) == 1 else path.with_stem(f"{path.stem}-{number}")
        image = io.BytesIO()
        code.save(image, kind=kind, scale=4, border=4)
        replace_file(place, image.getvalue())
        written.append(place)
    return written


def codes_on_terminal(frames: Sequence[str]) -> list[str]:
    """The lines of all codes, each below its number.

    Raises:
        StoreError: segno is not installed.
    """
    lines: list[str] = []
    for number, code in enumerate(_codes(frames), 1):
        drawn = io.StringIO()
        code.terminal(drawn, compact=True)
        lines += [f"{number} of {len(frames)}", *drawn.getvalue().rstrip("\n").split("\n"), ""]
    return lines


def _codes(frames: Sequence[str]) -> list[Any]:
    try:
        import segno  # the extra
    except ModuleNotFoundError as error:
        raise StoreError("QR codes need the Python package segno", hint="pip install 'kedge[qr]'") from error
    return [segno.make(frame, error="m", boost_error=False, micro=False) for frame in frames]
