"""How users of the notes service log in, and what each of them does."""

from test_framework.swarm import User


async def login(user: User) -> None:
    """Log in; the token goes into all later requests."""
    account = {"name": user.name, "password": user.password}
    answer = await user.http.post("/login", json=account)
    user.http.headers["authorization"] = f"Bearer {answer.json()['token']}"


async def workload(user: User) -> None:
    """Write a note, see it arrive in the feed, read it back when all others do."""
    text = user.canary("note")
    async with user.ws("/feed") as feed:
        await feed.until(lambda event: event["type"] == "ready")
        await user.http.post("/notes", json={"text": text})
        await feed.until(lambda event: event["type"] == "note.added", timeout_s=2)
    await user.rendezvous("read back")
    notes = await user.http.get("/notes")
    user.expect(text in notes.text, "GET /notes does not hold my note")
