"""npm's real signature of pnpm@10.1.0: the first release that every Corepack in the world refused.

On 2025-01-27 npm began to sign with a new key. Corepack had the old one compiled in, and failed with "Cannot find
matching keyid". The signature is public and stands in the reports of that day.

Source: nodejs/corepack#612 and pnpm/pnpm#9014; the integrity is the registry's.
"""

from __future__ import annotations

__all__ = ["INTEGRITY", "KEYID", "NAME", "NEW_KEYID", "OLD_KEYID", "REGISTRY", "SIGNATURE", "VERSION"]

REGISTRY = "registry.npmjs.org"

NAME = "pnpm"
VERSION = "10.1.0"
INTEGRITY = "sha512-yJhHsGZ92rUDlru9AIoqQ887WB79Wc9dmqiSPqH7S4EGwEHVQNCKywlQN1lNc+vFHh7InuQMiLMLimbA+uCsGw=="
OLD_KEYID = "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA"
NEW_KEYID = "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U"
KEYID = NEW_KEYID
SIGNATURE = "MEUCIQDlkgmNyZjT7KUY8AO6jH7Gs3fyiXG8nbTnuLbd8fOS2AIgXyJ6SaYhumMFzUYQAZPJGhsnlaD5N0X2MZsbG+eS/Xo="
