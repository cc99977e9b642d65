"""Publishing a workspace.

What to write is :mod:`kedge_repo.publish.files`, whether readers will take it :mod:`kedge_repo.publish.replay`, and
where to :mod:`kedge_repo.publish.directory`.
"""
