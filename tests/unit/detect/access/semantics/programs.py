"""Programs, one function each: what they return, raise and print is compared.

They are about the order and the number of evaluations, about what receivers may be,
and about all that Python lets one assign to. ``seen`` is their diary.
"""

import asyncio
import collections
import contextlib
import dataclasses
import enum
import functools
import inspect
import io
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

PROGRAMS: list[Callable[[list[Any]], Any]] = []
total = 0
settings: dict[str, Any] = {}


def program(function: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    """Compare this function."""
    PROGRAMS.append(function)
    return function


def told(seen: list[Any], value: Any) -> Any:
    """Write down that a value was computed."""
    seen.append(repr(value))
    return value


class Box:
    """Holds anything."""

    kind = "box"

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)
        self.x = values.get("x", 0)

    def bump(self, by: int = 1) -> int:
        self.x += by
        return self.x


class Diary:
    """Writes down what is done to it."""

    def __init__(self, seen: list[Any]) -> None:
        object.__setattr__(self, "seen", seen)

    def __getattr__(self, name: str) -> Any:
        self.seen.append(("get", name))
        if name == "missing":
            raise AttributeError(name)
        return 1

    def __setattr__(self, name: str, value: Any) -> None:
        self.seen.append(("set", name, value))

    def __delattr__(self, name: str) -> None:
        self.seen.append(("del", name))

    def __getitem__(self, key: Any) -> Any:
        self.seen.append(("getitem", key))
        return 1

    def __setitem__(self, key: Any, value: Any) -> None:
        self.seen.append(("setitem", key, value))

    def __delitem__(self, key: Any) -> None:
        self.seen.append(("delitem", key))

    def __contains__(self, key: object) -> bool:
        self.seen.append(("contains", key))
        return True

    def __len__(self) -> int:
        self.seen.append("len")
        return 3

    def __bool__(self) -> bool:
        self.seen.append("bool")
        return False

    def __iter__(self) -> Iterator[int]:
        self.seen.append("iter")
        return iter((1, 2))


@program
def attributes_are_done_once_and_in_order(seen: list[Any]) -> Any:
    diary = Diary(seen)
    told(seen, diary).x = told(seen, 1)
    told(seen, diary).x += told(seen, 2)
    told(seen, diary).x, told(seen, diary).y = told(seen, (3, 4))
    del told(seen, diary).x
    return told(seen, diary).x + diary.y


@program
def subscripts_are_done_once_and_in_order(seen: list[Any]) -> Any:
    diary, key = Diary(seen), "k"
    told(seen, diary)[told(seen, 1)] = told(seen, 2)
    told(seen, diary)[told(seen, 1)] += told(seen, 2)
    diary[told(seen, 3)] -= told(seen, 4)
    told(seen, diary)[key] = told(seen, 5)
    diary[key], told(seen, diary)[told(seen, 6)] = 7, 8
    del told(seen, diary)[told(seen, 9)], diary[key]
    return told(seen, diary)[told(seen, 10)] + diary[key] + diary[-1]


@program
def contains_is_asked_once_and_in_order(seen: list[Any]) -> Any:
    diary = Diary(seen)
    answers = [
        told(seen, 1) in told(seen, diary),
        told(seen, 2) not in diary,
        3 in told(seen, diary),
        1 < told(seen, 2) in diary,
        told(seen, 1) in [1, told(seen, 2)] in [[1, 2]],
    ]
    return answers, not diary, len(diary), list(diary)


@program
def chained_targets(seen: list[Any]) -> Any:
    box, items = Box(), {}
    box.x = items["a"] = items[told(seen, "b")] = box.y = told(seen, [1])
    return box.x is items["a"] is items["b"] is box.y


@program
def star_targets(seen: list[Any]) -> Any:
    box, items = Box(), [0, 0, 0]
    box.x, *box.rest, items[told(seen, 1)] = range(5)
    (box.a, [items[0], *items[2:]]) = 1, (2, 3, 4)
    return vars(box), items


@program
def loop_targets(seen: list[Any]) -> Any:
    box, items = Box(), {}
    for box.x, items[told(seen, "k")] in [(1, 2), (3, 4)]:
        seen.append((box.x, items["k"]))
    with contextlib.nullcontext(5) as box.y, contextlib.nullcontext(6) as items["w"]:
        pass
    return vars(box), items, [box.x for box.x in (7, 8)], box.x


@program
def annotated_targets(seen: list[Any]) -> Any:
    box, items = Box(), {}
    box.x: int = told(seen, 1)
    items[told(seen, "k")]: int = told(seen, 2)
    value: int
    value = 3
    return vars(box), items, value


@program
def walrus_in_every_place(seen: list[Any]) -> Any:
    box, items = Box(), {"a": 1}
    if (key := told(seen, "a")) in items and (found := items[key]):
        box.x = (again := found) + again
    values = [last := value for value in items.values()]
    return box.x, values, last, items[(k := "a")], k


@program
def chained_comparison(seen: list[Any]) -> Any:
    box = Box(x=3)
    return (
        told(seen, 1) < told(seen, box).x <= told(seen, 3) != told(seen, 4),
        1 < box.x > told(seen, 5) > told(seen, 6),
        2 in {2: box.x} and box.x in (box.x,),
    )


@program
def slices_and_tuples_as_keys(seen: list[Any]) -> Any:
    items, pairs = list(range(9)), {(1, 2): 3}
    items[1:3] = told(seen, [7])
    items[told(seen, 0)] += 1
    items[-1] = items[-2]
    del items[::3]
    pairs[1, told(seen, 2)] += 4
    pairs[items[0], 1] = 5
    return items, pairs, items[1:][0], "abc"[1:], (1, 2, 3)[told(seen, 1)]


@program
def methods_of_containers(seen: list[Any]) -> Any:
    items, pairs, group = [3, 1], {"a": 1}, {1}
    items.append(told(seen, len(items)))
    items.extend(told(seen, value) for value in (5, 4))
    items.insert(told(seen, 0), told(seen, 9))
    pairs.update(b=told(seen, 2), **{"c": 3})
    pairs.update([("d", 4)], e=5)
    pairs.setdefault(told(seen, "f"), []).append(told(seen, 6))
    items.sort(key=lambda value: -told(seen, value))
    group.add(items.pop())
    group.discard(told(seen, 1))
    first = pairs.pop(told(seen, "zz"), told(seen, None))
    return items, pairs, group, first, pairs.get("a"), pairs.get("q", told(seen, 7))


@program
def methods_that_only_look_like_it(seen: list[Any]) -> Any:
    class Odd:
        def get(self, *args: Any, **kwargs: Any) -> Any:
            return told(seen, (args, kwargs))

        append = update = clear = get

    odd = Odd()
    return (
        odd.get(),
        odd.get(told(seen, 1), x=told(seen, 2)),
        odd.append(*[1, 2], **{"y": 3}),
        odd.update(told(seen, 4), *(5,), told(seen, 6)),
        odd.clear(*told(seen, [7])),
    )


@program
def other_owners_of_get(seen: list[Any]) -> Any:
    counter = collections.Counter("abba")
    chain = collections.ChainMap({"a": 1}, {"b": 2})
    default: dict[str, list[int]] = collections.defaultdict(list)
    default[told(seen, "x")].append(told(seen, 1))
    queue = collections.deque([1, 2], maxlen=2)
    queue.appendleft(told(seen, 0))
    ordered = collections.OrderedDict(a=1, b=2)
    ordered.move_to_end("a")
    frozen = types.MappingProxyType(ordered)
    return (
        counter["a"],
        chain["b"],
        default,
        queue,
        ordered,
        frozen.get("a"),
        dict(frozen),
    )


@program
def private_names(seen: list[Any]) -> Any:
    class Safe:
        __shared = 0

        def __init__(self) -> None:
            self.__code = 1

        def open(self) -> Any:
            self.__code += 1
            Safe.__shared += self.__code
            return self.__code, Safe.__shared, self.__dict__

        def __hidden(self) -> int:
            return self.__code

        def call(self) -> int:
            return self.__hidden()

    safe = Safe()
    return safe.open(), safe.call(), safe._Safe__code


@program
def slots_and_properties(seen: list[Any]) -> Any:
    class Slotted:
        __slots__ = ("_value", "other")

        def __init__(self) -> None:
            self._value = 1

        @property
        def value(self) -> int:
            return told(seen, self._value)

        @value.setter
        def value(self, new: int) -> None:
            self._value = told(seen, new)

    thing = Slotted()
    thing.value = 4
    thing.value += 1
    try:
        return thing.other
    except AttributeError as exc:
        thing.other = str(exc)
    with contextlib.suppress(AttributeError):
        thing.new = 1
    return thing.value, thing.other


@program
def descriptors(seen: list[Any]) -> Any:
    class Noted:
        def __set_name__(self, owner: type, name: str) -> None:
            self.name = name

        def __get__(self, thing: Any, owner: type | None = None) -> Any:
            seen.append(("get", self.name, thing is None))
            return 1

        def __set__(self, thing: Any, value: Any) -> None:
            seen.append(("set", self.name, value))

    class Owner:
        field = Noted()

        @functools.cached_property
        def slow(self) -> int:
            return told(seen, 5)

    owner = Owner()
    owner.field = told(seen, 2)
    owner.field += 1
    owner.slow += 1
    return owner.field, Owner.field, owner.slow, vars(owner)


@program
def classes_and_super(seen: list[Any]) -> Any:
    class Base:
        count = 0
        names: list[str] = []

        def get(self, key: str) -> str:
            return told(seen, f"base {key}")

        def add(self) -> None:
            type(self).count += 1
            self.names.append(type(self).__name__)

    class Child(Base):
        def get(self, key: str) -> str:
            return super().get(told(seen, key)) + __class__.__name__

    child = Child()
    child.add()
    child.count = child.count + 5
    return child.get("k"), Base.count, Child.count, child.count, Base.names


@program
def enums_and_dataclasses(seen: list[Any]) -> Any:
    class Colour(enum.Enum):
        RED = 1
        BLUE = 2

    @dataclasses.dataclass(order=True)
    class Point:
        x: int
        y: int = 0
        tags: list[str] = dataclasses.field(default_factory=lambda: ["t"])

    @dataclasses.dataclass(frozen=True, slots=True)
    class Frozen:
        x: int

    point, frozen = Point(1), Frozen(2)
    point.x, point.y = point.y, point.x
    try:
        frozen.x = 3
    except dataclasses.FrozenInstanceError as exc:
        seen.append(str(exc))
    return Colour.RED, Colour["BLUE"], point, Point(0) < point, frozen, vars(point)


@program
def globals_of_the_module(seen: list[Any]) -> Any:
    global total
    total = told(seen, 5)
    total += told(seen, 2)
    settings["a"] = total
    settings.update(b=total)

    def inner(total: int) -> int:
        return total

    return (
        total,
        inner(1),
        [total for total in (8, 9)],
        settings,
        dict(settings.items()),
    )


@program
def nonlocals_of_a_function(seen: list[Any]) -> Any:
    count, other = 0, 1

    def add(by: int = other) -> int:
        nonlocal count
        count += told(seen, by)
        return count

    class Inside:
        count = "of the class"

        def read(self) -> int:
            return count

    def shadow() -> int:
        count = 100

        def deeper() -> int:
            nonlocal count
            count += 1
            return count

        return deeper()

    add()
    add(5)
    return count, Inside.count, Inside().read(), shadow(), add.__defaults__


@program
def deleted_variables(seen: list[Any]) -> Any:
    value, items = 1, {"a": 1, "b": 2}

    def forget() -> None:
        nonlocal value
        del value

    forget()
    del items["a"]
    try:
        return value
    except NameError as exc:
        return str(exc), items


@program
def comprehensions(seen: list[Any]) -> Any:
    box = Box(items=[1, 2], table={"a": [1, 2]})
    box.items.append(3)
    box.table = dict(box.table)
    return (
        [told(seen, x) for x in box.items if x in box.items],
        {x: y for x, ys in box.table.items() for y in ys},
        {x for x in box.table},
        sum(x for x in box.items),
        [[y for y in box.items] for _ in box.table["a"]],
        list(map(lambda key: box.table[key], box.table)),
    )


@program
def generators_give_and_take(seen: list[Any]) -> Any:
    box = Box()

    def give() -> Iterator[Any]:
        try:
            box.x += yield box.x
            box.items = yield from iter([1, 2])
            box.x += (yield "more") or 1
        finally:
            seen.append(vars(box).copy())

    generator = give()
    got = [next(generator), generator.send(10), next(generator), next(generator)]
    generator.close()
    return got, box.x


@program
def matching(seen: list[Any]) -> Any:
    class Kind:
        A = "a"

    box = Box(x=1, items=[1, 2, 3])
    answers = []
    for subject in (box, {"k": 1, "r": 2}, [1, 2, 3], Kind.A, 4):
        match subject:
            case Box(x=1) if subject.x == told(seen, 1):
                subject.x += 1
                answers.append("box")
            case {"k": found, **rest}:
                answers.append((found, rest))
            case [first, *others]:
                answers.append((first, others))
            case Kind.A:
                answers.append("A")
            case other:
                answers.append(other)
    return answers, box.x


@program
def exceptions_keep_their_lines(seen: list[Any]) -> Any:
    box, items = Box(), {}
    for attempt in (
        lambda: box.nothing,
        lambda: items["nothing"],
        lambda: items[told(seen, "no")],
        lambda: box.x.y.z,
        lambda: box.bump("a"),
        lambda: [].pop(),
        lambda: [].pop(told(seen, 0)),
        lambda: {[]: 1},
        lambda: items[[]],
        lambda: [] in items,
        lambda: len(5),
        lambda: None.x,
        lambda: box.items.append(told(seen, 1)),
    ):
        try:
            attempt()
        except Exception as exc:
            seen.append(lines_of(exc))


def lines_of(exc: BaseException) -> Any:
    """Return what a traceback shows: functions, lines and columns."""
    lines, tb = [], exc.__traceback__
    while tb is not None:
        code = tb.tb_frame.f_code
        position = list(code.co_positions())[tb.tb_lasti // 2]
        lines.append((code.co_qualname, tb.tb_lineno, position))
        tb = tb.tb_next
    return type(exc).__name__, str(exc), lines


@program
def assignment_that_fails_halfway(seen: list[Any]) -> Any:
    box, items = Box(), [1]
    try:
        box.x = items[told(seen, 5)]
    except IndexError:
        seen.append(box.x)
    try:
        items[told(seen, 0)], items[7] = 8, 9
    except IndexError as exc:
        seen.append(lines_of(exc))
    try:
        box.x += told(seen, None)
    except TypeError as exc:
        seen.append(lines_of(exc))
    return items, box.x


@program
def what_people_can_read(seen: list[Any]) -> Any:
    def documented(x: "Box", y: int = 3) -> "Box":
        """Say something."""
        x.x = y
        return x

    return (
        documented.__doc__,
        documented.__annotations__,
        documented.__defaults__,
        inspect.signature(documented),
        inspect.getsource(documented).count("\n"),
        documented.__code__.co_firstlineno,
        documented.__code__.co_varnames,
        documented.__qualname__,
        sorted(inspect.getsource(Box).split())[:5],
    )


@program
def objects_die_when_they_did(seen: list[Any]) -> Any:
    box = Box()
    box.inner = Box(x=1)
    gone = weakref.ref(box.inner)
    box.inner.x += 1
    box.inner = None
    seen.append(gone() is None)
    other = Box()
    weakref.finalize(other, seen.append, "finalised")
    other.x = 5
    del other
    return seen[-1]


@program
def streams(seen: list[Any]) -> Any:
    stream = io.StringIO()
    stream.write(told(seen, "a"))
    stream.write("b")
    stream.seek(0)
    return stream.read(), stream.getvalue(), "".join(told(seen, ["x", "y"]))


@program
def lambdas_and_defaults(seen: list[Any]) -> Any:
    box = Box(x=2)
    first = lambda y=box.x, *rest, z=told(seen, 9): (y, rest, z, box.x)
    box.x = 7
    return first(), first(1, 2, z=3), (lambda: (yield))().__class__.__name__


@program
def formatted_text(seen: list[Any]) -> Any:
    box = Box(x=3, items={"a": 1})
    box.x += 1
    return f"{box.x!r:>{box.x}} {box.items['a']} {told(seen, box).x=}"


@program
def conditions(seen: list[Any]) -> Any:
    box = Box(items=[], diary=Diary(seen))
    box.items = []
    if not box.items:
        seen.append("empty")
    if box.diary:
        seen.append("never")
    while box.items:
        seen.append("never")
    box.diary = 1
    return 1 if box.items else 2, box.items or 3, box.diary and 4


@program
async def awaits_in_every_place(seen: list[Any]) -> Any:
    box, items = Box(items=[1]), {"a": 1}

    async def value(of: Any) -> Any:
        await asyncio.sleep(0)
        return told(seen, of)

    box.x += await value(1)
    items[await value("b")] = await value(2)
    items["a"] += await value(3)
    (await value(box)).x += await value(4)
    items.setdefault(await value("c"), await value(5))
    box.items.append(await value(6))
    found = (await value("a")) in items, items[await value("a")]
    got = [await value(x) for x in box.items], {await value(1): 2}
    return found, got, box.x, items, await value(await value(7)), box.items


@program
async def async_statements(seen: list[Any]) -> Any:
    box = Box()

    @contextlib.asynccontextmanager
    async def manager() -> AsyncIterator[Box]:
        box.x += 1
        try:
            yield box
        finally:
            box.x += 10

    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0)
            yield number

    async with manager() as inner, manager() as box.other:
        seen.append(inner.x)
    async for box.number in numbers():
        seen.append(box.number)
    else:
        seen.append("over")
    return (
        box.x,
        [x async for x in numbers()],
        [x async for x in numbers() if x],
        box.number,
    )


@program
async def exceptions_through_awaits(seen: list[Any]) -> Any:
    box = Box()

    async def fail() -> None:
        await asyncio.sleep(0)
        box.nothing += 1

    try:
        await asyncio.gather(fail())
    except AttributeError as exc:
        seen.append(lines_of(exc))
    task = asyncio.ensure_future(fail())
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError as exc:
        seen.append(lines_of(exc))
    return await asyncio.gather(fail(), return_exceptions=True)


@program
async def loops_that_await(seen: list[Any]) -> Any:
    table, items = {"a": 1, "b": 2}, [1, 2]
    for key, value in table.items():
        await asyncio.sleep(0)
        seen.append((key, value))
    for item in items:
        await asyncio.sleep(0)
        if len(items) < 4:
            items.append(item)
    else:
        seen.append("else")
    for key in table.keys():
        await asyncio.sleep(0)
        if key == "b":
            break
    try:
        for key in table:
            await asyncio.sleep(0)
            table[key + key] = 0
    except RuntimeError as exc:
        seen.append(lines_of(exc))
    return items, table


@program
async def generators_are_closed_when_they_were(seen: list[Any]) -> Any:
    def give() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            seen.append("closed")

    for number in give():
        await asyncio.sleep(0)
        seen.append(number)
        break
    seen.append("after")


def doctested(box: Box) -> int:
    """Add one.

    >>> doctested(Box(x=1))
    2
    """
    box.x += 1
    return box.x
