"""A failed check as a page: everything of the proof is on it, and nothing else is needed."""

import re
from xml.etree import ElementTree as ET

import pytest

from test_framework.check.witness import Anomaly, Checked, Item, Link, Mark
from test_framework.core import Verdict
from test_framework.report.timeline import render_timeline

MS = 1_000_000


def _checked(*, timed: bool = True, end: int | None = 9 * MS) -> Checked:
    unit = MS if timed else 0
    items = (
        Item("T1", "user-03", "r x [1]; append x 2", 1 * unit, 5 * unit, 40, user=3),
        Item("T2", "user-07", "r x [1]; append x <3>", 2 * unit, end, 41, user=7),
    )
    links = (
        Link(0, 1, "rw", "T1 read [1] of x, before T2 appended <3>."),
        Link(1, 0, "rw", "T2 read [1] of x, before T1 appended 2."),
    )
    anomaly = Anomaly("lost update", "Both appended to [1].", items, links)
    return Checked("list-append", "serializable", Verdict.INVALID, anomalies=(anomaly,))


def _svg(page: str) -> ET.Element:
    found = re.search(r"<svg.*?</svg>", page, re.DOTALL)
    assert found is not None
    return ET.fromstring(found.group())  # noqa: S314  # our own page


def _boxes(page: str) -> list[tuple[float, float, float]]:
    """Return left edge, right edge and top of each bar."""
    bars = [g for g in _svg(page).iter("g") if "bar" in g.get("class", "").split()]
    rects = [rect for bar in bars for rect in bar.iter("rect")]
    return [
        (
            float(rect.attrib["x"]),
            float(rect.attrib["x"]) + float(rect.attrib["width"]),
            float(rect.attrib["y"]),
        )
        for rect in rects
    ]


def test_page_holds_the_whole_proof() -> None:
    """Claim, lanes, operations and each step with its reason are on the page, escaped."""
    page = render_timeline(_checked(), source="run.edn")

    for words in (
        "lost update",
        "Both appended to [1].",
        "user-03",
        "user-07",
        "run.edn",
    ):
        assert words in page
    assert "T1 read [1] of x, before T2 appended &lt;3&gt;." in page
    assert "append x &lt;3&gt;" in page
    assert "<3>" not in page
    assert len(list(_svg(page).iter("path"))) == 3  # two arrows and their head


def test_page_needs_nothing_else() -> None:
    """It loads no script, style, font or picture from anywhere."""
    page = render_timeline(_checked())

    assert re.findall(r"(?:src|href)\s*=|https?:|@import|url\((?!#)", page) == []


def test_overlap_is_drawn_as_it_was() -> None:
    """What ran at once lies side by side; what came later stands to the right."""
    (one, end_of_one, _), (two, _, _) = _boxes(render_timeline(_checked()))
    assert one < two < end_of_one

    after = _checked(end=9 * MS)
    late = Anomaly(
        "stale read",
        "late",
        (after.anomalies[0].items[0], Item("T2", "user-07", "r", 6 * MS, 7 * MS, 41)),
    )
    boxes = _boxes(
        render_timeline(Checked("c", "m", Verdict.INVALID, anomalies=(late,)))
    )
    assert boxes[0][1] <= boxes[1][0]


def test_unknown_end_is_open() -> None:
    """An operation of unknown outcome reaches to the right edge and is dashed."""
    page = render_timeline(_checked(end=None))

    (_, first, _), (_, second, _) = _boxes(page)
    assert second >= first
    assert "bar open" in page
    assert "outcome unknown" in page


@pytest.mark.parametrize("timed", [True, False])
def test_bars_never_cover_each_other(timed: bool) -> None:  # noqa: FBT001  # a parameter of the test
    """Concurrent operations of one lane get rows of their own; without times, columns."""
    items = tuple(
        Item(f"T{n}", "session 1", "w x", n * MS * timed, (n + 2) * MS * timed, n)
        for n in range(5)
    )
    checked = Checked("c", "m", Verdict.INVALID, anomalies=(Anomaly("a", "b", items),))

    boxes = _boxes(render_timeline(checked))

    assert len(boxes) == 5
    for place, (left, right, top) in enumerate(boxes):
        for other_left, other_right, other_top in boxes[place + 1 :]:
            assert top != other_top or right <= other_left or other_right <= left


def test_faults_are_marked() -> None:
    """A fault is a band over all lanes, at its time."""
    checked = _checked()
    anomaly = checked.anomalies[0]
    marked = Anomaly(
        anomaly.name,
        anomaly.claim,
        anomaly.items,
        marks=(Mark("killed worker 2", 3 * MS, 4 * MS),),
    )

    page = render_timeline(Checked("c", "m", Verdict.INVALID, anomalies=(marked,)))

    assert "killed worker 2" in page
    assert 'class="band"' in page


def test_unknown_says_why() -> None:
    """Without an anomaly the page still says what came out and why."""
    checked = Checked("linearizability", "register", Verdict.UNKNOWN, "Out of time.")

    page = render_timeline(checked)

    assert "Out of time." in page
    assert "<svg" not in page
