"""Fixtures of the tests of the directory server itself."""

from __future__ import annotations

import pytest

from tests.servers.openldap import OpenldapServer


@pytest.fixture
def directory(openldap_server: OpenldapServer) -> OpenldapServer:
    """This test worker's OpenLDAP, with nothing below both bases."""
    openldap_server.reset()
    return openldap_server
