"""A restart goes on when its strike is cancelled, and a heal tries once more."""

import asyncio
import threading
from typing import Any, cast

import pytest

from test_framework.core import TargetError
from test_framework.faults import Field, RestartRedis, striking
from test_framework.services import Services


class Keeper:
    """Stands for the guardian: fails so often, then restarts when it is let."""

    def __init__(self, *, failures: int) -> None:
        self.failures = failures
        self.restarts = 0
        self.may_go_on = threading.Event()

    def order(self, _name: str, _what: str, **_how: object) -> dict[str, Any]:
        """Restart the server."""
        self.may_go_on.wait(10)
        if self.failures:
            self.failures -= 1
            message = "it does not come back"
            raise TargetError(message)
        self.restarts += 1
        return {"pid": 100 + self.restarts}


def field_of(keeper: Keeper) -> Field:
    """Return a field with a Redis that this keeper restarts."""
    services = Services(None, "redis://h", {}, {}, {"redis": 100}, None, ())
    # What guards the servers is nobody else's matter, hence private.
    object.__setattr__(services, "_guardian", cast("Any", keeper))
    return Field(services=services)


async def test_heal_waits_for_a_cancelled_restart() -> None:
    """The server is back when the heal returns, and was restarted once."""
    keeper = Keeper(failures=0)
    fault, field = RestartRedis(), field_of(keeper)
    strike = asyncio.ensure_future(fault.strike(field))
    await asyncio.sleep(0)
    strike.cancel()
    await asyncio.gather(strike, return_exceptions=True)
    healing = asyncio.ensure_future(fault.heal(field))
    await asyncio.sleep(0)
    assert not healing.done()

    keeper.may_go_on.set()
    await healing
    await fault.heal(field)

    assert keeper.restarts == 1


async def test_heal_tries_a_failed_restart_again() -> None:
    """The strike says that it failed, and the server is back all the same."""
    keeper = Keeper(failures=1)
    keeper.may_go_on.set()

    with pytest.raises(TargetError, match="does not come back"):
        async with striking(RestartRedis(), field_of(keeper)):
            pytest.fail("the block ran")

    assert keeper.restarts == 1


async def test_heal_that_fails_says_so() -> None:
    """A server that stays away is no healed one."""
    keeper = Keeper(failures=9)
    keeper.may_go_on.set()
    fault, field = RestartRedis(), field_of(keeper)
    with pytest.raises(TargetError):
        await fault.strike(field)

    with pytest.raises(TargetError, match="does not come back"):
        await fault.heal(field)
    keeper.failures = 0
    await fault.heal(field)

    assert keeper.restarts == 1
