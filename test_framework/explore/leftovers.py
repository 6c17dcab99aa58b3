"""What a user of a pool has left in it for the next one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Leftover:
    """What the next user of a pool would find.

    Attributes:
        kind: ``dirty-connection`` or ``dirty-pool``.
        message: One sentence.
        where: ``file:line`` of the program.
        details: Further lines.
        name: What the same thing is called in another run, whoever left it.
    """

    kind: str
    message: str
    where: str
    details: tuple[str, ...]
    name: str
