"""A verified copy of a repository in a folder, which any TUF client can use as its repository.

- :mod:`kedge.sync.plan`: which files the copy consists of, and in which order they may appear. It is pure.
- :mod:`kedge.sync.folder`: the folder: whole files only, one writer, and what may be cleared away when.
- :mod:`kedge.sync.fetch`: many targets at once, each straight to disk.
- :mod:`kedge.sync.copy`: all of it: what ``kedge mirror sync`` does.
- :mod:`kedge.sync.serve`: the folder over HTTP, on the loopback.
"""
