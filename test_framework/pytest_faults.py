"""The ``faults`` fixture: a test disturbs the service under test for some lines."""

import contextlib
from collections.abc import AsyncIterator

from test_framework.core import InternalError
from test_framework.faults import Field, chosen, striking
from test_framework.swarm import Target


class Faults:
    """The service under test with proxies around it, and what can happen to it.

    Attributes:
        target: The service; ``base_url`` leads through the proxy before it.
        field: What faults may reach; for those that a test makes itself.
    """

    def __init__(self, target: Target) -> None:
        if target.field is None:
            message = "The service was staged without a field for faults."
            raise InternalError(message)
        self.target = target
        self.field: Field = target.field

    @contextlib.asynccontextmanager
    async def __call__(self, names: str) -> AsyncIterator[None]:
        """Disturb the block.

        Args:
            names: A fault, or several with commas between them, which then strike one
                after the other and last together.

        Raises:
            TargetError: What a fault works on is not there, or does not come back.
            UsageError: A name is unknown, or a fault lacks something; it says what.
        """
        async with contextlib.AsyncExitStack() as stack:
            for fault in chosen(names):
                await stack.enter_async_context(striking(fault, self.field))
            yield
