"""docker-compose.yml and Dockerfile, as far as they can be checked without a daemon."""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"


def compose(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run the compose of the development environment."""
    return subprocess.run(
        [Path(sys.executable).with_name("docker-compose"), *words],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def services() -> dict[str, Any]:
    """The services as compose understands them with an empty environment."""
    done = compose("-f", COMPOSE_FILE, "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    return services


@pytest.mark.slow
def test_compose_file_is_valid_without_environment() -> None:
    """``docker compose config`` accepts the file with no variable set, and warns not."""
    done = compose("-f", COMPOSE_FILE, "config", "-q")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("key", ["healthcheck", "depends_on", "replicas", "volumes"])
def test_misspelt_compose_file_is_refused(tmp_path: Path, key: str) -> None:
    """The check above sees a misspelt key: it is not a formality."""
    text = COMPOSE_FILE.read_text(encoding="utf-8")
    misspelt = tmp_path / "docker-compose.yml"
    misspelt.write_text(text.replace(f"{key}:", f"{key[:-1]}:", 1), encoding="utf-8")

    done = compose("-f", misspelt, "config", "-q")

    assert done.returncode != 0
    assert key[:-1] in done.stderr


@pytest.mark.slow
def test_service_has_replicas_behind_one_port(services: dict[str, Any]) -> None:
    """Two or more replicas of the service, which only the balancer publishes."""
    assert services["service"]["deploy"]["replicas"] >= 2
    assert "ports" not in services["service"]
    assert len(services["balancer"]["ports"]) == 1


@pytest.mark.slow
def test_ports_are_published_on_loopback_only(services: dict[str, Any]) -> None:
    """Postgres and Redis of a laptop are not offered to its whole network."""
    hosts = {
        name: {port["host_ip"] for port in service["ports"]}
        for name, service in services.items()
        if "ports" in service
    }

    assert hosts == {
        "postgres": {"127.0.0.1"},
        "redis": {"127.0.0.1"},
        "balancer": {"127.0.0.1"},
    }


def test_no_secret_stands_in_the_compose_file() -> None:
    """No variable that holds a secret has a value or a default in the file."""
    document = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))

    secret = re.compile(r"PASSWORD$|KEYS?$|SECRET|TOKEN|_URL$")
    given = {
        f"{service}.{name}": value
        for service, spec in document["services"].items()
        for name, value in spec.get("environment", {}).items()
        if secret.search(name) and value is not None
    }

    assert given == {}


def _as_written(words: list[str]) -> list[str]:
    """Return words of the compose file as compose hands them on."""
    return [word.replace("$$", "$") for word in words]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "http://model:8100/v1"),
        ({"MODEL_URL": ""}, "http://model:8100/v1"),
        ({"MODEL_URL": "https://a.invalid/v1?x=$y"}, "https://a.invalid/v1?x=$y"),
    ],
    ids=["unset", "empty", "the host's own"],
)
def test_service_reads_what_the_keys_script_writes(
    tmp_path: Path, given: dict[str, str], expected: str
) -> None:
    """The script runs, and the service is told its model unless the host names one."""
    document = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    keys = document["services"]["keys"]
    words = _as_written([*keys["entrypoint"], *keys["command"]])
    words[-1] = words[-1].replace("/run/keys", str(tmp_path))
    subprocess.run(
        words,
        env={"PATH": "/usr/bin:/bin", "POSTGRES_PORT": "1", "REDIS_PORT": "2"}
        | {"PORT": "3"},
        check=True,
        timeout=60,
    )
    (entry,) = re.findall(
        r"^ENTRYPOINT (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    start = [word.replace("/run/keys", str(tmp_path)) for word in json.loads(entry)]

    done = subprocess.run(
        [*start, "env"],
        env={"PATH": "/usr/bin:/bin", **given},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )

    seen = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert seen["MODEL_URL"] == expected
    assert seen["DATABASE_URL"].endswith("@postgres:5432/isolation")
    assert len(seen["SIGNING_KEYS"]) == len("first:") + 64


@pytest.mark.slow
def test_model_is_reached_by_the_service_only(services: dict[str, Any]) -> None:
    """It publishes no port, sees no key, may write nothing, and is waited for."""
    model, service = services["model"], services["service"]

    assert model["image"] == service["image"]
    assert model.keys().isdisjoint({"ports", "volumes", "environment", "build"})
    for name in ("read_only", "cap_drop", "security_opt"):
        assert model[name] == service[name], name
    assert service["depends_on"]["model"]["condition"] == "service_healthy"
    assert {"MODEL_NAME", "EMBEDDING_MODEL", "MODEL_TOKEN_URL"} <= set(
        service["environment"]
    )


@pytest.mark.slow
def test_model_runs_by_the_command_of_the_compose_file() -> None:
    """That command serves in an empty environment, and the health check sees it."""
    document = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    model = document["services"]["model"]
    _, *check = model["healthcheck"]["test"]
    command = [sys.executable, *model["command"][1:]]
    assert model["command"][0] == check[0] == "python"
    assert command[-2:] == ["--port", "8100"]

    with subprocess.Popen(
        [*command[:-1], "0"], cwd=ROOT, env={}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            port = url.rpartition(":")[2]
            healths = [
                subprocess.run(
                    [sys.executable, *check[1:-1], check[-1].replace("8100", where)],
                    env={},
                    check=False,
                    capture_output=True,
                    timeout=60,
                ).returncode
                for where in (port, "1")
            ]
            with urllib.request.urlopen(
                urllib.request.Request(
                    f"http://127.0.0.1:{port}/v1/chat/completions",
                    data=b'{"messages": [{"role": "user", "content": "soup"}]}',
                ),
                timeout=60,
            ) as answer:
                body = json.load(answer)
        finally:
            process.terminate()

    assert url.startswith("http://0.0.0.0:")
    assert healths == [0, 1]
    assert body["choices"][0]["message"]["content"] == "Goal: soup"


def test_image_command_is_one_uvicorn_understands() -> None:
    """Each option of the image's command exists in the locked uvicorn."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (line,) = re.findall(r"^CMD (.*)$", text, re.MULTILINE)
    program, *words = json.loads(line)

    context = uvicorn.main.make_context(program, words)

    assert program == "uvicorn"
    assert context.params["app"] == "app.main:create_app"
    assert context.params["factory"]
    assert context.params["workers"] == 2
    assert context.params["reset_contextvars"]


def test_image_runs_as_an_ordinary_user() -> None:
    """The image's last USER is not root."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")

    users = re.findall(r"^USER (\S+)$", text, re.MULTILINE)

    assert users[-1:] == ["service"]
