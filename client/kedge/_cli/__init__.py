"""The command line: one module a verb, each of which parses, calls the library, and prints.

Answers go to stdout, everything else to stderr; where a command fails, stdout stays empty.
"""
