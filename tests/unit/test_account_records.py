"""The format of records: its keys are those of the canonical view and of the write parameters."""

from __future__ import annotations

from pydantic import BaseModel

from iredapi.domain.account_records import (
    FORMATS,
    WRITTEN_AS,
    RecordType,
    names_of,
    ordered,
    parameters,
)
from iredapi.schemas.admins import AdminEdit
from iredapi.schemas.aliases import AliasDraft
from iredapi.schemas.canonical import (
    CanonicalAdmin,
    CanonicalAlias,
    CanonicalDomain,
    CanonicalList,
    CanonicalMailList,
    CanonicalUser,
)
from iredapi.schemas.domains import DomainDraft
from iredapi.schemas.lists import ListDraft
from iredapi.schemas.maillists import MailListDraft
from iredapi.schemas.params import Params
from iredapi.schemas.spam import SpamPolicyEdit
from iredapi.schemas.throttles import ThrottleEdit
from iredapi.schemas.users import UserDraft

VIEWS: dict[RecordType, type[BaseModel]] = {
    RecordType.DOMAIN: CanonicalDomain,
    RecordType.ADMIN: CanonicalAdmin,
    RecordType.USER: CanonicalUser,
    RecordType.ALIAS: CanonicalAlias,
    RecordType.ML: CanonicalList,
    RecordType.MAILLIST: CanonicalMailList,
}
FORMS: dict[RecordType, type[Params]] = {
    RecordType.DOMAIN: DomainDraft,
    RecordType.ADMIN: AdminEdit,
    RecordType.USER: UserDraft,
    RecordType.ALIAS: AliasDraft,
    RecordType.ML: ListDraft,
    RecordType.MAILLIST: MailListDraft,
    RecordType.THROTTLE: ThrottleEdit,
    RecordType.SPAMPOLICY: SpamPolicyEdit,
}
BESIDE = {"accessPolicy", "open_extra_addresses"}
"""Parameters that no view shows: aliases of SQL have the first, lists take the second."""


def test_keys_are_those_of_the_canonical_view() -> None:
    for record_type, view in VIEWS.items():
        form = FORMATS[record_type]
        shown = {field.alias or name for name, field in view.model_fields.items()}
        named = {*form.names, *form.keys, *form.derived}
        assert shown <= named, record_type
        assert named - shown <= BESIDE, record_type


def test_every_key_is_written_by_a_parameter() -> None:
    written = {key: param for param, key in WRITTEN_AS.items()}
    for record_type, form in FORMS.items():
        known = set(form.wire_names().values())
        keys = {written.get(key, key) for key in FORMATS[record_type].keys}
        assert keys - {"managedDomains"} <= known, record_type


def test_parameters_are_what_a_client_would_send() -> None:
    sent = parameters(
        RecordType.USER,
        {
            "quota": 1024,
            "suspended": "no",
            "isGlobalAdmin": False,
            "mobile": ["1", "2"],
            "forwarding": ["a@example.com"],
            "language": None,
        },
    )
    assert sent == {
        "quota": "1024",
        "suspend": "no",
        "isGlobalAdmin": "no",
        "mobile": "1,2",
        "forwarding": ["a@example.com"],
    }


def test_a_domain_has_a_transport_or_a_primary_mx() -> None:
    def of(**values: object) -> dict[str, object]:
        return dict(parameters(RecordType.DOMAIN, values))

    assert of(transport="dovecot", is_backupmx="no", primarymx="") == {"transport": "dovecot"}
    relayed = of(transport="relay:mx.example.net", is_backupmx="yes", primarymx="mx.example.net")
    assert relayed == {"is_backupmx": "yes", "primarymx": "mx.example.net"}
    assert of(is_backupmx="no", primarymx="") == {"is_backupmx": "no"}


def test_disabled_profiles_are_a_whole_set() -> None:
    sent = parameters(RecordType.DOMAIN, {"disabledUserPreference": ["wblist"]})
    assert sent["disableUserPreference"] == ["wblist"]
    assert "wblist" not in sent["enableUserPreference"]
    assert "personal_info" in sent["enableUserPreference"]


def test_a_record_has_its_keys_in_order() -> None:
    values = {"quota": 1, "usage": {}, "mail": "A@example.com ", "password_hash": "x", "name": None}
    found = ordered(RecordType.USER, values)
    assert list(found) == ["type", "mail", "password_hash", "quota"]
    assert names_of(RecordType.USER, found) == ("a@example.com",)
