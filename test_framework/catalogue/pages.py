"""The pages of the catalogue: an index with the matrix, and a page for each pattern.

They are made of the files of the patterns and of what was measured last, and of nothing
else, so that a test can tell when they are stale.
"""

import re
from itertools import groupby
from pathlib import Path

from test_framework.catalogue.code import mend, vulnerable_code
from test_framework.catalogue.index import load_patterns, load_themes
from test_framework.catalogue.matrix import (
    AUDITED,
    AUDITS,
    ROUNDS,
    RUNS,
    SEEDS,
    USERS,
    WATCHED,
    Matrix,
    Outcome,
    load_matrix,
)
from test_framework.catalogue.pattern import MEANS, Area, Means, Pattern

_COLUMNS: dict[Means, str] = {
    "explorer": "explorer",
    "access": "access tracker",
    "locks": "deadlock watcher",
    "leaks": "leak watchers",
    "swarm": "canary swarm",
    "checkers": "checkers",
}
_FOUND, _HINTED, _MISSED = "●", "◐", "○"
_ALARM, _UNTRIED, _NOT = "✗", "?", "·"
_COUNTED = {
    "found": _FOUND,
    "hinted": _HINTED,
    "missed": _MISSED,
    "errors on safe twins": _ALARM,
    "not measured": _UNTRIED,
}

_INDEX = """\
# Patterns: ways in which users get into each other's way

Each pattern is a bug of real services, as a short program that has it (the vulnerable twin) and as the same program with the smallest mend (the safe twin).
`isolation-audit patterns` lists them, and `isolation-audit patterns P03` explains one.
These pages are written by `make docs`, from the files in `test_framework/catalogue/`: one file is one pattern, and adding a pattern is adding a file.

```python
from test_framework.catalogue import find_pattern

pattern = find_pattern("X01")
print(pattern.mechanism, pattern.fix, pattern.source)
print(pattern.explore().text())  # FOUND, with the schedule that breaks it
print(pattern.explore("safe").text())  # PROVEN or SAMPLED
```

*Needs* says what it takes: another order, tasks that are cancelled, errors with which the world outside answers, or *nothing* but a second user.
Races between processes and what only a real database does have no twins here.

## Adding one

1. Put a file into the package of its theme, named after its id, such as `atomicity/p25_new_bug.py`: the program, the mend, and a `PATTERN` that says where it was seen.
2. Say how users meet it over the wire, if they do: `hosted=Hosted(shown=...)`, what a user reads when all have visited, beside what the `user` of the scenario returns; `beyond={{"swarm": "why"}}` where a means cannot find it.
3. `make docs` draws its interleaving and writes its page; `make matrix` measures who finds it.
4. The tests explore both twins, compare drawing, page and matrix, and need nothing else.

## What they strike

{areas}

## Who finds what

{counts}

The explorer searches each twin, within {runs} runs.
Access tracker, deadlock watcher and leak watchers watch {seeds} natural runs of each twin, all users at once on plain asyncio.
Canary swarm and checkers audit both twins as services: a worker process of uvicorn with real sockets and a real Redis for what the patterns keep in a `Store`, {users} canary users who visit at once, a few to a room, for {rounds} rounds, at most {audits} times.
What strikes the state of WebSockets is visited over those, and where a pattern needs a cancellation, users leave in mid-request.
The swarm finds what shows one user a canary of another.
The checkers find everything else that was recorded: requests that failed, and answers that no order of visits explains, where what is right is what the safe twin answers to users who come one after the other (`check/linear`).
Databases are modelled by the twins themselves; some patterns are beside that found in the reference service with one such mistake, on real Postgres and Redis (`tests/e2e/sabotage/`), and that counts as found, too.

* {found} found, and the safe twin left alone
* {hinted} no error, but a warning or note that the safe twin does not get
* {missed} missed, though it ought to be found
* {alarm} an error told about the safe twin
* {untried} ought to be found, not measured
* {nothing} not its office; where one might expect it, the page of the pattern says why

{matrix}
"""

_PAGE = """\
# {id}: {title}

{mechanism}
**Mend:** {fix}

| | |
|---|---|
| Theme | {theme} |
| Strikes | {areas} |
| Needs | {needs} |
| Ought to be found by | {detectors} |
| Found by | {found} |
| Hinted at by | {hinted} |
| Missed by | {missed} |
| Errors on the safe twin | {alarms} |
| Not applicable | {beyond} |
| Source | {source} |
| File | `{file}` |

## What happens

```text
{interleaving}
```

## The vulnerable program

```python
{code}
```

## The mend

```diff
{mend}
```

## Try it

```console
$ isolation-audit explore {file}::PATTERN::vulnerable
```
"""


def write_pages(folder: Path) -> None:
    """Write all pages into a folder, and take away those of patterns that are gone."""
    pages = make_pages()
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.md"):
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


def make_pages() -> dict[str, str]:
    """Return the text of each page by the name of its file."""
    matrix = load_matrix()
    pages = {"index.md": _index(matrix)}
    for pattern in load_patterns():
        pages[f"{pattern.id}.md"] = _page(pattern, matrix.get(pattern.id, {}))
    return pages


def symbol(pattern: Pattern, means: Means, outcomes: dict[str, str]) -> str:
    """Return how the matrix shows what a means makes of a pattern."""
    outcome = outcomes.get(means)
    if outcome is None:
        return _UNTRIED if means in pattern.detectors else _NOT
    shown = {
        Outcome.FOUND: _FOUND,
        Outcome.HINTED: _HINTED,
        Outcome.MISSED: _MISSED,
        Outcome.FALSE_ALARM: _ALARM,
    }
    return shown[Outcome(outcome)]


def _index(matrix: Matrix) -> str:
    head = ["id", "pattern", "needs", *_COLUMNS.values()]
    themes = load_themes()
    lines = []
    for theme, patterns in groupby(load_patterns(), lambda one: one.theme):
        lines += [
            f"### {themes[theme].rstrip('.')}",
            "",
            _row(head),
            _row(["---"] * len(head)),
        ]
        for one in patterns:
            outcomes = matrix.get(one.id, {})
            cells = [symbol(one, means, outcomes) for means in _COLUMNS]
            link = f"[{one.id}]({one.id}.md)"
            lines.append(_row([link, one.title, _needs(one), *cells]))
        lines.append("")
    return _INDEX.format(
        areas=_areas(),
        counts=_counts(matrix),
        matrix="\n".join(lines).rstrip(),
        runs=RUNS,
        seeds=len(SEEDS),
        users=USERS,
        rounds=ROUNDS,
        audits=AUDITS,
        found=_FOUND,
        hinted=_HINTED,
        missed=_MISSED,
        alarm=_ALARM,
        untried=_UNTRIED,
        nothing=_NOT,
    )


def _areas() -> str:
    """Return a table of the patterns that strike each area of a multi-user service."""
    lines = [_row(["area", "patterns"]), _row(["---", "---"])]
    for area in Area:
        ids = sorted(one.id for one in load_patterns() if area in one.areas)
        lines.append(_row([str(area), " ".join(f"[{id_}]({id_}.md)" for id_ in ids)]))
    return "\n".join(lines)


def _counts(matrix: Matrix) -> str:
    """Return a table that counts outcomes: by means, and all means together."""
    lines = [
        _row(["means", *_COUNTED]),
        _row(["---"] * (1 + len(_COUNTED))),
    ]
    patterns = load_patterns()
    for means, name in _COLUMNS.items():
        shown = [symbol(one, means, matrix.get(one.id, {})) for one in patterns]
        counts = [shown.count(one) for one in _COUNTED.values()]
        lines.append(_row([name, *map(str, counts)]))
    detected = sum(
        any(matrix[one.id].get(means) == Outcome.FOUND for means in WATCHED)
        for one in patterns
        if one.id in matrix
    )
    lines += [
        "",
        f"The detectors together find {detected} of {len(patterns)} patterns.",
    ]
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _page(pattern: Pattern, outcomes: dict[str, str]) -> str:
    names = {**_COLUMNS, "timing": "timing", "static": "static rules"}

    def told(outcome: Outcome) -> str:
        means = [names[one] for one in MEANS if outcomes.get(one) == outcome]
        return ", ".join(means) or "none"

    return _PAGE.format(
        id=pattern.id,
        title=pattern.title,
        mechanism=_one_per_line(pattern.mechanism),
        fix=_one_per_line(pattern.fix),
        theme=load_themes()[pattern.theme].rstrip("."),
        areas=", ".join(pattern.areas) or "any shared state",
        needs=_needs(pattern),
        detectors=", ".join(names[one] for one in pattern.detectors),
        found=told(Outcome.FOUND),
        hinted=told(Outcome.HINTED),
        missed=told(Outcome.MISSED),
        alarms=told(Outcome.FALSE_ALARM),
        beyond="; ".join(
            f"{names[one]}: {why}" for one, why in _beyond(pattern, outcomes).items()
        )
        or "none",
        source=_link(pattern.source),
        file=f"test_framework/catalogue/{pattern.theme}/{pattern.file.name}",
        interleaving=pattern.interleaving,
        code=vulnerable_code(pattern),
        mend=mend(pattern),
    )


def _beyond(pattern: Pattern, outcomes: dict[str, str]) -> dict[Means, str]:
    """Return why means from outside do not find it, where they are not expected to."""
    reasons = dict(pattern.beyond)
    for means in AUDITED:
        if means in outcomes or means in reasons:
            continue
        if pattern.hosted is None:
            reasons[means] = "nothing that a user is answered tells it"
        elif means == "swarm":
            reasons[means] = "no answer holds anything of another user"
        else:
            reasons[means] = "users are answered as if in turn, or wait for each other"
    return reasons


def _needs(pattern: Pattern) -> str:
    """Return needs for Markdown, to which the stars of task names would mean a slope."""
    needs = str(pattern.needs)
    return f"`{needs}`" if "=" in needs else needs


def _one_per_line(text: str) -> str:
    return re.sub(r"(?<=[.?]) (?=[A-Z])", "\n", text)


def _link(source: str) -> str:
    return f"<{source}>" if source.startswith("https://") else source
