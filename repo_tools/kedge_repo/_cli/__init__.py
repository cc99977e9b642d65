"""The command line of ``kedge-repo``: one module a verb; each parses, calls a function of the library, and prints."""
