"""The rules a run is judged by: stable ids, what each means, and its cure.

A rule names a way in which one user reached what belongs to another, or was made to
suffer for what another did. Rules have a tier: what a worse rule already explains is
reported as its consequence and not a second time. One module per kind of judge.
"""

from test_framework.check.rules.access import ACCESS_RULES
from test_framework.check.rules.definition import Rule
from test_framework.check.rules.faults import FAULT_RULES
from test_framework.check.rules.leaks import LEAK_RULES
from test_framework.check.rules.locks import LOCK_RULES
from test_framework.check.rules.own import OWN_RULES
from test_framework.check.rules.timing import TIMING_RULES
from test_framework.check.rules.traffic import TRAFFIC_RULES
from test_framework.core import UsageError

__all__ = ["RULES", "Rule", "rule"]

_ALL = (
    *TRAFFIC_RULES,
    *FAULT_RULES,
    *ACCESS_RULES,
    *LEAK_RULES,
    *LOCK_RULES,
    *TIMING_RULES,
    *OWN_RULES,
)

RULES: dict[str, Rule] = {rule.id: rule for rule in _ALL}


def rule(rule_id: str) -> Rule:
    """Return the rule of an id.

    Raises:
        UsageError: There is none; the message lists all.
    """
    found = RULES.get(rule_id)
    if found is None:
        message = (
            f"There is no rule {rule_id!r}. The rules are: {', '.join(sorted(RULES))}."
        )
        raise UsageError(message)
    return found
