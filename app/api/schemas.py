"""What clients may send; unknown fields are refused."""

import re
from typing import Annotated, Literal

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.security import Permission, Role

MAX_SAFE_INTEGER = 2**53 - 1
"""What every reader of JSON tells from its neighbours (RFC 8259, section 6)."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def _refuse_unstorable(text: str) -> str:
    # JSON can say both, Postgres can store neither; a refusal beats a failed query.
    if "\x00" in text or _LONE_SURROGATE.search(text):
        message = "must not contain NUL or half of a surrogate pair"
        raise ValueError(message)
    return text


Text = Annotated[
    str,
    AfterValidator(_refuse_unstorable),
    # Said in the document too. Halves of pairs cannot be: no encoding has them.
    Field(json_schema_extra={"pattern": "^[^\\u0000]*$"}),
]
Title = Annotated[Text, Field(min_length=1, max_length=500)]
Body = Annotated[Text, Field(max_length=1_000_000)]
Limit = Annotated[int, Query(ge=1, le=200)]


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Credentials(_Schema):
    """A user name (compared exactly) and a password."""

    username: Annotated[Text, Field(min_length=1, max_length=200)]
    password: Annotated[Text, Field(min_length=8, max_length=1_000)]


class NewPassword(_Schema):
    """The password so far and the one from now on."""

    password: Annotated[Text, Field(min_length=8, max_length=1_000)]
    new_password: Annotated[Text, Field(min_length=8, max_length=1_000)]


class NewPolicy(_Schema):
    """What each role shall permit; a role that is left out permits nothing.

    Admins are not among them: they may do everything.
    """

    roles: dict[Literal[Role.MEMBER, Role.AUDITOR], list[Permission]]


class RefreshToken(_Schema):
    """A refresh token."""

    refresh_token: Annotated[str, Field(min_length=1, max_length=500)]


class NewThread(_Schema):
    """A thread to start or a new title."""

    title: Title


class NewMessage(_Schema):
    """A message to add."""

    content: Annotated[Body, Field(min_length=1)]


class NewDocument(_Schema):
    """A document to keep."""

    title: Title
    body: Body


class NewRun(_Schema):
    """What the agent shall do."""

    goal: Annotated[Text, Field(min_length=1, max_length=10_000)]


class NewIntent(_Schema):
    """What is wanted, in words."""

    goal: Annotated[Text, Field(min_length=1, max_length=1_000)]


class Scaling(_Schema):
    """How many nodes more (or less), and the token of the lease it is done under."""

    by: Annotated[int, Field(ge=-100, le=100)]
    token: Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER)] | None = None


class NewLease(_Schema):
    """Who maintains a node set, and for how long at most."""

    holder: Annotated[Text, Field(min_length=1, max_length=200)]
    ttl_s: Annotated[float, Field(gt=0, le=3_600)] = 60.0
