"""The audit of a repository through its whole history, wherever it lies."""

from kedge_repo.audit.examine import audit, audit_archive
from kedge_repo.audit.source import Source, open_source
from kedge_repo.audit.verdict import Audit, AuditFinding, Rule, VersionFact

__all__ = ["Audit", "AuditFinding", "Rule", "Source", "VersionFact", "audit", "audit_archive", "open_source"]
