"""P24: ABA on a reused slot.

alice                           bob
                                slot, generation = slots.open(NAMES[user])
                                slot = next(n for n in range(len(NAMES)) if n not in ...
                                self.owner[slot] = user
                                self.generation += 1
                                return slot, self.generation
                                chunk = asyncio.create_task(receive())
                                await external("the client gives up or is done")
                                await external("next chunk")
                                slots.close(slot)
                                self.owner.pop(slot, None)
                                await chunk
slot, generation = slots.open(NAMES[user])
slot = next(n for n in range(len(NAMES)) if n not in self.owner)
self.owner[slot] = user
self.generation += 1
return slot, self.generation
chunk = asyncio.create_task(receive())
await external("the client gives up or is done")
await external("next chunk")
                                slots.store(slot, generation, f"file of {NAMES[user]}")
                                if self.is_mine(slot, generation):
                                return slot in self.owner
                                self.files[self.owner[slot]] = data
slots.close(slot)
self.owner.pop(slot, None)
await chunk
slots.store(slot, generation, f"file of {NAMES[user]}")
if self.is_mine(slot, generation):
return slot in self.owner
-> alice got the file of bob
"""

import asyncio

from test_framework.catalogue.pattern import Area, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Slots:
    """Upload slots with small numbers, used again and again."""

    def __init__(self) -> None:
        self.owner: dict[int, str] = {}
        self.generation = 0
        self.files: dict[str, str] = {}

    def open(self, user: str) -> tuple[int, int]:
        slot = next(n for n in range(len(NAMES)) if n not in self.owner)
        self.owner[slot] = user
        self.generation += 1
        return slot, self.generation

    def close(self, slot: int) -> None:
        self.owner.pop(slot, None)

    def is_mine(self, slot: int, generation: int) -> bool:  # noqa: ARG002  # the twin compares it
        return slot in self.owner

    def store(self, slot: int, generation: int, data: str) -> None:
        if self.is_mine(slot, generation):
            self.files[self.owner[slot]] = data


class _CountedSlots(_Slots):
    def __init__(self) -> None:
        super().__init__()
        self.current: dict[int, int] = {}

    def open(self, user: str) -> tuple[int, int]:
        slot, generation = super().open(user)
        self.current[slot] = generation
        return slot, generation

    def is_mine(self, slot: int, generation: int) -> bool:
        return slot in self.owner and self.current[slot] == generation


async def _upload(slots: _Slots, user: int) -> None:
    slot, generation = slots.open(NAMES[user])

    async def receive() -> None:
        await external("next chunk")
        slots.store(slot, generation, f"file of {NAMES[user]}")

    chunk = asyncio.create_task(receive())
    await external("the client gives up or is done")
    slots.close(slot)
    await chunk


def _files_are_with_owners(slots: _Slots) -> None:
    for owner, data in slots.files.items():
        assert data == f"file of {owner}", f"{owner} got the {data}"


PATTERN = Pattern(
    id="P24",
    title="ABA on a reused slot",
    mechanism=("A late answer finds its slot in use, as before, but by somebody else."),
    fix="Count generations and compare them.",
    areas=(Area.ENGINE_REGISTRY,),
    detectors=("explorer", "access"),
    source="https://cwe.mitre.org/data/definitions/672.html",
    vulnerable=visits(_Slots, _upload, _files_are_with_owners),
    safe=visits(_CountedSlots, _upload, _files_are_with_owners),
    module=__name__,
)
