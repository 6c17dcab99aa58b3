"""Settings of the service, read once from the environment.

Secrets have no default: a service that starts without its signing key would accept
tokens anybody can forge.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIN_SECRET_CHARS = 32
MAX_ACCESS_TOKEN_S = 86_400

_CURES = {
    "database_url": "postgresql://user:password@host:5432/database",
    "migration_database_url": "postgresql://owner:password@host:5432/database",
    "redis_url": "redis://:password@host:6379/0",
    "audit_key": "a secret of at least 32 characters",
    "model_keys": "the provider's keys, parted by commas, each of them once",
    "signing_keys": "a secret of at least 32 characters, or kid:secret,kid:secret",
}


class SettingsError(ValueError):
    """Raised when the environment lacks a setting or holds a wrong one.

    The operator's fault; the message is one line for the log.
    """


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A root secret that signing keys are sealed under, and the name of it."""

    kid: str
    secret: SecretStr


class Settings(BaseSettings):
    """What the service needs to know; each field is an upper-case variable."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database_url: SecretStr
    migration_database_url: SecretStr | None = None
    redis_url: SecretStr
    signing_keys: SecretStr
    # Passwords in files take the place of those in the URLs, and may be exchanged while
    # the service runs. So may the model's key.
    database_password_file: Path | None = None
    redis_password_file: Path | None = None
    model_key_file: Path | None = None
    access_token_s: int = Field(default=900, ge=1, le=MAX_ACCESS_TOKEN_S)
    # A key signs for so long, and is published so long before it does.
    signing_key_s: float = Field(default=7 * 86_400, gt=0)
    signing_key_ahead_s: float = Field(default=3_600, gt=0)
    signing_key_poll_s: float = Field(default=10, gt=0, le=30)
    refresh_token_s: int = Field(default=30 * 86_400, ge=1)
    # OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
    password_memory_kib: int = Field(default=19_456, ge=8)
    password_passes: int = Field(default=2, ge=1)
    database_pool_size: int = Field(default=20, ge=1, le=1_000)
    database_pool_timeout_s: float = Field(default=10.0, gt=0)
    redis_connections: int = Field(default=200, ge=2, le=10_000)
    model_url: str | None = None
    model_key: SecretStr | None = None
    # Several keys with a limit each, parted by commas, instead of one.
    model_keys: SecretStr | None = None
    model_requests_per_key: int = Field(default=10, ge=1, le=1_000)
    model_name: str = "local"
    # Where MODEL_KEY is exchanged for tokens that live for minutes; None sends the key.
    model_token_url: str | None = None
    # None makes embeddings in the process, by hashing words.
    embedding_model: str | None = None
    model_connections: int = Field(default=50, ge=2, le=1_000)
    model_connections_per_user: int = Field(default=5, ge=1)
    model_cache_s: int = Field(default=60, ge=1, le=86_400)
    run_token_budget: int = Field(default=1_000_000, ge=1)
    user_token_budget: int = Field(default=10_000_000, ge=1)
    audit_key: SecretStr | None = None
    audit_anchor_s: float = Field(default=60.0, gt=0)
    run_timeout_s: float = Field(default=120.0, gt=0)
    # How the process that runs the controllers is chosen; "none" never stands.
    leader_election: Literal["postgres", "redis", "none"] = "postgres"
    # A leader that was stopped is replaced after about this long.
    leader_lease_s: float = Field(default=3.0, ge=0.5, le=60)
    control_workers: int = Field(default=4, ge=1, le=100)
    # Of one worker; the oldest of a user gives way to a new one.
    sockets: int = Field(default=5_000, ge=1)
    sockets_per_user: int = Field(default=20, ge=1)
    max_body_bytes: int = Field(default=1_048_576, ge=1)
    # Read by ``python -m app.serve`` only.
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    # A folder of the workers that share one port; None counts for each worker alone.
    metrics_dir: Path | None = None
    # None exposes no metrics: how much others use a service is not for its users.
    metrics_token: SecretStr | None = None
    # How long a service that is told to stop is not ready before it does.
    drain_s: float = Field(default=0.0, ge=0, le=300)
    # Alerts go there; None writes them to the log.
    alert_webhook_url: SecretStr | None = None
    traces_url: str | None = None
    traces_ratio: float = Field(default=1.0, ge=0, le=1)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings from the environment.

        Raises:
            SettingsError: A setting is missing or wrong.
        """
        given: dict[str, Any] = {}  # all values come from the environment
        try:
            return cls(**given)
        except ValidationError as exc:
            # pydantic's own text repeats the values, and those are secrets.
            raise SettingsError(_explain(exc)) from None

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """The root secrets: the first one seals signing keys, all of them open them."""
        return parse_signing_keys(self.signing_keys.get_secret_value())

    @property
    def pooled_model_keys(self) -> tuple[SecretStr, ...]:
        """The keys of ``MODEL_KEYS``, in their order; none when it is not set."""
        if self.model_keys is None:
            return ()
        return parse_model_keys(self.model_keys.get_secret_value())

    @property
    def audit_secret(self) -> str:
        """What anchors of the audit log are signed with.

        Without ``AUDIT_KEY`` it is the first signing key: set one before you rotate
        that, or the anchors so far are not taken for ours any more.
        """
        key = self.audit_key or self.keys[0].secret
        return key.get_secret_value()

    @property
    def owner_database_url(self) -> str:
        """Where migrations run: as a role that may create tables and roles."""
        url = self.migration_database_url or self.database_url
        return _asyncpg(url.get_secret_value())

    @property
    def service_database_url(self) -> str:
        """Where requests run."""
        return _asyncpg(self.database_url.get_secret_value())

    @field_validator("database_url", "migration_database_url")
    @classmethod
    def _check_database(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            _check_scheme(
                url, ("postgresql://", "postgres://", "postgresql+asyncpg://")
            )
        return url

    @field_validator("redis_url")
    @classmethod
    def _check_redis(cls, url: SecretStr) -> SecretStr:
        _check_scheme(url, ("redis://", "rediss://", "unix://"))
        return url

    @field_validator("model_url", "model_token_url")
    @classmethod
    def _check_model_url(cls, url: str | None) -> str | None:
        if url is not None:
            _check_scheme(SecretStr(url), ("http://", "https://"))
        return url

    @field_validator("signing_keys")
    @classmethod
    def _check_keys(cls, keys: SecretStr) -> SecretStr:
        parse_signing_keys(keys.get_secret_value())
        return keys

    @field_validator("model_keys")
    @classmethod
    def _check_model_keys(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            parse_model_keys(keys.get_secret_value())
        return keys

    @field_validator("audit_key")
    @classmethod
    def _check_audit_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < MIN_SECRET_CHARS:
            message = f"it is shorter than {MIN_SECRET_CHARS} characters"
            raise ValueError(message)
        return key

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        others = (self.model_key, self.model_key_file, self.model_token_url)
        if self.model_keys is not None and (any(others) or self.model_url is None):
            message = (
                "MODEL_KEYS is set without MODEL_URL, or beside MODEL_KEY, "
                "MODEL_KEY_FILE or MODEL_TOKEN_URL; keep one of them"
            )
            raise ValueError(message)
        if self.model_key is not None and self.model_url is None:
            message = "MODEL_KEY is set without MODEL_URL"
            raise ValueError(message)
        if self.model_key_file and (self.model_key or self.model_url is None):
            message = "MODEL_KEY_FILE is set without MODEL_URL, or beside MODEL_KEY"
            raise ValueError(message)
        if self.model_token_url is not None and self.model_key is None:
            message = "MODEL_TOKEN_URL is set without MODEL_KEY"
            raise ValueError(message)
        if self.signing_key_ahead_s <= 2 * self.signing_key_poll_s:
            message = "SIGNING_KEY_AHEAD_S must be above twice SIGNING_KEY_POLL_S"
            raise ValueError(message)
        if self.signing_key_ahead_s >= self.signing_key_s:
            message = "SIGNING_KEY_AHEAD_S must be below SIGNING_KEY_S"
            raise ValueError(message)
        if self.model_connections_per_user >= self.model_connections:
            message = "MODEL_CONNECTIONS_PER_USER must be below MODEL_CONNECTIONS"
            raise ValueError(message)
        return self


def parse_signing_keys(text: str) -> tuple[SigningKey, ...]:
    """Return the signing keys in a comma list of ``kid:secret`` or bare secrets.

    A bare secret gets a ``kid`` derived from it, so replicas agree on the name.

    Raises:
        ValueError: The list is empty, a secret is short or a name occurs twice.
    """
    keys = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        kid, colon, secret = part.partition(":")
        if not colon:
            kid, secret = hashlib.sha256(part.encode()).hexdigest()[:12], part
        if not kid or len(secret) < MIN_SECRET_CHARS:
            message = f"a secret is shorter than {MIN_SECRET_CHARS} characters"
            raise ValueError(message)
        keys.append(SigningKey(kid, SecretStr(secret)))
    if not keys or len({key.kid for key in keys}) < len(keys):
        message = "the list of keys is empty or names one key twice"
        raise ValueError(message)
    return tuple(keys)


def parse_model_keys(text: str) -> tuple[SecretStr, ...]:
    """Return the keys in a comma list.

    Raises:
        ValueError: The list is empty, names a key twice, or one could be in no header.
    """
    keys = [key for part in text.split(",") if (key := part.strip())]
    if not all(key.isascii() and key.isprintable() for key in keys):
        message = "a key holds characters that no header may"
        raise ValueError(message)
    if not keys or len(set(keys)) < len(keys):
        message = "the list of keys is empty or names one key twice"
        raise ValueError(message)
    return tuple(map(SecretStr, keys))


def _asyncpg(url: str) -> str:
    return "postgresql+asyncpg://" + url.partition("://")[2]


def _check_scheme(url: SecretStr, schemes: tuple[str, ...]) -> None:
    if not url.get_secret_value().startswith(schemes):
        message = f"the URL must start with {' or '.join(schemes)}"
        raise ValueError(message)


def _explain(exc: ValidationError) -> str:
    problems = []
    for error in exc.errors(include_input=False, include_url=False):
        field = str(error["loc"][0]) if error["loc"] else ""
        reason = error["msg"].removeprefix("Value error, ")
        wrong = "is missing" if error["type"] == "missing" else f"is wrong: {reason}"
        cure = f"; expected {_CURES[field]}" if field in _CURES else ""
        problems.append(f"{field.upper() or 'The environment'} {wrong}{cure}")
    return ". ".join(problems) + ". Set it in the environment and start again."
