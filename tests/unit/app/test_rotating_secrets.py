"""Secrets in files: one version for one use, the one before for a slow server."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from app.llm import FileKey
from app.security import Secret, Secrets
from app.settings import SettingsError
from tests.unit.app.secret_twins import OneLook, TwoLooks

QUICK_S = (0.0, 0.0, 0.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file with a secret in it."""
    path = tmp_path / "secret"
    path.write_text("value 1\n", encoding="utf-8")
    return path


def write(file: Path, number: int) -> None:
    """Exchange the secret."""
    file.write_text(f"value {number}\n", encoding="utf-8")


def spoil(file: Path, raw: bytes | None) -> None:
    """Write what is no secret, or take the file away."""
    if raw is None:
        file.unlink()
    else:
        file.write_bytes(raw)


async def test_new_version_keeps_the_one_before(file: Path) -> None:
    """A reload changes both at once; what did not change is no version."""
    secret = Secret(file)
    assert not await secret.reload()

    write(file, 2)

    assert await secret.reload()
    assert [(v.number, v.value) for v in secret.versions] == [
        (2, "value 2"),
        (1, "value 1"),
    ]
    assert "value" not in repr(secret.versions)


@pytest.mark.parametrize("raw", [b"", b" \n", b"\xff\xfe", None])
async def test_file_that_is_being_written_is_no_secret(
    file: Path, raw: bytes | None
) -> None:
    """An empty file, or none, leaves the version; at the start it is refused."""
    secret = Secret(file)
    spoil(file, raw)

    assert not await secret.reload()
    assert secret.current.value == "value 1"
    with pytest.raises(SettingsError, match="empty or cannot be read"):
        Secret(file)


async def tried(secret: Secret, accepted: str, *, then: object = None) -> list[str]:
    """Try versions until one is accepted; ``then`` is done after the first refusal."""
    seen = []
    async with contextlib.aclosing(secret.attempts()) as attempts:
        async for version in attempts:
            seen.append(version.value)
            if version.value == accepted:
                break
            if callable(then):
                then()
                then = None
    return seen


async def test_server_that_has_not_heard_takes_the_version_before(file: Path) -> None:
    """The file is first: the new version is refused, and the one before is taken."""
    secret = Secret(file, patience_s=QUICK_S)
    write(file, 2)
    await secret.reload()

    assert await tried(secret, "value 1") == ["value 2", "value 1"]


async def test_file_that_is_late_is_waited_for(file: Path) -> None:
    """The server is first: the file is read again until it has what is accepted."""
    secret = Secret(file, patience_s=QUICK_S)

    seen = await tried(secret, "value 2", then=lambda: write(file, 2))

    assert seen == ["value 1", "value 2"]


async def test_server_that_changes_meanwhile_is_tried_again(file: Path) -> None:
    """It refused the new version just before, and the old one just after it changed."""
    secret = Secret(file, patience_s=QUICK_S)
    write(file, 2)
    await secret.reload()
    seen = []
    async with contextlib.aclosing(secret.attempts()) as attempts:
        async for version in attempts:
            seen.append(version.value)
            if len(seen) > 2 and version.value == "value 2":
                break

    assert seen == ["value 2", "value 1", "value 2"]


async def test_wrong_secret_is_given_up(file: Path) -> None:
    """What nobody accepts ends after a bounded number of attempts."""
    secret = Secret(file, patience_s=QUICK_S)

    assert await tried(secret, "never") == ["value 1"] * 4


async def mixed(user: TwoLooks, secret: Secret, file: Path) -> int:
    """Use a secret while it is exchanged; return how many uses mixed two versions."""
    uses = []
    for number in range(2, 6):
        write(file, number)
        using = [asyncio.create_task(user.use()) for _ in range(25)]
        await asyncio.sleep(0)
        await secret.reload()
        uses += await asyncio.gather(*using)
    return sum(use["value"] != f"value {use['number']}" for use in uses)


async def test_one_use_sees_one_version(file: Path) -> None:
    """A hundred uses while the secret is exchanged: none mixes two versions."""
    secret = Secret(file)

    assert await mixed(OneLook(secret), secret, file) == 0


@pytest.mark.power
async def test_two_looks_within_one_use_are_caught(tmp_path: Path) -> None:
    """A twin that reads the secret twice names one version and shows another."""
    path = tmp_path / "secret"
    write(path, 1)
    secret = Secret(path)

    assert await mixed(TwoLooks(secret), secret, path) == 100


async def test_refused_model_key_is_replaced(file: Path) -> None:
    """A request that was refused goes on with the other version, and stays with it."""
    secret = Secret(file)
    key = FileKey(secret)
    first = await key.headers()
    write(file, 2)
    await secret.reload()

    newest = await key.headers()
    assert key.refuse(newest)
    assert await key.headers() == first
    assert key.refuse(first)
    assert await key.headers() == newest


async def test_refused_model_key_is_read_again(file: Path) -> None:
    """The provider was first: the file is read before the request is sent once more."""
    key = FileKey(Secret(file))
    first = await key.headers()
    write(file, 2)

    assert key.refuse(first)

    assert await key.headers() == {"authorization": "Bearer value 2"}


async def test_no_files_are_no_secrets() -> None:
    """A service with all secrets in its settings has nothing to read."""
    secrets = Secrets()

    await secrets.reload()

    assert secrets == Secrets()
