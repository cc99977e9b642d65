"""Looking at a repository: its whole history, its status, what expires next, what a loss leaves possible.

Nothing here signs or publishes. It uses ``events``, ``publish`` and what lies below.
"""

from kedge._doors import door

__all__, __getattr__, __dir__ = door(
    __name__,
    {
        "examine": ["audit"],
        "findings": ["Audit", "AuditFinding", "VersionFact"],
        "forecast": [
            "Basis",
            "Forecast",
            "RoleForecast",
            "forecast_calendar",
            "forecast_expiry",
            "forecast_metrics",
            "forecast_table",
        ],
        "guarantees": ["Guarantee", "lint_policy", "lint_signed", "propose"],
        "recover": ["Harm", "Recovery", "Verdict", "plan_recovery", "recovery_plan"],
        "rehearse": ["Rehearsal", "TargetCopy", "rehearse_recovery"],
        "report": ["page"],
        "report_facts": ["gather"],
        "source": ["open_source"],
        "status": ["HeldKey", "WorkspaceStatus", "key_list", "workspace_status"],
    },
)
