"""The command line of ``kedge-repo``: one module a verb; each parses, calls a function of the library, and prints."""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "app": ["run"],
    },
)
