"""What Dovecot makes of the databases: a private Dovecot 2.3 with iRedMail's conditions.

In SQL both lookups need ``enable<service><security>`` = 1 of the mailbox, an active mailbox and an
active domain that is not a backup MX. Dovecot puts the column's name together: ``%Ls`` is the
service in lower case, ``%Lc`` is "tls", "secured" or nothing. In OpenLDAP the same name is a value
of ``enabledService``, and the password is checked by a bind.

How ``doveadm`` says what the connection is like (found by trying, Dovecot 2.3.19):

* ``auth test -x secured`` gives ``%c`` = "secured", ``-x secured=tls`` gives "TLS" (so ``%Lc``
  is "tls"); nothing gives the empty string. ``-x tls`` and ``-x transport=TLS`` are ignored.
* ``user -x …`` never sets ``%c``: a userdb lookup reads ``enable<service>``, which is what LDA,
  LMTP and doveadm do as well.
* A column that does not exist is a temporary failure. ``auth test`` ends with status 77 then as
  for a wrong password, and only ``code=temp_fail`` tells them apart.
* ``allow_nets`` is compared with ``-x rip=ADDRESS``.
"""

from __future__ import annotations

import grp
import os
import pwd
import signal
import stat
from pathlib import Path
from typing import Literal

from sqlalchemy.engine import make_url

from tests.servers.openldap import BASE, READER_DN, OpenldapServer
from tests.servers.process import (
    Daemon,
    ServerError,
    find_program,
    is_root,
    remove_directory,
    run,
    temporary_directory,
)
from tests.servers.store import Store

Secured = Literal["tls", "secured", ""]

DRIVERS = {"postgresql": "pgsql", "mariadb": "mysql"}
LIBRARIES = ("libdriver_pgsql.so", "libdriver_mysql.so", "libauthdb_ldap.so")
QUOTES = {"postgresql": '"', "mariadb": "`"}

CONDITIONS = """
    FROM mailbox box JOIN domain own ON own.domain = box.domain
    WHERE box.username = '%u' AND box.{quote}enable%Ls%Lc{quote} = 1 AND box.active = 1
      AND own.active = 1 AND own.backupmx = 0
"""
PASSWORD_QUERY = f"SELECT box.password, box.allow_nets {CONDITIONS}"
USER_QUERY = f"""
    SELECT LOWER(CONCAT(box.storagebasedirectory, '/', box.storagenode, '/', box.maildir)) AS home,
      CONCAT(box.mailboxformat, ':~/', box.mailboxfolder) AS mail,
      CONCAT('*:bytes=', box.quota * 1048576) AS quota_rule
    {CONDITIONS}
"""

LDAP_ACCOUNT = (
    "(objectClass=mailUser)(accountStatus=active)(!(domainStatus=disabled))(enabledService=mail)"
)
LDAP_USER = (
    f"(&{LDAP_ACCOUNT}(enabledService=%Ls%Lc)"
    "(|(mail=%u)(&(enabledService=shadowaddress)(shadowAddress=%u))))"
)
LDAP = f"""\
uris = {{uri}}
ldap_version = 3
auth_bind = yes
dn = {READER_DN}
dnpass = {{password}}
base = {BASE}
scope = subtree
deref = never
pass_filter = {LDAP_USER}
pass_attrs = mail=user,allowNets=allow_nets
user_filter = {LDAP_USER}
user_attrs = mail=user, =home=%L{{{{ldap:homeDirectory}}}}, \
=mail=%{{{{ldap:mailboxFormat:maildir}}}}:~/%{{{{ldap:mailboxFolder:Maildir}}}}/, \
=quota_rule=*:bytes=%{{{{ldap:mailQuota:0}}}}
iterate_filter = (&{LDAP_ACCOUNT})
iterate_attrs = mail=user
"""

CONFIGURATION = """
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/messages
protocols =
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
mail_uid = 2000
mail_gid = 2000
# Dovecot answers failed logins at once instead of half a second later.
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
# Refused logins shall not slow down the next ones.
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
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


def missing() -> str | None:
    """Why there can be no logins of Dovecot here, or None."""
    if find_program("dovecot") is None or find_program("doveadm") is None:
        return "Dovecot is not installed"
    version = run([find_program("dovecot") or "", "--version"]).stdout.split(" ")[0].strip()
    if not version.startswith("2.3."):
        return f"these tests are written for Dovecot 2.3, not {version or 'an unknown version'}"
    for library in LIBRARIES:
        if not Path(f"/usr/lib/dovecot/modules/auth/{library}").exists():
            package = library.removesuffix(".so").rpartition("_")[2]
            return f"dovecot-{package} is not installed"
    return None


def _sql(store: Store) -> str:
    url = make_url(store.vmail_reader)
    quote = QUOTES[store.name]
    return f"""\
driver = {DRIVERS[store.name]}
connect = host={url.host} port={url.port or {"postgresql": 5432, "mariadb": 3306}[store.name]} \
dbname={url.database} user={url.username} password={url.password}
default_pass_scheme = CRYPT
password_query = {" ".join(PASSWORD_QUERY.format(quote=quote).split())}
user_query = {" ".join(USER_QUERY.format(quote=quote).split())}
iterate_query = SELECT username AS user FROM mailbox
"""


def _ldap(server: OpenldapServer) -> str:
    return LDAP.format(uri=server.uri, password=server.reader_password)


class Dovecot:
    """A running Dovecot that listens to Unix sockets of its own only."""

    def __init__(self, store: Store) -> None:
        reason = missing()
        dovecot, doveadm = find_program("dovecot"), find_program("doveadm")
        if reason is not None or dovecot is None or doveadm is None:
            raise ServerError(reason)
        self._doveadm = doveadm
        directory = self._directory = temporary_directory("dovecot")
        lookups = _ldap(store.openldap) if store.openldap is not None else _sql(store)
        driver = "sql" if store.openldap is None else "ldap"
        configuration = CONFIGURATION.format(directory=directory, driver=driver)
        if not is_root():
            configuration += UNPRIVILEGED.format(
                user=pwd.getpwuid(os.geteuid()).pw_name, group=grp.getgrgid(os.getegid()).gr_name
            )
        (directory / "lookups.conf").write_text(lookups, encoding="utf-8")
        self._configuration = directory / "dovecot.conf"
        self._configuration.write_text(configuration, encoding="utf-8")
        self._messages = directory / "messages"
        sockets = [directory / "run" / name for name in ("auth-client", "auth-userdb")]
        self._daemon = Daemon.start(
            [dovecot, "-F", "-c", self._configuration],
            log=directory / "log",
            # Nothing to save, and an orderly stop takes a second. The children are in the same
            # process group, and end by themselves when the master is gone.
            stop_signal=signal.SIGKILL,
            ready=lambda: all(
                path.exists() and stat.S_ISSOCK(path.stat().st_mode) for path in sockets
            ),
        )

    def auth_test(
        self,
        user: str,
        password: str,
        *,
        service: str = "imap",
        secured: Secured = "tls",
        remote_ip: str | None = None,
    ) -> bool:
        """Whether a client may log in; raises :class:`ServerError` for a failing lookup."""
        options = [f"service={service}"]
        if secured:
            options.append("secured=tls" if secured == "tls" else "secured")
        if remote_ip is not None:
            options.append(f"rip={remote_ip}")
        command = [self._doveadm, "-c", str(self._configuration), "auth", "test"]
        done = run([*command, *(f"-x{option}" for option in options), "--", user, password])
        if done.returncode == 0:
            return True
        if done.returncode == 77 and "temp_fail" not in done.stdout:
            return False
        raise ServerError(self._complaint(done.stdout + done.stderr))

    def user(self, user: str, service: str = "lmtp") -> dict[str, str] | None:
        """The fields home, mail and quota_rule of a user for a service, None if there is none."""
        command = [self._doveadm, "-c", str(self._configuration), "user", "-u"]
        done = run([*command, f"-xservice={service}", "--", user])
        if done.returncode == 67:
            return None
        if done.returncode != 0:
            raise ServerError(self._complaint(done.stdout + done.stderr))
        lines = (line.split(":", 1) for line in done.stdout.splitlines() if line.startswith("  "))
        fields = {name.strip(): value.strip() for name, value in lines}
        fields.pop("user", None)
        # iRedMail's lookup in LDAP ends the location with a slash, which means nothing.
        fields["mail"] = fields["mail"].removesuffix("/")
        return fields

    def users(self) -> set[str]:
        """Everybody that ``doveadm -A`` works on."""
        done = run([self._doveadm, "-c", str(self._configuration), "user", "*"])
        if done.returncode != 0:
            raise ServerError(self._complaint(done.stdout + done.stderr))
        return set(done.stdout.split())

    def _complaint(self, said: str) -> str:
        log = self._messages.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([said.strip(), *log[-8:]])

    def close(self) -> None:
        self._daemon.stop()
        remove_directory(self._directory)
