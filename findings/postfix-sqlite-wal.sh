#!/usr/bin/env bash
# Good guess: Postfix only reads its SQLite maps, so a file that its user may read, in a directory that it may enter,
#   is enough. If anything disturbs it, that is another program that has the file open and writes.
# What happens: for a database in WAL mode it is the other way round. Postfix finds the row while a program that may
#   write has the file open. When that program has ended, every lookup is an error, "attempt to write a readonly
#   database": the last one to close the file removes the -wal and -shm files, a reader has to make them anew, and
#   Postfix's user may not. The mode is kept in the file, so restarting Postfix or the machine does not help.
#   Letting Postfix's group write to the directory makes lookups work and stops the writer: a lookup, opened read-only,
#   leaves -wal and -shm files that belong to Postfix with the mode of the database (0640), and the owner of the
#   database can write no more. It takes a file, too, that the group may write.
# Why it matters to iredapi: it switches SQLite files to WAL. Where Postfix reads the same file, stopping the service
#   would defer all mail, although nothing writes any more, and half a remedy would stop the service instead.
#   docs/database.md has the modes that serve both.
# Source: Postfix 3.7, src/global/dict_sqlite.c (SQLITE_OPEN_READONLY); SQLite, "Write-Ahead Logging", "Read-Only
#   Databases".
# Needs root, which becomes "nobody" for Postfix and "daemon" for the writer; both with the group "nogroup".
set -euo pipefail

work=$(mktemp -d)
servers=()
finish() {
    local pid
    for pid in "${servers[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT
chmod 755 "$work"
cd "$work"

unpack() { # NAME=VERSION...: Debian packages, into $work/root
    (mkdir -p debs root && cd debs && apt-get download -q=2 -o APT::Sandbox::User=root "$@" </dev/null)
    find debs -name '*.deb' -exec dpkg-deb -x {} root \;
    libraries=$(find "$work/root" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
}
within() { LD_LIBRARY_PATH=$libraries "$@"; } # COMMAND...: with the libraries of those packages
report() { # VERSION GUESS DESCRIBED SEEN
    printf 'version:   %s\nguessed:   %s\ndescribed: %s\nseen:      %s\n' "$@"
    [ "$3" = "$4" ] || { echo "Not as described any more." >&2; exit 1; }
}

unpack postfix=3.7.11-0+deb12u1 postfix-sqlite=3.7.11-0+deb12u1 \
    libsqlite3-0=3.40.1-2+deb12u2 libdb5.3=5.3.28+dfsg2-1 libnsl2=1.3.0-2 libtirpc3=1.3.3+ds-1 \
    libgssapi-krb5-2=1.20.1-2+deb12u5 libkrb5-3=1.20.1-2+deb12u5 libk5crypto3=1.20.1-2+deb12u5 \
    libkrb5support0=1.20.1-2+deb12u5 libkeyutils1=1.6.3-2 libssl3=3.0.20-1~deb12u2 libsasl2-2=2.1.28+dfsg-10 \
    libicu72=72.1-3+deb12u1

mkdir conf mail
chown daemon:nogroup mail
printf '%s\n' "dbpath = $work/mail/mail.db" "query = SELECT forwarding FROM forwardings WHERE address = '%s'" >conf/sqlite.cf
printf '%s\t%s\t%s\n' sqlite "$work/root/usr/lib/postfix/postfix-sqlite.so" dict_sqlite_open >conf/dynamicmaps.cf
# The owner's and the group's name only have to exist; nothing of Postfix is started.
printf '%s\n' "compatibility_level = 3.6" "mail_owner = mail" "setgid_group = tty" "queue_directory = $work/queue" \
    "data_directory = $work/data" "command_directory = $work/root/usr/sbin" \
    "daemon_directory = $work/root/usr/lib/postfix/sbin" "shlib_directory = $work/root/usr/lib/postfix" \
    "meta_directory = $work/conf" >conf/main.cf
: >conf/master.cf

cat >rounds.py <<'PYTHON'
import os
import pwd
import sqlite3
import subprocess
import sys

GROUP = pwd.getpwnam("nobody").pw_gid
lookup_command, directory = sys.argv[1:-1], sys.argv[-1]
database = f"{directory}/mail.db"


def become(name):
    os.setgroups([])
    os.setgid(GROUP)
    os.setuid(pwd.getpwnam(name).pw_uid)
    os.umask(0o022)


def lookup():
    found = subprocess.run(lookup_command, capture_output=True, text=True, preexec_fn=lambda: become("nobody"))
    print(found.stderr, end="", file=sys.stderr)
    return "found" if found.stdout == "bob@x.test\n" else "error"


def write(mode):
    """Write a row, tell how that went, and end when standard input of the process does."""
    connection = sqlite3.connect(database)
    try:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("CREATE TABLE IF NOT EXISTS forwardings (address text PRIMARY KEY, forwarding text)")
        connection.execute("INSERT OR REPLACE INTO forwardings VALUES ('ana@x.test', 'bob@x.test')")
        connection.commit()
        os.write(said, b"written")
    except sqlite3.OperationalError as error:
        print("writer:", error, file=sys.stderr)
        os.write(said, b"error")
    os.read(end, 1)
    connection.close()


for title, mode, modes in [
    ("DELETE", "delete", (0o755, 0o640)),
    ("WAL", "wal", (0o755, 0o640)),
    ("WAL, directory of the group", "wal", (0o775, 0o640)),
    ("WAL, directory and file of the group", "wal", (0o775, 0o660)),
]:
    for name in os.listdir(directory):
        os.unlink(f"{directory}/{name}")
    os.chmod(directory, modes[0])
    open(database, "x").close()
    os.chmod(database, modes[1])
    os.chown(database, pwd.getpwnam("daemon").pw_uid, GROUP)
    seen = []
    for _ in range(2):
        heard, said = os.pipe()
        end, go_on = os.pipe()
        writer = os.fork()
        if not writer:
            os.close(go_on)
            become("daemon")
            write(mode)
            os._exit(0)
        os.close(end)
        seen += [os.read(heard, 9).decode(), lookup()]
        os.close(go_on)
        os.waitpid(writer, 0)
        seen.append(lookup())
    print(f"{title}: {' '.join(seen)}", end="; ")
PYTHON
seen=$(LD_LIBRARY_PATH=$libraries "${PYTHON:-python3}" rounds.py root/usr/sbin/postmap -c "$work/conf" -q ana@x.test \
    "sqlite:$work/conf/sqlite.cf" "$work/mail" 2>errors.log)
sed "s#$work/##g" errors.log | sort -u

fine="written found found written found found"
report "Postfix $(within root/usr/sbin/postconf -c "$work/conf" -h mail_version), SQLite $(
    dpkg-deb -f debs/libsqlite3-0_*.deb Version)" \
    "DELETE: $fine; WAL: $fine; WAL, directory of the group: $fine; WAL, directory and file of the group: $fine" \
    "DELETE: $fine; WAL: written found error written found error; WAL, directory of the group: written found found error found found; WAL, directory and file of the group: $fine" \
    "${seen%; }"
