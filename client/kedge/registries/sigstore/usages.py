"""What the keys of a trusted root may speak for."""

from __future__ import annotations

__all__ = ["CERTIFICATE_LOG", "ISSUER", "LOG", "TIMESTAMPER"]

LOG = "sigstore:tlog"
CERTIFICATE_LOG = "sigstore:ctlog"
ISSUER = "sigstore:ca"
TIMESTAMPER = "sigstore:tsa"
