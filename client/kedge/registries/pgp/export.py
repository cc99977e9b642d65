"""Verified OpenPGP keys in the forms that other tools read: keyring files, and Gradle's dependency verification.

A keyring is written as OpenPGP packets, certificate by certificate, as they stand in the verified document: never as
a GnuPG keybox, which apt refuses, and never through GnuPG. What is revoked is left out, subkeys too, since no form
can say it; a key whose time is over is left in unless it is asked away, since its reader judges that by itself,
except Gradle.

Sources: Gradle's "Verifying dependencies" (``verification-keyring.keys``, ``trusted-keys``), sources.list(5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self
from xml.sax.saxutils import quoteattr

from kedge.errors import InputError, Reason, Refusal, VerificationError
from kedge.registries import Exported, KeyFormat, KeyStatus, RegistryKey, Source, take_settings
from kedge.registries.pgp.certificate import Certificate, read_keyring, without_subkeys
from kedge.registries.pgp.packets import armor

_PACKET_TAGS = frozenset({0x98, 0x99, 0xC6})
"""What a keyring begins with: a public key packet, in each of its three spellings (as apt checks it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The certificates that are exported, without revoked parts, and what is to be said of the others."""

    keys: tuple[RegistryKey, ...]
    certificates: tuple[Certificate, ...]
    left_out: tuple[RegistryKey, ...]
    notes: tuple[str, ...]

    @property
    def keyring(self) -> bytes:
        """All certificates as one binary keyring."""
        return b"".join(certificate.material for certificate in self.certificates)


def choose(sources: Sequence[Source], *, with_retired: bool) -> Chosen:
    """Choose what may be handed on: no revoked key, no retired one if that is not wanted, each certificate once.

    Raises:
        VerificationError: no key is left to export (``no-keys``).
        InputError: a registry's keys are no OpenPGP keys, or two registries name different certificates of one key.
    """
    revoked = {keyid for source in sources for keyid in source.keys.revoked}
    chosen: dict[str, RegistryKey] = {}
    left_out: list[RegistryKey] = []
    notes: list[str] = []
    for key in (key for source in sources for key in source.keys.keys):
        if key.format is not KeyFormat.OPENPGP:
            raise InputError(f"{key.registry}: its keys are no OpenPGP keys, which is what this form holds")
        why = "it was revoked" if key.status is KeyStatus.REVOKED or key.id in revoked else None
        if why is None and key.status is KeyStatus.RETIRED:
            why = None if with_retired else "its time is over"
            notes += [] if why else [f"{key.id} of {key.registry}: its time is over; --without-retired leaves it out"]
        if why is not None:
            left_out.append(key)
            notes.append(f"{key.id} of {key.registry} is left out: {why}")
        elif chosen.setdefault(key.id, key).material != key.material:
            both = f"{chosen[key.id].registry} and {key.registry}"
            raise InputError(f"{both} name different certificates {key.id}", hint="export them one by one")
    if not chosen:
        names = ", ".join(source.keys.registry for source in sources)
        refusal = Refusal(reason=Reason.NO_KEYS, file=sources[0].keys.target if sources else None)
        raise VerificationError(f"{names}: no key is left to export", refusal=refusal)
    materials = [without_subkeys(key.material, revoked) for key in chosen.values()]
    notes += [
        f"{key.id} of {key.registry}: a subkey that was revoked is left out"
        for key, material in zip(chosen.values(), materials, strict=True)
        if material != key.material
    ]
    return Chosen(
        keys=tuple(chosen.values()),
        certificates=tuple(certificate for material in materials for certificate in read_keyring(material)),
        left_out=tuple(left_out),
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """A keyring file: binary packets, or one armoured block."""

    summary: str
    armored: bool
    default_registry: str | None = None
    appended_to: str | None = None

    def export(self, sources: Sequence[Source], *, with_retired: bool) -> Exported:
        """Put OpenPGP keys into a keyring.

        Raises:
            VerificationError: no key is left to export (``no-keys``).
            InputError: a registry's keys are no OpenPGP keys, or two registries contradict each other.
        """
        chosen = choose(sources, with_retired=with_retired)
        keyring = chosen.keyring
        if keyring[0] not in _PACKET_TAGS:
            raise InputError("the first key is written with a header that apt does not read", hint="gpg --export again")
        return Exported(
            content=armor(keyring).encode("ascii") if self.armored else keyring,
            keys=chosen.keys,
            left_out=chosen.left_out,
            notes=chosen.notes,
            is_text=self.armored,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GradleKeyring:
    """``gradle/verification-keyring.keys``: a block for each certificate, its ids and names above it, in ASCII."""

    summary: str = "gradle/verification-keyring.keys, the keys of Gradle's dependency verification"
    default_registry: str | None = None
    appended_to: str | None = None

    def export(self, sources: Sequence[Source], *, with_retired: bool) -> Exported:
        """Put OpenPGP keys into Gradle's armoured keyring.

        Raises:
            VerificationError: no key is left to export (``no-keys``).
            InputError: a registry's keys are no OpenPGP keys, or two registries contradict each other.
        """
        chosen = choose(sources, with_retired=with_retired)
        blocks = [f"{_listed(certificate)}{armor(certificate.material)}" for certificate in chosen.certificates]
        over = [key.id for key in chosen.keys if key.status is KeyStatus.RETIRED]
        notes = [f"{keyid}: Gradle accepts keys whose time is over" for keyid in over]
        return Exported(
            content="\n".join(blocks).encode("ascii"),
            keys=chosen.keys,
            left_out=chosen.left_out,
            notes=(*chosen.notes, *notes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKeys:
    """The element ``trusted-keys`` of ``gradle/verification-metadata.xml``: whole fingerprints, and for which group.

    Gradle compares the fingerprint of the very key that made a signature, so each key that may sign is named: the
    primary, a subkey, or both. A primary that only certifies is not: no artifact would be trusted by it.
    """

    summary: str = "the trusted-keys of gradle/verification-metadata.xml (--set group=GROUP)"
    default_registry: str | None = None
    appended_to: str | None = None
    settings: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({"group": "the group whose artifacts these keys sign; else all"})
    )
    group: str | None = None

    def adjusted(self, given: Mapping[str, str]) -> Self:
        """Take the user's settings.

        Raises:
            InputError: one is not known.
        """
        return replace(self, group=take_settings(given, self.settings).get("group"))

    def export(self, sources: Sequence[Source], *, with_retired: bool) -> Exported:
        """Name the keys that sign by their fingerprints.

        Raises:
            VerificationError: no key is left to export (``no-keys``).
            InputError: a registry's keys are no OpenPGP keys, none may sign, or two registries contradict each other.
        """
        chosen = choose(sources, with_retired=with_retired)
        group = f" group={quoteattr(self.group)}" if self.group is not None else ""
        signers = {certificate.fingerprint: certificate.signers for certificate in chosen.certificates}
        entries = [f'   <trusted-key id="{each}"{group}/>' for named in signers.values() for each in named]
        silent = [
            f"{primary} is left out: none of its keys may sign" for primary, named in signers.items() if not named
        ]
        if not entries:
            names = ", ".join(source.keys.registry for source in sources)
            raise InputError(f"{names}: no key of {', '.join(signers)} may sign, so that Gradle could trust none")
        wide = "these keys are trusted for every artifact; --set group=GROUP narrows it"
        return Exported(
            content="\n".join(["<trusted-keys>", *entries, "</trusted-keys>", ""]).encode(),
            keys=chosen.keys,
            left_out=chosen.left_out,
            notes=(*chosen.notes, *silent, *(() if self.group is not None else (wide,))),
        )


def _listed(certificate: Certificate) -> str:
    """What Gradle writes above a block, for people: the ids, and the names as far as they are ASCII."""
    names = (name.encode("ascii", "replace").decode().splitlines() for name in certificate.user_ids)
    lines = [f"pub    {certificate.fingerprint[-16:]}"]
    lines += [f"uid    {' '.join(name)}" for name in names]
    lines += [f"sub    {fingerprint[-16:]}" for fingerprint in certificate.subkeys]
    return "".join(f"{line}\n" for line in lines)


keyring = Keyring(summary="a binary OpenPGP keyring, as apt and gpgv read it", armored=False)
armoured_keyring = Keyring(summary="the same keyring as armoured text (.asc)", armored=True)
gradle_keyring = GradleKeyring()
trusted_keys = TrustedKeys()
