"""A small notes service, as one finds them: log in, write notes, watch a feed.

Every click through it by hand works. With two users at once
it hands out the notes of one to the other; ``service_fixed.py`` is the same service
without the mistake. Everything lives in memory: run it as one process.
"""

import asyncio
import secrets
from collections import defaultdict
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi import WebSocketDisconnect as Disconnected
from pydantic import BaseModel

STORAGE_S = 0.001


class Account(BaseModel):
    """Who logs in."""

    name: str
    password: str


class NewNote(BaseModel):
    """What a user writes."""

    text: str


class NoteBook:
    """The notes and feeds of all users."""

    def __init__(self) -> None:
        self.passwords: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.notes: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.feeds: dict[str, set[WebSocket]] = defaultdict(set)
        self.user = ""

    def login(self, account: Account) -> str:
        """Return a token; the first login of a name sets its password."""
        known = self.passwords.setdefault(account.name, account.password)
        if not secrets.compare_digest(known.encode(), account.password.encode()):
            raise HTTPException(401, "This name has another password.")
        token = secrets.token_urlsafe()
        self.tokens[token] = account.name
        return token

    def open_for(self, authorization: str) -> "NoteBook":
        """Return the book, opened for the user of the request."""
        user = self.tokens.get(authorization.removeprefix("Bearer "))
        if user is None:
            raise HTTPException(401, "Log in first.")
        self.user = user
        return self

    async def add(self, text: str) -> dict[str, Any]:
        """Store a note and tell the user's feeds."""
        await asyncio.sleep(STORAGE_S)  # the round trip to a database
        note = {"id": secrets.token_hex(8), "text": text}
        self.notes[self.user].append(note)
        for feed in list(self.feeds[self.user]):
            await feed.send_json({"type": "note.added", "note": note})
        return note

    async def all(self) -> list[dict[str, Any]]:
        """Return the user's notes, oldest first."""
        await asyncio.sleep(STORAGE_S)
        return self.notes[self.user]


async def open_book(request: Request) -> NoteBook:
    """Return the book for the user who sent the request."""
    book: NoteBook = request.app.state.book
    return book.open_for(request.headers.get("authorization", ""))


Book = Annotated[NoteBook, Depends(open_book)]


def create_app() -> FastAPI:
    """Return the service with an empty book."""
    app = FastAPI(title="Notes")
    app.state.book = NoteBook()

    @app.post("/login")
    async def login(account: Account) -> dict[str, str]:
        return {"token": app.state.book.login(account)}

    @app.post("/notes", status_code=201)
    async def add_note(new: NewNote, book: Book) -> dict[str, Any]:
        return await book.add(new.text)

    @app.get("/notes")
    async def list_notes(book: Book) -> list[dict[str, Any]]:
        return await book.all()

    @app.websocket("/feed")
    async def feed(socket: WebSocket) -> None:
        book: NoteBook = app.state.book
        book = book.open_for(socket.headers.get("authorization", ""))
        feeds = book.feeds[book.user]
        await socket.accept()
        feeds.add(socket)
        try:
            await socket.send_json({"type": "ready"})
            while True:
                await socket.receive_text()
        except Disconnected:
            pass
        finally:
            feeds.discard(socket)

    return app
