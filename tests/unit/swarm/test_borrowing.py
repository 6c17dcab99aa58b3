"""Which requests of others a user sends with its own credentials."""

import random
from collections.abc import Callable, Collection

import pytest

from test_framework.clients.routes import WireRequest
from test_framework.swarm.borrowing import MOST_BORROWED, Holder, borrow

Borrowed = list[tuple[int, WireRequest, str]]


def get(target: str, **headers: str) -> WireRequest:
    """Return a GET with headers, ``_`` for ``-`` in their names."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return WireRequest("GET", target, b"", b"", (("host", "x"), *pairs))


def holder(user: int, *targets: str, **headers: str) -> Holder:
    """Return a user who reads a note of its own, and what else is given."""
    headers = headers or {"authorization": f"Bearer token-of-user-{user:02}"}
    reads = {"GET /notes/{id}": get(f"/notes/{user}", **headers)}
    reads |= {f"GET /other/{n}": get(one, **headers) for n, one in enumerate(targets)}
    return Holder(
        user,
        reads,
        identities=frozenset({f"name-of-user-{user}"}),
        secrets=frozenset({f"password-of-user-{user}"}),
    )


def borrowed(
    *holders: Holder,
    public: Collection[str] = (),
    holds_canary: Callable[[str], bool] = lambda _: False,
    seed: int = 1,
) -> Borrowed:
    """Return what the first of the users borrows."""
    return borrow(
        holders[0],
        holders,
        public=public,
        holds_canary=holds_canary,
        rng=random.Random(seed),
    )


def targets(some: Borrowed) -> set[str]:
    """Return the paths and queries that are asked for."""
    return {target for _, _, target in some}


def test_target_is_the_others_and_headers_are_the_askers() -> None:
    """Nothing but path and query comes from whom it is borrowed."""
    asker = holder(0)

    assert borrowed(asker, holder(7)) == [
        (7, asker.reads["GET /notes/{id}"], "/notes/7")
    ]


def test_endpoint_that_the_asker_never_read_is_asked_with_another_request() -> None:
    """Headers of any own request do."""
    asker = holder(0)

    some = borrowed(asker, holder(7, "/files/7"))

    assert targets(some) == {"/notes/7", "/files/7"}
    assert all(own is asker.reads["GET /notes/{id}"] for _, own, _ in some)


def test_public_endpoint_is_not_borrowed() -> None:
    """What all may read proves nothing."""
    assert borrowed(holder(0), holder(7), public=["GET /notes/{id}"]) == []


def test_what_the_asker_reads_itself_is_not_borrowed() -> None:
    """``GET /inbox`` is the same request for everybody, and another inbox."""
    some = borrowed(holder(0, "/inbox"), holder(7, "/inbox"))

    assert targets(some) == {"/notes/7"}


def test_user_borrows_from_others_who_have_read_something() -> None:
    """One user alone, or with users who read nothing, borrows nothing."""
    assert borrowed(holder(0)) == []
    assert borrowed(holder(0), Holder(7, {})) == []
    assert borrowed(Holder(0, {}), holder(7)) == []


@pytest.mark.parametrize(
    "target",
    [
        "/feed?access_token=x",
        "/feed?apiKey=x",
        "/file?X-Amz-Signature=x",
        "/feed?t=token-of-user-07",
        "/feed?t=to%6Ben-of-user-07",
        "/feed/token-of-user-07",
        "/feed?p=password-of-user-7",
    ],
)
def test_request_with_a_secret_of_the_other_is_not_borrowed(target: str) -> None:
    """With it the asker would be the other."""
    assert targets(borrowed(holder(0), holder(7, target))) == {"/notes/7"}


def test_cookie_of_the_other_is_a_secret() -> None:
    """Each value in a cookie header counts, and none that both users have."""

    def with_cookie(user: int) -> Holder:
        cookie = f"theme=midnight; sid=session-{user:04}"
        shown = (f"/a?x=session-{user:04}", f"/b/{user}?x=midnight")
        return holder(user, *shown, cookie=cookie)

    some = borrowed(with_cookie(0), with_cookie(7))

    assert targets(some) == {"/notes/7", "/b/7?x=midnight"}


def test_identity_in_a_path_is_no_secret() -> None:
    """A header may name the user, and so may the path of what is its own."""

    def named(user: int) -> Holder:
        name = f"name-of-user-{user}"
        return holder(user, f"/users/{name}/notes", x_user=name)

    assert "/users/name-of-user-7/notes" in targets(borrowed(named(0), named(7)))


def test_target_that_alone_says_who_asks_is_not_borrowed() -> None:
    """Without a header that differs, numbers of requests aside, nobody is told apart."""
    asker = holder(0, x_request_id="1", accept="*/*")
    other = holder(7, x_request_id="2", accept="*/*")

    assert borrowed(asker, other) == []


def test_target_with_a_canary_is_not_borrowed() -> None:
    """The asker would rightly be named beside it, in a log or an index."""
    some = borrowed(holder(0), holder(7, "/s?q=c"), holds_canary=lambda t: "q=" in t)

    assert targets(some) == {"/notes/7"}


def test_borrowing_is_bounded_and_spread() -> None:
    """So many endpoints of two others; users with few requests each cover all."""
    crowd = [holder(n, *(f"/{i}/{n}" for i in range(20))) for n in range(9)]

    each = [borrowed(one, *(o for o in crowd if o is not one)) for one in crowd]

    assert [len(some) for some in each] == [MOST_BORROWED] * 9
    assert all(len({other for other, _, _ in some}) <= 2 for some in each)
    asked = {target.rpartition("/")[0] for some in each[:4] for target in targets(some)}
    assert len(asked) == 21


def test_choice_follows_the_seed() -> None:
    """The same seed borrows the same, another one from others."""
    crowd = [holder(n, *(f"/{i}/{n}" for i in range(5))) for n in range(50)]

    assert borrowed(*crowd, seed=3) == borrowed(*crowd, seed=3)
    assert borrowed(*crowd, seed=3) != borrowed(*crowd, seed=4)
