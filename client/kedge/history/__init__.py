"""The time machine: which keys were trusted on a day, since when, by which metadata, and who signed it.

A history is made of sets of metadata that were kept: a folder of bundles, a copy that ``kedge mirror sync`` made, or a
state with ``keep_history``. Each set is verified from the verifier's own anchor, like any repository, except that it
may have expired long ago; nothing that a place says of itself is believed.

- :mod:`kedge.history.places`: the sets that a place holds.
- :mod:`kedge.history.moments`: a set, verified: a moment of the repository.
- :mod:`kedge.history.questions`: what moments answer. It is pure.
"""
