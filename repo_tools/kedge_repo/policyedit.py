"""Changing the policy file as its owner would: the values that change change, comments and order stay.

Pure: text in, text out. What comes out is parsed before it is given back, so that an edit that would break a rule of
the policy (a threshold above the number of keyholders) ends with the path to the fault and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kedge.document import DocumentError, blame_user
from kedge.errors import InputError
from kedge_repo.extras import load_extra
from kedge_repo.policy import ROLE_NAMES, BinsPolicy, DelegationPolicy, Policy, check_name

__all__ = ["with_delegation", "with_keyholder", "with_location", "with_role", "without_keyholder"]


def with_keyholder(text: str, name: str, *, roles: Sequence[str], location: str | None) -> str:
    """The policy with the keyholder ``name`` in ``roles``; who is described already is only added to them.

    Raises:
        InputError: the name cannot be one, a role is unknown, or the keyholder stands in it already.
    """
    with blame_user("keyholder"):
        check_name(name)
    document = _read(text)
    if name not in document["keyholders"]:
        entry = _toml().table()
        entry.add("public", f"keys/{name}.pub")
        if location is not None:
            entry.add("location", location)
        entry.add(_toml().nl())
        document["keyholders"].add(name, entry)
    elif location is not None:
        document["keyholders"][name]["location"] = location
    for role in roles:
        holders = _role(document, role)["keyholders"]
        if name in holders:
            raise InputError(f"{name} is a keyholder of {role} already")
        holders.append(name)
    return _written(document)


def without_keyholder(text: str, name: str) -> str:
    """The policy without the keyholder ``name``, in every role.

    Raises:
        InputError: a role would have fewer keyholders than its threshold.
    """
    document = _read(text)
    for role, entry in _signed_by(document):
        if name not in entry["keyholders"]:
            continue
        entry["keyholders"].remove(name)
        if len(entry["keyholders"]) < entry["threshold"]:
            raise InputError(
                f"without {name}, {role} would have {len(entry['keyholders'])} keyholders and a threshold of "
                f"{entry['threshold']}",
                hint=f"add or rotate a key first, or lower it in this event with kedge-repo role set {role}",
            )
    del document["keyholders"][name]
    return _written(document)


def with_location(text: str, name: str, location: str) -> str:
    """The policy with the key of ``name`` at another place.

    Raises:
        InputError: the location is not a URI.
    """
    document = _read(text)
    document["keyholders"][name]["location"] = location
    return _written(document)


def with_role(text: str, role: str, *, threshold: int | None, expiry_days: int | None, signing_days: int | None) -> str:
    """The policy with other numbers for ``role``; None leaves one as it is.

    Raises:
        InputError: there is no such role, or the numbers break a rule.
    """
    document = _read(text)
    entry = _role(document, role)
    for name, value in {"threshold": threshold, "expiry_days": expiry_days, "signing_days": signing_days}.items():
        if value is not None:
            entry[name] = value
    return _written(document)


def with_delegation(text: str, delegation: DelegationPolicy) -> str:
    """The policy with ``delegation``, new or changed.

    Raises:
        InputError: it breaks a rule of the policy.
    """
    document = _read(text)
    if "delegations" not in document:
        document.add("delegations", _toml().table(is_super_table=True))
    delegations = document["delegations"]
    fresh = delegation.name not in delegations
    if fresh:
        delegations.add(delegation.name, _toml().table())
    entry = delegations[delegation.name]
    values = {
        "paths": list(delegation.paths),
        "keyholders": list(delegation.keyholders),
        "threshold": delegation.threshold,
        "expiry_days": delegation.expiry.days,
        "signing_days": delegation.signing.days,
        "terminating": delegation.terminating,
    }
    _set(entry, values)
    if delegation.bins is not None:
        if "bins" not in entry:
            entry.add("bins", _toml().table())
        _set(entry["bins"], _bins(delegation.bins))
    if fresh:
        entry.add(_toml().nl())
    return _written(document)


def _bins(bins: BinsPolicy) -> dict[str, Any]:
    return {
        "bit_length": bins.bit_length,
        "content": bins.content.value,
        "keyholders": list(bins.keyholders),
        "threshold": bins.threshold,
        "expiry_days": bins.expiry.days,
        "signing_days": bins.signing.days,
    }


def _set(entry: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if name not in entry or entry[name] != value:
            entry[name] = value


def _signed_by(document: Any) -> Iterator[tuple[str, Any]]:
    """Every table that names keyholders, and what it is called."""
    for role in ROLE_NAMES:
        yield role, document["roles"][role]
    for role, entry in document.get("delegations", {}).items():
        yield role, entry
        if "bins" in entry:
            yield f"the bins of {role}", entry["bins"]


def _role(document: Any, role: str) -> Any:
    table = document["roles"] if role in ROLE_NAMES else document.get("delegations", {})
    if role not in table:
        known = ", ".join((*ROLE_NAMES, *document.get("delegations", {})))
        raise InputError(f'kedge-repo.toml: there is no role "{role}"; there are {known}')
    return table[role]


def _toml() -> Any:
    return load_extra("tomlkit", extra="cli", what="changing the policy")


def _read(text: str) -> Any:
    return _toml().parse(text)


def _written(document: Any) -> str:
    text: str = _toml().dumps(document)
    try:
        Policy.from_text(text)
    except DocumentError as error:
        raise InputError(f"kedge-repo.toml would not be a policy any more: {error}") from error
    return text
