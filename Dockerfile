# syntax=docker/dockerfile:1
# The production image: Python and the product, without compilers, without Go and without the embedded broker.
ARG PYTHON=3.12-slim-bookworm

# --- builder: everything that needs a compiler (faust-streaming has no wheel for Linux on aarch64) --------------------------
FROM python:${PYTHON} AS builder
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/hardparts
WORKDIR /src
# The locked packages first: this layer lasts until the lock changes.
COPY requirements.lock ./
RUN /opt/hardparts/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY pipeline pipeline
COPY tables tables
COPY agents agents
RUN HARDPARTS_SKIP_BROKER=1 /opt/hardparts/bin/pip install --no-deps . \
    && /opt/hardparts/bin/pip uninstall -y pip

# --- the image --------------------------------------------------------------------------------------------------------------
FROM python:${PYTHON}
LABEL org.opencontainers.image.title="hardparts" org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 hardparts \
    && useradd --system --uid 10001 --gid hardparts --home-dir /var/lib/hardparts --shell /usr/sbin/nologin hardparts \
    && install -d -o hardparts -g hardparts -m 0700 /var/lib/hardparts
COPY --from=builder /opt/hardparts /opt/hardparts
# The root file system may be read-only: state goes to the volume, nothing else is written.
ENV PATH=/opt/hardparts/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HARDPARTS_DATA_DIR=/var/lib/hardparts \
    HARDPARTS_WEB_PORT=6066
USER 10001:10001
WORKDIR /var/lib/hardparts
VOLUME /var/lib/hardparts
EXPOSE 6066 6070
# Live, not ready: a worker that recovers its state for minutes must not be restarted for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['HARDPARTS_WEB_PORT'] + '/health/live', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["hardparts"]
CMD ["worker"]
