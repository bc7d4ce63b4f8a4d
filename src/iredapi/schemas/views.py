"""How profiles are shown: as the storage has them, or in one shape for all storages."""

from __future__ import annotations

from iredapi.schemas import fields
from iredapi.schemas.params import Params, param


class Viewed(Params):
    """A profile, in one of its shapes."""

    view: fields.View = param(
        "`canonical`: one shape for all storages, under the names of parameters; `native`, the "
        "default: what the storage has. Plain names are the same in both.",
        "canonical",
        alias="view",
    )

    @property
    def is_canonical(self) -> bool:
        """Whether the storage-neutral shape is asked for."""
        return self.view == "canonical"
