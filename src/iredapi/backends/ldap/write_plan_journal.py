"""Journal records: the steps of a write plan as JSON, for undoing them later."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from iredapi.backends.ldap.client import Change, Op
from iredapi.backends.ldap.write_plan import (
    Add,
    Attributes,
    BulkStep,
    Delete,
    Modify,
    Rename,
    Step,
    encoded,
)


def dump(steps: Sequence[Step]) -> str:
    """Return the text of a record: what ``undo`` needs. Bulk steps are not in it."""
    return json.dumps([_dumped(step) for step in steps if not isinstance(step, BulkStep)])


def load(text: str) -> list[Step]:
    """Return the steps of a record."""
    return [_loaded(item) for item in json.loads(text)]


def _packed(attributes: Attributes) -> dict[str, list[str]]:
    return {
        name: [base64.b64encode(value).decode() for value in values]
        for name, values in attributes.items()
    }


def _unpacked(attributes: Mapping[str, list[str]]) -> dict[str, tuple[bytes, ...]]:
    return {
        name: tuple(base64.b64decode(value) for value in values)
        for name, values in attributes.items()
    }


def _dumped(step: Step) -> dict[str, Any]:
    match step:
        case Add(dn, attributes):
            return {"add": dn, "attributes": _packed(attributes)}
        case Delete(dn, attributes):
            return {"delete": dn, "attributes": _packed(attributes)}
        case Rename(dn, new_dn):
            return {"rename": dn, "to": new_dn}
        case Modify(dn, changes):
            packed = [
                [item.op.name, item.name, _packed(encoded({"": item.values})).get("", [])]
                for item in changes
            ]
            return {"modify": dn, "changes": packed}
    raise TypeError(step)


def _loaded(item: Mapping[str, Any]) -> Step:
    if "add" in item:
        return Add(item["add"], _unpacked(item["attributes"]))
    if "delete" in item:
        return Delete(item["delete"], _unpacked(item["attributes"]))
    if "rename" in item:
        return Rename(item["rename"], item["to"])
    changes = tuple(
        Change(Op[op], name, tuple(base64.b64decode(value) for value in values))
        for op, name, values in item["changes"]
    )
    return Modify(item["modify"], changes)
