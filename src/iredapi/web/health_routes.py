"""``/livez`` and ``/readyz``, for monitoring and load balancers.

They are no part of the API: they need no login and ignore the allow list.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from iredapi.observability.health_checks import READS_ONLY
from iredapi.runtime.context import AppContext
from iredapi.web import responses

PATHS: Final = frozenset({"/livez", "/readyz"})


def mount(app: FastAPI) -> None:
    """Add both routes."""

    @app.api_route("/livez", methods=["GET", "HEAD"], include_in_schema=False)
    async def _live() -> Response:
        return responses.success({"status": "alive"})

    @app.api_route("/readyz", methods=["GET", "HEAD"], include_in_schema=False)
    async def _ready(request: Request) -> Response:
        context: AppContext = request.app.state.context
        conditions = await context.probes.ask()
        away = sorted(name for name, found in conditions.items() if not found.ok)
        missing = [name for name in away if conditions[name].needed]
        reading = sorted(name for name, found in conditions.items() if found.reads_only)
        data: dict[str, Any] = {"status": "ready", "away": away}
        if context.probes.leaving:
            data["status"] = "leaving"
        elif missing:
            data["status"] = "not ready"
        elif reading:
            # Still 200: reads are answered, and no other replica could do more.
            data |= {"status": READS_ONLY, "reads_only": reading}
        if "verbose" in request.query_params:
            described = await context.probes.describe(conditions)
            data["servers"] = {
                name: {
                    "status": found.status,
                    "needed": found.needed,
                    "milliseconds": found.milliseconds,
                    **described.get(name, {}),
                }
                for name, found in conditions.items()
            }
        if data["status"] in {"ready", READS_ONLY}:
            return responses.success(data)
        by_status: dict[str, list[str]] = {}
        for name in missing:
            by_status.setdefault(conditions[name].status.capitalize(), []).append(name)
        detail = " ".join(f"{status}: {', '.join(names)}." for status, names in by_status.items())
        if context.probes.leaving:
            detail = "This process is shutting down."
        body = {"_success": False, "_msg": "NOT_READY", "_detail": detail, "_data": data}
        return Response(
            orjson.dumps(body),
            status_code=503,
            media_type=responses.JSON,
            headers={"Retry-After": "1"},
        )
