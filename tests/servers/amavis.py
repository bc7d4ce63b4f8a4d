"""A real Amavisd with SpamAssassin, which looks policies and lists up in a store's ``amavisd``.

It is set up as iRedMail does as far as the policies of the API go (what is discarded, from which
scores on); quarantines are files, and nothing asks the network. It takes mail over SMTP, and
answers when the mail has reached the sink, or when it is clear that it will not.
"""

from __future__ import annotations

import os
import pwd
import smtplib
from dataclasses import dataclass
from email.message import Message
from functools import cache
from pathlib import Path
from socket import create_connection

from sqlalchemy.engine import make_url

from tests.servers.process import (
    Daemon,
    ServerError,
    find_program,
    free_port,
    is_root,
    remove_directory,
    run,
    temporary_directory,
)
from tests.servers.sink import Sink
from tests.servers.store import Store

USER = "amavis"
FIVE = "five@remote.test"
"""A sender whose mail scores five points more than it would."""
_MODULES = ("Mail::SpamAssassin", "DBD::Pg", "DBD::mysql")
_KINDS = {
    "spam": "spam",
    "virus": "virus",
    "banned": "banned_files",
    "bad_header": "bad_header",
}
"""Kinds of mail, and what the variables of their quarantine methods begin with."""
_CONFIGURATION = """\
use strict;
$MYHOME = '{home}';
$TEMPBASE = "$MYHOME/tmp";
$db_home = "$MYHOME/db";
$helpers_home = "$MYHOME";
$QUARANTINEDIR = "$MYHOME/quarantine";
$quarantine_subdir_levels = 0;
$lock_file = "$MYHOME/lock";
$pid_file = "$MYHOME/pid";
{user}
$mydomain = 'local.test';
$myhostname = 'mail.local.test';
$max_servers = 2;
$max_requests = 10000;
$enable_db = 0;
$enable_zmq = 0;
$enable_dkim_verification = 0;
$inet_socket_bind = '127.0.0.1';
$inet_socket_port = {port};
$unix_socketname = undef;
@inet_acl = qw(127.0.0.1);
$do_syslog = 0;
$logfile = "$MYHOME/log";
$log_level = 1;
$forward_method = 'smtp:[127.0.0.1]:{sink}';
$notify_method = $forward_method;
@local_domains_maps = (1);
@lookup_sql_dsn = (['{dsn}', '{login}', '{password}']);
# The e-mail columns are binary.
$sql_allow_8bit_address = 1;
@bypass_virus_checks_maps = (1);
@av_scanners = ();
@av_scanners_backup = ();
$sa_local_tests_only = 1;
$sa_tag_level_deflt = 2.0;
$sa_tag2_level_deflt = 6.2;
$sa_kill_level_deflt = 6.9;
$sa_spam_subject_tag = '[SPAM] ';
$sa_spam_modifies_subj = 1;
@score_sender_maps = ({{ '.' => [ {{ '{five}' => 5.0 }} ] }});
$banned_filename_re = new_RE(qr'\\.(exe|vbs)$'i);
{destinies}
1;
"""


@cache
def missing() -> str | None:
    """Why there can be no Amavisd here, or None."""
    if find_program("amavisd") is None:
        return "amavisd is not installed"
    for module in _MODULES:
        if run(["perl", f"-M{module}", "-e", "1"]).returncode:
            return f"amavisd's Perl module {module} is not installed"
    return None


@dataclass
class Amavis:
    """Amavisd on a free port of loopback."""

    store: Store
    sink: Sink
    port: int
    quarantine: Path
    _daemon: Daemon
    _directory: Path

    @classmethod
    def start(cls, store: Store) -> Amavis:
        program = find_program("amavisd")
        if program is None:
            raise ServerError(missing())
        directory = temporary_directory("amavis")
        home = directory / "home"
        for part in (home, home / "tmp", home / "db", home / "quarantine"):
            part.mkdir(mode=0o700)
            if is_root():
                account = pwd.getpwnam(USER)
                os.chown(part, account.pw_uid, account.pw_gid)
        sink, port, url = Sink(), free_port(), make_url(store.amavisd)
        driver = "Pg:dbname" if store.dialect == "postgresql" else "mysql:database"
        configuration = directory / "amavisd.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                home=home,
                user=f"$daemon_user = '{USER}'; $daemon_group = '{USER}';" if is_root() else "",
                port=port,
                sink=sink.port,
                dsn=f"DBI:{driver}={url.database};host={url.host};port={url.port}",
                login=url.username,
                password=url.password,
                five=FIVE,
                destinies="\n".join(
                    f"$final_{kind}_destiny = D_DISCARD; "
                    f"${quarantine}_quarantine_method = 'local:{kind}-%m';"
                    for kind, quarantine in _KINDS.items()
                ),
            ),
            encoding="ascii",
        )
        configuration.chmod(0o644)
        daemon = Daemon.start(
            [program, "-c", configuration, "foreground"],
            log=directory / "output",
            ready=lambda: _listens(port),
        )
        return cls(store, sink, port, home / "quarantine", daemon, directory)

    def send(self, sender: str, recipient: str, mail: Message) -> Message | None:
        """Send a mail, and return what came out of it on the other side, or None."""
        self.sink.mails.clear()
        for path in self.quarantine.iterdir():
            path.unlink()
        try:
            with smtplib.SMTP("127.0.0.1", self.port, timeout=60) as smtp:
                smtp.sendmail(sender, [recipient], mail.as_bytes())
        except (OSError, smtplib.SMTPException) as error:
            log = (self.quarantine.parent / "log").read_text(encoding="utf-8", errors="replace")
            raise ServerError("\n".join([str(error), *log.splitlines()[-20:]])) from error
        found = [mail for recipients, mail in self.sink.mails if recipient in recipients]
        assert len(found) < 2
        return found[0] if found else None

    @property
    def quarantined(self) -> list[str]:
        """The kinds of mail that the last one was kept for."""
        return sorted(path.name.partition("-")[0] for path in self.quarantine.iterdir())

    def close(self) -> None:
        self._daemon.stop()
        self.sink.stop()
        remove_directory(self._directory)


def _listens(port: int) -> bool:
    try:
        with create_connection(("127.0.0.1", port), timeout=5) as connection:
            return connection.recv(3) == b"220"
    except OSError:
        return False
