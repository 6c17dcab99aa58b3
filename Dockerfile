# The reference service. Its settings are environment variables, or NAME=value lines in
# /run/keys/service.env; see app/settings.py. Nothing secret is built in.
FROM python:3.12-slim

# For builds without a package index: PIP_NO_INDEX=1 and a folder in the base image.
ARG PIP_NO_INDEX=
ARG PIP_FIND_LINKS=

RUN useradd --system --no-create-home service
WORKDIR /srv
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

# The dependencies change less often than the code: an own layer.
COPY pyproject.toml constraints.txt README.md LICENSE /tmp/package/
COPY test_framework/__init__.py /tmp/package/test_framework/
RUN PIP_CONSTRAINT=/tmp/package/constraints.txt \
    pip install --no-cache-dir '/tmp/package[app]' \
    && pip uninstall --yes isolation-audit \
    && rm -r /tmp/package
COPY app app
RUN python -m compileall -q app

USER service
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=5 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]

# exec: the server is process 1 and gets the signals.
ENTRYPOINT ["/bin/sh", "-c", "if [ -f /run/keys/service.env ]; then set -a; . /run/keys/service.env; set +a; fi; exec \"$@\"", "sh"]
# --reset-contextvars: else a context variable set for one request lives on in the next
# one on the same kept-alive connection.
CMD ["uvicorn", "app.main:create_app", "--factory", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", "--reset-contextvars", "--no-access-log", "--timeout-graceful-shutdown", "5", "--ws", "app.api.wire:BoundedWebSocket", "--ws-max-size", "65536"]
