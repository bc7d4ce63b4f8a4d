"""Backend with accounts in OpenLDAP, and policies and iRedAdmin's data in SQL."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.exc import DBAPIError

from iredapi.backends.ldap import directories
from iredapi.backends.ldap.directories import Directories
from iredapi.backends.ldap.errors import LdapError
from iredapi.backends.ldap.transaction import LdapReadTransaction, LdapTransaction
from iredapi.backends.ldap.user_batches import LdapUserBatches
from iredapi.backends.protocols.backend import ReadTransaction, Transaction
from iredapi.backends.protocols.values import RetryUnit
from iredapi.config.errors import ConfigurationError
from iredapi.config.settings import Settings
from iredapi.database.errors import is_retryable, is_unknown_name, translated
from iredapi.database.session import Databases
from iredapi.domain import features
from iredapi.observability.health_checks import Probe
from iredapi.state import State


class LdapBackend:
    """See ``protocols.backend.Backend``."""

    features = features.LDAP
    sees_own_writes = False
    errors: tuple[type[Exception], ...] = (DBAPIError, LdapError)
    user_batching = None
    created_together = LdapUserBatches.created_fields
    most_created_together = 64  # slapd takes some 5 ms for each

    def __init__(self, settings: Settings, databases: Databases, state: State) -> None:
        self._state = state
        self._directories = Directories(settings, databases, state)

    async def start(self) -> None:
        if error := await self._directories.start():
            raise ConfigurationError(error)

    @property
    def directories(self) -> Directories:
        """The directory and everything that units share."""
        return self._directories

    async def begin_read(self) -> ReadTransaction:
        return LdapReadTransaction(await self._directories.open(writing=False), self._state)

    async def begin(self, *, retry_reason: RetryUnit | None = None) -> Transaction:
        unit = await self._directories.open(writing=True, retry_reason=retry_reason)
        return LdapTransaction(unit, self._state)

    def is_transient(self, error: Exception) -> bool:
        if isinstance(error, DBAPIError):
            return is_retryable(error) or is_unknown_name(error)
        return directories.is_transient(error)

    def translated(self, error: Exception) -> Exception:
        if isinstance(error, DBAPIError):
            return translated(error)
        return directories.translated(error)

    def probes(self) -> Mapping[str, Probe]:
        return {"ldap": self._directories.ping}

    async def close(self) -> None:
        await self._directories.close()
