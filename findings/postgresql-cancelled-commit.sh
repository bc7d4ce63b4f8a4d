#!/usr/bin/env bash
# Good guess: a change that PostgreSQL acknowledges has reached the synchronous standby. While that is away, a
#   statement_timeout of half a second ends the waiting COMMIT with an error (57014), and so does pg_cancel_backend():
#   in no case is the client told that it succeeded.
# What happens: statement_timeout is over when the commit begins, so the client waits on. pg_cancel_backend() ends the wait,
#   and the COMMIT succeeds: the server has committed already, sends a WARNING, and then the same answer as ever.
#   asyncpg raises nothing, and hands warnings to log listeners, of which there are none at first. What nobody but
#   this server has is acknowledged, and the next failover loses it.
# Why it matters to iredapi: an operator who finds "hanging" sessions while the standby is away, and cancels them one by
#   one, turns each into a success: clients get 200 for users and passwords that the promoted standby does not know. To
#   end the wait, bring the standby back; taking it out of synchronous_standby_names is at least a decision about all
#   commits (docs/clusters.md).
# Source: PostgreSQL 15, src/backend/replication/syncrep.c, SyncRepWaitForLSN; src/backend/tcop/postgres.c,
#   finish_xact_command (disable_statement_timeout before CommitTransactionCommand).
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
pip() { # NAME==VERSION...: Python packages, into $work/venv
    "${PYTHON:-python3}" -m venv venv
    venv/bin/pip -q --disable-pip-version-check install "$@" 2>pip.log || { cat pip.log >&2; return 1; }
}
report() { # VERSION GUESS DESCRIBED SEEN
    printf 'version:   %s\nguessed:   %s\ndescribed: %s\nseen:      %s\n' "$@"
    [ "$3" = "$4" ] || { echo "Not as described any more." >&2; exit 1; }
}

unpack postgresql-15=15.18-0+deb12u1 postgresql-client-15=15.18-0+deb12u1 \
    libpq5=15.18-0+deb12u1 libldap-2.5-0=2.5.13+dfsg-5 libsasl2-2=2.1.28+dfsg-10 libreadline8=8.2-1.3 \
    libgssapi-krb5-2=1.20.1-2+deb12u5 libkrb5-3=1.20.1-2+deb12u5 libk5crypto3=1.20.1-2+deb12u5 \
    libkrb5support0=1.20.1-2+deb12u5 libkeyutils1=1.6.3-2 libssl3=3.0.20-1~deb12u2 \
    libicu72=72.1-3+deb12u1 libxml2=2.9.14+dfsg-1.3~deb12u6
pip asyncpg==0.32.0

# PostgreSQL does not run as root, so root becomes "nobody" for it.
other=()
[ "$(id -u)" != 0 ] || other=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
mkdir -m 777 pg
pgbin=$work/root/usr/lib/postgresql/15/bin
within "${other[@]}" "$pgbin/initdb" -D pg/data -U tester -A trust -E UTF8 --locale=C.UTF-8 -N >initdb.log
LD_LIBRARY_PATH=$libraries "${other[@]}" "$pgbin/postgres" -D pg/data -k "$work/pg" -c listen_addresses= -c synchronous_standby_names=away >pg.log 2>&1 &
servers+=($!)
sql() { within "$pgbin/psql" -h "$work/pg" -U tester -d postgres -qAtX -c "$1"; }
for _ in $(seq 50); do sql "SELECT 1" >/dev/null 2>&1 && break; sleep 0.2; done

cat >commit.py <<'PYTHON'
import asyncio
import sys

import asyncpg


async def main():
    db, other = [await asyncpg.connect(host=sys.argv[1], user="tester", database="postgres") for _ in range(2)]
    warnings = []
    db.add_log_listener(lambda _, message: warnings.append(message.message))
    # This one waits for the local disk only.
    await db.execute("SET synchronous_commit = local; CREATE TABLE mailbox (username text)")
    await db.execute("SET synchronous_commit = on; SET statement_timeout = '500ms'")
    for change in ("COMMIT", "autocommit"):
        if change == "COMMIT":
            await db.execute("BEGIN")
            await db.execute("INSERT INTO mailbox VALUES ('ana@x.test')")
            task = asyncio.create_task(db.execute("COMMIT"))
        else:
            task = asyncio.create_task(db.execute("INSERT INTO mailbox VALUES ('bob@x.test')"))
        await asyncio.wait([task], timeout=3)
        said = [f"{change}: after 3 s {'ended' if task.done() else 'waiting'}"]
        if not task.done():
            await other.execute("SELECT pg_cancel_backend($1)", db.get_server_pid())
        try:
            said.append(f"cancelled {await task}")
        except asyncpg.QueryCanceledError as error:
            said.append(f"cancelled {error.sqlstate}")
        said.append(f"{len(warnings)} warning")
        said.append(f"rows {await other.fetchval('SELECT count(*) FROM mailbox')}")
        print(", ".join(said), end="; ")
        warnings.clear()


asyncio.run(main())
PYTHON
seen=$(venv/bin/python commit.py "$work/pg")
grep -A1 "canceling wait" pg.log | sed -n 1,2p | cut -d' ' -f5-

report "asyncpg $(venv/bin/python -c 'import asyncpg; print(asyncpg.__version__)'), PostgreSQL $(sql "SHOW server_version")" \
    "COMMIT: after 3 s ended, cancelled 57014, 0 warning, rows 0; autocommit: after 3 s ended, cancelled 57014, 0 warning, rows 0" \
    "COMMIT: after 3 s waiting, cancelled COMMIT, 1 warning, rows 1; autocommit: after 3 s waiting, cancelled INSERT 0 1, 1 warning, rows 2" \
    "${seen%; }"
