"""Objects of the service that no module holds, such as the application itself.

Where a search for what is held begins, besides the modules: an application made by a
factory lives in the server alone.
"""

_ROOTS: dict[str, object] = {}


def declare_root(name: str, value: object) -> None:
    """Let searches begin at an object, too.

    Args:
        name: What paths begin with; an earlier object of the name is replaced.
        value: The object; it is kept alive.
    """
    _ROOTS[name] = value


def declared_roots() -> dict[str, object]:
    """Return the objects by name."""
    return dict(_ROOTS)
