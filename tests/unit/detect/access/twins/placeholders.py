"""What belongs to one request, kept where all of them find it."""

import asyncio
import contextvars
import io
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import pydantic
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.unit.detect.access.twins.pair import Pair

_USER: contextvars.ContextVar[int] = contextvars.ContextVar("user")
current_user = 0


class Service:
    """One for all requests."""

    def __init__(self) -> None:
        self.user = 0
        self.answers: dict[int, int] = {}

    async def load(self) -> int:
        await asyncio.sleep(0)
        return self.user


async def keep_on_service(service: Service, user: int) -> None:
    service.user = user
    await service.load()
    service.answers[user] = service.user


async def keep_in_context(service: Service, user: int) -> None:
    _USER.set(user)
    await service.load()
    service.answers[user] = _USER.get()


async def keep_in_global(service: Service, user: int) -> None:
    global current_user  # noqa: PLW0603  # the defect
    current_user = user
    await asyncio.sleep(0)
    service.answers[user] = current_user


async def keep_in_argument(service: Service, user: int) -> None:
    async def answer(current_user: int) -> int:
        await asyncio.sleep(0)
        return current_user

    service.answers[user] = await answer(user)


class Shared:
    """A class that is used as a namespace."""

    user: ClassVar[int] = 0


async def keep_on_class(service: Service, user: int) -> None:
    Shared.user = user
    await asyncio.sleep(0)
    service.answers[user] = Shared.user


async def keep_on_instance(service: Service, user: int) -> None:
    shared = Shared()
    shared.user = user  # type: ignore[misc]  # shadows the class attribute
    await asyncio.sleep(0)
    service.answers[user] = shared.user


class Slotted:
    """Has no dictionary."""

    __slots__ = ("user",)

    def __init__(self) -> None:
        self.user = 0


async def keep_in_slot(slotted: Slotted, user: int) -> None:
    slotted.user = user
    await asyncio.sleep(0)
    assert slotted.user


async def keep_in_fresh_slot(_: Slotted, user: int) -> None:
    slotted = Slotted()
    slotted.user = user
    await asyncio.sleep(0)
    assert slotted.user == user


class Model(pydantic.BaseModel):
    """A model of pydantic that all requests share."""

    user: int = 0
    _token: str = ""

    async def remember(self, user: int) -> str:
        self._token = str(user)
        await asyncio.sleep(0)
        return self._token


async def keep_in_model(model: Model, user: int) -> None:
    model.user = user
    await asyncio.sleep(0)
    assert model.user


async def keep_in_copy(model: Model, user: int) -> None:
    copied = model.model_copy(update={"user": user})
    copied.user += 1
    await asyncio.sleep(0)
    assert copied.user == user + 1


async def keep_in_private(model: Model, user: int) -> None:
    await model.remember(user)


async def keep_in_own_private(_: Model, user: int) -> None:
    assert await Model().remember(user) == str(user)


class Base(DeclarativeBase):
    """Of the tables."""


class Row(Base):
    """A row whose attributes SQLAlchemy watches."""

    __tablename__ = "rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[int]


async def keep_in_row(row: Row, user: int) -> None:
    row.owner = user
    await asyncio.sleep(0)
    assert row.owner


async def keep_in_own_row(_: Row, user: int) -> None:
    row = Row(id=user, owner=0)
    row.owner = user
    await asyncio.sleep(0)
    assert row.owner == user


def make_singleton() -> type:
    """Return a class that always hands out the same object."""

    class Singleton:
        """Its only object is made anew by each who asks for it."""

        _only: Any = None

        def __new__(cls, _: int) -> Self:
            if cls._only is None:
                cls._only = super().__new__(cls)
            found: Self = cls._only
            return found

        def __init__(self, user: int) -> None:
            self.user = user

    return Singleton


async def make_again(singleton: type[Service], user: int) -> None:
    mine = singleton(user)  # type: ignore[call-arg]  # it takes the user
    await asyncio.sleep(0)
    assert mine.user


async def make_fresh(_: type, user: int) -> None:
    mine = Service()
    mine.user = user
    await asyncio.sleep(0)
    assert mine.user == user


@dataclass
class Buffer:
    """Where answers are put together."""

    parts: list[int] = field(default_factory=list)
    stream: io.StringIO = field(default_factory=io.StringIO)
    sent: list[list[int]] = field(default_factory=list)


async def gather_in_shared_list(buffer: Buffer, user: int) -> None:
    buffer.parts.clear()
    buffer.parts.append(user)
    await asyncio.sleep(0)
    buffer.sent.append(list(buffer.parts))


async def gather_in_own_list(buffer: Buffer, user: int) -> None:
    parts: list[int] = []
    parts.append(user)
    await asyncio.sleep(0)
    buffer.sent.append(list(parts))


async def write_to_shared_stream(buffer: Buffer, user: int) -> None:
    buffer.stream.seek(0)
    buffer.stream.write(f"hello {user}")
    await asyncio.sleep(0)
    assert buffer.stream.getvalue()


async def write_to_own_stream(_: Buffer, user: int) -> None:
    stream = io.StringIO()
    stream.write(f"hello {user}")
    await asyncio.sleep(0)
    assert stream.getvalue() == f"hello {user}"


CLOBBERED = "shared-write-clobbered"
PAIRS = {
    "attribute of a service": Pair(
        Service, keep_on_service, keep_in_context, CLOBBERED
    ),
    "global": Pair(Service, keep_in_global, keep_in_argument, CLOBBERED),
    "class attribute": Pair(Service, keep_on_class, keep_on_instance, CLOBBERED),
    "slot": Pair(Slotted, keep_in_slot, keep_in_fresh_slot, CLOBBERED),
    "pydantic model": Pair(Model, keep_in_model, keep_in_copy, CLOBBERED),
    "pydantic private attribute": Pair(
        Model, keep_in_private, keep_in_own_private, CLOBBERED
    ),
    "sqlalchemy attribute": Pair(Row, keep_in_row, keep_in_own_row, CLOBBERED),
    "singleton made again": Pair(make_singleton, make_again, make_fresh, CLOBBERED),
    "shared list": Pair(Buffer, gather_in_shared_list, gather_in_own_list, CLOBBERED),
    "shared stream": Pair(
        Buffer, write_to_shared_stream, write_to_own_stream, CLOBBERED
    ),
}
