"""Publishing a workspace.

What to write is :mod:`kedge_repo.publish.files`, whether readers will take it :mod:`kedge_repo.publish.replay`, in
which order :mod:`kedge_repo.publish.write`, and where to :mod:`kedge_repo.publish.folder` and
:mod:`kedge_repo.publish.objectstore`.
"""
