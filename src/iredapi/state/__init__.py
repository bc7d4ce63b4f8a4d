"""Our own small database: login sessions, throttle counters, locks.

SQLite by default, PostgreSQL or MariaDB for several replicas.
Never one of iRedMail's databases.
"""

from iredapi.state.attempts import Attempt, LoginAttempts
from iredapi.state.connections import StateUnavailable
from iredapi.state.database import State
from iredapi.state.journal import Journal, Record
from iredapi.state.locks import Lease, LockLost, Locks, LockTimeout
from iredapi.state.migrate import WrongDatabase
from iredapi.state.sessions import Role, Session, Sessions
from iredapi.state.tokens import Token, Tokens, TooManyTokens

__all__ = [
    "Attempt",
    "Journal",
    "Lease",
    "LockLost",
    "LockTimeout",
    "Locks",
    "LoginAttempts",
    "Record",
    "Role",
    "Session",
    "Sessions",
    "State",
    "StateUnavailable",
    "Token",
    "Tokens",
    "TooManyTokens",
    "WrongDatabase",
]
