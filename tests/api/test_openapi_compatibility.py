"""Programs written for an earlier version work on: nothing of its OpenAPI document is narrower now.

``data/openapi_4809920.json.xz`` is what ``iredapi openapi`` printed at commit 4809920.
"""

from __future__ import annotations

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from iredapi.app import create_app
from iredapi.config.settings import Settings

TOP = Path(__file__).parents[2]
EARLIER = Path(__file__).parent / "data" / "openapi_4809920.json.xz"
LIMITS = {"maximum": 1, "maxLength": 1, "maxItems": 1, "minimum": -1, "minLength": -1}
"""Limits of a value; the sign says in which direction one may move."""

NARROWED = {
    "maximum of max_message_size": "`max_message_size` of a list is shown as mlmmj reads it"
}
"""What may be narrower, and the sentence of CHANGELOG.md that says so."""

Document = dict[str, Any]


@cache
def earlier() -> Document:
    found: Document = json.loads(lzma.decompress(EARLIER.read_bytes()))
    return found


@cache
def today() -> Document:
    found: Document = create_app(Settings(_env_file=None)).openapi()
    return found


def resolved(document: Document, schema: Document) -> Document:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def parameters(document: Document, operation: Document) -> dict[str, tuple[Document, bool]]:
    """Return each parameter's schema, and whether it is required; named by where it is sent."""
    found = {
        f"{item['in']} {item['name']}": (item["schema"], bool(item.get("required")))
        for item in operation.get("parameters", [])
    }
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = resolved(document, content["schema"])
        for name, value in schema.get("properties", {}).items():
            found[f"{kind} {name}"] = (value, name in schema.get("required", []))
    return found


def types(document: Document, schema: Document) -> frozenset[str]:
    """Return the JSON types that a value may have; empty: any."""
    schema = resolved(document, schema)
    found = {schema["type"]} if "type" in schema else set()
    for kind in ("anyOf", "oneOf", "allOf"):
        found.update(*(types(document, one) for one in schema.get(kind, [])))
    return frozenset(found)


def keys(document: Document, schema: Document, path: str = "") -> dict[str, frozenset[str]]:
    """Return the types of each key of an answer, by its path."""
    schema = resolved(document, schema)
    found: dict[str, frozenset[str]] = {}
    for kind in ("anyOf", "oneOf", "allOf"):
        for alternative in schema.get(kind, []):
            found |= keys(document, alternative, path)
    for name, value in schema.get("properties", {}).items():
        found[f"{path}.{name}"] = types(document, value)
        found |= keys(document, value, f"{path}.{name}")
    for kind in ("items", "additionalProperties"):
        if isinstance(schema.get(kind), dict):
            found |= keys(document, schema[kind], f"{path}[]")
    return found


def narrower(old: Document, new: Document) -> list[str]:
    """Return in what a parameter accepts less than before."""
    found = [
        kind
        for kind in ("type", "pattern", "format")
        if kind in new and new[kind] != old.get(kind, new[kind] if kind == "type" else None)
    ]
    if "enum" in new and not set(old.get("enum", [None])) <= set(new["enum"]):
        found.append("enum")
    for limit, sign in LIMITS.items():
        if limit in new and (limit not in old or sign * new[limit] < sign * old[limit]):
            found.append(limit)
    return found


OPERATIONS = [(path, verb) for path, verbs in earlier()["paths"].items() for verb in verbs]


@pytest.mark.parametrize("path, verb", OPERATIONS, ids=[f"{v} {p}" for p, v in OPERATIONS])
def test_nothing_is_removed_or_narrowed(path: str, verb: str) -> None:
    old: Document = earlier()["paths"][path][verb]
    new: Document = today()["paths"].get(path, {}).get(verb)
    assert new, "the operation is gone"
    assert new["operationId"] == old["operationId"]

    before, now = parameters(earlier(), old), parameters(today(), new)
    assert sorted(before.keys() - now.keys()) == [], "parameters are gone"
    assert [name for name, (_, required) in now.items() if required] == [
        name for name in now if name in before and before[name][1] and now[name][1]
    ], "a parameter is required now"
    found = {
        f"{kind} of {name.rpartition(' ')[2]}"
        for name, (schema, _) in before.items()
        for kind in narrower(schema, now[name][0])
    }
    assert sorted(found - NARROWED.keys()) == [], "parameters accept less"

    for status, response in old["responses"].items():
        assert status in new["responses"]
        schemas = [
            keys(document, one["responses"][status]["content"]["application/json"]["schema"])
            for document, one in ((earlier(), old), (today(), new))
        ]
        assert response["content"].keys() <= new["responses"][status]["content"].keys()
        was, is_ = schemas
        assert sorted(was.keys() - is_.keys()) == [], "keys of the answer are gone"
        other = [name for name, found in was.items() if found and not is_[name] <= found]
        assert other == [], "keys of the answer have another type"


def test_what_is_narrower_is_in_the_changelog() -> None:
    changelog = " ".join((TOP / "CHANGELOG.md").read_text(encoding="utf-8").split())
    for text in NARROWED.values():
        assert text in changelog
