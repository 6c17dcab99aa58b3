"""The audit of the notes service."""

from test_framework.swarm import User


async def login(user: User) -> None:
    """Log in by name."""
    answer = await user.http.post("/login", json={"name": user.name})
    answer.raise_for_status()
    user.http.headers["authorization"] = f"Bearer {answer.json()['token']}"
    user.own(answer.json()["user_id"])


async def workload(user: User) -> None:
    """Write a note and read it back."""
    note = user.canary("note")
    await user.http.post("/notes", json={"text": note})
    await user.rendezvous("read")
    notes = await user.http.get("/notes")
    user.expect(note in notes.text, "my note is gone")
