"""What a database error means to a client: the only translation, and no driver's text leaves it."""

from __future__ import annotations

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from iredapi.database.dialect import is_full, is_retryable, is_unavailable, is_unique_violation
from iredapi.errors import ApiError, Conflict, ServerDown, StorageFull


def translated(error: DBAPIError) -> Exception:
    """Return our error for a driver's; one that nobody foresaw comes back as it is."""
    if isinstance(error, IntegrityError) and is_unique_violation(error):
        return Conflict("ALREADY_EXISTS")
    if is_full(error):
        return StorageFull()
    if is_unavailable(error):
        return ServerDown(detail="A database went away; nothing was changed.")
    if is_retryable(error):
        return Conflict("CHANGED_MEANWHILE")
    # PostgreSQL's class 22, "data exception", does not arrive as a DataError from asyncpg.
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if isinstance(error, DataError) or state.startswith("22"):
        return ApiError("INVALID_VALUE", "A value does not fit into the database.")
    return error
