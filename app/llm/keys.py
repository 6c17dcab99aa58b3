"""Several keys of one provider, each with a limit of its own.

A key is lent for one exchange, from the request to the end of its answer, and to no
more than it may have under way. One that the provider refuses (401) is used no more; one
that it asks to come back later (429) rests for that time, and the others go on.

Nobody waits while all keys rest: whoever asks then is told for how long, as if the
provider had said so, and comes back without holding anything meanwhile (``Retry``).
"""

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from pydantic import SecretStr

from app.llm.client import KeysBusyError, ModelNotAskedError
from app.llm.credentials import AUTHORIZATION
from app.monitoring import log_event
from app.security import KeyPool, KeysRestError, NoKeyLeftError

SHORTEST_REST_S = 1.0
"""The rest after a refusal that names no time, or none worth the name."""

LONGEST_REST_S = 60.0
"""A key that is to rest for a day is tried once a minute: it may have been a mistake."""

_log = logging.getLogger("app.llm")


class PooledKeys:
    """Shares the keys of one provider out; knows them by number wherever it speaks."""

    def __init__(
        self,
        keys: Sequence[SecretStr],
        *,
        requests: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Lend ``keys``, each to so many ``requests`` at one time, by ``clock``."""
        # The pool lends their numbers, which are no secret.
        shown = dict.fromkeys(f"Bearer {key.get_secret_value()}" for key in keys)
        self._pool = KeyPool(
            range(len(shown)), holders=requests, longest_rest_s=0.0, clock=clock
        )
        self._shown = tuple(shown)

    @property
    def tries(self) -> int:
        """Each key once, and then ``lent`` says when the next one may be asked."""
        return len(self._shown) + 1

    @contextlib.asynccontextmanager
    async def lent(self) -> AsyncIterator[Mapping[str, str]]:
        """Lend one key, in the order of arrival.

        Raises:
            ModelNotAskedError: The provider has refused every key.
            KeysBusyError: It wants none of them before a time.
        """
        async with contextlib.AsyncExitStack() as stack:
            try:
                lease = await stack.enter_async_context(self._pool.lease())
            except KeysRestError as exc:
                message = "The model is busy for all of its keys. Try again later."
                raise KeysBusyError(message, retry_after_s=exc.rest_s) from exc
            except NoKeyLeftError as exc:
                message = (
                    "The model's provider has refused every key. "
                    "Put keys that it accepts into MODEL_KEYS and start again."
                )
                raise ModelNotAskedError(message) from exc
            yield {AUTHORIZATION: self._shown[lease.key]}

    def refuse(self, headers: Mapping[str, str]) -> bool:
        """Lend this key no more."""
        number = self._number(headers)
        if number in self._pool.uses:
            log_event(_log, "model_key.refused", level=logging.ERROR, number=number + 1)
        self._pool.revoke(number)
        return True

    def rest(self, headers: Mapping[str, str], seconds: float | None) -> bool:
        """Lend this key to nobody for a while."""
        number = self._number(headers)
        rest_s = min(max(seconds or 0.0, SHORTEST_REST_S), LONGEST_REST_S)
        self._pool.rest(number, rest_s)
        return True

    async def aclose(self) -> None:
        """Do nothing: who holds a key gives it back."""

    def _number(self, headers: Mapping[str, str]) -> int:
        return self._shown.index(headers[AUTHORIZATION])
