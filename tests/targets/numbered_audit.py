"""The audit of the notes service whose notes have numbers."""

from test_framework.swarm import User
from tests.targets.notes_audit import login

__all__ = ["login", "workload"]


async def workload(user: User) -> None:
    """Write a note and read it back by its number."""
    note = user.canary("note")
    created = await user.http.post("/notes", json={"text": note})
    await user.rendezvous("read")
    mine = await user.http.get(f"/notes/{created.json()['id']}")
    user.expect(note in mine.text, "my note is gone")
    await user.http.get("/notes")
