"""Roles and policies while they are used: revoked ones end, and no request sees two.

Each sound test has a twin beside it that the same function catches.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.context import UserExecutionContext
from app.security import Authority, Permission, PermissionDeniedError, Policy, Role
from app.settings import Settings
from app.storage import (
    Policies,
    create_document,
    grant_role,
    read_authority,
    replace_policy,
    revoke_role,
)
from app.storage.grant import _main as run_grant
from app.storage.grant import grant
from app.storage.tables import documents
from tests.integration.app.service import Service, running
from tests.integration.security.crowd import Visitor, enrol
from tests.integration.security.roles_twins import (
    PatchedPolicies,
    before,
    unheld,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]
USERS = 50
WAITERS = text(
    "SELECT count(*) FROM pg_locks "
    "WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
)
"""How many wait for a lock of the transaction that asks."""
BOTH = [Permission.VERIFY_AUDIT, Permission.READ_REFUSALS]

Checked = contextlib.AbstractAsyncContextManager[tuple[UserExecutionContext, Authority]]
Check = Callable[[Service, Visitor, Policies], Checked]


@contextlib.asynccontextmanager
async def sound(
    service: Service, visitor: Visitor, policies: Policies
) -> AsyncIterator[tuple[UserExecutionContext, Authority]]:
    """Open the work of a user and check as the service does."""
    async with service.context(visitor.user_id) as context:
        yield context, await read_authority(context, policies)


@contextlib.asynccontextmanager
async def crowded(
    settings: Settings, users: int, *, role: Role
) -> AsyncIterator[tuple[Service, Visitor, list[Visitor]]]:
    """Run the service with an admin and users who have a role."""
    async with running(settings) as service:
        admin, *visitors = await enrol(service, users + 1)
        await grant(settings, admin.username, Role.ADMIN)
        async with service.context(admin.user_id) as context:
            for visitor in visitors:
                await grant_role(context, service.parts.policies, visitor.user_id, role)
        yield service, admin, visitors


async def documents_of(service: Service, visitors: list[Visitor]) -> int:
    """Return how many documents the users have."""
    counted = 0
    for visitor in visitors:
        async with service.context(visitor.user_id) as context:
            every = select(func.count()).select_from(documents)
            counted += await context.database.scalar(every) or 0
    return counted


async def work_of_revoked(
    service: Service, admin: Visitor, visitor: Visitor, check: Check
) -> tuple[int, int]:
    """Revoke a role between its check and the work, as far as the check lets us.

    Returns:
        The user's documents when the revocation had committed, and at the end.
    """
    policies, revoked, checked = Policies(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with check(service, visitor, policies) as (context, authority):
            authority.require(Permission.VERIFY_AUDIT)
            checked.set()
            await _until_done_or_waiting(context, revoked)
            await create_document(
                context, document_id=str(service.parts.new_id()), title="t", body="b"
            )

    async def revoke() -> int:
        await checked.wait()
        async with service.context(admin.user_id) as context:
            assert await revoke_role(context, policies, visitor.user_id, Role.AUDITOR)
        revoked.set()
        return await documents_of(service, [visitor])

    async with asyncio.timeout(30):
        _, at_revocation = await asyncio.gather(work(), revoke())
    return at_revocation, await documents_of(service, [visitor])


async def _until_done_or_waiting(
    context: UserExecutionContext, done: asyncio.Event
) -> None:
    """Return once the event is set, or once somebody waits for a lock of ours."""
    while not done.is_set() and not await context.database.scalar(WAITERS):  # noqa: ASYNC110  # Postgres announces no waiter
        await asyncio.sleep(0.005)


async def test_revocation_waits_for_permitted_work(settings: Settings) -> None:
    """After a revocation has committed, nothing that the role permitted commits."""
    async with crowded(settings, 1, role=Role.AUDITOR) as (service, admin, (ada,)):
        at_revocation, at_end = await work_of_revoked(service, admin, ada, sound)

    assert (at_revocation, at_end) == (1, 1)


@pytest.mark.parametrize("twin", [before, unheld])
async def test_gap_after_the_check_is_caught(settings: Settings, twin: Check) -> None:
    """Twins that check and then let go commit work of a role that is gone."""
    async with crowded(settings, 1, role=Role.AUDITOR) as (service, admin, (ada,)):
        at_revocation, at_end = await work_of_revoked(service, admin, ada, twin)

    assert at_revocation < at_end


async def test_roles_are_right_under_load(settings: Settings) -> None:
    """Fifty users work by a role while it is taken from each: none works on after."""
    async with crowded(settings, USERS, role=Role.AUDITOR) as (service, admin, users):
        policies = Policies()
        late: list[str] = []

        async def work(visitor: Visitor, revoked: asyncio.Event) -> None:
            while True:
                is_late = revoked.is_set()
                try:
                    async with service.context(visitor.user_id) as context:
                        authority = await read_authority(context, policies)
                        authority.require(Permission.VERIFY_AUDIT)
                except PermissionDeniedError:
                    return
                if is_late:
                    late.append(visitor.user_id)
                    return

        async def revoke(visitor: Visitor, revoked: asyncio.Event) -> None:
            async with service.context(admin.user_id) as context:
                await revoke_role(context, policies, visitor.user_id, Role.AUDITOR)
            revoked.set()

        gone = [asyncio.Event() for _ in users]
        async with asyncio.timeout(100):
            await asyncio.gather(*map(work, users, gone), *map(revoke, users, gone))

    assert late == []


async def judgements(
    service: Service, admin: Visitor, users: list[Visitor], policies: Policies
) -> list[tuple[bool, bool]]:
    """Let users judge two permissions each, which every policy gives or takes as one.

    Meanwhile the admin puts one policy after the other in force.
    """
    seen: list[tuple[bool, bool]] = []
    is_over = asyncio.Event()

    async def judge(visitor: Visitor) -> None:
        while not is_over.is_set():
            async with service.context(visitor.user_id) as context:
                authority = await read_authority(context, policies)
                first = authority.allows(Permission.VERIFY_AUDIT)
                # What a request does in between; its transaction stands.
                await context.database.execute(text("SELECT 1"))
                seen.append((first, authority.allows(Permission.READ_REFUSALS)))

    async def replace() -> None:
        for number in range(8):
            grants = {Role.AUDITOR: BOTH if number % 2 else []}
            async with service.context(admin.user_id) as context:
                await replace_policy(context, policies, grants)
        is_over.set()

    async with asyncio.timeout(100):
        await asyncio.gather(replace(), *map(judge, users))
    return seen


async def test_no_request_sees_two_policies(settings: Settings) -> None:
    """While policies change, each request judges by one of them from start to end."""
    async with crowded(settings, USERS, role=Role.AUDITOR) as (service, admin, users):
        seen = await judgements(service, admin, users, Policies())

    assert {(True, True), (False, False)} >= set(seen)
    assert len(set(seen)) == 2, "the policies did not change while users worked"


async def test_policy_changed_in_place_is_caught(settings: Settings) -> None:
    """A twin that reloads into the policy it has shows requests a mix of two."""
    async with crowded(settings, 8, role=Role.AUDITOR) as (service, admin, users):
        seen = await judgements(service, admin, users, PatchedPolicies())

    assert not {(True, True), (False, False)} >= set(seen)


class Meeting(Policies):
    """Policies that two ask for together, as far as locks let them."""

    def __init__(self) -> None:
        """Wait for two."""
        super().__init__()
        self._arrived = 0
        self._both = asyncio.Event()

    async def current(self, session: AsyncSession) -> Policy:
        """Return the policy once the other one is here, or waits for a lock of ours."""
        self._arrived += 1
        if self._arrived == 2:
            self._both.set()
        while not self._both.is_set() and not await session.scalar(WAITERS):  # noqa: ASYNC110  # Postgres announces no waiter
            await asyncio.sleep(0.005)
        return await super().current(session)


async def revoke_each_other(settings: Settings) -> list[object]:
    """Let two admins revoke each other at one time and return what came of it."""
    async with crowded(settings, 1, role=Role.ADMIN) as (service, ada, (bob,)):
        meeting = Meeting()

        async def revoke(one: Visitor, other: Visitor) -> bool:
            async with service.context(one.user_id) as context:
                return await revoke_role(context, meeting, other.user_id, Role.ADMIN)

        async with asyncio.timeout(100):
            return list(
                await asyncio.gather(
                    revoke(ada, bob), revoke(bob, ada), return_exceptions=True
                )
            )


async def test_admins_who_revoke_each_other_leave_one(settings: Settings) -> None:
    """One of them is revoked before it gets to its turn; nobody waits in a circle."""
    outcomes = await revoke_each_other(settings)

    assert outcomes.count(True) == 1
    assert sum(isinstance(one, PermissionDeniedError) for one in outcomes) == 1


@pytest.mark.detect
async def test_changes_without_their_lock_are_caught(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin locks rows alone: both hold their own and want the other's."""
    monkeypatch.setattr("app.storage.roles._LOCK_CHANGES", text("SELECT 1"))

    outcomes = await revoke_each_other(settings)

    assert sum("deadlock" in str(one) for one in outcomes) == 1


async def test_last_admin_stays(own_settings: Settings) -> None:
    """The only admin of a service cannot be revoked, not even by itself."""
    async with (
        crowded(own_settings, 1, role=Role.AUDITOR) as (service, admin, _),
        service.http() as http,
    ):
        path = f"/admin/users/{admin.user_id}/roles/admin"
        answer = await http.delete(path, headers=admin.header)
        seen = await http.get("/admin/policy", headers=admin.header)

    assert (answer.status_code, seen.status_code) == (409, 200)


async def test_roles_are_for_admins_alone(settings: Settings) -> None:
    """Members and auditors are refused by a sentence; nothing of it is written."""
    async with crowded(settings, 1, role=Role.AUDITOR) as (service, admin, (auditor,)):
        (member,) = await enrol(service, 1)
        async with service.http() as http:
            for one in (member, auditor):
                path = f"/admin/users/{one.user_id}/roles"
                for method, url, body in (
                    ("GET", path, None),
                    ("PUT", f"{path}/admin", None),
                    ("DELETE", f"{path}/auditor", None),
                    ("GET", "/admin/policy", None),
                    ("PUT", "/admin/policy", {"roles": {}}),
                ):
                    answer = await http.request(
                        method, url, headers=one.header, json=body
                    )
                    assert answer.status_code == 403, (method, url, answer.text)
                    assert "permission" in answer.json()["detail"]
            shown = await http.get(
                f"/admin/users/{member.user_id}/roles", headers=admin.header
            )

    assert shown.json()["roles"] == ["member"]


async def test_own_role_cannot_be_taken_by_statement(settings: Settings) -> None:
    """Row-level security: nobody gives, changes or drops a role by the own rows."""
    async with crowded(settings, 1, role=Role.AUDITOR) as (service, _, (ada,)):
        for statement in (
            f"INSERT INTO user_roles VALUES ('{ada.user_id}', 'admin')",  # noqa: S608  # an id of ours
            "UPDATE user_roles SET role = 'admin'",
        ):
            with pytest.raises(Exception, match="row-level security"):
                async with service.context(ada.user_id) as context:
                    await context.database.execute(text(statement))
        async with service.context(ada.user_id) as context:
            gone: Any = await context.database.execute(text("DELETE FROM user_roles"))

    assert gone.rowcount == 0


async def test_policy_leaves_admins_able(settings: Settings) -> None:
    """What admins may do is no matter of policy; words that mean nothing are refused."""
    async with (
        crowded(settings, 0, role=Role.ADMIN) as (service, admin, _),
        service.http() as http,
    ):
        refused = {"admin": [], "auditor": ["all"], "king": [str(BOTH[0])]}
        for role, held in refused.items():
            answer = await http.put(
                "/admin/policy", headers=admin.header, json={"roles": {role: held}}
            )
            assert answer.status_code == 422, answer.text


async def test_command_makes_the_first_admin(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command works on a registered name, and says what is wrong with another."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("REDIS_URL", settings.redis_url.get_secret_value())
    monkeypatch.setenv("SIGNING_KEYS", "k" * 40)
    async with running(settings) as service:
        (ada,) = await enrol(service, 1)
        made = await asyncio.to_thread(run_grant, [ada.username, "admin"])
        unknown = await asyncio.to_thread(run_grant, ["nobody-here", "admin"])
        wrong = await asyncio.to_thread(run_grant, [ada.username, "king"])
        async with service.http() as http:
            seen = await http.get("/admin/policy", headers=ada.header)

    assert (made, unknown, wrong) == (0, 2, 2)
    assert seen.status_code == 200
    assert "Register first" in capsys.readouterr().err
