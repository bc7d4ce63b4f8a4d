"""The tree of our errors.

ApiError                        a failure that is reported to the client
├── InvalidRequest         400  the request could not be read
├── InvalidParameters      400  one or more parameters are wrong; ``errors`` names each
├── LoginRequired          401  no session, or it has ended
├── InvalidCredentials     401  wrong name or password (403 for verify_password)
├── PermissionDenied       403  the admin has no right to do this
├── NotFound               404  NO_SUCH_ACCOUNT, NO_SUCH_DOMAIN, …
├── Conflict               409  ALREADY_EXISTS, limits, …
├── TooLarge               413  the body is too large
├── TooManyAttempts        429  the login throttle
├── NotSupported           501  NOT_SUPPORTED_BY_BACKEND
├── ServerDown             503  a server behind the API cannot be reached
├── ReadOnlyServer         503  a database server takes no writes now
├── StorageFull            503  the disk of a server behind the API is full
└── Overloaded             503  too many requests wait for a limited resource
WriteWhileReading               a bug: a read-only unit or connection was asked to write

ApiError itself is raised with codes that need no class, such as SERVER_ERROR. ``CODES`` lists all
values of ``_msg``: code, HTTP status, and the text that ``docs/errors.md`` prints
(``web.errors_page``). An error with a code that is not listed cannot be created.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Code:
    """A value of ``_msg``: its HTTP status and its meaning for clients."""

    status: int
    meaning: str


CODES: Final[Mapping[str, Code]] = MappingProxyType(
    {
        # The request itself.
        "INVALID_REQUEST": Code(400, "The body or the query could not be read."),
        "INVALID_PARAMETERS": Code(400, "One or more parameters are wrong; see _errors."),
        "NO_SUCH_OPERATION": Code(404, "There is no such path in this API."),
        "METHOD_NOT_ALLOWED": Code(405, "The path exists, but not with this HTTP method."),
        "REQUEST_TIMEOUT": Code(408, "The request did not arrive in time."),
        "REQUEST_TOO_LARGE": Code(413, "The body is larger than the limit."),
        "HEADERS_TOO_LARGE": Code(431, "The head of the request is larger than 16 KiB."),
        # One parameter (in _errors, and in _msg when it is the only error).
        "REQUIRED": Code(400, "The parameter is required here and was not sent."),
        "CONFLICTING_PARAMETERS": Code(400, "Parameters that exclude each other were sent."),
        "IGNORED_PARAMETER": Code(
            400, "The operation does nothing with the parameter, and strict=yes was sent."
        ),
        "VALUE_ADJUSTED": Code(
            400, "The value cannot be stored as it was sent, and strict=yes was sent."
        ),
        "MISSING_COMPANION": Code(400, "The parameter must be sent together with another one."),
        "EMPTY_NOT_ALLOWED": Code(400, "The parameter must not be empty."),
        "INVALID_VALUE": Code(400, "The value is not one of the allowed ones."),
        "INVALID_NUMBER": Code(400, "The value is not a number of the allowed kind and range."),
        "INVALID_TEXT": Code(400, "The text is too long or has characters that are not allowed."),
        "INVALID_MAIL": Code(400, "Not a valid e-mail address."),
        "OWN_ADDRESS": Code(
            400,
            "A list cannot be its own subscriber, owner or moderator, by none of its addresses.",
        ),
        "INVALID_DOMAIN_NAME": Code(400, "Not a valid (or not a hosted) mail domain name."),
        "INVALID_URL": Code(400, "Not a URL that may be called."),
        "INVALID_NETWORK": Code(400, "Not an IP address or network."),
        "INVALID_SENDER": Code(
            400, "Not an e-mail address, @domain, @.domain, IP address or network."
        ),
        "INVALID_LANGUAGE": Code(400, "Not a known language code."),
        "INVALID_TRANSPORT": Code(400, "Not a valid Postfix transport."),
        "INVALID_RELAY": Code(400, "Not a valid relay host."),
        "INVALID_MAILDIR": Code(400, "The mailbox path is not acceptable."),
        "INVALID_USERNAME": Code(400, "The login name is not an e-mail address."),
        "EMPTY_PASSWORD": Code(400, "No password was given."),
        "INVALID_PASSWORD_SCHEME": Code(400, "The hash cannot be verified by this service."),
        "PASSWORD_HASH_TOO_COSTLY": Code(
            400, "Verifying the hash would take too long: see docs/security.md for the bounds."
        ),
        "PASSWORD_IS_A_HASH": Code(
            400, "The plain password looks like a hash; use the parameter password_hash."
        ),
        "PW_EMPTY": Code(400, "The password is empty."),
        "PW_NON_ASCII": Code(400, "The password has characters other than printable ASCII."),
        "PW_SHORTER_THAN_MIN_LENGTH": Code(400, "The password is too short."),
        "PW_GREATER_THAN_MAX_LENGTH": Code(400, "The password is too long."),
        "PW_NO_LETTER": Code(400, "The password has no letter."),
        "PW_NO_UPPERCASE": Code(400, "The password has no upper-case letter."),
        "PW_NO_DIGIT_NUMBER": Code(400, "The password has no digit."),
        "PW_NO_SPECIAL_CHAR": Code(400, "The password has no special character."),
        "PW_REFUSED_BY_DIRECTORY": Code(
            400, "The directory's password policy does not take the password."
        ),
        "INVALID_CURSOR": Code(
            400, "The cursor is not the `_next` of an answer to the same admin, list and query."
        ),
        "INVALID_IDEMPOTENCY_KEY": Code(
            400, "The header Idempotency-Key is not one value of 1 to 255 visible ASCII characters."
        ),
        "IDEMPOTENCY_KEY_NOT_SUPPORTED": Code(
            400,
            "Logins, verifications of passwords, tokens, sessions, webhooks and imports take no "
            "Idempotency-Key.",
        ),
        "CROSS_DOMAIN_NOT_ALLOWED": Code(400, "An address cannot move to another domain."),
        "CAN_NOT_BE_LOCAL_DOMAIN": Code(
            400, "A standalone admin's address must not be in a hosted domain."
        ),
        # The caller.
        "LOGIN_REQUIRED": Code(401, "No session, or it has ended: log in."),
        "INVALID_TOKEN": Code(401, "The API token is unknown, expired or revoked."),
        "INVALID_CREDENTIALS": Code(401, "Wrong name or password."),
        "PERMISSION_DENIED": Code(403, "The admin may not do this."),
        "PERMISSION_DENIED_UPDATE_GLOBAL_ADMIN_PROFILE": Code(
            403, "Only a global admin may change a global admin."
        ),
        "NOT_ALLOWED_IP": Code(
            403, "This admin, or this token, may not be used from this client address."
        ),
        "NOT_AUTHORIZED": Code(403, "The API is not open to this client address."),
        "LIMITED_TOKEN": Code(
            403,
            "A token that is limited in time, networks, domains or to reading may not grant rights "
            "that last longer than the token.",
        ),
        "FOREIGN_ORIGIN": Code(
            403, "A page of another site sent this; see `IREDAPI_ALLOWED_ORIGINS`."
        ),
        "TOO_MANY_ATTEMPTS": Code(429, "Too many failed logins; see Retry-After."),
        # Accounts and other objects.
        "NO_SUCH_ACCOUNT": Code(404, "There is no such account."),
        "NO_SUCH_TOKEN": Code(404, "There is no such API token of this admin."),
        "NO_SUCH_SESSION": Code(404, "There is no such session of this admin."),
        "NO_SUCH_WEBHOOK": Code(404, "There is no such webhook that this admin may see."),
        "NO_SUCH_MAILBOX": Code(404, "There is no such deleted mailbox."),
        "NO_SUCH_DOMAIN": Code(404, "There is no such mail domain."),
        "ALREADY_EXISTS": Code(409, "The name is in use."),
        "AMBIGUOUS_NAME": Code(
            409, "Several are stored whose names differ only in upper or lower case, or in blanks."
        ),
        "PRECONDITION_FAILED": Code(
            412,
            "The account is no longer as it was when the ETag in If-Match was read (or has no "
            "ETag); nothing was changed.",
        ),
        "IDEMPOTENCY_KEY_IN_USE": Code(
            409, "The first request with this Idempotency-Key is still carried out: try again."
        ),
        "IDEMPOTENCY_KEY_REUSED": Code(
            422, "Another request of the same caller was sent with this Idempotency-Key."
        ),
        "OUTCOME_UNKNOWN": Code(
            409,
            "A server was lost while the first request with this Idempotency-Key was committed, "
            "and whether it was made cannot be told. Look, then send a request with a new key.",
        ),
        "ANSWER_NOT_KEPT": Code(
            409,
            "The first request with this Idempotency-Key was carried out. Its answer was too large "
            "to be kept.",
        ),
        "OWNERSHIP_NOT_VERIFIED": Code(
            409,
            "Neither the DNS nor the web server of the domain has the code that proves its "
            "ownership; see Retry-After.",
        ),
        "OWNERSHIP_NOT_PENDING": Code(
            409, "The domain is disabled, but does not wait for a proof of its ownership."
        ),
        "MAILBOX_IN_USE": Code(409, "An account has its mailbox in this directory."),
        "CHANGED_MEANWHILE": Code(409, "The account was changed at the same time: try again."),
        "NOT_ALLOWED": Code(403, "The domain may have no accounts of this kind."),
        "EXCEEDED_DOMAIN_ACCOUNT_LIMIT": Code(
            409, "The domain has its maximum number of accounts."
        ),
        "EXCEEDED_DOMAIN_QUOTA_SIZE": Code(409, "The domain does not have that much quota left."),
        "EXCEED_LIMIT_DOMAIN": Code(409, "The admin has created the maximum number of domains."),
        "EXCEED_LIMIT_QUOTA": Code(409, "The admin's total quota would be exceeded."),
        "EXCEED_LIMIT_USERS": Code(409, "The admin's total number of users would be exceeded."),
        "EXCEED_LIMIT_ALIASES": Code(409, "The admin's total number of aliases would be exceeded."),
        "EXCEED_LIMIT_LISTS": Code(409, "The admin's total number of lists would be exceeded."),
        "TOO_MANY_WEBHOOKS": Code(409, "The admin has the maximum number of webhooks."),
        "TOO_MANY_TOKENS": Code(409, "The admin has the maximum number of API tokens."),
        "LAST_GLOBAL_ADMIN": Code(409, "The last active global admin cannot be removed."),
        "CANNOT_REMOVE_YOURSELF": Code(409, "An admin cannot remove its own account."),
        # The service and the servers behind it.
        "SERVER_ERROR": Code(500, "An unexpected error; the log has it under the request id."),
        "NOT_SUPPORTED_BY_BACKEND": Code(
            501, "The account storage of this server does not support this."
        ),
        "EVENTS_EXPIRED": Code(
            410, "Events after this one are gone, or it is not known: read everything once, anew."
        ),
        "WEBHOOKS_OFF": Code(501, "This server has no webhooks: see IREDAPI_WEBHOOKS."),
        "EVENTS_NOT_KEPT": Code(501, "This server keeps no events: see IREDAPI_EVENTS."),
        "SERVER_DOWN": Code(503, "A server behind the API cannot be reached."),
        "DNS_UNAVAILABLE": Code(503, "The DNS could not be asked; see Retry-After."),
        "STORAGE_FULL": Code(
            503, "The disk of a server behind the API is full; nothing was changed."
        ),
        "DATABASE_READ_ONLY": Code(
            503,
            "The database server takes no writes now; nothing was changed. See Retry-After.",
        ),
        "DIRECTORY_READ_ONLY": Code(
            503, "No LDAP server that can be reached accepts writes; reading works."
        ),
        "MLMMJADMIN_UNREACHABLE": Code(503, "mlmmjadmin, the list server, cannot be reached."),
        "MLMMJADMIN_TIMEOUT": Code(503, "mlmmjadmin, the list server, did not answer in time."),
        "MLMMJADMIN_BAD_RESPONSE": Code(503, "mlmmjadmin answered something unexpected."),
        "MLMMJADMIN_AUTH_FAILED": Code(503, "mlmmjadmin refused our token or address."),
        "MLMMJADMIN_ERROR": Code(503, "mlmmjadmin failed; the log says how."),
        "LIST_SPOOL_ERROR": Code(503, "The directory of the mailing lists cannot be used."),
        "LIST_FILES_LOCKED": Code(
            503, "Another program keeps a list's subscriber file locked; nothing was changed."
        ),
        "MAILING_LIST_DATA_MISSING": Code(
            503, "The list is in the account storage, but the list server has no data of it."
        ),
        "LIST_CREATED_SUBSCRIBERS_FAILED": Code(
            503, "The list was created, but not all subscribers could be asked to confirm."
        ),
        "NOT_READY": Code(
            503, "`/readyz`: a server cannot be reached, or this one is shutting down."
        ),
        "OVERLOADED": Code(503, "Too many requests are waiting; see Retry-After."),
    }
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong parameter: an item of ``_errors``."""

    param: str
    code: str
    detail: str = ""


class ApiError(Exception):
    """A failure that is reported to the client.

    ``code`` becomes ``_msg``, ``detail`` ``_detail``, and ``errors`` ``_errors``. They must not
    have secrets, or texts of a database driver.
    """

    code = "SERVER_ERROR"
    seconds = 0
    """Retry-After, when nothing else is given; 0: no such header."""

    def __init__(
        self,
        code: str = "",
        detail: str = "",
        *,
        errors: Sequence[Problem] = (),
        status: int = 0,
        retry_after: int = 0,
    ) -> None:
        self.code = code or type(self).code
        first = CODES[self.code.split(",", 1)[0]]
        self.detail = detail or ("" if errors else first.meaning)
        self.errors = tuple(errors)
        self.status = status or first.status
        self.retry_after = retry_after or type(self).seconds
        """Seconds after which a client may try again (Retry-After); 0: no such header."""
        super().__init__(f"{self.code}: {self.detail}")


class InvalidRequest(ApiError):
    """The request could not be read."""

    code = "INVALID_REQUEST"


class InvalidParameters(ApiError):
    """Parameters are wrong. With one problem ``_msg`` is its code, otherwise a general one."""

    code = "INVALID_PARAMETERS"

    def __init__(self, *errors: Problem) -> None:
        single = errors[0].code if len({error.code for error in errors}) == 1 else self.code
        super().__init__(single, errors=errors, status=400)


class LoginRequired(ApiError):
    """There is no session."""

    code = "LOGIN_REQUIRED"


class InvalidCredentials(ApiError):
    """Wrong name or password. The answer does not depend on which of them it is."""

    code = "INVALID_CREDENTIALS"


class PermissionDenied(ApiError):
    """The admin has no right to do this; the same for accounts that do not exist."""

    code = "PERMISSION_DENIED"


class NotFound(ApiError):
    """No such account, domain or path."""

    code = "NO_SUCH_ACCOUNT"


class Conflict(ApiError):
    """Existing objects or limits do not allow it."""

    code = "ALREADY_EXISTS"


class TooLarge(ApiError):
    """The body is over the limit."""

    code = "REQUEST_TOO_LARGE"


class TooManyAttempts(ApiError):
    """The login throttle refuses."""

    code = "TOO_MANY_ATTEMPTS"


class NotSupported(ApiError):
    """The backend, or a database that is not configured, cannot do this."""

    code = "NOT_SUPPORTED_BY_BACKEND"


class ServerDown(ApiError):
    """A server behind the API cannot be reached; nothing was changed."""

    code = "SERVER_DOWN"
    seconds = 1


class OutcomeUnknown(ServerDown):
    """A server was lost during a commit: whether the change was made is not known.

    There is no Retry-After: the caller looks first.
    """

    seconds = 0

    def __init__(self, detail: str) -> None:
        super().__init__(detail=detail)


class ReadOnlyServer(ApiError):
    """A database server takes no writes: a standby, or one that was set read-only."""

    code = "DATABASE_READ_ONLY"
    seconds = 2


class StorageFull(ApiError):
    """The disk of a server behind the API is full; nothing was changed."""

    code = "STORAGE_FULL"


class Overloaded(ApiError):
    """Too many requests wait for a limited resource."""

    code = "OVERLOADED"

    def __init__(self, detail: str = "", retry_after: int = 1) -> None:
        super().__init__(detail=detail, retry_after=retry_after)


def problem(param: str, code: str, detail: str = "") -> InvalidParameters:
    """Return the error of one wrong parameter."""
    return InvalidParameters(Problem(param, code, detail or CODES[code].meaning))


class WriteWhileReading(RuntimeError):
    """A bug: a unit or connection that was opened for reading was asked to write."""
