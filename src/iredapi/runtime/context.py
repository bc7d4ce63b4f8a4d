"""The resources of one process: databases, caches, the password hasher, health checks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import Context
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self

from iredapi.backends.factory import make_backend, make_databases, make_list_server
from iredapi.backends.policies.iredadmin import NetworkList
from iredapi.backends.protocols.backend import Backend
from iredapi.backends.protocols.mailing_lists import ListServer
from iredapi.concurrency.deadline import Deadline
from iredapi.concurrency.keyed_semaphore import KeyedSemaphore
from iredapi.concurrency.password_hasher import PasswordHasher
from iredapi.concurrency.ttl_cache import TTLCache
from iredapi.config.settings import Settings
from iredapi.database.session import Databases
from iredapi.domain.actors import Actor, Principal
from iredapi.domain.audit_events import Event
from iredapi.observability import spans
from iredapi.observability.health_checks import Probes
from iredapi.observability.signals import PoolUse
from iredapi.operations.passwords import Passwords
from iredapi.operations.preconditions import EntityTags
from iredapi.runtime import startup
from iredapi.runtime.audit_details import DetailWriter
from iredapi.runtime.audit_writer import Auditor
from iredapi.runtime.dry_list_server import DryListServer
from iredapi.runtime.dry_run import DRY_RUN
from iredapi.runtime.event_feed import EventFeed
from iredapi.runtime.guess_key import guess_key, lasting_secret
from iredapi.runtime.iredadmin_settings import CachedIredadminSettings
from iredapi.runtime.outbox import Outbox
from iredapi.runtime.request_digests import RequestDigests
from iredapi.runtime.slow_hashes import SlowHashes
from iredapi.runtime.transactions import Params, Reading, Result, Transactions, WriteResult, Writing
from iredapi.runtime.user_batcher import UserBatcher
from iredapi.runtime.written_servers import ServersWritten
from iredapi.runtime.wrong_guesses import WrongGuesses
from iredapi.state.database import State
from iredapi.state.log_details import LogDetails

if TYPE_CHECKING:
    from iredapi.backends.dns import SenderDns

_LISTS_SECONDS: Final = 30.0
"""TTL in seconds of cached look-ups of mailing lists."""
_POOLS_SECONDS: Final = 1.0
_LISTS_FAIL_SECONDS: Final = 3.0
"""Seconds without optional requests to a list server after it failed."""


class AppContext:
    """One process's resources. Open it with ``async with AppContext.open(settings) as context``."""

    def __init__(
        self, settings: Settings, databases: Databases, state: State, backend: Backend
    ) -> None:
        self.settings = settings
        self.databases = databases
        self.state = state
        self.backend = backend
        self.probes = Probes()
        self.hasher = PasswordHasher(
            settings.password_scheme, max_workers=settings.password_workers
        )
        self._for_slapd = settings.slapd_checks_passwords
        self._password_reader = settings.password_reader
        self._list_server = make_list_server(settings)
        self.list_owners_and_moderators = TTLCache[frozenset[str]](_LISTS_SECONDS)
        """Address of a list → its owners and moderators, as mlmmj has them."""
        self.has_lists = TTLCache[bool]()
        """Only key: "". Whether any domain has a list that mlmmj manages."""
        self.list_server_hangs = TTLCache[bool](_LISTS_SECONDS)
        """Only key: "". Set after the list server did not answer in time."""
        self.list_server_fails = TTLCache[str](_LISTS_FAIL_SECONDS)
        """Only key: "". The reason why an optional request to the list server failed."""
        self.login_semaphores = KeyedSemaphore()
        self.guess_key = guess_key(settings)
        self.wrong_guesses = WrongGuesses(self.guess_key)
        self.entity_tags = EntityTags(self.guess_key)
        self.request_digests = RequestDigests(state.signing_keys, lasting_secret(settings))
        self.sessions = TTLCache[Principal]()
        """Session id → the account that logged in."""
        self.actors: dict[str, tuple[Principal, Actor]] = {}
        """Session id → the actor made of this principal object, for one client address."""
        self.allowed_networks = NetworkList(settings.networks("allowed_networks"))
        self.iredadmin_settings = CachedIredadminSettings(settings, databases, backend)
        self.log_details = LogDetails(
            state.connections, days=settings.audit_days, clock=state.locks.clock
        )
        self._detail_writer = DetailWriter(self.log_details)
        self._auditor = Auditor(databases, self._detail_writer, timeout=settings.request_timeout)
        self.outbox = Outbox(state.events, wanted=settings.events, timeout=settings.request_timeout)
        self.event_feed = EventFeed(state.events, self.probes)
        self.outbox.on_published.append(self.event_feed.wake)
        self._transactions = Transactions(
            settings,
            backend,
            state,
            self.sessions,
            self._auditor,
            self.iredadmin_settings,
            self.outbox,
        )
        self.slow_hashes = SlowHashes(self._transactions)
        self.user_batcher = UserBatcher(
            backend,
            self._auditor,
            self.sessions,
            self.iredadmin_settings,
            self.outbox,
            timeout=settings.request_timeout,
        )
        for name, database in databases.by_name.items():
            # Only some operations use the databases of Amavisd and iRedAPD.
            needed = name in {"vmail", "iredadmin"}
            self.probes.add(name, database.ping, needed=needed, describe=database.topology)
        self.probes.add("state", state.ping, describe=state.topology)
        self.servers_written = ServersWritten(
            state,
            {
                name: database.topology
                for name, database in databases.by_name.items()
                if not database.sqlite
            }
            | ({} if state.connections.dialect == "sqlite" else {"state": state.topology}),
        )
        for name, probe in backend.probes().items():
            self.probes.add(name, probe)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Self]:
        """Open the databases and our own one; in the embedded default create what is missing.

        Raises ConfigurationError, also NotReady.
        """
        startup.make_data_dir(settings)
        async with AsyncExitStack() as opened:
            databases = make_databases(settings)
            opened.push_async_callback(databases.close)
            if settings.embedded:
                await startup.create_tables(databases)
            await startup.check(databases, settings)
            state = await startup.open_state(settings)
            opened.push_async_callback(state.close)
            backend = make_backend(settings, databases, state)
            opened.push_async_callback(backend.close)
            context = cls(settings, databases, state, backend)
            opened.callback(context.hasher.close)
            opened.push_async_callback(context.drain)
            opened.push_async_callback(context.servers_written.close)
            await startup.start(backend)
            if not context.log_details.kept:
                await context.log_details.purge()
            if context._list_server is not None:
                opened.push_async_callback(context._list_server.close)
            yield context

    @cached_property
    def dns(self) -> SenderDns:
        """Look-ups of the networks of sender domains; few servers need dnspython."""
        from iredapi.backends.dns import SenderDns

        return SenderDns(self.settings.resolver, self.settings.dns_timeout)

    @property
    def list_server(self) -> ListServer | None:
        """The list server; in a dry run one that is only read."""
        dry = DRY_RUN.get()
        if dry is None or self._list_server is None:
            return self._list_server
        if dry.list_server is None:
            dry.list_server = DryListServer(self._list_server, dry)
        return dry.list_server

    async def drain(self) -> None:
        """Wait for background work that requests have started."""
        await self.user_batcher.drain()
        await self._auditor.close()
        await self.iredadmin_settings.drain()
        await self.slow_hashes.drain()
        await self.sessions.drain()
        await self.has_lists.drain()
        await self.outbox.close()
        await self.event_feed.close()

    def read(
        self,
        actor: Actor,
        operation: Reading[Params, Result],
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> Coroutine[Any, Any, Result]:
        """Run an operation that only reads. Raises ApiError."""
        made = self._transactions.read(actor, operation, *args, **kwargs)
        return made if spans.tracer is None else spans.operation(spans.tracer, operation, made)

    def write(
        self,
        actor: Actor,
        operation: Writing[Params, Any],
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> Coroutine[Any, Any, WriteResult]:
        """Run an operation, commit it, and write the audit log. Raises ApiError."""
        made = self._transactions.write(actor, operation, *args, **kwargs)
        return made if spans.tracer is None else spans.operation(spans.tracer, operation, made)

    def audit(self, actor: Actor, events: Sequence[Event]) -> Coroutine[Any, Any, None]:
        """Write events to iRedAdmin's log and to our own. Never raises."""
        return self._transactions.audit(actor, events)

    @asynccontextmanager
    async def announced(self, actor: Actor, event: Event) -> AsyncIterator[None]:
        """Tell other systems of a change that is made beside the account storage.

        Raises ApiError: then it must not be made.
        """
        if not self.outbox.wanted or DRY_RUN.get() is not None:
            yield
            return
        async with self.outbox.announced(actor, event):
            yield

    async def write_details(self) -> None:
        """Write what this process has not written yet beside the panel's log. Never raises."""
        await self._detail_writer.flush()

    def watch_pools(self, tell: Callable[[str, PoolUse], None]) -> None:
        """Tell every second how the pools are used, until the event loop ends."""
        for name, database in self.databases.by_name.items():
            tell(name, database.pool_use)
        tell("passwords", self.hasher.use)
        loop = asyncio.get_running_loop()
        loop.call_later(_POOLS_SECONDS, self.watch_pools, tell, context=Context())

    def deadline(self) -> Deadline:
        """Return a time limit for servers that do not answer. Raises ServerDown at its end."""
        return Deadline(self.settings.request_timeout)

    async def passwords(self) -> Passwords:
        """Return the current policy for new passwords, with the hasher."""
        policy = await self.iredadmin_settings.password_policy()
        return Passwords(
            policy, self.hasher, for_slapd=self._for_slapd, reader=self._password_reader
        )

    async def admin_passwords(self) -> Passwords:
        """Return the same for standalone admins, whom Dovecot does not log in."""
        found = await self.passwords()
        return found.for_admins() if self.settings.slapd_checks_admins else found

    def invalidate_caches(self) -> None:
        """Read everything again at the next request."""
        self.iredadmin_settings.invalidate()
        self.slow_hashes.invalidate()
        self.has_lists.invalidate()
        self.sessions.invalidate()
