"""``audit.json``: a judged run as one JSON document for machines.

Versioned by ``format``; fields are only added within a format. Every field is
described in docs/audit-json.md, which a test holds against this module.
"""

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from test_framework.core import (
    AlarmRecord,
    EndRecord,
    Finding,
    History,
    ResidueRecord,
    WatchRecord,
)
from test_framework.report.faults import faults_document

if TYPE_CHECKING:
    from test_framework.check import Evidence, Judgement
    from test_framework.check.witness import Checked

DOCUMENT_FORMAT = 1


def audit_document(judgement: "Judgement", history: History) -> dict[str, Any]:
    """Return the document of a judged run, ready for ``json.dump``."""
    run, evidence = history.run, judgement.evidence
    end = history.of(EndRecord)
    return {
        "format": DOCUMENT_FORMAT,
        "verdict": str(judgement.verdict),
        "seed": run.seed,
        "target": run.target,
        "workload": run.workload,
        "complete": bool(end) and end[-1].complete,
        "users": evidence.users,
        "requests": evidence.requests,
        "websockets": evidence.websockets,
        "events": evidence.events,
        "seconds": evidence.seconds,
        "in_flight_peak": evidence.in_flight_peak,
        "overlap_source": evidence.overlap_source,
        "user_pairs_overlapped": evidence.user_pairs_overlapped,
        "user_pairs": evidence.user_pairs,
        "success_share": round(evidence.success_share, 5),
        "peak_memory_mb": evidence.peak_memory_mb,
        "burst_spread_ms": {burst.name: burst.spread_ms for burst in evidence.bursts},
        "bursts": [dataclasses.asdict(burst) for burst in evidence.bursts],
        "shapes": [dataclasses.asdict(shape) for shape in evidence.shapes],
        "matrix": [dataclasses.asdict(cell) for cell in evidence.matrix],
        "not_exercised": list(evidence.not_exercised),
        "gaps": list(evidence.gaps),
        "latencies": [dataclasses.asdict(row) for row in judgement.latencies],
        "residue": [
            {"kind": record.kind, "place": record.place, "count": record.count}
            for record in history.of(ResidueRecord)
        ],
        "alarms": [_alarm(alarm) for alarm in judgement.alarms],
        "watched": [
            {
                "detector": watch.detector,
                "watched": list(watch.watched),
                "unwatched": list(watch.unwatched),
                "facts": watch.facts,
                "worker": watch.worker,
            }
            for watch in history.of(WatchRecord)
        ],
        "objects": [_checked(checked) for checked in judgement.objects],
        "faults": faults_document(judgement.faults),
        "findings": [_finding(finding) for finding in judgement.findings],
        "repeat": run.repeat,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "claim": finding.claim,
        "victim": finding.victim,
        "observer": finding.observer,
        "channel": finding.channel,
        "endpoint": finding.endpoint,
        "operation": finding.operation,
        "planted_by": finding.planted_by,
        "evidence": list(finding.evidence),
        "fix": finding.fix,
        "repeat": finding.repeat,
        "count": finding.count,
        "surfaces": list(finding.surfaces),
        "consequences": list(finding.consequences),
        "inside": list(finding.inside),
        "handlers": list(finding.handlers),
    }


def _checked(checked: "Checked") -> dict[str, Any]:
    return {
        "checker": checked.checker,
        "model": checked.model,
        "verdict": str(checked.verdict),
        "reason": checked.reason,
        "facts": dict(checked.facts),
        "anomalies": [
            {
                "name": anomaly.name,
                "claim": anomaly.claim,
                "items": [dataclasses.asdict(item) for item in anomaly.items],
                "links": [dataclasses.asdict(link) for link in anomaly.links],
            }
            for anomaly in checked.anomalies
        ],
    }


def _alarm(alarm: AlarmRecord) -> dict[str, Any]:
    return {
        "rule": alarm.rule,
        "level": alarm.level,
        "claim": alarm.claim,
        "site": alarm.site,
        "evidence": list(alarm.evidence),
        "fix": alarm.fix,
        "users": list(alarm.users),
        "count": alarm.count,
    }


def to_json(document: dict[str, Any]) -> str:
    """Return the document as text."""
    return json.dumps(document, indent=2) + "\n"


def tested_share(evidence: "Evidence") -> tuple[int, int]:
    """Return how many cells of endpoint x channel were tested, and how many exist."""
    return sum(cell.tested for cell in evidence.matrix), len(evidence.matrix)
