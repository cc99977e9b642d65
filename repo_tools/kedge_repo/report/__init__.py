"""A repository on one static page."""

from kedge_repo.report.facts import ReportFacts, gather
from kedge_repo.report.page import page

__all__ = ["ReportFacts", "gather", "page"]
