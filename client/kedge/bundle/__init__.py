"""Bundles: a repository, or what changed in it, as one file that crosses an air gap.

The format is told in docs/reference/formats.md. A bundle is transport, never trust: whoever takes one in verifies all
of it from their own anchor, and nothing that it says of itself is believed.

- :mod:`kedge.bundle.manifest`: the first line, which a transfer guard can read.
- :mod:`kedge.bundle.packing`: between a bundle's bytes and the files in it.
- :mod:`kedge.bundle.content`: what is to be carried, for whom; what stands in it, as the metadata itself says.
"""
