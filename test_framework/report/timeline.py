"""One self-contained page per failed check: who did what when, and why it cannot be.

Drawn here, without Graphviz or a network: the claim first, then a timeline with one lane
for each session and an arrow for each step of the proof, then the proof in sentences.
Time is drawn by rank, as Porcupine does it: what began and ended in which order decides,
and a pause of a minute must not push a race of a microsecond out of sight.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from test_framework.check.witness import Anomaly, Checked, Item, Mark
from test_framework.core import NS_PER_MS

if TYPE_CHECKING:
    import jinja2

_COLUMN = 96
_LANE = 64
_BAR = 30
_LEFT = 150
_TOP = 40
_LETTER = 6.8
"""Pixels: a column of time, a lane, a bar, the margins, a letter of the bars' font."""


@dataclass(frozen=True, slots=True)
class _Bar:
    x: float
    y: float
    width: float
    is_open: bool
    colour: int
    caption: str
    title: str


@dataclass(frozen=True, slots=True)
class _Arrow:
    path: str
    kind: str
    number: int
    label_x: float
    label_y: float
    because: str


@dataclass(frozen=True, slots=True)
class _Band:
    x: float
    width: float
    text: str


@dataclass(frozen=True, slots=True)
class _Drawing:
    width: float
    height: float
    lanes: tuple[tuple[str, float], ...]
    bars: tuple[_Bar, ...]
    arrows: tuple[_Arrow, ...]
    bands: tuple[_Band, ...]


def render_timeline(checked: Checked, *, source: str = "") -> str:
    """Return the answer of a checker as an HTML page that needs nothing else.

    Args:
        checked: What the checker said.
        source: Name of the history, for the title.
    """
    parts = [
        {
            "anomaly": anomaly,
            "drawing": _draw(anomaly),
            "items": [_row(item) for item in anomaly.items],
        }
        for anomaly in checked.anomalies
    ]
    return _template().render(
        checked=checked,
        verdict=str(checked.verdict),
        source=source,
        parts=parts,
        bar_height=_BAR,
        left=_LEFT,
    )


def _draw(anomaly: Anomaly) -> _Drawing:
    items = anomaly.items
    columns = _columns(items, anomaly.marks)
    lanes = tuple(dict.fromkeys(item.lane for item in items))
    rows = _rows(items, lanes)
    users = list(dict.fromkeys(item.user for item in items if item.user is not None))
    bars = []
    for place, item in enumerate(items):
        begin, end = columns[place]
        x, width = _LEFT + begin * _COLUMN, (end - begin) * _COLUMN - 8
        text = f"{item.label}  {item.text}"
        most = max(int(width / _LETTER) - 1, 1)
        bars.append(
            _Bar(
                x=x,
                y=_TOP + rows[place] * _LANE,
                width=width,
                is_open=item.end is None,
                colour=users.index(item.user) % 8 if item.user is not None else 0,
                caption=text if len(text) <= most else text[: most - 1] + "…",
                title=f"{item.lane}: {text}",
            )
        )
    arrows = tuple(
        _arrow(number, link.kind, link.because, bars[link.source], bars[link.target])
        for number, link in enumerate(anomaly.links, 1)
    )
    last = max((end for _, end in columns), default=1)
    depth = max(rows, default=0) + 1
    return _Drawing(
        width=_LEFT + last * _COLUMN + 20,
        height=_TOP + depth * _LANE + 20,
        lanes=tuple(
            (lane, _TOP + rows[_first(items, lane)] * _LANE + _BAR / 2)
            for lane in lanes
        ),
        bars=tuple(bars),
        arrows=arrows,
        bands=tuple(_bands(items, anomaly.marks)),
    )


def _first(items: Sequence[Item], lane: str) -> int:
    return next(place for place, item in enumerate(items) if item.lane == lane)


def _is_timed(items: Sequence[Item]) -> bool:
    return len({item.begin for item in items}) > 1


def _instants(items: Sequence[Item], marks: Sequence[Mark]) -> list[int]:
    moments = {item.begin for item in items}
    moments |= {item.end for item in items if item.end is not None}
    moments |= {mark.begin for mark in marks}
    moments |= {mark.end for mark in marks if mark.end is not None}
    return sorted(moments)


def _columns(items: Sequence[Item], marks: Sequence[Mark]) -> list[tuple[int, int]]:
    """Return first and last column of each item, by the rank of its times."""
    if not _is_timed(items):
        # Nobody knows when: in the order of the proof, one beside the other.
        return [(2 * place, 2 * place + 2) for place in range(len(items))]
    ranks = {moment: rank for rank, moment in enumerate(_instants(items, marks))}
    last = len(ranks)
    return [
        (
            ranks[item.begin],
            last if item.end is None else max(ranks[item.end], ranks[item.begin] + 1),
        )
        for item in items
    ]


def _rows(items: Sequence[Item], lanes: Sequence[str]) -> list[int]:
    """Return a row for each item: lanes in order, concurrent items of one lane apart."""
    rows = [0] * len(items)
    height = 0
    for lane in lanes:
        free: list[float] = []
        own = [place for place, item in enumerate(items) if item.lane == lane]
        for place in sorted(own, key=lambda place: items[place].begin):
            item = items[place]
            end = float("inf") if item.end is None else item.end
            row = next(
                (row for row, until in enumerate(free) if until <= item.begin), None
            )
            if not _is_timed(items):
                row = 0 if free else None
            if row is None:
                row = len(free)
                free.append(end)
            else:
                free[row] = end
            rows[place] = height + row
        height += max(len(free), 1)
    return rows


def _arrow(number: int, kind: str, because: str, start: _Bar, end: _Bar) -> _Arrow:
    """Return an arrow from the end of one bar to the beginning of another."""
    x1, y1 = start.x + start.width / 2, start.y + _BAR / 2
    x2, y2 = end.x + end.width / 2, end.y + _BAR / 2
    down = y2 > y1 or (y2 == y1 and x2 > x1)
    side = _BAR / 2 if down else -_BAR / 2
    if y1 == y2:
        # Two bars of one lane: an arc above or below both.
        arc = y1 + (_LANE * 0.6 if down else -_LANE * 0.6)
        y1, y2 = y1 + side, y2 + side
        path = f"M{x1:.1f},{y1:.1f} Q{(x1 + x2) / 2:.1f},{arc:.1f} {x2:.1f},{y2:.1f}"
        label = ((x1 + x2) / 2, (arc + y1) / 2)
    else:
        y1, y2 = y1 + side, y2 - side
        # Opposite arrows between two bars must not lie on each other.
        bend = 26 if down else -26
        middle = (x1 + x2) / 2 + bend, (y1 + y2) / 2
        path = f"M{x1:.1f},{y1:.1f} Q{middle[0]:.1f},{middle[1]:.1f} {x2:.1f},{y2:.1f}"
        label = ((x1 + x2) / 2 + bend * 0.75, middle[1])
    return _Arrow(path, kind, number, label[0], label[1], because)


def _bands(items: Sequence[Item], marks: Sequence[Mark]) -> list[_Band]:
    if not _is_timed(items):
        return []
    ranks = {moment: rank for rank, moment in enumerate(_instants(items, marks))}
    return [
        _Band(
            x=_LEFT + ranks[mark.begin] * _COLUMN,
            width=3
            if mark.end is None
            else max((ranks[mark.end] - ranks[mark.begin]) * _COLUMN, 3),
            text=mark.text,
        )
        for mark in marks
    ]


def _row(item: Item) -> dict[str, str]:
    when = f"from {item.begin / NS_PER_MS:,.3f} ms"
    if item.end is not None:
        when += f" for {(item.end - item.begin) / NS_PER_MS:,.3f} ms"
    else:
        when += ", outcome unknown"
    return {
        "label": item.label,
        "lane": item.lane,
        "text": item.text,
        "when": when,
        "index": f"{item.index:,}",
    }


@cache
def _template() -> "jinja2.Template":
    # Half of the start of a command would be this import, and few need it.
    import jinja2  # noqa: PLC0415  # see above

    loader = jinja2.PackageLoader("test_framework.report", "pages")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("timeline.html.jinja")
