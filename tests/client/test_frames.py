"""A bundle as the texts of QR codes, and back."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.documents import DocumentError
from kedge.mirror.bundle import FRAME_CHARS, from_frames, to_frames

DATA = bytes(range(256)) * 8


@given(st.binary(min_size=1, max_size=4000), st.randoms())
def test_frames_give_the_file_back_in_any_order_and_read_twice(data: bytes, chance: random.Random) -> None:
    frames = to_frames(data)
    shuffled = frames + frames[:2]
    chance.shuffle(shuffled)
    assert from_frames(shuffled) == data


def test_a_frame_fits_a_code_and_its_alphabet() -> None:
    frames = to_frames(DATA)
    assert len(frames) > 2
    assert all(len(frame) <= FRAME_CHARS and re.fullmatch(r"[0-9A-Z $%*+./:-]+", frame) for frame in frames)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda frames: frames[:0], "holds no frame of a bundle"),
        (lambda frames: frames[1:], "lacks frame 1 of"),
        (
            lambda frames: [*frames, "https://shop.example/"],
            "holds what is no frame of a bundle: https://shop.example/",
        ),
        (lambda frames: [*frames, *to_frames(b"other")], "holds frames of two bundles"),
        (lambda frames: [*frames, frames[0][:-1]], "holds frames of two bundles"),
        (lambda frames: [frames[0][:-1] + ("A" if frames[0][-1] != "A" else "B"), *frames[1:]], "read wrongly"),
        (lambda frames: [frame.lower() for frame in frames], "holds what is no frame"),
        (lambda frames: [frames[0].replace(":1/", ":9/"), *frames[1:]], "holds frames of two bundles"),
    ],
)
def test_what_was_read_wrongly_is_refused(spoil: object, text: str) -> None:
    assert callable(spoil)
    with pytest.raises(DocumentError, match=re.escape(text)):
        from_frames(spoil(to_frames(DATA)))


def test_what_needs_too_many_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="are more than 9999 frames hold"):
        to_frames(bytes(6_000_000))
