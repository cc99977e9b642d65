"""From a key's location (a URI) to something that signs.

A location stands on the command line, which is this user's, or in ``kedge-repo.toml``, which others may write. What the
policy names is never run, and read only where it can be no other than the keyholder's own key:

- ``pkcs11:`` a module is a program: see :mod:`kedge_repo.signing.signers.token`.
- ``file:`` only an ordinary file is opened, and it signs only if it is the private half of the keyholder's public key.
- ``awskms:`` … are names of keys; hosts and credentials are those of this user's environment. A location that names
  a host (``azurekms:``) can name the service's own hosts only.
- ``ssh-agent:`` names a key of the user's own agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from securesystemslib.signer import Key, Signer

from kedge.errors import InputError
from kedge_repo.signing.signers import agent, kms, token
from kedge_repo.signing.signers.keyfile import KeyProtection, open_file
from kedge_repo.signing.signers.secret import Passphrase
from kedge_repo.signing.signers.token import NamedBy
from kedge_repo.workspace import Workspace, fingerprint

SCHEMES = ("file", "pkcs11", "ssh-agent", *kms.PROVIDERS)


def open_signer(
    location: str,
    passphrase: Passphrase,
    *,
    public: Key | None = None,
    protection: KeyProtection = KeyProtection.ENCRYPTED,
    folder: Path | None = None,
    named_by: NamedBy = NamedBy.USER,
) -> Signer:
    """Open the private key at ``location``; with ``public``, it must be the private half of that key.

    A relative file path is taken from ``folder`` (default: the working folder).

    Raises:
        InputError: there is no such key, it cannot be opened, it is another key than ``public``, or a Python package
            that this scheme needs is not installed.
        FetchError: a key service could not be reached, or refused.
        VerificationError: the location names a program that may not be run.
    """
    scheme, separator, rest = location.partition(":")
    if not separator or not rest or scheme not in SCHEMES:
        raise InputError(
            f"{location}: is not a key location that this kedge-repo opens",
            hint=f"expected {', '.join(f'{name}:' for name in SCHEMES[:-1])} or {SCHEMES[-1]}:",
        )
    if scheme == "file":
        where = str((folder or Path()) / Path(rest).expanduser())
        if named_by is NamedBy.SHARED_FILE and Path(where).exists() and not Path(where).is_file():
            raise InputError(f"{where}: is not an ordinary file, expected a key file")
        signer = open_file(Path(where), passphrase, protection)
    else:
        where = location
        if scheme == "pkcs11":
            signer = token.open_token(location, passphrase, public, named_by=named_by)
        elif scheme == "ssh-agent":
            signer = agent.open_agent(rest)
        else:
            signer = kms.open_service(location, public)
    if public is not None and fingerprint(signer.public_key) != fingerprint(public):
        raise InputError(
            f"{where}: is another key than expected: its fingerprint is {fingerprint(signer.public_key)}, "
            f"expected {fingerprint(public)}"
        )
    return signer


def open_keyholders(
    workspace: Workspace,
    names: Sequence[str],
    passphrase: Passphrase,
    *,
    protection: KeyProtection = KeyProtection.ENCRYPTED,
) -> tuple[Signer, ...]:
    """Open the keys of keyholders at the locations that the policy names.

    Raises:
        InputError: the policy has no such keyholder, or no location for one, or a key there cannot be opened.
        VerificationError: a location names a program that may not be run.
        FetchError: a key service could not be reached, or refused.
    """
    policy = workspace.policy()
    public = workspace.keys(policy)
    signers: list[Signer] = []
    for name in names:
        if name not in policy.keyholders:
            raise InputError(f'kedge-repo.toml: keyholders: there is no keyholder "{name}"')
        location = policy.keyholders[name].location
        if location is None:
            raise InputError(
                f"kedge-repo.toml: keyholders.{name}.location: is missing", hint="name the key with --key URI"
            )
        signers.append(
            open_signer(
                location,
                passphrase,
                public=public[name],
                protection=protection,
                folder=workspace.root,
                named_by=NamedBy.SHARED_FILE,
            )
        )
    return tuple(signers)
