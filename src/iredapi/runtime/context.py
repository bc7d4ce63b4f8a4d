"""Where everything meets: databases, state, hashing, and the edge of each unit.

A read runs in autocommit. A write runs all its statements first, in open transactions; then the
satellites commit, then the accounts, and last the audit log is written. A deadlock, or a connection
that broke before anything was committed, is tried again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import structlog

from iredapi.backends.dns import SenderDns
from iredapi.backends.factory import make_backend, make_databases, make_list_server
from iredapi.backends.policies.iredadmin import NetworkList, PanelSettings, SqlIredadmin
from iredapi.backends.protocols.backend import Backend, Transaction
from iredapi.backends.protocols.values import RetryUnit
from iredapi.backends.unit_of_work import (
    STRICT,
    AccessRevocations,
    ReadUnit,
    Rules,
    UnitOfWork,
    refuse_unless_exact,
)
from iredapi.concurrency.keyed_semaphore import KeyedSemaphore
from iredapi.concurrency.password_hasher import PasswordHasher
from iredapi.concurrency.shield import finish
from iredapi.concurrency.ttl_cache import TTLCache
from iredapi.config.settings import Settings
from iredapi.database.session import Databases
from iredapi.domain import password_costs
from iredapi.domain.actors import SYSTEM, Actor, Principal
from iredapi.domain.audit_events import Event
from iredapi.domain.passwords import SEVERAL, PasswordPolicy
from iredapi.errors import Conflict, ServerDown
from iredapi.observability.health_checks import Probes
from iredapi.observability.logging import REQUEST_ID
from iredapi.operations.passwords import Passwords
from iredapi.runtime import startup
from iredapi.runtime.audit_writer import Auditor
from iredapi.runtime.domain_rules import password_policy, rules
from iredapi.runtime.guess_key import guess_key
from iredapi.runtime.user_batcher import UserBatcher
from iredapi.runtime.wrong_guesses import WrongGuesses
from iredapi.state.connections import StateUnavailable
from iredapi.state.database import State

Params = ParamSpec("Params")
Result = TypeVar("Result")
Reading = Callable[Concatenate[ReadUnit, Params], Awaitable[Result]]
"""An operation that changes nothing: its unit has no method that could."""
Writing = Callable[Concatenate[UnitOfWork, Params], Awaitable[Result]]

TRIES = 8
_LISTS_SECONDS = 30.0
"""How long is believed what is only read to be helpful to mailing lists."""
_SLOW_HASHES_SECONDS = 120.0
"""How long is believed which kinds of hashes admins have."""
_LISTS_FAIL_SECONDS = 3.0
"""How long a list server that failed is not asked for what an answer can do without."""
_EVERYBODY = NetworkList()
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    """What a write says besides "success"."""

    skipped: tuple[Mapping[str, str], ...] = ()
    changed: tuple[str, ...] | None = None
    """What is different now, in the names of parameters; None: something was made, or ended."""
    ignored: tuple[str, ...] = ()
    adjusted: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, unit: UnitOfWork) -> Self:
        """Return what a unit has to say."""
        return cls(
            tuple(item.to_dict() for item in unit.skipped),
            None if unit.changed is None else tuple(sorted(unit.changed)),
            tuple(unit.ignored),
            tuple(item.to_dict() for item in unit.adjusted),
        )


class Deadline:
    """``async with``: seconds that the servers behind have to answer."""

    __slots__ = ("_limit",)

    def __init__(self, seconds: float) -> None:
        self._limit = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        try:
            await self._limit.__aexit__(*error)
            if isinstance(error[1], TimeoutError):  # a limit further inside
                raise error[1]
        except TimeoutError as late:
            raise ServerDown(detail="A server behind the API did not answer in time.") from late


class AppContext:
    """One process's resources. Open it with ``async with Office.open(settings) as office``."""

    def __init__(
        self, settings: Settings, databases: Databases, state: State, backend: Backend
    ) -> None:
        self.settings = settings
        self.databases = databases
        self.state = state
        self.backend = backend
        self._errors: tuple[type[Exception], ...] = (TimeoutError, *backend.errors)
        """What a database or a directory raises; the first, a driver that gives up."""
        self._rules = self._current = rules(settings)
        self._current_policy = password_policy(settings, PanelSettings())
        self._policy_of: PanelSettings | None = None
        """The panel's settings that the current policy follows."""
        self._rules_of: PasswordPolicy | None = None
        """The policy that the current rules follow."""
        self.hasher = PasswordHasher(
            settings.password_scheme, max_workers=settings.password_workers
        )
        self.list_server = make_list_server(settings)
        self.list_owners_and_moderators = TTLCache[frozenset[str]](_LISTS_SECONDS)
        """Who is in an office of a list, as far as mlmmj is concerned."""
        self.has_lists = TTLCache[bool]()
        """One entry without a name: whether any domain has a list that mlmmj keeps."""
        self.list_server_hangs = TTLCache[bool](_LISTS_SECONDS)
        """One entry without a name: it did not answer in time."""
        self.list_server_fails = TTLCache[str](_LISTS_FAIL_SECONDS)
        """The same, of any failure while it was only read: why."""
        self.dns = SenderDns(settings.resolver, settings.dns_timeout)
        self.login_semaphores = KeyedSemaphore()
        self.guess_key = guess_key(settings)
        self.wrong_guesses = WrongGuesses(self.guess_key)
        self._auditor = Auditor(databases, patience=settings.request_timeout)
        self.sessions = TTLCache[Principal]()
        """Who is behind a session id."""
        self.actors: dict[str, tuple[Principal, Actor]] = {}
        """The same, made ready for one client: valid with this very principal only."""
        self.user_batcher = UserBatcher(
            backend,
            self._auditor,
            self.sessions,
            rules=self._current_rules,
            deadline=self.deadline,
            commit_outcome_unknown=self._commit_outcome_unknown,
            patience=settings.request_timeout,
        )
        self._panel = TTLCache[PanelSettings]()
        self._slow_hashes = TTLCache[tuple[str, ...]](_SLOW_HASHES_SECONDS)
        self._ours = NetworkList(settings.networks("allowed_networks"))
        self.probes = Probes()
        for name, database in databases.by_name.items():
            # Amavisd's and iRedAPD's data are asked for by some operations only.
            self.probes.add(name, database.ping, needed=name in {"vmail", "iredadmin"})
        self.probes.add("state", state.ping)
        for name, probe in backend.probes().items():
            self.probes.add(name, probe)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Self]:
        """Open databases and state; in the embedded default make what is missing."""
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
            opened.push_async_callback(context.settle)
            await startup.start(backend)
            if context.list_server is not None:
                opened.push_async_callback(context.list_server.close)
            yield context

    async def settle(self) -> None:
        """Wait for what goes on without its requests."""
        await self.user_batcher.settle()
        await self._auditor.close()
        await self._panel.drain()
        await self._slow_hashes.drain()
        await self.sessions.drain()
        await self.has_lists.drain()

    # -- units -------------------------------------------------------------------------------------

    async def read(
        self,
        actor: Actor,
        operation: Reading[Params, Result],
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> Result:
        """Run an operation that changes nothing."""

        async def once() -> Result:
            transaction = await self.backend.begin_read()
            try:
                async with self.deadline():
                    unit = await transaction.unit(actor, self._rules)
                    return await operation(unit, *args, **kwargs)
            finally:
                await transaction.close()

        return await self._retried(once)

    async def _retried(self, read: Callable[[], Awaitable[Result]]) -> Result:
        """Run a read again when its connection was lost, say because the server was restarted."""
        for attempt in range(TRIES):
            try:
                return await read()
            except self.backend.errors as error:
                if not self.backend.is_transient(error) or attempt == TRIES - 1:
                    raise self.backend.translated(error) from error
            await asyncio.sleep(_backoff(attempt))
        raise AssertionError("unreachable")

    async def write(
        self,
        actor: Actor,
        operation: Writing[Params, Any],
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> Done:
        """Run an operation, commit it, and write the audit log."""
        current = await self._current_rules()
        again: RetryUnit | None = None
        for attempt in range(TRIES):
            transaction = await self.backend.begin(again=again)
            committing = done = False
            pause = _backoff(attempt)
            try:
                async with self.deadline():
                    unit = await transaction.unit(actor, current)
                    await operation(unit, *args, **kwargs)
                    if STRICT.get():
                        refuse_unless_exact(unit.ignored, unit.adjusted)
                committing = True
                # The log is written even when the client goes away between the two.
                await finish(self._commit(transaction, unit))
                done = True
            except RetryUnit as later:
                again = later
                pause = later.seconds or pause
            except self._errors as error:
                if committing:
                    raise self._commit_outcome_unknown(error) from error
                if not self.backend.is_transient(error) or attempt == TRIES - 1:
                    raise self.backend.translated(error) from error
            else:
                break
            finally:
                if not done:
                    await finish(transaction.close())
            await asyncio.sleep(pause)
        else:
            raise Conflict("CHANGED_MEANWHILE")
        return Done.of(unit)

    def deadline(self) -> Deadline:
        """Give up on servers that do not answer. Raises ServerDown."""
        return Deadline(self.settings.request_timeout)

    async def _commit(self, transaction: Transaction, unit: UnitOfWork) -> None:
        try:
            await transaction.commit()
        finally:
            self._changed(unit.affected_account)
        # SQLite's next writer may be this very log.
        await transaction.close()
        await self.audit(unit.actor, unit.events)
        if unit.revocations:
            await self._end(unit.revocations)

    async def _end(self, revocations: AccessRevocations) -> None:
        """End sessions and tokens. Never fails a request: each reads the account again anyway."""
        try:
            for mail in sorted(revocations.sessions | revocations.demoted):
                await self.state.sessions.end_all(mail)
            ended = revocations.demoted
            if not self.settings.tokens_outlive_password:
                ended = ended | revocations.tokens
            await self.state.tokens.end_owners(ended)
            for mail in sorted(revocations.demoted):
                await self.state.networks.forget(mail)
            for domain in sorted(revocations.domains):
                await self.state.sessions.end_domain(domain, but=revocations.exempt_admins)
                await self.state.tokens.end_domain(domain, but=revocations.exempt_admins)
        except StateUnavailable as error:
            _log.error("access_not_ended", reason=str(error))
        finally:
            self.sessions.invalidate()

    def _changed(self, affected_account: str) -> None:
        """Forget the rights that a change may have touched."""
        if affected_account:
            self.sessions.invalidate(lambda _, principal: principal.username == affected_account)
        else:
            self.sessions.invalidate()

    def _commit_outcome_unknown(self, error: Exception) -> Exception:
        found = self.backend.translated(error)
        if isinstance(found, ServerDown | TimeoutError):
            return ServerDown(
                detail="A server went away while the change was committed: look before you repeat "
                "it."
            )
        return found

    async def audit(self, actor: Actor, events: Sequence[Event]) -> None:
        """Log events, in the panel's table and in our own log. Never fails a request."""
        await self._auditor.append([(REQUEST_ID.get(), actor, event) for event in events])

    # -- the panel's settings ----------------------------------------------------------------------

    async def panel(self) -> PanelSettings:
        """Return the panel's settings, at most a second old."""
        found = await self._panel.get_or_load("", self._read_panel)
        return PanelSettings() if found is None else found

    async def slow_hashes(self, stored: str) -> tuple[str, ...]:
        """Return the hashes whose time every wrong password of an admin takes.

        ``stored`` is the one of who logs in, whose kind may be new.
        """
        found = await self._slow_hashes.get_or_load("", self._read_slow_hashes) or ()
        if password_costs.rest(password_costs.in_use([stored.split(SEVERAL)]), found):
            self._slow_hashes.invalidate()
            found = await self._slow_hashes.get_or_load("", self._read_slow_hashes) or ()
        return found

    async def _read_slow_hashes(self) -> tuple[str, ...]:
        hashes = await self.read(SYSTEM, slow_hashes)
        return password_costs.in_use(item.split(SEVERAL) for item in hashes)

    async def _read_panel(self) -> PanelSettings:
        async def once() -> PanelSettings:
            async with self.deadline():
                connections = await self.databases.open(writing=False)
                try:
                    return await SqlIredadmin(connections).settings()
                finally:
                    await connections.close()

        return await self._retried(once)

    async def _current_rules(self) -> Rules:
        policy = await self._policy()
        if policy is not self._rules_of:
            self._current = replace(
                self._rules,
                domains=replace(
                    self._rules.domains,
                    min_password_length=policy.min_length,
                    max_password_length=policy.max_length,
                ),
            )
            self._rules_of = policy
        return self._current

    def forget_cached(self) -> None:
        """Read everything anew at the next request."""
        self._panel.invalidate()
        self._slow_hashes.invalidate()
        self.has_lists.invalidate()
        self.sessions.invalidate()

    async def admits(self, client: str) -> bool:
        """Tell whether the API is open to a client address; both lists must admit it."""
        theirs = (await self.panel()).lists.get("restful_api_clients", _EVERYBODY)
        return admitted(client, self._ours) and admitted(client, theirs)

    async def passwords(self) -> Passwords:
        """Return the policy for new passwords, as the panel's settings have it now."""
        return Passwords(
            await self._policy(), self.hasher, for_slapd=self.settings.slapd_checks_passwords
        )

    async def _policy(self) -> PasswordPolicy:
        panel = await self.panel()
        if panel is not self._policy_of:
            found = password_policy(self.settings, panel)
            # The same one for the same settings, however often they are read.
            self._current_policy = found if found != self._current_policy else self._current_policy
            self._policy_of = panel
        return self._current_policy


async def slow_hashes(unit: ReadUnit) -> list[str]:
    """Return the hashes of admins that are not verified at once."""
    return await unit.admins.slow_hashes()


def admitted(client: str, allowed: NetworkList) -> bool:
    if allowed.broken:
        return False
    if not allowed.networks:
        return True
    try:
        address = ip_address(client)
    except ValueError:
        return False
    return any(address in network for network in allowed.networks)


def _backoff(attempt: int) -> float:
    """Return seconds to wait before a deadlock's victim tries again, different for each."""
    chance: float = random.uniform(0.005, 0.02)  # noqa: S311 (not a secret)
    return chance * (1 << attempt)
