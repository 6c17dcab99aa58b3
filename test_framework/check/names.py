"""How users and operations are called in findings: short, the same everywhere."""

from test_framework.core import VISITOR, Operation


def user_name(user: int | None) -> str:
    """Return ``user-07``, or words for a visitor or nobody."""
    if user is None:
        return "nobody in particular"
    return "a visitor without identity" if user == VISITOR else f"user-{user:02d}"


def operation_line(operation: Operation) -> str:
    """Return one operation as a finding's proof quotes it."""
    answer = (
        str(operation.status)
        if operation.status is not None
        else operation.error or operation.outcome
    )
    return (
        f"op {operation.index}  {user_name(operation.user)}  {operation.endpoint}"
        f"  {answer}"
    )
