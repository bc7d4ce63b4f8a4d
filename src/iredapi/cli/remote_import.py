"""The client of an import over the API: parts of a file, each of which may be sent again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import httpx
import orjson

from iredapi.client.api import Remote
from iredapi.errors import CODES, ApiError
from iredapi.transfer.lines import Entry, Lines

_TRIES: Final = 6
_AGAIN: Final = frozenset({408, 425, 429, 502, 503, 504})
Result = dict[str, Any]
Send = Callable[[list[Entry], str], list[Result]]


def remote(place: Remote, options: Mapping[str, str], work: Callable[[Send], None]) -> None:
    """Call ``work`` with what sends lines to an API. Raises ApiError or ConfigurationError."""
    with place.blocking_client() as client:
        client.headers["Content-Type"] = "application/x-ndjson"

        def send(entries: list[Entry], rule: str) -> list[Result]:
            return _results(client, {**options, "on_existing": rule}, entries)

        work(send)


def _results(
    client: httpx.Client, params: Mapping[str, str], entries: Sequence[Entry]
) -> list[Result]:
    """Send lines until each has a result; what is wrong already is not sent."""
    results: dict[int, Result] = {
        at: _wrong(entry.problem) for at, entry in enumerate(entries) if entry.problem is not None
    }
    left = [at for at in range(len(entries)) if at not in results]
    for attempt in range(_TRIES):
        if not left:
            break
        if attempt:
            time.sleep(min(2.0**attempt, 20.0))
        body = b"".join(orjson.dumps(entries[at].record) + b"\n" for at in left)
        ended = _once(client, params, body, left, results)
        left = [at for at in left if at not in results]
        if ended is not None and (not left or attempt == _TRIES - 1):
            raise ended
    if left:
        raise ApiError("SERVER_DOWN", "The import was cut: run the same command again.")
    return [results[at] for at in range(len(entries))]


def _once(
    client: httpx.Client,
    params: Mapping[str, str],
    body: bytes,
    left: Sequence[int],
    results: dict[int, Result],
) -> ApiError | None:
    """Send a part; fill in results. Returns why it was cut. Raises what will not get better."""
    try:
        with client.stream("POST", "/import", params=params, content=body) as response:
            if response.status_code != 200:
                response.read()
                error = _refusal(response)
                if response.status_code in _AGAIN:
                    return error
                raise error
            # httpx would split lines at other characters, too, that values may have.
            lines = Lines(sys.maxsize)
            texts = (line.text for piece in response.iter_bytes() for line in lines.feed(piece))
            for text in texts:
                found = orjson.loads(text or b"")
                if "line" in found:
                    results[left[found["line"] - 1]] = found
                elif found.get("_success") is not True:
                    return _named(str(found.get("_msg")), str(found.get("_detail", "")))
    except (httpx.TransportError, ValueError) as error:
        return ApiError("SERVER_DOWN", f"{type(error).__name__}: {error}"[:200])
    return None


def _refusal(response: httpx.Response) -> ApiError:
    try:
        answer = response.json()
    except ValueError:
        answer = {}
    if not isinstance(answer, dict) or "_msg" not in answer:
        return ApiError("SERVER_DOWN", f"The server has answered {response.status_code}.")
    return _named(str(answer["_msg"]), str(answer.get("_detail", "")))


def _named(code: str, detail: str) -> ApiError:
    return ApiError(code if code in CODES else "SERVER_ERROR", detail)


def _wrong(error: ApiError) -> Result:
    found: Result = {"result": "failed", "code": error.code}
    if error.errors:
        found |= {"param": error.errors[0].param, "detail": error.errors[0].detail}
    return found | ({"detail": error.detail} if error.detail else {})
