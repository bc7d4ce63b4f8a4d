"""Settings that iRedAdmin's web page stores, and the rules that follow from them and from ours."""

from __future__ import annotations

from dataclasses import replace

from iredapi.backends.policies.iredadmin import IredadminDbSettings, SqlIredadmin
from iredapi.backends.protocols.backend import Backend
from iredapi.backends.unit_of_work import Rules
from iredapi.concurrency.deadline import Deadline
from iredapi.concurrency.ttl_cache import TTLCache
from iredapi.config.settings import Settings
from iredapi.database.session import Databases
from iredapi.domain.passwords import PasswordPolicy
from iredapi.runtime.domain_rules import configured_rules, password_policy
from iredapi.runtime.retries import retry_read


class CachedIredadminSettings:
    """Reads the table ``iredadmin.settings``, and caches it for about a second."""

    def __init__(self, settings: Settings, databases: Databases, backend: Backend) -> None:
        self._settings = settings
        self._databases = databases
        self._backend = backend
        self._cache = TTLCache[IredadminDbSettings]()
        self.configured_rules = configured_rules(settings)
        """Rules of the configuration alone, without iRedAdmin's settings."""
        # These keep their identity while the settings are the same.
        self._rules = self.configured_rules
        self._rules_policy: PasswordPolicy | None = None
        self._policy = password_policy(settings, IredadminDbSettings())
        self._policy_settings: IredadminDbSettings | None = None

    async def get(self) -> IredadminDbSettings:
        """Return the settings, at most a second old. Raises ApiError."""
        found = await self._cache.get_or_load("", self._read)
        return IredadminDbSettings() if found is None else found

    async def password_policy(self) -> PasswordPolicy:
        """Return the policy for new passwords. Raises ApiError."""
        current = await self.get()
        if current is not self._policy_settings:
            policy = password_policy(self._settings, current)
            if policy != self._policy:
                self._policy = policy
            self._policy_settings = current
        return self._policy

    async def rules(self) -> Rules:
        """Return the rules with the current password lengths. Raises ApiError."""
        policy = await self.password_policy()
        if policy is not self._rules_policy:
            self._rules = replace(
                self.configured_rules,
                domains=replace(
                    self.configured_rules.domains,
                    min_password_length=policy.min_length,
                    max_password_length=policy.max_length,
                ),
            )
            self._rules_policy = policy
        return self._rules

    def invalidate(self) -> None:
        """Read the settings again at the next use."""
        self._cache.invalidate()

    async def drain(self) -> None:
        """Wait for a read that is in progress."""
        await self._cache.drain()

    async def _read(self) -> IredadminDbSettings:
        async def once() -> IredadminDbSettings:
            async with Deadline(self._settings.request_timeout):
                connections = await self._databases.open(writing=False)
                try:
                    return await SqlIredadmin(connections).settings()
                finally:
                    await connections.close()

        return await retry_read(self._backend, once)
