"""``pkcs11:``: a key on a token (an HSM, a smart card), through the token's PKCS#11 module.

The URI is RFC 7512's: ``pkcs11:token=LABEL;object=LABEL?module-path=/usr/lib/….so``, with ``id=%01`` instead of, or
beside, ``object``. The PIN is asked for (or read from a descriptor) once; a wrong one is tried once, for a token locks
itself after a few.

A module is a program, which runs as this user as soon as it is loaded. So its path comes from this user: from
``--key``, or from the environment (``KEDGE_PKCS11_MODULE``), which goes before the URI. A file that others may write,
such as ``kedge-repo.toml``, can only name a module in a folder of the system, where an administrator has put it. A
relative path is refused wherever it stands.

ECDSA P-256 and Ed25519. A token signs a digest and gives ``r || s``, which is written as DER; Ed25519 is signed whole.

Sources: RFC 7512; PKCS#11 2.40 §2.3.1, 3.0 §2.3.14.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from securesystemslib.signer import Key, SecretsHandler, Signature, Signer, SSlibKey

from kedge.errors import InputError, Reason, Refusal, VerificationError
from kedge_repo.signing.signers.secret import Passphrase
from kedge_repo.workspace import from_crypto, load_extra

_P256_OID = bytes.fromhex("06082a8648ce3d030107")
_ED25519_PARAMS = (b"\x13\x0cedwards25519", bytes.fromhex("06032b6570"))
_OCTET_STRING = 0x04


class NamedBy(Enum):
    """Who wrote a key's location: this user, now, on the command line; or a file that others may write."""

    USER = "user"
    SHARED_FILE = "shared-file"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUri:
    """What a PKCS#11 URI names: the module, the token, and the key by label or id."""

    text: str
    module: str | None
    token: str
    label: str | None
    id: bytes | None

    @classmethod
    def parse(cls, text: str) -> TokenUri:
        """Read a URI.

        Raises:
            InputError: it does not name token and key; it holds a PIN; or it holds what is not known here.
        """
        path, _, query = text.partition(":")[2].partition("?")
        found = _attributes(text, path, ";") | _attributes(text, query, "&")
        for name in found.keys() & {"pin-value", "pin-source"}:
            raise InputError(
                f"pkcs11: {name} does not belong into a key location, where others can read it",
                hint="the PIN is asked for; or give it with --passphrase-fd",
            )
        for name in found.keys() - {"token", "object", "id", "type", "module-path"}:
            raise InputError(f"{text}: {name} is not known here: token, object, id and module-path are")
        if not found.get("token"):
            raise InputError(f"{text}: does not name the token", hint=_EXAMPLE)
        if not found.get("object") and not found.get("id"):
            raise InputError(f"{text}: does not name the key, by object or id", hint=_EXAMPLE)
        return cls(
            text=text,
            module=unquote(found["module-path"]) if found.get("module-path") else None,
            token=unquote(found["token"]),
            label=unquote(found["object"]) if "object" in found else None,
            id=unquote_to_bytes(found["id"]) if "id" in found else None,
        )


_EXAMPLE = "for example pkcs11:token=kedge;object=alice?module-path=/usr/lib/softhsm/libsofthsm2.so"


SYSTEM_FOLDERS = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/lib",
    "/lib64",
    "/opt",
    "/nix/store",
)
MODULE_VARIABLE = "KEDGE_PKCS11_MODULE"


def choose_module(uri: TokenUri, named_by: NamedBy, *, environment: Mapping[str, str]) -> str:
    """The module that may be loaded for ``uri``: from the environment, or else the URI, as far as that may name one.

    Raises:
        InputError: there is none, or it is named by a relative path.
        VerificationError: a file that others may write names one outside of the system's folders.
    """
    path = environment.get(MODULE_VARIABLE) or uri.module
    hint = f"set {MODULE_VARIABLE} to the path of the token's module, or name it with --key"
    if not path:
        raise InputError(f"{uri.text}: does not name the module-path", hint=hint)
    if not path.startswith("/"):
        raise InputError(f"{uri.text}: the module {path} is a relative path, and is not loaded", hint=hint)
    if named_by is NamedBy.USER or environment.get(MODULE_VARIABLE):
        return path
    real = os.path.realpath(path)
    if not any(real.startswith(f"{os.path.realpath(folder)}/") for folder in SYSTEM_FOLDERS) or _others_write(real):
        raise VerificationError(
            f"{uri.text}: the module {path} is named by a file that others may write, and is not loaded: "
            f"it is in no folder of the system, or others may write it",
            refusal=Refusal(reason=Reason.PATH, found=path),
            hint=hint,
        )
    return real


def _others_write(path: str) -> bool:
    try:
        found = Path(path).stat()
    except OSError:
        return False  # which the attempt to load it will say
    return found.st_uid not in {0, os.getuid()} or bool(found.st_mode & stat.S_IWOTH)


def open_token(location: str, pin: Passphrase, public: Key | None = None, *, named_by: NamedBy) -> Signer:
    """Log in to the token and find the key; ``public`` is used where the token does not keep the public half.

    Raises:
        VerificationError: its module may not be loaded.
        InputError: the URI is not one, python-pkcs11 is not installed, the module cannot be loaded, there is no such
            token or key, the PIN is wrong, or the key is of another kind.
    """
    uri = TokenUri.parse(location)
    module = choose_module(uri, named_by, environment=os.environ)
    token = _Token(uri, module, load_extra("pkcs11", extra="hsm", what=location), pin)
    with token.session() as session:
        token.private(session)
        stored = token.public(session)
    key = stored if stored is not None else public
    if not isinstance(key, SSlibKey):
        raise InputError(
            f"{location}: the token does not keep the public half of this key",
            hint="name the keyholder with --as NAME, so that the workspace's public key is used",
        )
    return TokenSigner(token, key)


class _Token:
    """The token of a URI. A session is open for one operation: a token's login is shared by all sessions with it."""

    def __init__(self, uri: TokenUri, module: str, pkcs11: Any, ask: Passphrase) -> None:
        self.uri = uri
        self._pkcs11 = pkcs11
        with self.faults():
            self._token = pkcs11.lib(module).get_token(token_label=uri.token)
        try:
            self._pin = ask(f"PIN of token {uri.token}").decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{uri.text}: the PIN is not UTF-8") from error

    @contextmanager
    def session(self) -> Iterator[Any]:
        with self.faults(), self._token.open(user_pin=self._pin) as session:
            yield session

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Turn what the module says into one line."""
        wrong_pin = (self._pkcs11.PinIncorrect, self._pkcs11.PinInvalid, self._pkcs11.PinLenRange)
        try:
            yield
        except wrong_pin as error:
            raise InputError(
                f"{self.uri.text}: the PIN is wrong; it was tried once",
                hint="a token locks itself after a few wrong PINs",
            ) from error
        except self._pkcs11.PKCS11Error as error:
            raise InputError(f"{self.uri.text}: {_describe(error)}") from error

    def private(self, session: Any) -> Any:
        kind = self._pkcs11.ObjectClass.PRIVATE_KEY
        return session.get_key(object_class=kind, label=self.uri.label, id=self.uri.id)

    def public(self, session: Any) -> SSlibKey | None:
        """The public half, where the token keeps it."""
        kind, attribute = self._pkcs11.ObjectClass.PUBLIC_KEY, self._pkcs11.Attribute
        problem = f"{self.uri.text}: must be an ECDSA P-256 or Ed25519 key, not another kind"
        try:
            stored = session.get_key(object_class=kind, label=self.uri.label, id=self.uri.id)
            params, point = bytes(stored[attribute.EC_PARAMS]), _unwrapped(bytes(stored[attribute.EC_POINT]))
            if params == _P256_OID:
                return from_crypto(EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point))
            if params in _ED25519_PARAMS:
                return from_crypto(Ed25519PublicKey.from_public_bytes(point))
        except self._pkcs11.NoSuchKey:
            return None
        except (self._pkcs11.AttributeTypeInvalid, ValueError) as error:
            raise InputError(problem) from error
        raise InputError(problem)

    def sign(self, payload: bytes, scheme: str) -> bytes:
        mechanism = self._pkcs11.Mechanism
        with self.session() as session:
            private = self.private(session)
            if scheme == "ed25519":
                return bytes(private.sign(payload, mechanism=mechanism.EDDSA))
            pair = private.sign(hashlib.sha256(payload).digest(), mechanism=mechanism.ECDSA)
        middle = len(pair) // 2
        return encode_dss_signature(int.from_bytes(pair[:middle], "big"), int.from_bytes(pair[middle:], "big"))


class TokenSigner(Signer):
    """Signs on a token."""

    def __init__(self, token: _Token, public_key: SSlibKey) -> None:
        """Sign with the key that ``token`` was found to have."""
        self._token = token
        self._public_key = public_key

    @property
    def public_key(self) -> SSlibKey:
        """The public key."""
        return self._public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> Signer:
        """Find the key by its URI, as securesystemslib asks for one.

        Raises:
            InputError: as :func:`open_token`; or there is nobody to ask for the PIN.
        """
        if secrets_handler is None:
            raise InputError(f"{priv_key_uri}: needs a PIN")
        ask = secrets_handler
        return open_token(priv_key_uri, lambda what: ask(what).encode(), public_key, named_by=NamedBy.SHARED_FILE)

    def sign(self, payload: bytes) -> Signature:
        """Let the token sign ``payload``.

        Raises:
            InputError: the token refuses or was pulled out.
        """
        return Signature(self._public_key.keyid, self._token.sign(payload, self._public_key.scheme).hex())


def _attributes(text: str, part: str, separator: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in filter(None, part.split(separator)):
        name, equals, value = item.partition("=")
        if not equals or name in found:
            raise InputError(f"{text}: is not a PKCS#11 URI (RFC 7512)", hint=_EXAMPLE)
        found[name] = value
    return found


def _unwrapped(point: bytes) -> bytes:
    """The point out of its OCTET STRING; some modules give it bare."""
    if len(point) > 2 and point[0] == _OCTET_STRING and point[1] == len(point) - 2:
        return point[2:]
    return point


_PROBLEMS: Mapping[str, str] = {
    "NoSuchToken": "there is no such token in this module",
    "MultipleTokensReturned": "several tokens have this label",
    "NoSuchKey": "the token has no such key",
    "MultipleObjectsReturned": "several keys on the token are called so; name one by its id as well",
    "PinLocked": "the PIN is locked",
    "DeviceRemoved": "the token was removed",
}


def _describe(error: Exception) -> str:
    name = type(error).__name__
    if name in _PROBLEMS:
        return _PROBLEMS[name]
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    return f"{str(error) or words}".replace("\n", " ")
