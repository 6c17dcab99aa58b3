"""``junit.xml``: the run as a test suite that CI systems can show.

One case per rule (failed by its findings), one per traffic shape (skipped when the
service has nothing to exercise it with) and one for the proof itself (an error when
the run proved nothing).
"""

from collections import defaultdict
from typing import TYPE_CHECKING

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from test_framework.check import RULES
from test_framework.core import Finding, History

if TYPE_CHECKING:
    from test_framework.check import Judgement


def junit_report(judgement: "Judgement", history: History) -> str:
    """Return the report as XML text."""
    suite = TestSuite("isolation-audit")
    suite.add_property("seed", str(history.run.seed))
    suite.add_property("target", history.run.target)
    suite.add_property("verdict", str(judgement.verdict))
    suite.time = judgement.evidence.seconds
    by_rule: dict[str, list[Finding]] = defaultdict(list)
    for finding in judgement.findings:
        by_rule[finding.rule].append(finding)
    for rule in RULES.values():
        case = TestCase(rule.id, classname="isolation.rule", time=0.0)
        case.result = [
            Failure(finding.claim, "contamination") for finding in by_rule[rule.id]
        ]
        for result, finding in zip(case.result, by_rule[rule.id], strict=True):
            result.text = "\n".join(
                [*finding.evidence, f"Fix: {finding.fix}", f"Repeat: {finding.repeat}"]
            )
        suite.add_testcase(case)
    for shape in judgement.evidence.shapes:
        case = TestCase(shape.shape, classname="isolation.shape", time=shape.seconds)
        if not shape.exercised:
            case.result = [Skipped(shape.reason)]
        suite.add_testcase(case)
    proof = TestCase("the run proved something", classname="isolation.evidence")
    proof.result = [Error(gap, "unknown") for gap in judgement.evidence.gaps]
    suite.add_testcase(proof)
    report = JUnitXml("isolation-audit")
    report.add_testsuite(suite)
    # junitparser leaves tostring without annotations.
    text: bytes = report.tostring()  # type: ignore[no-untyped-call]  # see above
    return text.decode()
