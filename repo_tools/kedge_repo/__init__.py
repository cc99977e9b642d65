"""The maintainers' tool of kedge: signing events by threshold, offline, and publishing what they signed.

Each command of ``kedge-repo`` is one function here, for programs to call as well: :mod:`kedge_repo.found` begins a
repository, :mod:`kedge_repo.maintain` changes, signs and merges, :mod:`kedge_repo.online` and
:mod:`kedge_repo.publish` bring it to clients.
"""
