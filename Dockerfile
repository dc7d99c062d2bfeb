# syntax=docker/dockerfile:1
# One target per service; docker-compose.yml names them. All of them share one virtual environment and the same code.

FROM python:3.11-slim-bookworm AS build
ENV PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /opt/evenflow
COPY requirements/run.txt requirements/run.txt
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY protos protos
COPY tools/generate_protos.py tools/generate_protos.py
COPY services services
COPY cli cli
COPY loadtest/__init__.py loadtest/__init__.py
RUN /opt/venv/bin/python tools/generate_protos.py \
    && /opt/venv/bin/pip install --no-deps --no-build-isolation -e . \
    && /opt/venv/bin/python -m compileall -q services cli gen

FROM build AS build-load
COPY requirements/load.txt requirements/load.txt
RUN /opt/venv/bin/pip install --require-hashes -r requirements/load.txt
COPY loadtest loadtest

FROM python:3.11-slim-bookworm AS base
LABEL org.opencontainers.image.title="Evenflow" \
      org.opencontainers.image.description="The asynchronous half of AWS Lambda, open and self-hosted" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Volumes that are mounted here for the first time take over the owner of these folders.
RUN groupadd --gid 10001 evenflow \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin evenflow \
    && for folder in /var/lib/evenflow /var/lib/evenflow/buckets /etc/evenflow/certs /certs /certs/ca /certs/control \
         /certs/frontend /certs/operator /certs/poller /certs/queue-0 /certs/queue-1 /certs/queue-2 /certs/runtime; \
       do mkdir -p "$folder" && chown 10001:10001 "$folder" && chmod 0700 "$folder"; done
WORKDIR /opt/evenflow
USER 10001:10001

FROM base AS service
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/evenflow /opt/evenflow
# It asks as any caller would, with the service's own certificate.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-m", "services.shared.health"]

FROM service AS control
LABEL org.opencontainers.image.title="Evenflow control"
ENTRYPOINT ["python", "-m", "services.control"]

FROM service AS frontend
LABEL org.opencontainers.image.title="Evenflow frontend"
EXPOSE 9000 9001
ENTRYPOINT ["python", "-m", "services.frontend"]

FROM service AS queue
LABEL org.opencontainers.image.title="Evenflow queue"
ENTRYPOINT ["python", "-m", "services.queue"]

FROM service AS poller
LABEL org.opencontainers.image.title="Evenflow poller"
ENTRYPOINT ["python", "-m", "services.poller"]

FROM service AS runtime
LABEL org.opencontainers.image.title="Evenflow runtime"
ENTRYPOINT ["python", "-m", "services.runtime"]

FROM base AS load
LABEL org.opencontainers.image.title="Evenflow load"
COPY --from=build-load /opt/venv /opt/venv
COPY --from=build-load /opt/evenflow /opt/evenflow
HEALTHCHECK NONE
ENTRYPOINT ["locust", "-f", "loadtest/locustfile.py"]

# The command, and what issues certificates. The last target is what `docker build` makes when it is told none.
FROM service AS cli
LABEL org.opencontainers.image.title="Evenflow command"
HEALTHCHECK NONE
ENTRYPOINT ["evenflow"]
CMD ["--help"]
