"""The OpenAPI document as generators of clients need it: structure, security, and its variants."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from iredapi.app import create_app
from iredapi.auth.permissions import PUBLIC
from iredapi.config.settings import Settings
from iredapi.web.openapi_document import View, variant
from tests.clients import Client, Service, serving

Document = dict[str, Any]
VARIANTS = [(view, on_ldap) for view in View for on_ldap in (None, False, True)]


@cache
def document(view: View = View.ALL, on_ldap: bool | None = None) -> Document:
    made: Document = create_app(Settings(_env_file=None)).openapi()
    return variant(made, view=view, on_ldap=on_ldap)


def operations(made: Document) -> Iterator[tuple[str, str, Document]]:
    for path, verbs in made["paths"].items():
        for method, operation in verbs.items():
            yield method, path, operation


def shapes(made: Document) -> dict[str, list[str]]:
    """The alternatives of each answer's ``_data``, or of its items."""
    found = {}
    for name, schema in made["components"]["schemas"].items():
        if name.endswith("Answer"):
            data = schema["properties"]["_data"]
            place = data.get("items", data)
            found[name] = [
                one.get("$ref", one.get("type", "")).rpartition("/")[2]
                for one in place.get("anyOf", [place])
            ]
    return found


@pytest.mark.parametrize("view, on_ldap", VARIANTS)
def test_every_variant_is_valid(view: View, on_ldap: bool | None) -> None:
    made = document(view, on_ldap)
    assert list(OpenAPIV31SpecValidator(made).iter_errors()) == []
    used = set(re.findall(r"#/components/schemas/(\w+)", str(made["paths"])))
    for schema in made["components"]["schemas"].values():
        used |= set(re.findall(r"#/components/schemas/(\w+)", str(schema)))
    assert made["components"]["schemas"].keys() == used
    for method, path, operation in operations(made):
        # What linters of such documents ask for.
        assert re.fullmatch(r"[A-Za-z0-9_]+", operation["operationId"])
        assert operation["summary"], path
        assert operation["description"] or operation["tags"] == ["Login"], path
        assert any(status.startswith("4") for status in operation["responses"]), path
        names = [(item["in"], item["name"]) for item in operation.get("parameters", [])]
        assert len(names) == len(set(names)), path
        assert method != "get" or "requestBody" not in operation, path
    assert len({re.sub(r"{\w+}", "{}", path) for path in made["paths"]}) == len(made["paths"])
    assert made["info"]["license"] == {"name": "Apache 2.0", "identifier": "Apache-2.0"}
    assert all(tag["description"].endswith(".") for tag in made["tags"])
    assert made["servers"] == [{"url": "/", "description": "The host of this document."}]


def test_which_operations_need_a_session_or_token() -> None:
    made = document()
    assert made["security"] == [{"bearer": []}, {"cookie": []}]
    schemes = made["components"]["securitySchemes"]
    assert schemes["bearer"].items() >= {"type": "http", "scheme": "bearer"}.items()
    assert schemes["cookie"].items() >= {"in": "cookie", "name": "iredapi_session"}.items()
    free = {op["operationId"] for _, _, op in operations(made) if op.get("security") == []}
    assert free == {action.value for action in PUBLIC}
    assert all(
        "security" not in op for _, _, op in operations(made) if op["operationId"] not in free
    )
    named = create_app(Settings(_env_file=None, session_cookie="other")).openapi()
    assert named["components"]["securitySchemes"]["cookie"]["name"] == "other"


@pytest.mark.parametrize("on_ldap", [False, True])
def test_one_view_has_one_shape(on_ldap: bool) -> None:
    """So a generated client has one class for each kind of account, and no unions."""
    everything = shapes(document())
    assert len(everything["UserProfileListAnswer"]) > 3
    for view in (View.CANONICAL, View.NATIVE):
        made = document(view, on_ldap)
        found = shapes(made)
        assert found.keys() == everything.keys()
        assert {name: of for name, of in found.items() if len(of) != 1} == {}
        user = "CanonicalUser" if view is View.CANONICAL else "UserProfile"
        if view is View.NATIVE and on_ldap:
            user = "DirectoryProfile"
        assert found["UserProfileAnswer"] == found["UserProfileListAnswer"] == [user]
        for _, path, operation in operations(made):
            kind = "application/x-ndjson" if path == "/api/import" else "application/json"
            assert list(operation["responses"]["200"]["content"]) == [kind], path
            for item in operation.get("parameters", []):
                assert item["name"] not in {"name_only", "email_only", "fields"}, path
                if item["name"] == "view":
                    assert item["schema"]["enum"] == [view.value]
                    assert item["schema"]["default"] == view.value
                    assert item["required"] == (view is View.CANONICAL)
    assert "DirectoryProfile" not in shapes(document(View.ALL, False))["UserProfileAnswer"]
    assert "UserProfile" not in shapes(document(View.ALL, True))["UserProfileAnswer"]


def test_other_formats_are_in_the_whole_document() -> None:
    found = {
        op["operationId"]: sorted(op["responses"]["200"]["content"].keys() - {"application/json"})
        for _, _, op in operations(document())
    }
    tables = {name for name, kinds in found.items() if kinds == ["text/csv"]}
    assert tables == {"usage_list", "usage_read", "log_read"}
    texts = {name for name, kinds in found.items() if kinds == ["text/ldif", "text/plain"]}
    assert len(texts) == 6
    lines = {name for name, kinds in found.items() if kinds == ["application/x-ndjson"]}
    assert lines == {"accounts_import", "export_list", "export_read"}
    assert found["events_read"] == ["text/event-stream"]
    assert sum(map(bool, found.values())) == 13


# As a server sends it -----------------------------------------------------------------------------


@pytest.mark.stores("sqlite", "openldap")
async def test_a_server_describes_its_own_storage(service: Service) -> None:
    http = service.client(mount="").http
    on_ldap = service.store.name == "openldap"
    tags = set()
    for view in View:
        response = await http.get("/openapi.json", params={"view": view.value} if view else {})
        assert response.json() == document(view, on_ldap)
        again = await http.get(
            "/api/openapi.json",
            params={"view": view.value},
            headers={"If-None-Match": response.headers["etag"]},
        )
        assert again.status_code == 304
        tags.add(response.headers["etag"])
    assert len(tags) == len(View)
    refused = await http.get("/openapi.json", params={"view": "other"})
    assert (refused.status_code, refused.json()["_msg"]) == (400, "INVALID_VALUE")
    assert refused.json()["_errors"][0]["param"] == "view"


@pytest.mark.stores("sqlite")
async def test_below_the_prefixes(service: Service) -> None:
    """A proxy may pass on the prefixes only: the pages and the document are below them, too."""
    http = service.client(mount="").http
    for prefix in ("/api", "/iredadmin/api"):
        page = await http.get(f"{prefix}/docs")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        for name in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert (await http.get(f"{prefix}/{name}")).status_code == 200, name
        assert "url: 'openapi.json'" in page.text
        assert (await http.get(f"{prefix}/openapi.json")).json()["openapi"].startswith("3.1")
        for begin in (prefix, f"{prefix}/"):
            moved = await http.get(begin)
            assert moved.status_code == 307
            assert moved.next_request is not None
            assert moved.next_request.url.path == f"{prefix}/docs"


@pytest.mark.stores("sqlite")
async def test_a_server_without_the_usual_prefix(service: Service) -> None:
    async with serving(service.store, prefixes=["/mail/v1"]) as other:
        http = other.client(mount="").http
        made = (await http.get("/mail/v1/openapi.json")).json()
        assert {path.startswith("/mail/v1/") for path in made["paths"]} == {True}
        assert (await http.get("/api/docs")).status_code == 404
        client = Client(http)
        await client.refused("GET", "/mail/v1/domains")
