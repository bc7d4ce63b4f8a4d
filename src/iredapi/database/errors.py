"""The meaning of database errors: all lists of codes, and the translation for clients.

Units of work, the state database and doctor decide with ``is_retryable`` whether to try again.
``translated`` never passes on the text of a driver.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from iredapi.errors import ApiError, Conflict, ReadOnlyServer, ServerDown, StorageFull

_Error = TypeVar("_Error", bound=BaseException)

_UNIQUE_MYSQL = {1062, 1586}
_UNIQUE_SQLITE = {1555, 2067, 2579}  # primary key, unique, rowid

_RETRY_STATES = {"40001", "40P01", "55P03"}  # serialization, deadlock, lock not available
_RETRY_MYSQL = {1020, 1205, 1213, 3572}  # record changed, lock wait timeout, deadlock, NOWAIT
_COLLISION_STATES = {"40001", "40P01"}
_DEADLOCK_MYSQL = 1213
_RETRY_SQLITE = {5, 6}  # busy, locked

# Such a server may have been the right one a moment ago: the connection is closed, too.
_READS_ONLY_STATE = "25006"  # a standby, or default_transaction_read_only
_READS_ONLY_MYSQL = {1290, 1792, 1836}  # read_only, a transaction that reads, a server that reads
_READS_ONLY_MYSQL |= {1036, 1874, 1881}  # a table; innodb_read_only, innodb_force_recovery
_NO_QUORUM = 1047  # a node of Galera that is not in the cluster (ER_UNKNOWN_COM_ERROR)
_COMMIT_FAILED = 1180  # "Got error … during COMMIT": whether it was done is not known

_LOST_STATEMENT_STATES = {"26000", "42P05"}  # no such prepared statement; there is one already

_UNKNOWN_STATES = {"42703", "42P01"}  # column, table
_UNKNOWN_MYSQL = {1054, 1146}

_REFUSED_MYSQL = {1142, 1143, 1227, 1370}  # table, column, privilege, routine
_REFUSED_SQLITE = {3, 8, 23}  # permission, read-only, authorization

# Shutting down, starting, too many connections, no such database, bad login.
_DOWN_STATES = {"57P01", "57P02", "57P03", "57P05", "53300", "3D000", "28000", "28P01"}
_DOWN_MYSQL = {1040, 1044, 1045, 1049, 1053, 1129, 1130, 1203, 1226, 1698}
_DOWN_MYSQL |= {2002, 2003, 2005, 2006, 2013, 2026, 2055}  # raised by the client library
_DOWN_MYSQL |= {3159, 4031}  # no login without TLS; closed after wait_timeout (MySQL 8.0.24)
_FULL_MYSQL = {1021, 1114}
_WRITE_MYSQL = {3, 20, 1026}  # mysys and the server: error on write
_FULL_SQLITE = 13
_DOWN_SQLITE = {10, 14}  # I/O error, cannot open


class NoWritableServer(OSError):
    """None of several servers takes writes, although at least one answers."""


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """Yield the error, the driver's error in it, and what these were raised from."""
    todo: list[BaseException | None] = [exc]
    seen: set[int] = set()
    while todo:
        error = todo.pop(0)
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        todo += [getattr(error, "orig", None), error.__cause__]


def _sqlstate(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", None) or "")


def _mysql_code(error: BaseException) -> int:
    # OSError has its errno in the same place.
    mysql_error = type(error).__module__.startswith(("pymysql", "aiomysql"))
    code = error.args[0] if mysql_error and error.args else 0
    return code if isinstance(code, int) else 0


def _sqlite_code(error: BaseException) -> int:
    code = getattr(error, "sqlite_errorcode", 0)
    return code if isinstance(code, int) else 0


def codes_in(exc: BaseException) -> tuple[frozenset[str], frozenset[int], frozenset[int]]:
    """Return the SQLSTATEs, MySQL's codes and SQLite's primary codes in an error's chain."""
    chain = list(_chain(exc))
    return (
        frozenset(state for error in chain if (state := _sqlstate(error))),
        frozenset(code for error in chain if (code := _mysql_code(error))),
        frozenset(code & 0xFF for error in chain if (code := _sqlite_code(error))),
    )


def error_in(exc: BaseException, kind: type[_Error]) -> _Error | None:
    """Return the first error of a class in an error's chain."""
    return next((error for error in _chain(exc) if isinstance(error, kind)), None)


def is_unique_violation(exc: IntegrityError) -> bool:
    """Tell whether a row with the same primary or unique key exists already."""
    return any(
        _sqlstate(error) == "23505"
        or _mysql_code(error) in _UNIQUE_MYSQL
        or _sqlite_code(error) in _UNIQUE_SQLITE
        for error in _chain(exc)
    )


def is_retryable(exc: DBAPIError) -> bool:
    """Tell whether the same transaction may succeed when it is run again.

    True for a deadlock, a serialization failure, a lock wait timeout, a busy SQLite file and a
    lost connection. If it was lost during COMMIT, the transaction may have been committed. A server
    that takes no writes counts as a lost connection: once more on a new one is enough.
    """
    return exc.connection_invalidated or any(
        _sqlstate(error) in _RETRY_STATES
        or _mysql_code(error) in _RETRY_MYSQL
        or _sqlite_code(error) & 0xFF in _RETRY_SQLITE
        for error in _chain(exc)
    )


def is_unknown_name(exc: BaseException) -> bool:
    """Tell whether a statement names a table or column that the database lacks (by now)."""
    return any(
        _sqlstate(error) in _UNKNOWN_STATES
        or _mysql_code(error) in _UNKNOWN_MYSQL
        or (_sqlite_code(error) & 0xFF == 1 and str(error).startswith("no such "))
        for error in _chain(exc)
    )


def is_refused(exc: BaseException) -> bool:
    """Tell whether the login lacks the right for a statement."""
    return any(
        _sqlstate(error) == "42501"
        or _mysql_code(error) in _REFUSED_MYSQL
        or _sqlite_code(error) & 0xFF in _REFUSED_SQLITE
        for error in _chain(exc)
    )


def is_collision(exc: DBAPIError) -> bool:
    """Tell whether a server has ended a transaction because of another one (a deadlock)."""
    return any(
        _sqlstate(error) in _COLLISION_STATES or _mysql_code(error) == _DEADLOCK_MYSQL
        for error in _chain(exc)
    )


def is_undone(exc: DBAPIError) -> bool:
    """Tell whether a COMMIT that failed has certainly committed nothing: it can be tried again.

    Nodes of Galera compare transactions at COMMIT, and end one of two that changed the same rows
    with 1213, or 1205. A server that became read-only meanwhile rolls back (1290 on MariaDB and
    MySQL). When the connection was lost, nobody knows.
    """
    return is_read_only(exc) or (not exc.connection_invalidated and is_retryable(exc))


def is_full(exc: BaseException) -> bool:
    """Tell whether the server could not write because its disk (or a table's limit) is full.

    PostgreSQL 53100 (disk_full), MariaDB and MySQL 1021 (ER_DISK_FULL) and 1114
    (ER_RECORD_FILE_FULL), or a failed write with the system's error 28 (ENOSPC), SQLite 13.
    """
    return any(
        _sqlstate(error) == "53100"
        or _mysql_code(error) in _FULL_MYSQL
        or (_mysql_code(error) in _WRITE_MYSQL and "rrcode: 28" in str(error))
        or _sqlite_code(error) & 0xFF == _FULL_SQLITE
        for error in _chain(exc)
    )


def is_read_only(exc: BaseException) -> bool:
    """Tell whether the server takes no writes now, but reads: a standby, or one with read_only."""
    return any(
        isinstance(error, NoWritableServer)
        or _sqlstate(error) == _READS_ONLY_STATE
        or _mysql_code(error) in _READS_ONLY_MYSQL
        for error in _chain(exc)
    )


def has_no_quorum(exc: BaseException) -> bool:
    """Tell whether a node of Galera refuses all work, because it is not in the cluster."""
    return any(_mysql_code(error) == _NO_QUORUM for error in _chain(exc))


def is_wrong_server(exc: BaseException) -> bool:
    """Tell whether another server may do what this one refuses: the connection is to be closed."""
    return is_read_only(exc) or has_no_quorum(exc)


def is_unknown_commit(exc: BaseException) -> bool:
    """Tell whether an error of COMMIT leaves open whether the transaction was committed."""
    return any(_mysql_code(error) in {_NO_QUORUM, _COMMIT_FAILED} for error in _chain(exc))


def is_lost_statement(exc: BaseException) -> bool:
    """Tell whether PgBouncer has run statements of one client on several connections.

    It does so when it pools transactions, before 1.21, and with ``max_prepared_statements = 0``.
    """
    return any(_sqlstate(error) in _LOST_STATEMENT_STATES for error in _chain(exc))


def is_unavailable(exc: BaseException) -> bool:
    """Tell whether the database cannot be used now: no connection, no login, or no free slot."""
    if isinstance(exc, DBAPIError) and exc.connection_invalidated:
        return True
    return any(
        isinstance(error, (OSError, PoolTimeout))
        or _sqlstate(error) in _DOWN_STATES
        or _sqlstate(error) in _LOST_STATEMENT_STATES
        or _sqlstate(error).startswith("08")
        or _mysql_code(error) in _DOWN_MYSQL
        or _mysql_code(error) == _NO_QUORUM
        or _sqlite_code(error) & 0xFF in _DOWN_SQLITE
        for error in _chain(exc)
    )


def translated(error: DBAPIError) -> Exception:
    """Return the API's error for a driver's error; an unexpected one is returned unchanged."""
    if isinstance(error, IntegrityError) and is_unique_violation(error):
        return Conflict("ALREADY_EXISTS")
    if is_full(error):
        return StorageFull()
    if is_read_only(error):
        return ReadOnlyServer()
    if is_unavailable(error):
        return ServerDown(detail="A database went away; nothing was changed.")
    if is_retryable(error):
        return Conflict("CHANGED_MEANWHILE")
    # PostgreSQL's class 22, "data exception", does not arrive as a DataError from asyncpg.
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if isinstance(error, DataError) or state.startswith("22"):
        return ApiError("INVALID_VALUE", "A value does not fit into the database.")
    return error
