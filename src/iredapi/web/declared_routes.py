"""Routes as they were declared, from which the OpenAPI document is made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iredapi.auth.permissions import Action
from iredapi.schemas.params import Params
from iredapi.web.route_table import Endpoint

if TYPE_CHECKING:
    from iredapi.web.openapi import Details


@dataclass(frozen=True, slots=True)
class DeclaredRoute:
    """A method and a path of the API, and what its documentation is made of."""

    method: str
    path: str
    """Below ``/api``, with names in braces."""
    endpoint: Endpoint
    action: Action
    form: type[Params]
    handler: Callable[..., Any]
    """What was declared: its name and its docstring are documented."""
    details: Details
