"""The public keys that verify access tokens, for whoever wants to check one."""

from fastapi import APIRouter, Response
from pydantic import BaseModel

from app.api.dependencies import PartsOf

router = APIRouter(tags=["keys"])


class JsonWebKey(BaseModel):
    """A public key (RFC 8037)."""

    kty: str
    crv: str
    x: str
    kid: str
    use: str
    alg: str


class JsonWebKeySet(BaseModel):
    """Public keys (RFC 7517)."""

    keys: list[JsonWebKey]


@router.get("/.well-known/jwks.json")
async def get_keys(parts: PartsOf, response: Response) -> JsonWebKeySet:
    """Show the keys that verify access tokens, the next one among them.

    Half of the time that a key is published before it signs, a copy may be kept: who
    keeps it so long knows each key before its first token.
    """
    settings = parts.settings
    max_age_s = int((settings.signing_key_ahead_s - settings.signing_key_poll_s) / 2)
    response.headers["cache-control"] = f"public, max-age={max_age_s}"
    keys = [JsonWebKey(**key) for key in parts.keys.current.jwks["keys"]]
    return JsonWebKeySet(keys=keys)
