"""docs/sentinel.md says what there is: options, metrics, and the webhook's JSON."""

import json
import math
import re
from pathlib import Path

from test_framework.cli.watch import watch
from test_framework.sentinel import Forecast, Memory, Metrics, Tier
from test_framework.sentinel.metrics import PREFIX
from test_framework.sentinel.webhook import payload
from tests.unit.sentinel.test_webhook import notice
from tests.unit.sentinel.virtual import a_round

PAGE = (Path(__file__).parents[3] / "docs" / "sentinel.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """Return one section of the page."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table_names(text: str) -> set[str]:
    """Return the names between backticks in first columns of tables."""
    cells = re.findall(r"^\| ([^|]*`[^|]*) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_documented_message_is_the_sent_one() -> None:
    """The example has the fields of a real message, and the table each of them."""
    text = section("The webhook")
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    sent = payload(notice())

    assert list(json.loads(example)) == list(sent)
    assert table_names(text) == set(sent)


def test_documented_metrics_are_the_served_ones() -> None:
    """Every metric that is served stands in the table, and no other."""
    metrics, memory = Metrics(), Memory("http://notes")
    memory.remember(a_round(1))
    metrics.observe(a_round(1, latencies_s={"GET /notes": (0.1,)}))
    metrics.publish(memory, {"p95": Forecast(9, 8, math.inf)})

    served = {
        family.name.removeprefix(f"{PREFIX}_")
        + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
    }

    assert table_names(section("Metrics")) == served


def test_documented_options_exist() -> None:
    """Every option that the page names is one of the command's."""
    known = {name for parameter in watch.params for name in parameter.opts}

    named = set(re.findall(r"--[a-z-]+[a-z]", PAGE))

    assert named <= known


def test_documented_tiers_are_the_tiers() -> None:
    """The table of alerts has a row for each tier, worst first."""
    rows = re.findall(r"^\| (\w+) \|", section("Alerts"), re.MULTILINE)

    assert rows == ["tier", *Tier]
