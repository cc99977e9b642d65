"""OpenPGP: keyrings as key documents, clear-signed text, and what gpgv says of a signature.

apt's repositories, Maven's ``.asc`` files and npm's old signatures are OpenPGP. kedge reads the packets of a keyring
(to name its keys, to leave out revoked ones, and to write it again for other tools) and the frame of a clear-signed
text; the cryptography is gpgv's or sqv's, which the systems that these signatures are for use themselves.
"""

from __future__ import annotations

from kedge.registries.pgp.document import PGP, Gradle

__all__ = ["PGP", "Gradle"]
