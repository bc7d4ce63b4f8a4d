"""iredapi's own small database: login sessions, tokens, login attempts, locks, journals.

SQLite by default, PostgreSQL or MariaDB for several replicas; never one of iRedMail's databases.
"""

from iredapi.state.connections import StateUnavailable
from iredapi.state.database import State
from iredapi.state.locks import Lease, LockLost, Locks, LockTimeout
from iredapi.state.login_attempts import Attempt, LoginAttempts
from iredapi.state.migrate import WrongDatabase
from iredapi.state.sessions import Role, Session, Sessions
from iredapi.state.tokens import Token, Tokens, TooManyTokens
from iredapi.state.write_journal import Journal, Record

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
