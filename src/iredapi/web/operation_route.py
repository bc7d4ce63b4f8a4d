"""Routes of the API: each declares an action and a form, and gets a checked request.

The order of the checks is fixed here: permission first, parameters second. A client that may not
call an operation learns nothing about its parameters.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, Unpack

from starlette.requests import Request
from starlette.responses import Response

from iredapi.auth import permissions
from iredapi.auth.permissions import Action, Target
from iredapi.backends.unit_of_work import ReadUnit, UnitOfWork
from iredapi.domain import addresses, scopes
from iredapi.domain.actors import Actor
from iredapi.domain.features import Feature
from iredapi.errors import ApiError, LoginRequired, NotFound, NotSupported, problem
from iredapi.operations.preconditions import Versions
from iredapi.runtime.context import AppContext
from iredapi.runtime.dry_run import DryRun
from iredapi.runtime.transactions import WriteResult
from iredapi.schemas.params import Params
from iredapi.web import dry_runs, entity_tags, idempotency, responses, sent_form
from iredapi.web.admission import receive_body, slot_of
from iredapi.web.declared_routes import DeclaredRoute
from iredapi.web.idempotency import KeyedRequest

if TYPE_CHECKING:
    from iredapi.web.openapi import Details

Form = TypeVar("Form", bound=Params)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_MAX_DAYS = 36500
_READING = frozenset({"GET", "HEAD"})
_MAX_BYTES = 256 * 1024
"""Maximum body size in bytes of operations without long lists; the others have ``body_limit``."""
_MAX_PUBLIC_BYTES = 8 * 1024
"""Maximum body size in bytes of a request without a session (a login)."""
_PUBLIC_SECONDS = 10.0
"""Time limit for receiving such a body."""


@dataclass(frozen=True, slots=True)
class OperationRequest(Generic[Form]):
    """One request whose permission, target and form have been checked."""

    context: AppContext
    caller: Actor | None
    target: Target
    form: Form
    request: Request
    ignored: tuple[str, ...] = ()
    """Names of parameters that were sent and that the form does not know."""
    special: KeyedRequest | DryRun | None = None
    """A request with an idempotency key, or one that must not change anything; None: neither."""

    @property
    def actor(self) -> Actor:
        """The logged-in admin. Raises LoginRequired when there is none."""
        if self.caller is None:
            raise LoginRequired
        return self.caller

    @property
    def client(self) -> str:
        """The client's IP address."""
        return str(self.request.scope["iredapi.client"])

    @property
    def request_id(self) -> str:
        """The request id, as in the answer and in the log."""
        return str(self.request.scope["iredapi.request_id"])

    @property
    def days(self) -> int:
        """Days for which mailboxes are kept, from the path or the form; 0: for ever.

        Raises InvalidParameters.
        """
        text = self.request.path_params.get("number")
        if text is None:
            return int(getattr(self.form, "keep_mailbox_days", None) or 0)
        if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= _MAX_DAYS):
            raise problem(
                "number", "INVALID_NUMBER", f"A whole number from 0 to {_MAX_DAYS} is expected."
            )
        return int(text)

    def word(self, name: str) -> str:
        """Return the value of a path parameter."""
        return str(self.request.path_params[name])

    async def read(
        self,
        operation: Callable[Concatenate[ReadUnit, Arguments], Awaitable[Result]],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """Run an operation in a unit of work for reading, and return its result."""
        return await self.context.read(self.actor, operation, *args, **kwargs)

    async def profile(
        self,
        operation: Callable[[ReadUnit, str], Awaitable[Result]],
        name: str,
    ) -> tuple[Result, bytes]:
        """Read a profile; return it with the state for its entity tag."""

        async def with_state(unit: ReadUnit) -> tuple[Result, bytes]:
            return await operation(unit, name), unit.state

        return await self.context.read(self.actor, with_state)

    def tagged(self, response: Response, state: bytes, *, canonical: bool) -> Response:
        """Return the answer with a profile, with its entity tag; or 304."""
        tags = self.context.entity_tags
        return entity_tags.tagged(self.request, tags, response, state, canonical=canonical)

    async def listing(
        self, operation: Callable[..., Awaitable[list[Any]]], key: str, *args: Any, **kwargs: Any
    ) -> Response:
        """Answer with a list that is read page by page.

        After ``args`` the operation takes the name after which a page begins, and the maximum
        length of the page. Items are names, or profiles with their name under ``key``. An empty
        ``key`` means short texts of one account.
        """

        async def fetch(after: str, limit: int) -> list[Any]:
            return await self.read(operation, *args, after, limit, **kwargs)

        if not key:
            # Such a page takes the event loop for a short time only: no slot is needed.
            return await responses.listing(fetch, str, self.request_id)

        def name(item: Any) -> str:
            if isinstance(item, str):
                return item
            # The key must be as it is stored, because the database may sort capitals differently.
            # LDAP profiles have attribute names and lists of values; LDAP sorts folded names.
            found = item.get(key) or item.get("mail") or item["domainName"]
            return found[0].strip().lower() if isinstance(found, list) else str(found)

        return await self.pages(fetch, name)

    async def pages(
        self,
        fetch: responses.Fetch,
        key: Callable[[Any], str],
        extra: Mapping[str, Any] = {},
        first: int = 0,
    ) -> Response:
        """Answer with a list whose pages ``fetch`` reads; see ``responses.listing``."""
        slot, timeout = slot_of(self.request.scope), self.context.settings.request_timeout

        async def in_turn(after: str, limit: int) -> list[Any]:
            async with slot.page(first=not after, seconds=timeout):
                return await fetch(after, limit)

        return await responses.listing(in_turn, key, self.request_id, extra, first)

    async def write(
        self,
        operation: Callable[Concatenate[UnitOfWork, Arguments], Awaitable[Any]],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Response:
        """Run an operation in a unit of work, commit it, and answer with what changed."""
        return self.done(await self.context.write(self.actor, operation, *args, **kwargs))

    def done(self, done: WriteResult) -> Response:
        """Answer that a change was committed, or what it would be in a dry run."""
        more = dry_runs.told(self, self.special) if isinstance(self.special, DryRun) else {}
        if not (done.skipped or done.ignored or done.adjusted):
            return responses.success(changed=done.changed, ignored=self.ignored, more=more)
        names = type(self.form).wire_names()
        return responses.success(
            changed=done.changed,
            skipped=self._with_wire_names(done.skipped) if done.skipped else (),
            ignored=(*self.ignored, *(names.get(name, name) for name in done.ignored)),
            adjusted=[
                {**item, "param": names.get(item["param"], item["param"])} for item in done.adjusted
            ],
            more=more,
        )

    def success(self, data: Any = None) -> Response:
        """Answer with success and the data, if there are any."""
        return responses.success(data, ignored=self.ignored)

    def _with_wire_names(self, skipped: Sequence[Any]) -> list[dict[str, str]]:
        names = type(self.form).wire_names()
        return [
            {
                "param": names.get(item["param"], item["param"]),
                "value": item["value"][:255],
                "reason": item["reason"],
            }
            for item in skipped
        ]


_MALFORMED = "iredapi.malformed"
"""Scope key: the error of a malformed name in the path, used when no account has that name."""
Handler = Callable[[OperationRequest[Form]], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class _Operation(Generic[Form]):
    """The part of an operation's declaration that each request needs."""

    action: Action
    form: type[Form]
    words: Mapping[str, type[StrEnum]]
    feature: Feature | None
    strict: bool
    """Names in the path must obey the grammar for new accounts."""
    public: bool
    """A session or token is not required."""
    versions: Versions | None
    """What ``If-Match`` is compared with; None: there is nothing."""
    takes_file: bool
    """The body is a file, which the handler reads; parameters are in the query."""


def _target(request: Request, caller: Actor | None, *, strict: bool) -> Target:
    path = request.path_params
    found: dict[str, Any] = {}
    if "account" in path:
        try:
            found["scope"] = scopes.scope(path["account"])
        except addresses.InvalidAddress as error:
            code = "INVALID_MAIL" if "@" in path["account"] else "INVALID_DOMAIN_NAME"
            raise problem("account", code, str(error)) from None
    for name in ("domain", "mail", "new_mail"):
        if name not in path:
            continue
        new = strict or name == "new_mail"
        if name == "domain":
            read = addresses.domain_name if new else addresses.existing_domain
        else:
            read = addresses.new_account if new else addresses.existing_mail
        if not new:
            known = found[name] = addresses.Name.of(path[name], read)
            if known.well_formed:
                continue
        try:
            found[name] = read(path[name])
        except addresses.InvalidAddress as error:
            code = "INVALID_DOMAIN_NAME" if name == "domain" else "INVALID_MAIL"
            refusal = problem(name, code, str(error))
            if new or not _may_exist(name, path[name], caller):
                raise refusal from None
            # Other software may have stored this name. If not, the answer is this error and not
            # "no such account".
            request.scope[_MALFORMED] = refusal
    return Target(**found)


def _may_exist(param: str, text: str, caller: Actor | None) -> bool:
    """Return whether an account may exist under a name that the grammar refuses.

    A domain never contains ``@``. An account with no or several ``@`` belongs to no domain, so only
    global admins may name it.
    """
    if not text.isprintable() or len(text.strip()) > addresses.MAX_STORED:
        return False
    if text.strip().endswith("@"):
        return False  # no domain
    if param == "domain":
        return "@" not in text
    return text.count("@") == 1 or (caller is not None and caller.is_global)


class Router:
    """Routes of one resource, each with an action (permission) and a form (parameters).

    FastAPI gets them when the document is asked for (``openapi_document``): describing them all
    takes longer than a service needs to open its databases.
    """

    def __init__(self, *, tags: list[str | Enum]) -> None:
        self.tags = tags
        self.routes: list[DeclaredRoute] = []

    def operation(
        self,
        methods: str | Sequence[str],
        path: str,
        action: Action,
        form: type[Form],
        **details: Unpack[Details],
    ) -> Callable[[Handler[Form]], Handler[Form]]:
        """Declare a route. The handler's docstring is its documentation."""
        operation = _Operation(
            action,
            form,
            details.get("words", {}),
            details.get("feature"),
            strict=action in permissions.NAMES_NEW_ACCOUNT,
            public=action in permissions.PUBLIC,
            versions=details.get("versions"),
            takes_file=bool(details.get("takes")),
        )
        # The value of an enumeration's member is a property in Python: it is read once.
        name = action.value

        def declare(handler: Handler[Form]) -> Handler[Form]:
            async def endpoint(request: Request) -> Response:
                context: AppContext = request.scope["iredapi.context"]
                request.scope["iredapi.action"] = name
                try:
                    call = await _call(request, context, operation)
                    if call.special is None:
                        return await handler(call)
                    if isinstance(call.special, DryRun):
                        return await dry_runs.carried_out(call.special, handler(call))
                    worded = partial(_as_sent, form, request)
                    return await idempotency.once(call, call.special, name, handler, worded)
                except ApiError as error:
                    raise _as_sent(form, request, error) from None

            for method in [methods] if isinstance(methods, str) else methods:
                self.routes.append(
                    DeclaredRoute(method, path, endpoint, action, form, handler, details)
                )
            return handler

        return declare


def _as_sent(form: type[Params], request: Request, error: ApiError) -> ApiError:
    """Return the error in the parameter names that the client has sent; it names fields."""
    if isinstance(error, NotFound) and _MALFORMED in request.scope:
        found: ApiError = request.scope[_MALFORMED]
        return found
    wire = form.wire_names()
    error.errors = tuple(
        replace(item, param=wire.get(item.param, item.param)) for item in error.errors
    )
    return error


async def _call(
    request: Request, context: AppContext, operation: _Operation[Form]
) -> OperationRequest[Form]:
    action, form, feature = operation.action, operation.form, operation.feature
    caller: Actor | None = request.scope.get("iredapi.actor")
    if caller is None and not operation.public:
        raise LoginRequired
    for name, allowed in operation.words.items():
        if request.path_params[name] not in set(allowed):
            raise ApiError("NO_SUCH_OPERATION")
    target = _target(request, caller, strict=operation.strict)
    request.scope["iredapi.target"] = target.named
    permissions.check(caller, action, target)
    if feature is not None and feature not in context.backend.features:
        raise NotSupported(detail=f"The storage of this server has no {feature}.")
    ignored: tuple[str, ...] = ()
    special: KeyedRequest | DryRun | None = None
    if request.method in _READING:
        filled = sent_form.of_query(form, request)
    elif operation.takes_file:
        idempotency.key_of(request, action)
        filled = sent_form.of_query_of_write(form, request, strict=context.settings.strict)
    else:
        with_query = action is not Action.LOGIN or context.settings.query_login
        limit, seconds = context.settings.body_limit, context.settings.request_timeout
        if operation.public:
            limit, seconds = min(limit, _MAX_PUBLIC_BYTES), min(seconds, _PUBLIC_SECONDS)
        elif not form.takes_long_lists():
            limit = min(limit, _MAX_BYTES)
        key = idempotency.key_of(request, action)
        body = await receive_body(request, limit, seconds)
        entity_tags.require(request, context.entity_tags, operation.versions, target)
        strict = context.settings.strict
        filled, ignored, raw, dry = await sent_form.read(
            form, request, body, with_query=with_query, strict=strict
        )
        if dry:
            special = dry_runs.begun(action)
        elif key is not None and caller is not None:
            special = await idempotency.keyed(context, request, caller, key, raw)
    permissions.check_form(caller, action, filled.changes())
    return OperationRequest(context, caller, target, filled, request, ignored, special)
