"""The schema files for OpenLDAP say what the definitions say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from iredapi.backends.ldap.schema_definitions import SCHEMAS, openldap
from iredapi.cli.commands import app

DEPLOYED = Path(__file__).parents[2] / "deploy" / "openldap"


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_files_are_what_the_command_prints(name: str) -> None:
    printed = CliRunner().invoke(app, ["ldap-schema", name])
    assert printed.exit_code == 0
    assert printed.output == (DEPLOYED / f"{name}.schema").read_text(encoding="utf-8")


def test_another_schema_is_refused() -> None:
    assert CliRunner().invoke(app, ["ldap-schema", "core"]).exit_code == 2


def test_names_and_oids_are_unique() -> None:
    attributes = [item for schema in SCHEMAS.values() for item in schema.attributes]
    classes = [item for schema in SCHEMAS.values() for item in schema.classes]
    names = [item.name.lower() for item in attributes] + [item.name.lower() for item in classes]
    oids = [item.oid for item in attributes] + [item.oid for item in classes]
    assert len(names) == len(set(names)) == len(oids) == len(set(oids)) == 112


def test_classes_name_attributes_that_exist() -> None:
    ours = {item.name.lower() for schema in SCHEMAS.values() for item in schema.attributes}
    standard = set(
        "cn description facsimiletelephonenumber gidnumber givenname homedirectory mail member"
        " memberuid preferredlanguage shadowlastchange sn street telephonenumber title uid"
        " uniquemember userpassword".split()
    )
    for schema in SCHEMAS.values():
        for item in schema.classes:
            assert {name.lower() for name in (*item.must, *item.may)} <= ours | standard, item.name


def test_text_holds_every_definition_once() -> None:
    text = "".join(openldap(name) for name in SCHEMAS)
    assert len(re.findall(r"^attributetype \( ", text, re.MULTILINE)) == 105
    assert len(re.findall(r"^objectclass \( ", text, re.MULTILINE)) == 7
    assert text.count("(") == text.count(")")
