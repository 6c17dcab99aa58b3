"""The suites of channels and registers as people use them, in a file of tests."""

import pytest

import test_framework.battery.suites  # noqa: F401  # numpy cannot be imported again after the run inside

pytestmark = pytest.mark.slow

_FILE = """
import asyncio
from test_framework.battery import RaceTestConfig
from test_framework.battery.suites import ChannelRaceSuite, OrderingRaceSuite
from test_framework.check.channels import Order, Promise

CONFIG = RaceTestConfig(workers=4, iterations=8, seed=1)


class Stack:
    def __init__(self):
        self.messages = asyncio.LifoQueue()

    async def send(self, message, to):
        await self.messages.put(message)

    async def receive(self, consumer):
        return await self.messages.get()


class Pair:
    def __init__(self):
        self.values = {}

    async def read(self, name):
        return self.values.get(name, 0)

    async def write(self, name, value):
        self.values[name] = value


class TestStackAsQueue(ChannelRaceSuite):
    config, make = CONFIG, Stack


class TestStackAsBag(ChannelRaceSuite):
    config, make = CONFIG, Stack
    promise = Promise(order=Order.UNORDERED)


class TestPair(OrderingRaceSuite):
    config, make = CONFIG, Pair
"""


def test_channel_and_ordering_suites_test_what_is_made(
    pytester: pytest.Pytester,
) -> None:
    """A stack is no queue and is a bag; a dict passes each of the litmus tests."""
    pytester.makepyfile(_FILE)

    done = pytester.runpytest("-o", "asyncio_default_fixture_loop_scope=function")

    done.assert_outcomes(passed=17, failed=1)
    done.stdout.fnmatch_lines(["FAILED *TestStackAsQueue::test_channel_conforms*"])
