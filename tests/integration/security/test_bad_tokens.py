"""Bad tokens: each is refused with a sentence, counted by its reason, and never kept."""

import asyncio
import base64
import hmac
import json
import time
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from sqlalchemy import text
from websockets.exceptions import ConnectionClosed

from app.security import KeyPair, Refusals, Role
from app.security.refusals import KEPT, OTHERS
from app.security.tokens import AUDIENCE, ISSUER
from app.settings import Settings
from app.storage import write_refusals
from app.storage.grant import grant
from tests.integration.app.service import PASSWORD, Service, running, serving
from tests.integration.security.crowd import Visitor, enrol

pytestmark = [pytest.mark.integration, pytest.mark.slow]
PATHS = ("/me", "/documents")


def part(value: object) -> str:
    """Return a part of a token, unsigned."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass(frozen=True)
class Forger:
    """Somebody who has a good token, and for some tokens the key."""

    key: KeyPair
    owner: Visitor
    other: Visitor

    def claims(self, **changes: object) -> dict[str, Any]:
        """Return what a good token says, with changes."""
        now = int(time.time())  # noqa: TID251  # tokens are of the wall clock
        good = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": self.owner.user_id,
            "sid": self.owner.session_id,
            "jti": "1",
            "iat": now,
            "exp": now + 900,
        }
        return good | changes

    def signed(
        self, *, by: KeyPair | None = None, kid: object = None, **changes: object
    ) -> str:
        """Return a token that the service's key has signed, unless said otherwise."""
        header: dict[str, Any] = {"kid": self.key.kid if kid is None else kid}
        return jwt.encode(
            self.claims(**changes),
            (by or self.key).private,
            algorithm="EdDSA",
            headers=header,
        )

    def by_public_key(self) -> str:
        """Return a token whose secret is what everybody knows of the service's key."""
        header = {"alg": "HS256", "kid": self.key.kid}
        text = f"{part(header)}.{part(self.claims())}"
        public = self.key.public.public_bytes_raw()
        return f"{text}.{part(hmac.digest(public, text.encode(), 'sha256'))}"

    def bad_tokens(self) -> dict[str, tuple[str, str]]:
        """Return bad tokens by name, each with the reason that it is to be counted by."""
        kid = self.key.kid
        header, payload, signature = self.owner.access_token.split(".")
        other_key = KeyPair.generate()
        theirs = part(self.claims(sub=self.other.user_id, sid=self.other.session_id))
        return {
            "oversized": ("x" * 5_000, "oversized"),
            "no token": ("x", "malformed"),
            "two parts": (f"{header}.{payload}", "malformed"),
            "no base64": ("%%%.%%%.%%%", "malformed"),
            "nested": (f"{part(b'[' * 2_000)}.{payload}.{signature}", "malformed"),
            "huge number": (part(b'{"kid":' + b"9" * 2_000 + b"}") + "..", "forged"),
            "null bytes": ("\x01\x02.\x03.\x04", "malformed"),
            "not signed": (f"{part({'alg': 'none', 'kid': kid})}.{payload}.", "forged"),
            "no signature": (f"{header}.{payload}.", "forged"),
            "other's payload": (f"{header}.{theirs}.{signature}", "forged"),
            "wrong key": (self.signed(by=KeyPair.generate()), "forged"),
            "new key": (self.signed(by=other_key, kid=other_key.kid), "forged"),
            "public key as secret": (self.by_public_key(), "forged"),
            "unknown kid": (self.signed(kid="../../etc/passwd"), "forged"),
            "kid of SQL": (self.signed(kid="' OR 1=1 --"), "forged"),
            "other audience": (self.signed(aud="another-api"), "forged"),
            "other issuer": (self.signed(iss="somebody"), "forged"),
            "expired": (self.signed(exp=1), "expired"),
            "login that never was": (self.signed(sid=str(_NEVER)), "ended"),
            "login of another": (self.signed(sid=self.other.session_id), "ended"),
        }


_NEVER = "00000000-0000-4000-8000-000000000000"


async def counted(service: Service, settings: Settings) -> dict[str, int]:
    """Return how often was refused for which reason, as an auditor sees it."""
    (auditor,) = await enrol(service, 1)
    await grant(settings, auditor.username, Role.AUDITOR)
    await write_refusals(service.parts.sessions, service.parts.refusals)
    found: dict[str, int] = {}
    async with service.http() as http:
        answer = await http.get("/audit/refusals", headers=auditor.header)
        assert answer.status_code == 200, answer.text
        for row in answer.json():
            found[row["reason"]] = found.get(row["reason"], 0) + row["refused"]
    return found


async def test_bad_tokens_are_refused_and_counted(own_settings: Settings) -> None:
    """Twenty ways: 401 with a sentence on both kinds of endpoints, each counted."""
    expected: dict[str, int] = {}
    async with running(own_settings) as service, service.http() as http:
        ada, bob = await enrol(service, 2)
        bad = Forger(service.parts.keys.signing, ada, bob).bad_tokens()
        for name, (token, reason) in bad.items():
            for path in PATHS:
                sent = {"authorization": f"Bearer {token}".encode("latin-1")}
                answer = await http.get(path, headers=sent)  # type: ignore[arg-type]  # bytes, as on the wire
                assert answer.status_code == 401, (name, answer.text)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.json()["detail"].endswith("."), name
                expected[reason] = expected.get(reason, 0) + 1
        good = await http.get("/me", headers=ada.header)

        assert good.status_code == 200
        assert await counted(service, own_settings) == expected


async def test_replays_are_refused_and_audited(own_settings: Settings) -> None:
    """A token after its logout, and a refresh token after it was spent."""
    async with running(own_settings) as service, service.http() as http:
        ada, bob = await enrol(service, 2)
        await http.post("/auth/logout", headers=ada.header)
        assert (await http.get("/me", headers=ada.header)).status_code == 401
        refresh = {"refresh_token": bob.refresh_token}
        answers = [await http.post("/auth/refresh", json=refresh) for _ in range(4)]
        strange = await http.post("/auth/refresh", json={"refresh_token": "x"})
        wrong = {"username": bob.username, "password": PASSWORD}
        guessed = await http.post("/auth/login", json=wrong)
        async with service.context(bob.user_id) as context:
            rows = await context.database.execute(
                text("SELECT action, subject FROM audit_log")
            )
            trail = [tuple(row) for row in rows]
        found = await counted(service, own_settings)

    assert [answer.status_code for answer in answers] == [200, 401, 401, 401]
    assert (strange.status_code, guessed.status_code) == (401, 401)
    # Once: whoever goes on to replay it could else write into the trail at will.
    assert trail == [("session.replayed", bob.session_id)]
    assert found == {
        "ended": 1,
        "replayed": 3,
        "unknown refresh token": 1,
        "wrong password": 1,
    }


async def test_bad_tokens_open_no_socket(own_settings: Settings) -> None:
    """A WebSocket with a bad token, or one whose login has ended, is closed by a reason."""
    async with serving(own_settings) as service, service.member() as ada:
        async with service.http() as http:
            await http.post(
                "/auth/logout",
                headers={"authorization": f"Bearer {ada.access_token}"},
            )
        with pytest.raises(ConnectionClosed) as closed:
            async with service.socket(ada) as socket:
                await asyncio.wait_for(socket.recv(), 10)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


async def test_flood_costs_few_rows(own_settings: Settings) -> None:
    """Ten thousand refusals from as many sources are a bounded number of rows."""
    refusals = Refusals()
    async with running(own_settings) as service:
        for number in range(10_000):
            refusals.note("forged", f"10.0.{number // 256}.{number % 256}")
        await write_refusals(service.parts.sessions, refusals)
        await write_refusals(service.parts.sessions, refusals)
        async with service.parts.sessions.for_auth() as session:
            rows = (
                await session.execute(text("SELECT source, refused FROM refusals"))
            ).all()

    assert len(rows) == KEPT + 1
    assert sum(row.refused for row in rows) == 10_000
    assert dict(map(tuple, rows))[OTHERS] == 10_000 - KEPT


async def test_two_workers_count_into_one_row(own_settings: Settings) -> None:
    """Workers that write at one time add up; nothing is lost, nothing deadlocks."""
    async with running(own_settings) as service:
        crowd = [Refusals() for _ in range(8)]
        for refusals in crowd:
            for number in range(50):
                refusals.note("forged", str(number))
        await asyncio.gather(
            *(write_refusals(service.parts.sessions, each) for each in crowd)
        )
        async with service.parts.sessions.for_auth() as session:
            total = await session.scalar(text("SELECT sum(refused) FROM refusals"))

    assert total == 8 * 50


async def test_refusals_wait_for_the_database(own_settings: Settings) -> None:
    """What could not be written stays counted, and is written the next time."""
    async with running(own_settings) as service:
        refusals = Refusals()
        refusals.note("forged", "10.0.0.1")
        cancelled = asyncio.create_task(
            write_refusals(service.parts.sessions, refusals)
        )
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)

        assert sum(refusals.take().values()) == 1
