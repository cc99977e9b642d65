"""Transparency logs: notes, trees, proofs, and what a log of keys says. It verifies, and never writes a log.

``note`` and ``tree`` know nothing of kedge: any log in C2SP's formats can be read with them. The other modules read the
log of one repository: which roots, targets roles and registry keys its maintainers ever allowed.

Sources: C2SP's signed-note 1.0.0, tlog-checkpoint 1.0.0, tlog-cosignature 1.1.0-rc.1, tlog-tiles, tlog-proof 1,
tlog-policy and tlog-witness 1.0.0; RFC 6962 §2.1 (the tree).
"""
