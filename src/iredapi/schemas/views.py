"""The parameter ``view``: profiles as the storage has them, or in one form for all storages."""

from __future__ import annotations

from iredapi.schemas import fields
from iredapi.schemas.params import Params, param


class Viewed(Params):
    """A form with the parameter ``view``."""

    view: fields.View = param(
        "`canonical`: the same fields on all storages, named like the parameters. `native`, the "
        "default: the fields of the storage. Lists of names are the same in both.",
        "canonical",
        alias="view",
    )

    @property
    def is_canonical(self) -> bool:
        """Whether the canonical form is requested."""
        return self.view == "canonical"
