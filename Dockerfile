# The API server. docker-compose.yml shows how it is run.
FROM python:3.13-slim-trixie AS build
# For bonsai, the LDAP client, which has no wheel; every other dependency has one.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev libldap-dev libsasl2-dev
WORKDIR /src
RUN python -m venv /opt/iredapi
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN /opt/iredapi/bin/pip install --no-cache-dir '.[ldap,otel,yaml]'

FROM python:3.13-slim-trixie
RUN apt-get update && apt-get install -y --no-install-recommends libldap2 libsasl2-2 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --home-dir /var/lib/iredapi --shell /usr/sbin/nologin iredapi \
    && install -d -o iredapi -g iredapi -m 0700 /var/lib/iredapi
COPY --from=build /opt/iredapi /opt/iredapi
# Inside a container every address is the container's own; publish the port where it is wanted.
ENV PATH=/opt/iredapi/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    IREDAPI_HOST=0.0.0.0 \
    IREDAPI_PORT=8000 \
    IREDAPI_DATA_DIR=/var/lib/iredapi
USER iredapi
WORKDIR /var/lib/iredapi
VOLUME /var/lib/iredapi
EXPOSE 8000
# Any answer of the server will do (without a session it is 401 in JSON), a refused connection not.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-c", \
    "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['IREDAPI_PORT']), timeout=4); c.request('GET', '/api/domains'); raise SystemExit(c.getresponse().status >= 500)"]
ENTRYPOINT ["iredapi"]
CMD ["serve"]
