"""What Dovecot makes of the databases: a private Dovecot 2.3 or 2.4 with iRedMail's conditions.

In SQL both lookups need ``enable<service><security>`` = 1 of the mailbox, an active mailbox and an
active domain that is not a backup MX (with 2.4 the login does not ask for the last). Dovecot puts
the column's name together of the service in lower case and "tls", "secured" or nothing. In OpenLDAP
the same name is a value of ``enabledService``.

How ``doveadm`` says what the connection is like (found by trying, Dovecot 2.3.19 and 2.4.1):

* ``auth test -x secured`` gives "secured", ``-x secured=tls`` gives "TLS"; nothing gives the empty
  string. ``-x tls`` and ``-x transport=TLS`` are ignored.
* ``user -x …`` never sets it: a userdb lookup reads ``enable<service>``, which is what LDA,
  LMTP and doveadm do as well.
* A column that does not exist is a temporary failure. ``auth test`` ends with status 77 then as
  for a wrong password, and only ``code=temp_fail`` tells them apart.
* ``allow_nets`` is compared with ``-x rip=ADDRESS``.
"""

from __future__ import annotations

import base64
import imaplib
import itertools
import os
import re
import signal
import socket
import ssl
import stat
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from tests.servers import dovecot_configuration
from tests.servers.process import (
    Daemon,
    ServerError,
    find_program,
    free_port,
    remove_directory,
    run,
    temporary_directory,
)
from tests.servers.store import Store

Secured = Literal["tls", "secured", ""]

LIBRARIES = ("libdriver_pgsql.so", "libdriver_mysql.so", "libauthdb_ldap.so")


_CLIENTS = itertools.count(os.getpid() * 1000)
Answer = Literal["yes", "no", "temporary failure", "cut off"]
"""``cut off``: the connection was closed, as when the password is right and there is no mailbox."""


@cache
def version() -> tuple[int, ...]:
    """The first two numbers of the installed Dovecot's version; nothing when there is none."""
    program = find_program("dovecot")
    said = run([program, "--version"]).stdout if program is not None else ""
    found = re.match(r"(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else ()


def missing() -> str | None:
    """Why there can be no logins of Dovecot here, or None."""
    if find_program("dovecot") is None or find_program("doveadm") is None:
        return "Dovecot is not installed"
    if version() not in ((2, 3), (2, 4)):
        return f"these tests are written for Dovecot 2.3 and 2.4, not {version()}"
    for library in LIBRARIES:
        if not Path(f"/usr/lib/dovecot/modules/auth/{library}").exists():
            package = library.removesuffix(".so").rpartition("_")[2]
            return f"dovecot-{package} is not installed"
    return None


def _location(fields: Mapping[str, str]) -> str:
    """``mail`` of 2.3; 2.4 has a driver and a path, in which it has expanded ``~``."""
    if version() >= (2, 4):
        return f"{fields['mail_driver']}:{fields['mail_path'].replace(fields['home'], '~', 1)}"
    # iRedMail's lookup in LDAP ends the location with a slash, which means nothing.
    return fields["mail"].removesuffix("/")


def _quota_rule(fields: Mapping[str, str]) -> str:
    """``quota_rule`` of 2.3; 2.4 has a size, or nothing where there is no limit."""
    if version() < (2, 4):
        return fields["quota_rule"]
    size = fields.get("quota_storage_size", "0B")
    return f"*:bytes={int(size[:-1]) * {'B': 1, 'M': 1048576}[size[-1]]}"


class Dovecot:
    """A running Dovecot that listens to Unix sockets of its own only; with ``logins`` also to IMAP.

    With ``logins`` the homes of users are where the look-ups say, below a temporary directory.
    """

    def __init__(self, store: Store, *, logins: bool = False) -> None:
        reason = missing()
        dovecot, doveadm = find_program("dovecot"), find_program("doveadm")
        if reason is not None or dovecot is None or doveadm is None:
            raise ServerError(reason)
        self._doveadm = doveadm
        directory = self._directory = temporary_directory("dovecot")
        self._ports = (free_port(), free_port()) if logins else None
        self._configuration = dovecot_configuration.write(
            directory, store, newer=version() >= (2, 4), ports=self._ports
        )
        self.smtp_socket = directory / "run" / "auth-smtp"
        """Where Postfix asks whether a client may log in."""
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

    def imap_login(self, user: str, password: str, *, tls: bool = True) -> Answer:
        """What an IMAP client gets: IMAPS, or plain IMAP over loopback ("secured" for Dovecot)."""
        answer, _ = self._select(user, password, tls=tls)
        return answer

    def inbox(self, user: str, password: str) -> int | None:
        """The number of messages that an IMAP client sees; None: it is not let in."""
        return self._select(user, password, tls=True)[1]

    def _select(self, user: str, password: str, *, tls: bool) -> tuple[Answer, int | None]:
        if self._ports is None:
            raise ValueError("this Dovecot was started without logins")
        port, tls_port = self._ports
        context = ssl.create_default_context(cafile=self._directory / "authority.pem")
        client = (
            imaplib.IMAP4_SSL("127.0.0.1", tls_port, ssl_context=context, timeout=60)
            if tls
            else imaplib.IMAP4("127.0.0.1", port, timeout=60)
        )
        try:
            client.authenticate("PLAIN", lambda _: f"\0{user}\0{password}".encode())
            said, numbers = client.select("INBOX")
            if said != "OK":
                raise ServerError(self._complaint("a login, but no mailbox"))
        except imaplib.IMAP4.abort:
            return "cut off", None
        except imaplib.IMAP4.error as error:
            if "[AUTHENTICATIONFAILED]" in str(error):
                return "no", None
            if "[UNAVAILABLE]" in str(error):
                return "temporary failure", None
            raise ServerError(self._complaint(str(error))) from error
        finally:
            client.shutdown()
        return "yes", int(numbers[0] or b"0")

    def deliver(self, user: str) -> bool:
        """Deliver a message, as Postfix lets Dovecot do it; False: there is no such user."""
        message = self._directory / "homes" / "message"
        message.write_text("From: x@far.org\nSubject: Hello\n\nHello\n", encoding="utf-8")
        command = ["/usr/lib/dovecot/dovecot-lda", "-c", str(self._configuration)]
        done = run([*command, "-d", user, "-p", str(message)])
        if done.returncode not in (0, os.EX_NOUSER):
            raise ServerError(self._complaint(done.stdout + done.stderr))
        return done.returncode == 0

    def smtp_login(self, user: str, password: str) -> Answer:
        """What an SMTP client gets on this host: asked as Postfix asks (smtpd_sasl_type)."""
        response = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self._directory / "run" / "auth-client"))
            with connection.makefile("rw", encoding="ascii", newline="\n") as lines:
                lines.write(f"VERSION\t1\t2\nCPID\t{next(_CLIENTS)}\n")
                where = "service=smtp\tsecured\tlip=127.0.0.1\trip=127.0.0.1"
                lines.write(f"AUTH\t1\tPLAIN\t{where}\tresp={response}\n")
                lines.flush()
                said = next(line for line in lines if line.startswith(("OK\t", "FAIL\t")))
        if said.startswith("OK\t"):
            return "yes"
        return "temporary failure" if "temp" in said.split("\t", 2)[2] else "no"

    def auth_test(
        self,
        user: str,
        password: str,
        *,
        service: str = "imap",
        secured: Secured = "tls",
        remote_ip: str | None = "127.0.0.1",
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
        command = [self._doveadm, "-c", str(self._configuration), "user"]
        done = run([*command, f"-xservice={service}", "--", user])
        if done.returncode == 67:
            return None
        if done.returncode != 0:
            raise ServerError(self._complaint(done.stdout + done.stderr))
        fields = dict(line.split("\t", 1) for line in done.stdout.splitlines())
        return {
            "home": fields["home"],
            "mail": _location(fields),
            "quota_rule": _quota_rule(fields),
        }

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
