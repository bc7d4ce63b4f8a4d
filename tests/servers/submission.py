"""Logins for sending: a Postfix that listens on loopback and asks a running Dovecot.

Postfix tells Dovecot that a connection is secured, but not that this is TLS: Dovecot asks for
``enablesmtpsecured`` then, and for ``enablesmtp`` without TLS. Postfix' master needs root.
"""

from __future__ import annotations

import base64
import smtplib
import ssl
from pathlib import Path

from tests.servers.certificates import Authority
from tests.servers.dovecot import Answer, Dovecot
from tests.servers.process import (
    Daemon,
    ServerError,
    find_program,
    free_port,
    remove_directory,
    run,
    temporary_directory,
)

MAIN = """
compatibility_level = 3.6
myhostname = mail.test
mydomain = test
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
local_recipient_maps =
alias_maps =
smtpd_tls_security_level = may
smtpd_tls_cert_file = {directory}/server.pem
smtpd_tls_key_file = {directory}/server.key
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {socket}
smtpd_error_sleep_time = 0
smtpd_hard_error_limit = 1000
"""
MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
rewrite unix - - n - - trivial-rewrite
tlsmgr unix - - n 1000? 1 tlsmgr
"""


class Submission:
    """A running Postfix; it takes no mail, only logins."""

    def __init__(self, dovecot: Dovecot) -> None:
        postfix, postconf = find_program("postfix"), find_program("postconf")
        if postfix is None or postconf is None:
            raise ServerError("Postfix is not installed")
        directory = self._directory = temporary_directory("smtp")
        self._port = free_port()
        (directory / "queue").mkdir()
        (directory / "data").mkdir()
        authority = Authority("Postfix")
        certificate, key = authority.issue("127.0.0.1")
        main = MAIN.format(directory=directory, socket=dovecot.smtp_socket)
        for name, content in (
            ("main.cf", main.encode()),
            ("master.cf", MASTER.format(port=self._port).encode()),
            ("authority.pem", authority.certificate),
            ("server.pem", certificate),
            ("server.key", key),
        ):
            (directory / name).touch(mode=0o600)
            (directory / name).write_bytes(content)
        owned = run(["chown", "postfix", directory / "data"])
        made = run([postfix, "-c", directory, "check"])
        found = run([postconf, "-c", directory, "-h", "daemon_directory"])
        if owned.returncode or made.returncode or found.returncode:
            raise ServerError(f"postfix check: {owned.stderr}{made.stderr}{found.stderr}")
        log = directory / "log"
        # Not "postfix start-fg": its master is in a session of its own, and would stay.
        self._daemon = Daemon.start(
            [Path(found.stdout.strip()) / "master", "-c", directory, "-d"],
            log=log,
            ready=lambda: b"daemon started" in log.read_bytes(),
        )

    def login(self, user: str, password: str, *, tls: bool = True) -> Answer:
        """What a client gets for AUTH PLAIN, after STARTTLS or without."""
        with smtplib.SMTP("127.0.0.1", self._port, local_hostname="client", timeout=60) as client:
            if tls:
                authority = self._directory / "authority.pem"
                client.starttls(context=ssl.create_default_context(cafile=authority))
            client.ehlo()
            words = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
            code, said = client.docmd("AUTH", f"PLAIN {words}")
        if code == 235:
            return "yes"
        if code == 535:
            return "no"
        if code == 454:
            return "temporary failure"
        raise ServerError(f"AUTH: {code} {said!r}\n{self._daemon.tail()}")

    def close(self) -> None:
        self._daemon.stop()
        remove_directory(self._directory)
