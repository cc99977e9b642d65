"""The command line: one module a verb, each of which parses, calls the library, and prints.

Answers go to stdout, everything else to stderr; where a command fails, stdout stays empty.
"""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "app": ["run"],
        "plugins": ["PLAIN", "Verb", "group_of", "help_of_group"],
    },
)
