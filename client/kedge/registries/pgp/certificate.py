"""OpenPGP certificates (public keys with what is bound to them), as far as kedge needs to know them.

A keyring is the certificates one after the other. Read are fingerprints, algorithms, times and user ids. What the
self-signatures state (when a key ends, that it was revoked) is taken as it stands and not verified: whoever published
the keyring through TUF vouches for its bytes, and the judge of a signature is gpgv, which verifies them. Private keys
are refused. Sources: RFC 9580 §5.5 (keys), §5.2 (signatures), §5.5.4 (fingerprints), §10.1 (certificates).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kedge.documents import DocumentError
from kedge.registries.pgp.packets import Packet, dearmor, is_armored, read_packets

SIGNATURE, SECRET, PRIMARY, SECRET_SUBKEY, MARKER, TRUST, USER_ID, SUBKEY = 2, 5, 6, 7, 10, 12, 13, 14
ATTRIBUTE, PADDING = 17, 21
_ALGORITHMS = {1: "RSA", 2: "RSA", 3: "RSA", 16: "ELGAMAL", 17: "DSA", 18: "ECDH", 19: "ECDSA", 22: "EDDSA"}
_ALGORITHMS |= {25: "X25519", 26: "X448", 27: "ED25519", 28: "ED448"}
_MEASURED = {"RSA", "ELGAMAL", "DSA"}
# Signature types: certifications of a user id and a direct signature state when the key ends; 0x20 revokes it.
_CERTIFICATIONS, _DIRECT, _REVOCATION = frozenset({0x10, 0x11, 0x12, 0x13}), 0x1F, 0x20
# RFC 9580 §9.5: these can be, or soon can be, made to collide.
WEAK_DIGESTS = {1: "MD5", 2: "SHA-1", 3: "RIPEMD-160"}
_CREATED, _KEY_EXPIRES, _ISSUER, _KEY_FLAGS, _ISSUER_FINGERPRINT = 2, 9, 16, 27, 33
_ON_PRIMARY = (_CERTIFICATIONS, frozenset({_DIRECT}))
_BINDING, _SUBKEY_REVOCATION = 0x18, 0x28
_MAY_SIGN = 0x02
_ENCRYPT_ONLY = frozenset({2, 16, 18, 25, 26})


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One certificate. ``material`` is its packets as they stood; fingerprints are upper-case hexadecimal digits.

    ``signers`` are those of the primary key and the subkeys that may sign content (RFC 9580 §5.2.3.29) and do not carry
    their own revocation. ``bits`` is the size of the primary key's modulus, None where its algorithm has none.
    ``expires`` is when the primary key ends by its newest self-signature. ``weak_binding`` names the digest (SHA-1,
    MD5) of the self-signatures where none of them was made over a stronger one: apt of Debian 13 (Sequoia) refuses
    SHA-1 from 2026-02-01 on.
    """

    fingerprint: str
    subkeys: tuple[str, ...]
    signers: tuple[str, ...]
    user_ids: tuple[str, ...]
    algorithm: str
    bits: int | None
    created: datetime
    expires: datetime | None
    revoked: bool
    weak_binding: str | None
    material: bytes


def read_keyring(data: bytes) -> tuple[Certificate, ...]:
    """Read a keyring, binary or armoured.

    Raises:
        DocumentError: it is none, holds a private key, or holds one certificate twice.
    """
    packets = read_packets(dearmor(data) if is_armored(data) else data)
    certificates = tuple(_read(group) for group in _groups(packets))
    seen: set[str] = set()
    for certificate in certificates:
        if certificate.fingerprint in seen:
            raise DocumentError(certificate.fingerprint, "stands twice in the keyring")
        seen.add(certificate.fingerprint)
    return certificates


def write_keyring(certificates: Sequence[Certificate]) -> bytes:
    """Write certificates as one binary keyring, which apt, gpgv and sqv read."""
    return b"".join(certificate.material for certificate in certificates)


def without_subkeys(material: bytes, fingerprints: Collection[str]) -> bytes:
    """A certificate without the subkeys of these fingerprints, and without what is bound to them alone.

    Raises:
        DocumentError: ``material`` is no certificate.
    """
    kept: list[bytes] = []
    dropping = False
    for packet in read_packets(material):
        if packet.tag == SUBKEY:
            dropping = _fingerprint(packet.body) in fingerprints
        if not dropping:
            kept.append(packet.raw)
    return b"".join(kept)


def _groups(packets: Sequence[Packet]) -> Iterator[list[Packet]]:
    group: list[Packet] = []
    for packet in packets:
        if packet.tag in (SECRET, SECRET_SUBKEY):
            raise DocumentError("", "holds a PRIVATE key: it belongs to nobody but its owner, and must be replaced")
        if packet.tag in (MARKER, TRUST, PADDING):
            continue  # local notes of GnuPG, and nothing
        if packet.tag == PRIMARY:
            if group:
                yield group
            group = [packet]
        elif not group:
            raise DocumentError("", f"begins with a packet of tag {packet.tag}, expected a public key")
        elif packet.tag in (SIGNATURE, USER_ID, SUBKEY, ATTRIBUTE):
            group.append(packet)
        else:
            raise DocumentError("", f"holds a packet of tag {packet.tag}, which is no part of a public key")
    if not group:
        raise DocumentError("", "holds no public key")
    yield group


def _read(group: Sequence[Packet]) -> Certificate:
    primary = group[0].body
    fingerprint = _fingerprint(primary)
    if len(primary) < 8:
        raise DocumentError(fingerprint, "is a public key without its numbers")
    created = datetime.fromtimestamp(int.from_bytes(primary[1:5]), UTC)
    algorithm = _ALGORITHMS.get(primary[5], f"ALGORITHM_{primary[5]}")
    own = [statement for statement in _statements(group) if _is_own(statement, fingerprint)]
    return Certificate(
        fingerprint=fingerprint,
        subkeys=tuple(_fingerprint(packet.body) for packet in group if packet.tag == SUBKEY),
        signers=tuple(_signers(group, fingerprint)),
        user_ids=tuple(packet.body.decode("utf-8", "replace") for packet in group if packet.tag == USER_ID),
        algorithm=algorithm,
        bits=int.from_bytes(primary[6:8]) if algorithm in _MEASURED and primary[0] == 4 else None,
        created=created,
        expires=_expiry(created, own),
        revoked=any(statement.kind == _REVOCATION for statement in own),
        weak_binding=_weak_binding(own),
        material=b"".join(packet.raw for packet in group),
    )


def _signers(group: Sequence[Packet], primary: str) -> Iterator[str]:
    """The keys of a certificate that may sign, the primary first: what is stated of each key stands after it."""
    starts = [index for index, packet in enumerate(group) if packet.tag in (PRIMARY, SUBKEY)]
    for start, end in zip(starts, [*starts[1:], len(group)], strict=True):
        stated = (_read_statement(packet.body) for packet in group[start:end] if packet.tag == SIGNATURE)
        own = [each for each in stated if each is not None and _is_own(each, primary)]
        is_primary = group[start].tag == PRIMARY
        body = group[start].body
        if is_primary:
            flags = next((found for kinds in _ON_PRIMARY if (found := _flags(own, kinds)) is not None), None)
        else:
            flags = _flags(own, frozenset({_BINDING}))
        gone = any(each.kind in (_REVOCATION, _SUBKEY_REVOCATION) for each in own)
        may_sign = bool(flags & _MAY_SIGN) if flags is not None else True
        if may_sign and not gone and len(body) > 5 and body[5] not in _ENCRYPT_ONLY:
            yield _fingerprint(body)


def _flags(own: Sequence[_Statement], kinds: frozenset[int]) -> int | None:
    """The key flags of the newest statement of these kinds; None where it has none, or there is no such statement."""
    newest = max((each for each in own if each.kind in kinds), key=lambda each: each.created, default=None)
    return newest.flags if newest is not None else None


def _weak_binding(own: Sequence[_Statement]) -> str | None:
    digests = {each.digest for each in own if each.kind in _CERTIFICATIONS or each.kind == _DIRECT}
    weak = digests & WEAK_DIGESTS.keys()
    return WEAK_DIGESTS[min(weak)] if weak and weak == digests else None


def _fingerprint(body: bytes) -> str:
    version = body[0] if body else 0
    if version == 4 and len(body) < 1 << 16:
        return hashlib.sha1(b"\x99" + len(body).to_bytes(2) + body, usedforsecurity=False).hexdigest().upper()
    if version == 6:
        return hashlib.sha256(b"\x9b" + len(body).to_bytes(4) + body).hexdigest().upper()
    raise DocumentError("", f"holds a public key of version {version}, expected 4 or 6")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    """What a signature packet says, by the part of it that it signs itself."""

    kind: int
    digest: int
    created: int
    key_lifetime_s: int | None
    flags: int | None
    issuers: tuple[str, ...]


def _is_own(statement: _Statement, fingerprint: str) -> bool:
    return not statement.issuers or any(fingerprint.endswith(issuer) for issuer in statement.issuers)


def _expiry(created: datetime, own: Sequence[_Statement]) -> datetime | None:
    # As GnuPG does: the newest statement on a user id counts, then the newest on the key itself.
    for kinds in _ON_PRIMARY:
        stating = [each for each in own if each.kind in kinds]
        if stating and (lifetime_s := max(stating, key=lambda each: each.created).key_lifetime_s):
            return created + timedelta(seconds=lifetime_s)
    return None


def _statements(group: Sequence[Packet]) -> Iterator[_Statement]:
    """The signatures on the primary key and its user ids: those before the first subkey."""
    for packet in group[1:]:
        if packet.tag == SUBKEY:
            return
        if packet.tag == SIGNATURE and (statement := _read_statement(packet.body)) is not None:
            yield statement


def _read_statement(body: bytes) -> _Statement | None:
    """Read a signature of version 4 or 6; others are left to who judges them."""
    width = {4: 2, 6: 4}.get(body[0] if body else 0)
    if width is None or len(body) < 4 + width:
        return None
    hashed_end = 4 + width + int.from_bytes(body[4 : 4 + width])
    unhashed_start = hashed_end + width
    unhashed_end = unhashed_start + int.from_bytes(body[hashed_end:unhashed_start])
    hashed = _subpackets(body[4 + width : hashed_end])
    unhashed = _subpackets(body[unhashed_start:unhashed_end])
    numbers = {kind: int.from_bytes(content) for kind, content in reversed(hashed) if len(content) == 4}
    created, lifetime_s = numbers.get(_CREATED, 0), numbers.get(_KEY_EXPIRES)
    issuers = [
        content[kind == _ISSUER_FINGERPRINT :].hex().upper()
        for kind, content in (*hashed, *unhashed)
        if kind in (_ISSUER, _ISSUER_FINGERPRINT) and len(content) >= 8
    ]
    flags = next((content[0] for kind, content in hashed if kind == _KEY_FLAGS and content), None)
    return _Statement(
        kind=body[1], digest=body[3], created=created, key_lifetime_s=lifetime_s, flags=flags, issuers=tuple(issuers)
    )


def _subpackets(area: bytes) -> list[tuple[int, bytes]]:
    """The subpackets of a signature, up to the first damaged one: gpgv will not count such a signature."""
    found: list[tuple[int, bytes]] = []
    position = 0
    while position < len(area):
        first = area[position]
        if first < 192:
            start, length = position + 1, first
        elif first < 255:
            start, length = position + 2, ((first - 192) << 8) + int.from_bytes(area[position + 1 : position + 2]) + 192
        else:
            start, length = position + 5, int.from_bytes(area[position + 1 : position + 5])
        if not length or start + length > len(area):
            break
        found.append((area[start] & 0x7F, area[start + 1 : start + length]))
        position = start + length
    return found
