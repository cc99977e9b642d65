"""The main job on one machine: ceremony, verified keys, a rotation, and mirrors that lie.

Everything goes through the same functions as the commands; keys are made afresh, and nothing leaves the machine.
"""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "story": ["Act", "Line", "Report", "tell"],
    },
)
