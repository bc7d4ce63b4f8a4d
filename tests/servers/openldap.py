"""A private OpenLDAP server with the tree of an iRedMail server.

Debian's ``slapd``, started the way ``deploy/openldap`` starts it: the same script, slapd.conf,
access rules and schemas. Three logins: ``cn=vmailadmin`` for the product, ``cn=vmail`` for the
lookups of Postfix and Dovecot, ``cn=Manager`` for arranging and checking, past all access rules.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import bonsai
from bonsai import LDAPEntry, LDAPModOp, LDAPSearchScope

# Before the first connection is opened: without it bonsai refuses names that slapd accepts.
import iredapi.backends.ldap.bonsai_patches  # noqa: F401
from tests.servers.certificates import Authority
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

SUFFIX: Final = "dc=test,dc=invalid"
BASE: Final = f"o=domains,{SUFFIX}"
ADMIN_BASE: Final = f"o=domainAdmins,{SUFFIX}"
ROOT_DN: Final = f"cn=Manager,{SUFFIX}"
BIND_DN: Final = f"cn=vmailadmin,{SUFFIX}"
READER_DN: Final = f"cn=vmail,{SUFFIX}"

Attributes = Mapping[str, str | Sequence[str]]
Entry = dict[str, list[str]]
Tree = dict[str, Entry]
"""DN → attribute → sorted values; bytes that are not UTF-8 as ``\\xNN``."""

_DEPLOYED = Path(__file__).parents[2] / "deploy" / "openldap"
_ACCOUNT = "openldap" if Path("/etc/ldap/schema").is_dir() else "nobody"


def missing() -> str | None:
    """Why there can be no OpenLDAP here, or None."""
    if find_program("slapd") is None or find_program("slapadd") is None:
        return "slapd (OpenLDAP) is not installed"
    if not Path("/etc/ldap/schema/nis.schema").is_file():
        return "slapd is not Debian's: there is no /etc/ldap/schema"
    return None


def domain_dn(domain: str) -> str:
    """The DN of a mail domain."""
    return f"domainName={domain},{BASE}"


def account_dn(mail: str, container: str = "Users") -> str:
    """The DN of an account in Users, Aliases or Groups; the address needs no escapes."""
    return f"mail={mail},ou={container},{domain_dn(mail.partition('@')[2])}"


class OpenldapServer:
    """Starts at construction; with ``tls`` it also speaks LDAPS and StartTLS.

    With ``sync`` what it has acknowledged is on the disk. ``lines`` are more lines of its database
    section, such as overlays, with ``{directory}`` for its place; ``like`` is a server whose data
    and passwords it begins with; ``port`` is where it listens, if nobody else does.

    ``uri`` and ``tls_uri`` name 127.0.0.1, which the certificate is for; ``ca_file`` is the
    authority that has signed it.
    """

    def __init__(
        self,
        *,
        tls: bool = False,
        sync: bool = False,
        lines: Sequence[str] = (),
        like: OpenldapServer | None = None,
        port: int = 0,
    ) -> None:
        reason = missing()
        if reason is not None:
            raise ServerError(reason)
        self.password: str = like.password if like else secrets.token_hex(12)
        """Of ``BIND_DN``."""
        self.reader_password: str = like.reader_password if like else secrets.token_hex(12)
        self.root_password: str = like.root_password if like else secrets.token_hex(12)
        self.ca_file: Path | None = None
        self._user = _ACCOUNT if is_root() else None
        directory = self.directory = temporary_directory("ldap", self._user)
        for name in ("config", "data", "run", "accesslog"):
            place = directory / name
            place.mkdir(mode=0o755)
            if self._user is not None:
                shutil.chown(place, self._user)
        for source in _DEPLOYED.iterdir():
            # The account may not be allowed to read the sources.
            shutil.copy(source, directory)
        self._settings = {
            "LDAP_SUFFIX": SUFFIX,
            "LDAP_VMAILADMIN_PASSWORD": self.password,
            "LDAP_VMAIL_PASSWORD": self.reader_password,
            "LDAP_ROOT_PASSWORD": self.root_password,
            "LDAP_CONFIG": str(directory / "config"),
            "LDAP_DATA": str(directory / "data"),
            "LDAP_RUN": str(directory / "run"),
            "LDAP_OPTIONS": _joined(lines, sync=sync).replace("{directory}", str(directory)),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        if like is not None:
            self.take_data_of(like)
        if tls:
            self._make_certificates()
        self._connection: Any = None
        self._names: list[str] = []
        self._starts = 0
        for attempt in range(3):
            self.port, self.tls_port = (not attempt and port) or free_port(), free_port()
            try:
                self._daemon = self._start()
            except ServerError:
                # Somebody may have taken the port in between.
                if attempt == 2:
                    raise
                continue
            break

    def _make_certificates(self) -> None:
        authority = Authority()
        certificate, key = authority.issue("127.0.0.1")
        self.ca_file = self.directory / "ca.pem"
        self.ca_file.write_bytes(authority.certificate)
        (self.directory / "server.pem").write_bytes(certificate)
        key_file = self.directory / "key.pem"
        key_file.touch(mode=0o600)
        key_file.write_bytes(key)
        if self._user is not None:
            shutil.chown(key_file, self._user)
        self._settings |= {
            "LDAP_TLS_CERTIFICATE": str(self.directory / "server.pem"),
            "LDAP_TLS_KEY": str(key_file),
            "LDAP_TLS_CA": str(self.ca_file),
        }

    @property
    def uri(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_uri(self) -> str:
        return f"ldaps://127.0.0.1:{self.tls_port}"

    def settings(self) -> dict[str, str]:
        """The product's settings (without prefix, in lower case) for this server."""
        return {
            "backend": "ldap",
            "ldap_uri": self.uri,
            "ldap_base_dn": BASE,
            "ldap_bind_dn": BIND_DN,
            "ldap_bind_password": self.password,
        }

    @property
    def pid(self) -> int:
        """The process of slapd."""
        return self._daemon.process.pid

    def _start(self) -> Daemon:
        listen = [f"{self.uri}/"]
        if self.ca_file is not None:
            listen.append(f"{self.tls_uri}/")
        given = self._settings | {"LDAP_LISTEN": " ".join(listen)}
        self._starts += 1
        return Daemon.start(
            ["/usr/bin/env", "-i", *(f"{n}={v}" for n, v in given.items()),
             self.directory / "entrypoint"],
            log=self.directory / f"log{self._starts}",
            user=self._user,
            ready=self._listens,
            timeout=30,
        )  # fmt: skip

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True

    # Starting and stopping ---------------------------------------------------------------------

    def halt(self) -> None:
        """Stop answering, for good until :meth:`resume`; what is written stays."""
        self._forget()
        self._daemon.stop()

    def resume(self) -> None:
        """Start again after :meth:`halt`, at the same addresses."""
        self._daemon = self._start()

    def restart(self) -> None:
        """Break all connections; what is written stays."""
        self.halt()
        self.resume()

    def configure(self, *lines: str) -> None:
        """Start again with other lines in the database section; what is written stays."""
        self._settings["LDAP_OPTIONS"] = _joined(lines, sync=False)
        self.restart()

    def take_data_of(self, other: OpenldapServer) -> None:
        """Copy another server's data, which stands still meanwhile. Only while not running."""
        other.halt()
        file = self.directory / "data" / "data.mdb"
        # It has a size of gigabytes, nearly all of it holes.
        source = other.directory / "data" / "data.mdb"
        run(["cp", "--sparse=always", source, file], timeout=60)
        file.chmod(0o600)
        if self._user is not None:
            shutil.chown(file, self._user)
        (self.directory / "data" / "lock.mdb").unlink(missing_ok=True)
        other.resume()

    def kill(self) -> None:
        """``kill -9``; :meth:`resume` starts it again."""
        self._daemon.process.kill()
        self._daemon.process.wait(15)
        self.halt()

    def crash(self) -> None:
        """Kill it in the middle of whatever it does, and start it again."""
        self.kill()
        self.resume()

    def freeze(self) -> None:
        """Accept connections, and never answer, until :meth:`thaw`."""
        self._daemon.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._daemon.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop, and remove everything."""
        self._forget()
        # One that is frozen would not notice.
        self.thaw()
        self._daemon.stop()
        remove_directory(self.directory)

    # Arranging and checking --------------------------------------------------------------------

    def connect(self, dn: str = ROOT_DN, password: str | None = None) -> Any:
        """A connection of bonsai's synchronous client that answers with bytes.

        Raises ``bonsai.AuthenticationError`` for a wrong password.
        """
        known = {ROOT_DN: self.root_password, BIND_DN: self.password}
        known[READER_DN] = self.reader_password
        client = bonsai.LDAPClient(self.uri)
        client.set_credentials(
            "SIMPLE", user=dn, password=known[dn] if password is None else password
        )
        client.set_raw_attributes(self._attribute_names())
        return client.connect(timeout=10)

    @property
    def root(self) -> Any:
        """The connection for arranging, opened when first used."""
        if self._connection is None:
            self._connection = self.connect()
        return self._connection

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _attribute_names(self) -> list[str]:
        # bonsai converts texts that look like numbers or booleans, except of named attributes.
        if not self._names:
            client = bonsai.LDAPClient(self.uri)
            client.set_credentials("SIMPLE", user=ROOT_DN, password=self.root_password)
            with client.connect(timeout=10) as connection:
                schema = connection.search(
                    "cn=Subschema", LDAPSearchScope.BASE, attrlist=["attributeTypes"]
                )
            for definition in schema[0]["attributeTypes"]:
                _, _, rest = definition.partition(" NAME ")
                names = rest[: rest.index(")")] if rest.startswith("(") else rest.split(" ")[0]
                self._names += names.strip("( ").replace("'", "").split()
        return self._names

    def add(self, dn: str, attributes: Attributes) -> None:
        """Add an entry as the root of the tree."""
        entry = LDAPEntry(dn)
        for name, values in attributes.items():
            entry[name] = [values] if isinstance(values, str) else list(values)
        self.root.add(entry)

    def load(self, parts: Iterable[str]) -> None:
        """Add many entries (LDIF) past all rules, with the server stopped meanwhile."""
        file = self.directory / "load.ldif"
        with file.open("w", encoding="utf-8") as text:
            text.writelines(parts)
        file.chmod(0o644)
        self.halt()
        config = self.directory / "config" / "slapd.generated"
        slapadd = find_program("slapadd") or "slapadd"
        done = run([slapadd, "-q", "-f", config, "-l", file], user=self._user, timeout=300)
        if done.returncode:
            raise ServerError(f"slapadd: {done.stderr}")
        self.resume()

    def modify(
        self,
        dn: str,
        *,
        add: Attributes | None = None,
        replace: Attributes | None = None,
        delete: Iterable[str] | Attributes = (),
    ) -> None:
        """Change an entry as the root of the tree.

        ``delete`` removes attributes (names) or values (a mapping).
        """
        entry = LDAPEntry(dn, self.root)
        if not isinstance(delete, Mapping):
            replace = {**(replace or {}), **dict.fromkeys(delete, ())}
            delete = {}
        steps = (
            (LDAPModOp.ADD, add or {}),
            (LDAPModOp.REPLACE, replace or {}),
            (LDAPModOp.DELETE, delete),
        )
        for operation, attributes in steps:
            for name, values in attributes.items():
                items = [values] if isinstance(values, str) else values
                entry.change_attribute(name, operation, *items)
        entry.modify()

    def delete(self, dn: str) -> None:
        """Delete an entry and everything below it."""
        for found in self._deepest_first(dn):
            self.root.delete(found)

    def find(self, base: str = SUFFIX, filter: str = "(objectClass=*)") -> Tree:
        """The entries at and below a DN that fit, with all their user attributes."""
        return {
            str(entry.dn): {
                name: sorted(_text(value) for value in values)
                for name, values in entry.items()
                if name != "dn"
            }
            for entry in self.root.search(base, LDAPSearchScope.SUBTREE, filter)
        }

    def entry(self, dn: str) -> Entry | None:
        """One entry, or None."""
        found = self.root.search(dn, LDAPSearchScope.BASE)
        return next(iter(self.find(dn).values())) if found else None

    def replicated(self) -> dict[str, str]:
        """Its ``contextCSN``: the last change it has of each server, by the server's id."""
        found = self.root.search(SUFFIX, LDAPSearchScope.BASE, attrlist=["contextCSN"])
        values = [_text(value) for value in found[0].get("contextCSN", [])]
        return {value.split("#")[2]: value for value in values}

    def dump(self) -> Tree:
        """Everything below both bases, to compare before and after."""
        return self.find(BASE) | self.find(ADMIN_BASE)

    def restore(self, wanted: Tree) -> None:
        """Go back to what :meth:`dump` has returned."""
        present = self.dump()
        for dn in sorted(present.keys() - wanted.keys(), key=len, reverse=True):
            self.root.delete(dn)
        for dn in sorted(wanted.keys() - present.keys(), key=len):
            self.add(dn, wanted[dn])
        for dn in wanted.keys() & present.keys():
            old, new = present[dn], wanted[dn]
            if old != new:
                changed = {name: values for name, values in new.items() if old.get(name) != values}
                self.modify(dn, replace=changed, delete=old.keys() - new.keys())

    def reset(self) -> None:
        """Delete everything below both bases."""
        for base in (BASE, ADMIN_BASE):
            for dn in self._deepest_first(base)[:-1]:
                self.root.delete(dn)

    def _deepest_first(self, dn: str) -> list[str]:
        found = self.root.search(dn, LDAPSearchScope.SUBTREE, attrlist=["1.1"])
        # The DN of an entry is longer than that of its parent.
        return sorted((str(entry.dn) for entry in found), key=len, reverse=True)


def _joined(lines: Sequence[str], *, sync: bool) -> str:
    # Nothing survives most tests, so nothing has to reach the disk. ``entrypoint`` gives it to sed.
    return "\\n".join([*([] if sync else ["dbnosync"]), *lines])


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
