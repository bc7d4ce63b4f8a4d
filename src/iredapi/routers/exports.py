"""Accounts as LDIF."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.domain import ldif
from iredapi.domain.features import Feature
from iredapi.domain.ldif import Export
from iredapi.operations import exports
from iredapi.schemas.params import NoParams
from iredapi.web import responses
from iredapi.web.operation_route import Handler, OperationRequest, Router

router = Router(tags=["Export"])
_TEXTS: Final = ("text/ldif", "text/plain")
_ABOUT: Final = """{}

`_data` is the text (RFC 2849). With `Accept: text/ldif` or `text/plain` the answer is the text
itself, as a file. Hashes of passwords are in it for global admins only, and only where the
settings do not hide them.
"""
_EXPORTS: Final = {
    Export.DOMAIN: ("domain", Action.LDIF_DOMAIN, "Export a domain, with its four containers."),
    Export.CATCHALL: ("domain", Action.LDIF_CATCHALL, "Export a domain's catch-all account."),
    Export.ADMIN: ("mail", Action.LDIF_ADMIN, "Export a standalone admin."),
    Export.USER: ("mail", Action.LDIF_USER, "Export a mail user."),
    Export.MAILLIST: ("mail", Action.LDIF_MAILLIST, "Export a mailing list of either kind."),
    Export.ALIAS: ("mail", Action.LDIF_ALIAS, "Export a mail alias account."),
}


def _declare(what: Export) -> None:
    name, action, summary = _EXPORTS[what]

    async def handler(call: OperationRequest[NoParams]) -> Response:
        target = call.target.domain or call.target.mail
        records = await call.read(exports.records, what, target)
        kind = responses.preferred(call.request.headers.get("accept", ""), _TEXTS)
        if kind:
            return responses.download(ldif.chunks(records), kind, f"{target}.ldif")
        return responses.success(ldif.text(records), varies=True)

    handler.__name__ = f"export_{what}"
    handler.__doc__ = _ABOUT.format(summary)
    missing = "NO_SUCH_DOMAIN" if what is Export.DOMAIN else "NO_SUCH_ACCOUNT"
    named: Handler[NoParams] = handler
    router.operation(
        "GET",
        f"/ldif/{what}/{{{name}}}",
        action,
        NoParams,
        answer=str,
        errors=[missing],
        feature=Feature.LDIF,
        also=_TEXTS,
    )(named)


for _what in Export:
    _declare(_what)
