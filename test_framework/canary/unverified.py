"""Who a text names, as far as one can tell without the seed.

For processes that outlive the seed of one run. The tag is not verified, so whoever
knows the format can forge a canary; nobody writes sixteen times the same letter and
twenty digits of base 32 by chance. Sees the raw spelling only.
"""

import re
from collections.abc import Iterator

from test_framework.canary.mint import BODY_LENGTH, DIGITS, MARKER

_OWNER_LENGTH = 4
_PATTERN = (
    f"{MARKER}([{DIGITS}]{{{_OWNER_LENGTH}}})"
    f"[{DIGITS}]{{{BODY_LENGTH - _OWNER_LENGTH}}}"
)
_TEXT = re.compile(_PATTERN)
_BYTES = re.compile(_PATTERN.encode())
_MARKER = MARKER.encode()


def users_named(text: str | bytes) -> Iterator[int]:
    """Yield the number of the owner of each canary in a text, in order.

    Args:
        text: Anything; one search for the marker when there is none.
    """
    if isinstance(text, str):
        if MARKER in text:
            for match in _TEXT.finditer(text):
                yield _number(match[1])
    elif _MARKER in text:
        for found in _BYTES.finditer(text):
            yield _number(found[1].decode())


def _number(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value << 5 | DIGITS.index(digit)
    return value
