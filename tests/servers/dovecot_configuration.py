"""Configurations of Dovecot with the conditions of iRedMail's, for 2.3 and for 2.4.

Both versions put together the name of a column (in OpenLDAP: a value of ``enabledService``) from
the service and from what the connection is like: ``enable<service><security>``. Beside the syntax
this differs, in iRedMail's files as well:

* 2.3 takes users of a backup MX domain for unknown. In 2.4 only the look-up of the mailbox does:
  such users authenticate for sending.
* The scheme of a hash without ``{SCHEME}``: 2.3 has CRYPT in SQL. 2.4 has its default: plain text.
* Passwords in OpenLDAP: 2.3 binds as the user, 2.4 reads ``userPassword`` itself. A user without
  ``allowNets`` has all networks there, and a look-up that names no address is refused.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.engine import make_url

from tests.servers.certificates import Authority
from tests.servers.openldap import BASE, READER_DN, OpenldapServer
from tests.servers.process import is_root
from tests.servers.store import Store

DRIVERS = {"postgresql": "pgsql", "mariadb": "mysql"}
PORTS = {"postgresql": 5432, "mariadb": 3306}
QUOTES = {"postgresql": '"', "mariadb": "`"}

# How each version writes the variables: user; service and security; the home in LDAP.
WORDS_23 = {"user": "%u", "service": "%Ls%Lc", "home": "%L{ldap:homeDirectory}"}
WORDS_24 = {
    "user": "%{user}",
    "service": "%{protocol | lower}%{secured | lower}",
    "home": "%{ldap:homeDirectory | lower}",
}
MAIL_USER = 2000

SQL_LOGIN = """
    FROM mailbox box JOIN domain own ON own.domain = box.domain
    WHERE box.username = '{user}' AND box.{quote}enable{service}{quote} = 1 AND box.active = 1
      AND own.active = 1
"""
SQL_USER = SQL_LOGIN + " AND own.backupmx = 0"
SQL_HOME = "LOWER(CONCAT(box.storagebasedirectory, '/', box.storagenode, '/', box.maildir))"
SQL_USERS = "SELECT username AS user FROM mailbox"
SQL_23 = """
driver = {driver}
connect = host={host} port={port} dbname={database} user={login} password={password}
default_pass_scheme = CRYPT
password_query = SELECT box.password, box.allow_nets {matching_user}
user_query = SELECT {home} AS home, \
CONCAT(box.mailboxformat, ':~/', box.mailboxfolder) AS mail, \
CONCAT('*:bytes=', box.quota * 1048576) AS quota_rule {matching_user}
iterate_query = {users}
"""
SQL_24 = """
sql_driver = {driver}
{server}
passdb sql {{
  query = SELECT box.password, box.allow_nets {matching_login}
}}
userdb sql {{
  query = SELECT {home} AS home, box.mailboxformat AS mail_driver, \
CONCAT('~/', box.mailboxfolder) AS mail_path, \
CASE WHEN box.quota = 0 THEN NULL ELSE CONCAT(box.quota, 'M') END AS quota_storage_size \
{matching_user}
  iterate_query = {users}
}}
"""
# A server's section differs by driver.
SERVERS_24 = {
    "pgsql": """
pgsql {host} {{
  parameters {{
    port = {port}
    user = {login}
    password = {password}
    dbname = {database}
  }}
}}
""",
    "mysql": """
mysql {host} {{
  port = {port}
  user = {login}
  password = {password}
  dbname = {database}
}}
""",
}

LDAP_ACCOUNT = (
    "(objectClass=mailUser)(accountStatus=active)(!(domainStatus=disabled))(enabledService=mail)"
)
LDAP_USER = (
    f"(&{LDAP_ACCOUNT}(enabledService={{service}})"
    "(|(mail={user})(&(enabledService=shadowaddress)(shadowAddress={user}))))"
)
LDAP_23 = f"""
uris = {{uri}}
ldap_version = 3
auth_bind = yes
dn = {READER_DN}
dnpass = {{password}}
base = {BASE}
scope = subtree
deref = never
pass_filter = {{filter}}
pass_attrs = mail=user,allowNets=allow_nets
user_filter = {{filter}}
user_attrs = mail=user, =home={{home}}, \
=mail=%{{{{ldap:mailboxFormat:maildir}}}}:~/%{{{{ldap:mailboxFolder:Maildir}}}}/, \
=quota_rule=*:bytes=%{{{{ldap:mailQuota:0}}}}
iterate_filter = (&{LDAP_ACCOUNT})
iterate_attrs = mail=user
"""
LDAP_24 = f"""
ldap_uris = {{uri}}
ldap_auth_dn = {READER_DN}
ldap_auth_dn_password = {{password}}
ldap_base = {BASE}
ldap_scope = subtree
passdb ldap {{{{
  filter = {{filter}}
  fields {{{{
    user = %{{{{ldap:mail}}}}
    password = %{{{{ldap:userPassword}}}}
    allow_nets = %{{{{ldap:allowNets | default('0.0.0.0/0,::/0')}}}}
  }}}}
}}}}
userdb ldap {{{{
  filter = {{filter}}
  fields {{{{
    user = %{{{{ldap:mail}}}}
    home = {{home}}
    mail_driver = %{{{{ldap:mailboxFormat | default('maildir')}}}}
    mail_path = ~/%{{{{ldap:mailboxFolder | default('Maildir')}}}}/
    quota_storage_size = %{{{{ldap:mailQuota | default('0')}}}}B
  }}}}
  iterate_filter = (&{LDAP_ACCOUNT})
  iterate_fields {{{{
    user = %{{{{ldap:mail}}}}
  }}}}
}}}}
"""

COMMON = """
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/messages
listen = 127.0.0.1
auth_mechanisms = plain login
auth_failure_delay = 0
mail_uid = {uid}
mail_gid = {gid}
# Refused logins shall not slow down the next ones.
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
# Postfix asks here, as an account of its own.
service auth {{
  unix_listener auth-smtp {{
    mode = 0666
  }}
}}
"""
# Dovecot answers failed logins at once instead of half a second later: "nodelay".
ONLY_23 = """
disable_plaintext_auth = no
passdb {{
  driver = static
  args = noauthenticate=y nodelay=y
}}
passdb {{
  driver = {driver}
  args = {directory}/lookups.conf
}}
userdb {{
  driver = {driver}
  args = {directory}/lookups.conf
}}
"""
ONLY_24 = """
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
auth_allow_cleartext = yes
passdb static {
  fields {
    noauthenticate = y
    nodelay = y
  }
}
"""

# Without root nothing can change its user or root directory.
UNPRIVILEGED = """
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
service auth-worker {{
  user = {user}
}}
"""
UNPRIVILEGED_LOGINS = """
service imap-login {
  chroot =
}
"""

NO_LISTENERS = {True: "protocols {\n}\nssl = no\n", False: "protocols =\nssl = no\n"}
IMAP = """
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
ssl = yes
"""
IMAP_23 = (
    IMAP
    + """
protocols = imap
ssl_cert = <{directory}/server.pem
ssl_key = <{directory}/server.key
"""
)
IMAP_24 = (
    IMAP
    + """
protocols {{
  imap = yes
}}
ssl_server_cert_file = {directory}/server.pem
ssl_server_key_file = {directory}/server.key
"""
)


def write(
    directory: Path, store: Store, *, newer: bool, ports: tuple[int, int] | None = None
) -> Path:
    """Write the files for Dovecot 2.4 (``newer``) or 2.3, and return the path of the main one.

    ``ports`` are those of IMAP and IMAPS; without them only sockets of Unix are listened on. With
    them homes are below ``directory``, and there where the look-ups say.
    """
    homes = None if ports is None else directory / "homes"
    words = WORDS_24 if newer else WORDS_23
    if store.openldap is not None:
        driver, template = "ldap", LDAP_24 if newer else LDAP_23
        filled = _ldap(store.openldap, words, homes)
    else:
        driver, template = "sql", SQL_24 if newer else SQL_23
        filled = _sql(store, words, homes)
    lookups = template.format_map(filled).lstrip()
    parts = [COMMON.format(directory=directory, **_owner())]
    if newer:
        parts = [ONLY_24, *parts, lookups]
    else:
        parts.append(ONLY_23.format(directory=directory, driver=driver))
        (directory / "lookups.conf").write_text(lookups, encoding="utf-8")
    if ports is None or homes is None:
        parts.append(NO_LISTENERS[newer])
    else:
        parts.append(_imap(directory, ports, newer=newer))
        homes.mkdir()
        if is_root():
            os.chown(homes, MAIL_USER, MAIL_USER)
    if not is_root():
        user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
        parts.append(UNPRIVILEGED.format(user=user, group=group))
        parts += [UNPRIVILEGED_LOGINS] if ports is not None else []
    path = directory / "dovecot.conf"
    path.write_text("".join(parts), encoding="utf-8")
    return path


def _owner() -> dict[str, int]:
    """The owner of the mailboxes: any number that is no account of the system."""
    if is_root():
        return {"uid": MAIL_USER, "gid": MAIL_USER}
    return {"uid": os.geteuid(), "gid": os.getegid()}


def _sql(store: Store, words: Mapping[str, str], homes: Path | None) -> dict[str, str]:
    url = make_url(store.vmail_reader)
    values = {
        "driver": DRIVERS[store.name],
        "host": str(url.host),
        "port": str(url.port or PORTS[store.name]),
        "database": str(url.database),
        "login": str(url.username),
        "password": str(url.password),
    }
    words = {**words, "quote": QUOTES[store.name]}
    return {
        **values,
        "home": SQL_HOME if homes is None else f"CONCAT('{homes}', {SQL_HOME})",
        "users": SQL_USERS,
        "server": SERVERS_24[values["driver"]].format_map(values),
        "matching_login": " ".join(SQL_LOGIN.format_map(words).split()),
        "matching_user": " ".join(SQL_USER.format_map(words).split()),
    }


def _ldap(server: OpenldapServer, words: Mapping[str, str], homes: Path | None) -> dict[str, str]:
    return {
        "uri": server.uri,
        "password": server.reader_password,
        "filter": LDAP_USER.format_map(words),
        "home": f"{homes or ''}{words['home']}",
    }


def _imap(directory: Path, ports: tuple[int, int], *, newer: bool) -> str:
    authority = Authority("Dovecot")
    certificate, key = authority.issue("127.0.0.1")
    files = {"authority.pem": authority.certificate, "server.pem": certificate, "server.key": key}
    for name, content in files.items():
        path = directory / name
        path.touch(mode=0o600)
        path.write_bytes(content)
    template = IMAP_24 if newer else IMAP_23
    return template.format(directory=directory, port=ports[0], tls_port=ports[1])
