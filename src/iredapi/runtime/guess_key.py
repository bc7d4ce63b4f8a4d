"""The key of the digests of tried passwords that the login throttle stores."""

from __future__ import annotations

import hashlib
import secrets
from functools import cache

from sqlalchemy.engine import make_url

from iredapi.config.settings import Settings


def guess_key(settings: Settings) -> bytes:
    """Return a key that is the same in all replicas and is not in the state database.

    It is derived from the passwords of the account storage. Without any (SQLite, which has one
    process), it is random and changes at each start.
    """
    return _derived(settings) or secrets.token_bytes(32)


def lasting_secret(settings: Settings) -> bytes | None:
    """Return a secret that is the same after a restart and not in the state database, if any."""
    key = _derived(settings)
    return key and hashlib.blake2b(key, person=b"iredapi lasting").digest()


@cache
def _scrypt(words: str) -> bytes:
    # scrypt is slow, so that even a weak database password cannot be found from the digests.
    return hashlib.scrypt(words.encode(), salt=b"iredapi guesses", n=1 << 14, r=8, p=1)


def _derived(settings: Settings) -> bytes | None:
    urls = (settings.vmail_url, settings.amavisd_url, settings.iredapd_url, settings.iredadmin_url)
    found = [make_url(url.get_secret_value()).password for url in urls if url.get_secret_value()]
    words = [*(str(word or "") for word in found), settings.ldap_bind_password.get_secret_value()]
    return _scrypt("\0".join(words)) if any(words) else None
