"""Signers: from a key's location, a URI, to something that signs. One module a scheme.

========================================  ==================================================================
``file:PATH``                             a key file, encrypted: PKCS#8, or OpenSSH's format
``pkcs11:token=T;object=K?module-path=P``  a key on a token, through its PKCS#11 module (RFC 7512)
``ssh-agent:FINGERPRINT``                 a key that an SSH agent holds (also by its comment)
``awskms:`` ``gcpkms:`` ``azurekms:`` ``vault:``  a key that a service holds, through securesystemslib
========================================  ==================================================================

Private keys stay where they are. Passphrases and PINs come from a prompt or a file descriptor.
"""
