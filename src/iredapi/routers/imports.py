"""Import of many accounts."""

from __future__ import annotations

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.schemas.imports import ImportOptions
from iredapi.web.operation_route import OperationRequest, Router

router = Router(tags=["Import"])


@router.operation(
    "POST",
    "/import",
    Action.IMPORT,
    ImportOptions,
    takes={
        # The page takes the first one; an example of NDJSON it would send as one JSON text.
        "text/csv": "mail,name,password,quota\ncarol@example.com,Carol,Secret.pass1,1024\n",
        "application/x-ndjson": '{"type": "user", "mail": "carol@example.com", "name": "Carol", '
        '"password": "Secret.pass1", "quota": 1024}\n',
    },
    gives="application/x-ndjson",
    errors=["REQUEST_TIMEOUT"],
)
async def import_accounts(call: OperationRequest[ImportOptions]) -> Response:
    """Import domains, accounts, memberships and policies: one of them in each line of the file.

    The body is NDJSON (one JSON object in each line) or CSV with a header line, also compressed
    with `Content-Encoding: gzip`. The answer has one line for each, as soon as it is decided:
    `line`, what it is about, and `result`: `done`, `unchanged`, `skipped` or `failed` with `code`,
    `param` and `detail`. The last line has `_success` and the numbers; without it the import was
    cut, and the same file can be sent again. Each line needs the rights of the single call, and its
    limits hold. See docs/import.md.
    """
    # It is rarely used, and has many modules.
    from iredapi.web.import_answer import begun

    return await begun(call)
