"""``pkcs11:``: a key on a token (an HSM, a smart card), through the token's PKCS#11 module.

The URI is RFC 7512's: ``pkcs11:token=LABEL;object=LABEL?module-path=/usr/lib/….so``, with ``id=%01`` instead of, or
beside, ``object``. It names everything that must be known to find the key; the PIN is asked for (or read from a
descriptor) once, and tried once: a token locks itself after a few wrong ones.

ECDSA P-256 and Ed25519. A token signs a digest and gives ``r || s``, which is written as DER; Ed25519 is signed whole.

Sources: RFC 7512; PKCS#11 2.40 §2.3.1, 3.0 §2.3.14.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from securesystemslib.signer import Key, SecretsHandler, Signature, Signer, SSlibKey

from kedge.errors import InputError
from kedge_repo.extras import load_extra
from kedge_repo.publickey import from_crypto
from kedge_repo.signers.secret import Passphrase

__all__ = ["TokenSigner", "TokenUri", "open_token"]

_P256_OID = bytes.fromhex("06082a8648ce3d030107")
_ED25519_PARAMS = (b"\x13\x0cedwards25519", bytes.fromhex("06032b6570"))
_OCTET_STRING = 0x04


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUri:
    """What a PKCS#11 URI names: the module, the token, and the key by label or id."""

    text: str
    module: str
    token: str
    label: str | None
    id: bytes | None

    @classmethod
    def parse(cls, text: str) -> TokenUri:
        """Read a URI.

        Raises:
            InputError: it does not name module, token and key; it holds a PIN; or it holds what is not known here.
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
        for name in ("token", "module-path"):
            if not found.get(name):
                raise InputError(f"{text}: does not name the {name}", hint=_EXAMPLE)
        if not found.get("object") and not found.get("id"):
            raise InputError(f"{text}: does not name the key, by object or id", hint=_EXAMPLE)
        return cls(
            text=text,
            module=unquote(found["module-path"]),
            token=unquote(found["token"]),
            label=unquote(found["object"]) if "object" in found else None,
            id=unquote_to_bytes(found["id"]) if "id" in found else None,
        )


_EXAMPLE = "for example pkcs11:token=kedge;object=alice?module-path=/usr/lib/softhsm/libsofthsm2.so"


def open_token(location: str, pin: Passphrase, public: Key | None = None) -> Signer:
    """Log in to the token and find the key; ``public`` is used where the token does not keep the public half.

    Raises:
        InputError: the URI is not one, python-pkcs11 is not installed, the module cannot be loaded, there is no such
            token or key, the PIN is wrong, or the key is of another kind.
    """
    uri = TokenUri.parse(location)
    pkcs11 = load_extra("pkcs11", extra="hsm", what=location)
    try:
        token = pkcs11.lib(uri.module).get_token(token_label=uri.token)
    except pkcs11.PKCS11Error as error:
        raise InputError(f"{location}: {_describe(error)}") from error
    try:
        session = token.open(user_pin=pin(f"PIN of token {uri.token}").decode())
        private, stored = _find(pkcs11, session, uri)
    except UnicodeDecodeError as error:
        raise InputError(f"{location}: the PIN is not UTF-8") from error
    except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange) as error:
        raise InputError(
            f"{location}: the PIN is wrong; it was tried once", hint="a token locks itself after a few wrong PINs"
        ) from error
    except pkcs11.PKCS11Error as error:
        raise InputError(f"{location}: {_describe(error)}") from error
    key = stored if stored is not None else public
    if not isinstance(key, SSlibKey):
        raise InputError(
            f"{location}: the token does not keep the public half of this key",
            hint="name the keyholder with --as NAME, so that the workspace's public key is used",
        )
    return TokenSigner(location, private, key, session)


class TokenSigner(Signer):
    """Signs on a token, in one session that is logged in."""

    def __init__(self, location: str, private: Any, public_key: SSlibKey, session: Any) -> None:
        """Sign with ``private``, python-pkcs11's view of the key, for as long as ``session`` is open."""
        self._location = location
        self._private = private
        self._public_key = public_key
        self._session = session

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
        return open_token(priv_key_uri, lambda what: secrets_handler(what).encode(), public_key)

    def sign(self, payload: bytes) -> Signature:
        """Let the token sign ``payload``.

        Raises:
            InputError: the token refuses or was pulled out.
        """
        pkcs11 = load_extra("pkcs11", extra="hsm", what=self._location)
        try:
            if self._public_key.scheme == "ed25519":
                raw = self._private.sign(payload, mechanism=pkcs11.Mechanism.EDDSA)
            else:
                pair = self._private.sign(hashlib.sha256(payload).digest(), mechanism=pkcs11.Mechanism.ECDSA)
                middle = len(pair) // 2
                raw = encode_dss_signature(int.from_bytes(pair[:middle], "big"), int.from_bytes(pair[middle:], "big"))
        except pkcs11.PKCS11Error as error:
            raise InputError(f"{self._location}: the token did not sign: {_describe(error)}") from error
        return Signature(self._public_key.keyid, raw.hex())


def _attributes(text: str, part: str, separator: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in filter(None, part.split(separator)):
        name, equals, value = item.partition("=")
        if not equals or name in found:
            raise InputError(f"{text}: is not a PKCS#11 URI (RFC 7512)", hint=_EXAMPLE)
        found[name] = value
    return found


def _find(pkcs11: Any, session: Any, uri: TokenUri) -> tuple[Any, SSlibKey | None]:
    named = {"label": uri.label, "id": uri.id}
    private = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, **named)
    try:
        public = session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, **named)
    except pkcs11.NoSuchKey:
        return private, None
    attribute = pkcs11.Attribute
    try:
        params, point = bytes(public[attribute.EC_PARAMS]), _unwrapped(bytes(public[attribute.EC_POINT]))
        if params == _P256_OID:
            return private, from_crypto(EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point))
        if params in _ED25519_PARAMS:
            return private, from_crypto(Ed25519PublicKey.from_public_bytes(point))
    except (pkcs11.AttributeTypeInvalid, ValueError) as error:
        raise InputError(f"{uri.text}: must be an ECDSA P-256 or Ed25519 key, not another kind") from error
    raise InputError(f"{uri.text}: must be an ECDSA P-256 or Ed25519 key, not another kind")


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
