"""Tasks that stay: those of users are told, a service's own are not."""

from collections import Counter

import pytest

from test_framework.swarm.residue import TaskCount

BEFORE = TaskCount(Counter({"serve": 1}), Counter({"Candidate.run": 1, "poll": 40}))


@pytest.mark.parametrize(
    ("of_requests", "background", "told"),
    [
        ({"serve": 1}, {"Candidate.run": 1, "poll": 40}, {}),
        # A pool that was used first by a user, and one task more than that.
        ({"serve": 4}, {}, {}),
        ({"serve": 5}, {}, {"serve": 4}),
        # A leader was elected meanwhile: as many tasks as it has workers.
        ({}, {"work": 10}, {}),
        # One task for most of the users, begun by a task of the service.
        ({}, {"work": 11}, {"work": 11}),
        ({"work": 4}, {"work": 2}, {"work": 6}),
        ({}, {"poll": 50}, {}),
        ({}, {"poll": 51}, {"poll": 11}),
    ],
)
def test_tasks_that_came_are_told_when_they_are_of_users(
    of_requests: dict[str, int], background: dict[str, int], told: dict[str, int]
) -> None:
    """Those of requests soon, others when there are about as many as users."""
    after = TaskCount(Counter(of_requests), Counter(background))

    assert after.since(BEFORE, users=20) == told


def test_few_users_leave_as_many_spare_tasks_as_many_do() -> None:
    """With two users, three background tasks are still a service's own."""
    after = TaskCount(background=Counter({"work": 3, "left": 4}))

    assert after.since(TaskCount(), users=2) == {"left": 4}
