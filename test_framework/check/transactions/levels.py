"""Isolation levels, what each one rules out, and which of them a history shows.

A model is a *base* of Adya's (PL-1 ... PL-3; "Weak Consistency", MIT 1999) and how far
its order must agree with what clients see: not at all, within each session
(``strong-session-``), or in real time (``strong-``; ``strict-serializable``). Each is
defined by the anomalies it rules out, and rules out all that a weaker one does.
"""

from collections.abc import Collection
from typing import NamedTuple

from test_framework.core import UsageError

_STRENGTHS = ("", "-process", "-realtime")
"""Ends of the names of anomalies, by strength."""

_PREFIXES = ("", "strong-session-", "strong-")

_STRICT = "strict-serializable"

_WEAKER: dict[str, tuple[str, ...]] = {
    "read-uncommitted": (),
    "read-committed": ("read-uncommitted",),
    "consistent-view": ("read-committed",),
    "snapshot-isolation": ("consistent-view",),
    "repeatable-read": ("read-committed",),
    "serializable": ("snapshot-isolation", "repeatable-read"),
}
"""Bases, weak to strong, with those directly below: PL-1, 2, 2+, SI, 2.99, 3."""

_RULED_OUT_BY: dict[str, tuple[str, ...]] = {
    "duplicate-elements": ("read-uncommitted",),
    "cyclic-versions": ("read-uncommitted",),
    "G0": ("read-uncommitted",),
    "incompatible-order": ("read-committed",),
    "dirty-update": ("read-committed",),
    "G1a": ("read-committed",),
    "G1b": ("read-committed",),
    "G1c": ("read-committed",),
    "internal": ("consistent-view", "repeatable-read"),
    "lost-update": ("consistent-view", "repeatable-read"),
    "G-single": ("consistent-view", "repeatable-read"),
    "G-nonadjacent": ("snapshot-isolation", "repeatable-read"),
    "G2-item": ("repeatable-read",),
    "G-single-predicate": ("consistent-view",),
    "G-nonadjacent-predicate": ("snapshot-isolation",),
    "G2": ("serializable",),
}
"""Anomalies, the worst first, with the weakest bases that rule them out."""


_CYCLES = tuple(name for name in _RULED_OUT_BY if name.startswith(("G-", "G2")))
"""Cycles with read-write edges."""


class Model(NamedTuple):
    """An isolation level: 0, 1 or 2 for no, session or real-time order, and a base."""

    strength: int
    base: str

    @property
    def name(self) -> str:
        """Return its usual name."""
        if self == (2, "serializable"):
            return _STRICT
        return _PREFIXES[self.strength] + self.base


def _all_below(base: str) -> frozenset[str]:
    return frozenset({base}.union(*(_all_below(one) for one in _WEAKER[base])))


_BELOW = {base: _all_below(base) for base in _WEAKER}

_MODELS = tuple(
    Model(strength, base) for base in _WEAKER for strength in range(len(_PREFIXES))
)

MODELS = tuple(model.name for model in _MODELS)
"""Names of all models: by base, weak to strong, each without order first."""


def find_model(name: str) -> Model:
    """Return the model of a name.

    Raises:
        UsageError: There is none.
    """
    for model in _MODELS:
        if name in {model.name, _PREFIXES[model.strength] + model.base}:
            return model
    message = f"model={name!r} is not known. Choose one of: {', '.join(MODELS)}."
    raise UsageError(message)


def split_anomaly(anomaly: str) -> tuple[int, str]:
    """Return strength and base of the name of an anomaly."""
    for strength in (2, 1):
        if anomaly.endswith(_STRENGTHS[strength]):
            return strength, anomaly.removesuffix(_STRENGTHS[strength])
    return 0, anomaly


def name_anomaly(base: str, strength: int) -> str:
    """Return the name of a cycle: its base, and what order it needs besides."""
    return base + _STRENGTHS[strength]


def rank_anomaly(name: str) -> tuple[int, int]:
    """Return a key that sorts anomalies, the worst first."""
    strength, base = split_anomaly(name)
    return list(_RULED_OUT_BY).index(base), strength


def is_as_bad(one: str, other: str) -> bool:
    """Tell whether all bases that rule out the other kind of anomaly rule out this one.

    Then, where this one was found, the other one is no news.
    """
    return _ruling_out(other) <= _ruling_out(one)


def common_base(one: str, other: str) -> str:
    """Return what is certain where there is either of two cycles.

    It is the kind that is ruled out by just those bases that rule out both.
    """
    both = _ruling_out(one) & _ruling_out(other)
    return next(name for name in _CYCLES if _ruling_out(name) == both)


def _ruling_out(base: str) -> frozenset[str]:
    weakest = _RULED_OUT_BY[base]
    return frozenset(
        name for name, below in _BELOW.items() if not below.isdisjoint(weakest)
    )


def rules_out(model: Model, anomaly: str) -> bool:
    """Tell whether a history of this model can never show this anomaly."""
    strength, base = split_anomaly(anomaly)
    weakest = _RULED_OUT_BY[base]
    return strength <= model.strength and not _BELOW[model.base].isdisjoint(weakest)


def _is_weaker(one: Model, other: Model) -> bool:
    return (
        one != other
        and one.strength <= other.strength
        and one.base in _BELOW[other.base]
    )


def judge_levels(
    found: Collection[str], undecided: Collection[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the models that hold, strong to weak, and the weakest that are broken.

    Args:
        found: Names of anomalies that the history shows.
        undecided: Names of those that it may show or not.
    """
    broken = [m for m in _MODELS if any(rules_out(m, name) for name in found)]
    holds = [
        model
        for model in reversed(_MODELS)
        if model not in broken and not any(rules_out(model, name) for name in undecided)
    ]
    weakest = [m for m in broken if not any(_is_weaker(one, m) for one in broken)]
    return tuple(m.name for m in holds), tuple(m.name for m in weakest)
