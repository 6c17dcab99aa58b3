"""The entry that serves TLS: bad settings end in a sentence."""

from pathlib import Path

import pytest

from app.serve import main

ENVIRONMENT = {
    "DATABASE_URL": "postgresql://ada@db.invalid/app",
    "REDIS_URL": "redis://redis.invalid/0",
    "SIGNING_KEYS": "s" * 40,
}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({}, "TLS_CERTIFICATE_FILE and TLS_KEY_FILE are missing; expected"),
        (
            {"TLS_CERTIFICATE_FILE": "tls.crt", "TLS_KEY_FILE": "tls.key"},
            "tls.crt cannot be read: No such file or directory. Put the certificate",
        ),
        ({"SIGNING_KEYS": "short"}, "SIGNING_KEYS is wrong"),
    ],
)
def test_bad_settings_end_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    more: dict[str, str],
    sentence: str,
) -> None:
    """Exit code 2 and what to do, without a traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["app.serve"])
    for name, value in {**ENVIRONMENT, **more}.items():
        monkeypatch.setenv(name, value)

    assert main() == 2
    assert sentence in capsys.readouterr().err
