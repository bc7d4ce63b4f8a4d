"""The key of the tags that the login throttle keeps of guesses."""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy.engine import make_url

from iredapi.config.settings import Settings


def guess_key(settings: Settings) -> bytes:
    """Return a key that all replicas have and that the state database does not hold.

    It is derived from the passwords of the account storage. Where there are none (SQLite has one
    process), it is made anew at each start.
    """
    urls = (settings.vmail_url, settings.amavisd_url, settings.iredapd_url, settings.iredadmin_url)
    found = [make_url(url.get_secret_value()).password for url in urls if url.get_secret_value()]
    words = [*(str(word or "") for word in found), settings.ldap_bind_password.get_secret_value()]
    if not any(words):
        return secrets.token_bytes(32)
    # Slow, so that not even a poor password of a database can be found from tags.
    return hashlib.scrypt("\0".join(words).encode(), salt=b"iredapi guesses", n=1 << 14, r=8, p=1)
