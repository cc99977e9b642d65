"""The maintainers' tool of kedge: signing events by threshold, offline, and publishing what they signed.

Each command of ``kedge-repo`` is one function here, for programs to call as well: :mod:`kedge_repo.events` begins a
repository, changes it, signs and merges; :mod:`kedge_repo.publish` signs online and brings it to clients.
"""
