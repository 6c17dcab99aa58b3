"""Settings: complete or refused in one sentence that repeats no secret."""

import pytest

from app.settings import Settings, SettingsError, parse_signing_keys

SECRET = "s" * 40
GOOD = {
    "DATABASE_URL": "postgresql://ada:hunter2hunter2@db.invalid/app",
    "REDIS_URL": "redis://:hunter2hunter2@redis.invalid/0",
    "SIGNING_KEYS": SECRET,
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return an environment with all that is needed."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.usefixtures("environment")
def test_settings_convert_database_url() -> None:
    """An ordinary Postgres URL becomes one for asyncpg, for owner and service."""
    settings = Settings.from_environment()

    expected = "postgresql+asyncpg://ada:hunter2hunter2@db.invalid/app"
    assert settings.service_database_url == expected
    assert settings.owner_database_url == expected


@pytest.mark.parametrize("name", sorted(GOOD))
def test_settings_name_what_is_missing(
    environment: pytest.MonkeyPatch, name: str
) -> None:
    """A missing setting is named, with what was expected."""
    environment.delenv(name)

    with pytest.raises(SettingsError, match=f"^{name} is missing; expected "):
        Settings.from_environment()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("DATABASE_URL", "mysql://ada:hunter2hunter2@db", "must start with postgres"),
        ("REDIS_URL", "http://hunter2hunter2", "must start with redis"),
        ("SIGNING_KEYS", "hunter2hunter2", "shorter than 32"),
        ("SIGNING_KEYS", ",", "empty"),
        ("ACCESS_TOKEN_S", "hunter2hunter2", "valid integer"),
        ("LOG_LEVEL", "hunter2hunter2", "DEBUG"),
        ("MODEL_KEY", "hunter2hunter2", "without MODEL_URL"),
        ("MODEL_KEY_FILE", "/hunter2", "MODEL_KEY_FILE is set without MODEL_URL"),
        ("MODEL_KEYS", "hunter2,hunter2", "names one key twice; expected the provider"),
        ("MODEL_KEYS", " , ", "empty"),
        ("MODEL_KEYS", "hunter2,hunt\u00e9r2", "no header may"),
        ("MODEL_KEYS", "hunter2,other", "MODEL_KEYS is set without MODEL_URL"),
        ("MODEL_REQUESTS_PER_KEY", "0", "greater than or equal to 1"),
        ("MODEL_URL", "hunter2.invalid/v1", "must start with http"),
        ("MODEL_TOKEN_URL", "https://hunter2.invalid", "without MODEL_KEY"),
        ("MODEL_CONNECTIONS_PER_USER", "50", "must be below MODEL_CONNECTIONS"),
        ("SIGNING_KEY_S", "60", "must be below SIGNING_KEY_S"),
        ("SIGNING_KEY_AHEAD_S", "20", "must be above twice SIGNING_KEY_POLL_S"),
    ],
)
def test_settings_explain_without_secrets(
    environment: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    """A wrong setting is explained in one line that does not repeat its value."""
    environment.setenv(name, value)

    with pytest.raises(SettingsError, match=reason) as caught:
        Settings.from_environment()

    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("other", ["MODEL_KEY", "MODEL_KEY_FILE", "MODEL_TOKEN_URL"])
def test_model_has_one_kind_of_key(environment: pytest.MonkeyPatch, other: str) -> None:
    """Several keys beside another credential are refused, and the cure is named."""
    environment.setenv("MODEL_URL", "http://model.invalid/v1")
    environment.setenv("MODEL_KEYS", "hunter2a, hunter2b,")
    keys = Settings.from_environment().pooled_model_keys
    assert [key.get_secret_value() for key in keys] == ["hunter2a", "hunter2b"]
    environment.setenv(other, "http://hunter2.invalid")

    with pytest.raises(SettingsError, match="keep one of them") as caught:
        Settings.from_environment()

    assert "hunter2" not in f"{caught.value} {keys!r}"


@pytest.mark.usefixtures("environment")
def test_settings_repr_hides_secrets() -> None:
    """Settings that end up in a log show no password and no key."""
    shown = repr(Settings.from_environment())

    assert "hunter2" not in shown
    assert SECRET not in shown


def test_bare_secret_gets_stable_name() -> None:
    """Replicas that share a secret agree on its key id, and secrets differ in it."""
    (first,), (again,) = parse_signing_keys(SECRET), parse_signing_keys(SECRET)
    (other,) = parse_signing_keys("t" * 40)

    assert first.kid == again.kid != other.kid
    assert first.kid not in SECRET


def test_key_name_cannot_occur_twice() -> None:
    """Two secrets under one key id are refused."""
    with pytest.raises(ValueError, match="twice"):
        parse_signing_keys(f"a:{SECRET},a:{'t' * 40}")


def test_root_secret_repr_hides_secret() -> None:
    """A root secret that ends up in a log does not show itself."""
    (key,) = parse_signing_keys(SECRET)

    assert SECRET not in repr(key)
