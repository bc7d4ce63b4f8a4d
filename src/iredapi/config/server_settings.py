"""Settings of the HTTP server and its worker processes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, Field, field_validator

from iredapi.config.parsing import CommaList


class ServerSettings(BaseModel):
    """Address, port, limits and timeouts of the HTTP server."""

    TITLE: ClassVar[str] = "HTTP server"

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on.")
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Worker processes. SQLite allows one; more need PostgreSQL or MariaDB.",
    )
    data_dir: Path = Field(
        Path("data"),
        description="Directory of the embedded SQLite databases; created when it does not exist.",
    )
    prefixes: CommaList = Field(
        ["/api", "/iredadmin/api"],
        description="Path prefixes under which the API answers, separated by commas.",
    )
    always_200: bool = Field(
        False,
        description="Answer every handled result with HTTP 200, for old clients that look only "
        "at `_success`; `LOGIN_REQUIRED` is then written `LOGIN REQUIRED`.",
    )
    body_limit: int = Field(
        8 * 1024 * 1024,
        ge=1024,
        description="Maximum size in bytes of a request body that may hold lists of addresses. "
        "Other bodies: 256 KiB; a login: 8 KiB.",
    )
    max_requests: int = Field(
        500,
        ge=1,
        description="Maximum number of requests that one worker handles at a time; more are "
        "answered 503 `OVERLOADED` with `Retry-After` at once. Requests whose body has not arrived "
        "yet are not counted. At most a sixteenth of them may be lists of 500 items and more.",
    )
    request_timeout: float = Field(
        60.0,
        gt=0,
        description="Maximum seconds for the database work of one request (a commit gets at least "
        "a quarter of it), for each page of a list, and for a body to arrive (before a login: 10). "
        "Then the answer is "
        "503, or 400 for the body. The answer also waits at most this long for its turn to write "
        "to iRedAdmin's log, and as long again for the log itself; the change is made all the "
        "same, and an entry that could not be written there is in the service's own log.",
    )
    start_timeout: float = Field(
        30.0,
        ge=0,
        description="Seconds for which `iredapi serve` waits for databases that cannot be reached; "
        "then it ends with exit status 3. 0: it does not wait.",
    )
    drain_seconds: float = Field(
        2.0,
        ge=0,
        le=300,
        description="Seconds between SIGTERM and the closing of the port; `/readyz` fails from "
        "SIGTERM on. Set it longer than the interval of the load balancer's health checks.",
    )
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")
    access_log: str = Field(
        "",
        description="File of an access log in the combined format, beside the log; `-`: standard "
        "output. Empty: none. See `docs/operations.md`.",
    )

    @field_validator("prefixes")
    @classmethod
    def _prefixes(cls, value: list[str]) -> list[str]:
        if not value or any(not item.startswith("/") or item.endswith("/") for item in value):
            raise ValueError("each prefix starts with / and does not end with it")
        return value

    @field_validator("access_log")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if value not in {"", "-"} and not Path(value).is_absolute():
            raise ValueError("the path of a file from / on, or -")
        return value

    @field_validator("log_level")
    @classmethod
    def _level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("DEBUG, INFO, WARNING or ERROR")
        return value.upper()
