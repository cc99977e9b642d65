"""``awskms:``, ``gcpkms:``, ``azurekms:``, ``vault:``: keys that a service holds, through securesystemslib's signers.

====================================================  =====================================================
``awskms:KEY``                                        a key id, ARN or alias; credentials as boto3 finds them
``gcpkms:projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N``  application default credentials
``azurekms://VAULT.vault.azure.net/keys/KEY/VERSION``  credentials as azure-identity finds them
``vault:KEY/VERSION``                                 the transit engine; ``VAULT_ADDR`` and ``VAULT_TOKEN``
====================================================  =====================================================

The service signs; the payload, or its digest, goes there. What it says is checked like any other signature. Its faults
are the network's (``FetchError``): try again, or look at the credentials.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from securesystemslib.exceptions import Error as LibraryError
from securesystemslib.signer import (
    AWSSigner,
    AzureSigner,
    GCPSigner,
    Key,
    SecretsHandler,
    Signature,
    Signer,
    SSlibKey,
    VaultSigner,
)

from kedge.documents import DocumentError
from kedge.errors import FetchError, InputError
from kedge_repo.workspace import algorithm, load_extra, to_pem


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One service: securesystemslib's signer and URI scheme, the packages that it needs, the errors they raise."""

    signer: Any
    scheme: str
    modules: tuple[str, ...]
    errors: tuple[tuple[str, str], ...]


PROVIDERS: Mapping[str, Provider] = {
    "awskms": Provider(
        signer=AWSSigner,
        scheme="awskms",
        modules=("boto3", "botocore"),
        errors=(("botocore.exceptions", "BotoCoreError"), ("botocore.exceptions", "ClientError")),
    ),
    "gcpkms": Provider(
        signer=GCPSigner,
        scheme="gcpkms",
        modules=("google.cloud.kms",),
        errors=(("google.api_core.exceptions", "GoogleAPIError"), ("google.auth.exceptions", "GoogleAuthError")),
    ),
    "azurekms": Provider(
        signer=AzureSigner,
        scheme="azurekms",
        modules=("azure.identity", "azure.keyvault.keys"),
        errors=(("azure.core.exceptions", "AzureError"),),
    ),
    "vault": Provider(
        signer=VaultSigner,
        scheme="hv",
        modules=("hvac",),
        errors=(("hvac.exceptions", "VaultError"), ("requests.exceptions", "RequestException")),
    ),
}


def open_service(location: str, public: Key | None = None) -> Signer:
    """Find the key at ``location``; without ``public`` the service is asked for it.

    Raises:
        InputError: a package is missing, or the location or the key is not one that the service's signer takes.
        FetchError: the service could not be reached, or refused.
    """
    scheme, _, rest = location.partition(":")
    provider = PROVIDERS[scheme]
    if scheme == "azurekms" and _AZURE.fullmatch(rest) is None:  # the host would be sent this user's token
        raise InputError(f"{location}: expected azurekms://VAULT.vault.azure.net/keys/KEY/VERSION")
    for module in provider.modules:
        load_extra(module, extra=scheme, what=location)
    faults = _faults(provider, scheme)
    try:
        if not isinstance(public, SSlibKey):
            uri, public = provider.signer.import_(*_import_arguments(scheme, rest))
        else:
            uri = f"{provider.scheme}:{rest}"
        to_pem(public)
        signer = provider.signer.from_priv_key_uri(uri, public)
    except faults as error:
        raise FetchError(f"{location}: the service cannot be used: {_one_line(error)}") from error
    except (LibraryError, DocumentError, ValueError, KeyError) as error:
        raise InputError(f"{location}: {_one_line(error)}") from error
    if algorithm(public) not in {"Ed25519", "ECDSA P-256"}:
        raise InputError(f"{location}: must be an Ed25519 or ECDSA P-256 key, not {algorithm(public)}")
    return ServiceSigner(location, signer, faults)


class ServiceSigner(Signer):
    """A signer of securesystemslib's, whose faults become ours."""

    def __init__(self, location: str, signer: Signer, faults: tuple[type[Exception], ...]) -> None:
        """Sign with ``signer``; ``faults`` are what its service's package raises."""
        self._location = location
        self._signer = signer
        self._faults = faults

    @property
    def public_key(self) -> Key:
        """The public key."""
        return self._signer.public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> Signer:
        """Find the key by its URI, as securesystemslib asks for one.

        Raises:
            InputError, FetchError: as :func:`open_service`.
        """
        del secrets_handler
        return open_service(priv_key_uri, public_key)

    def sign(self, payload: bytes) -> Signature:
        """Let the service sign ``payload``.

        Raises:
            FetchError: it could not be reached, or refused.
        """
        faults: tuple[type[Exception], ...] = (*self._faults, LibraryError)
        try:
            return self._signer.sign(payload)
        except faults as error:
            raise FetchError(f"{self._location}: the service did not sign: {_one_line(error)}") from error


_AZURE = re.compile(r"//[A-Za-z0-9-]+\.vault\.azure\.net/keys/[A-Za-z0-9-]+(/[A-Za-z0-9]*)?", re.ASCII)


def _import_arguments(scheme: str, rest: str) -> tuple[str, ...]:
    if scheme == "azurekms":
        host, _, path = rest.removeprefix("//").partition("/")
        return host.removesuffix(".vault.azure.net"), path.split("/")[1]
    return (rest.partition("/")[0],) if scheme == "vault" else (rest,)


def _faults(provider: Provider, scheme: str) -> tuple[type[Exception], ...]:
    return tuple(getattr(load_extra(module, extra=scheme, what=scheme), name) for module, name in provider.errors)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
