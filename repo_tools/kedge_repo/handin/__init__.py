"""Delegated self-service: keyholders of a role hand in its next version, and the repository takes it by its policy."""

from kedge_repo.handin.check import CheckedHandIn, check_hand_in
from kedge_repo.handin.file import HandIn
from kedge_repo.handin.prepare import Wished, prepare
from kedge_repo.handin.published import read_published
from kedge_repo.handin.take import Taken, take_hand_in

__all__ = [
    "CheckedHandIn",
    "HandIn",
    "Taken",
    "Wished",
    "check_hand_in",
    "prepare",
    "read_published",
    "take_hand_in",
]
