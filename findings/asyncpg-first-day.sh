#!/usr/bin/env bash
# Good guess: a date that asyncpg reads and writes back is the same date afterwards.
# What happens: asyncpg gives the first day of Python's calendar, 0001-01-01, a second meaning. It reads it as
#   date(1, 1, 1), and writes date(1, 1, 1) as PostgreSQL's "-infinity". It reads that as date(1, 1, 1) again,
#   so Python never sees the difference; SQL does: "-infinity" is before 0001-01-01 and equals it nowhere.
#   datetime.min, date.max and datetime.max go the same way.
# Why it matters to iredapi: 0001-01-01 is iRedMail's default of mailbox.birthday, "not known". A program that
#   copies the row of a user through asyncpg's dates changes it, and the copy is found by no query for the default.
#   As text (CAST('0001-01-01' AS date), or the column's default left alone) it stays what it is.
# Source: asyncpg, pgproto/codecs/datetime.pyx, date_encode and date_decode.
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
LD_LIBRARY_PATH=$libraries "${other[@]}" "$pgbin/postgres" -D pg/data -k "$work/pg" -c listen_addresses= >pg.log 2>&1 &
servers+=($!)
sql() { within "$pgbin/psql" -h "$work/pg" -U tester -d postgres -qAtX -c "$1"; }
for _ in $(seq 50); do sql "SELECT 1" >/dev/null 2>&1 && break; sleep 0.2; done

sql "CREATE TABLE mailbox (birthday date NOT NULL DEFAULT '0001-01-01'); INSERT INTO mailbox DEFAULT VALUES"
cat >copy.py <<'PYTHON'
import asyncio
import sys

import asyncpg


async def main():
    db = await asyncpg.connect(host=sys.argv[1], user="tester", database="postgres")
    before = await db.fetchval("SELECT birthday FROM mailbox")
    await db.execute("UPDATE mailbox SET birthday = $1", before)
    after = await db.fetchval("SELECT birthday FROM mailbox")
    print("Python:", before, after, end=";")
    await db.close()


asyncio.run(main())
PYTHON
seen="SQL: $(sql "SELECT birthday FROM mailbox"); "
seen+=$(venv/bin/python copy.py "$work/pg")
seen+=" SQL: $(sql "SELECT birthday FROM mailbox")"
seen+=", equal to the default: $(sql "SELECT count(*) FROM mailbox WHERE birthday = '0001-01-01'")"

report "asyncpg $(venv/bin/python -c 'import asyncpg; print(asyncpg.__version__)'), PostgreSQL $(sql "SHOW server_version")" \
    "SQL: 0001-01-01; Python: 0001-01-01 0001-01-01; SQL: 0001-01-01, equal to the default: 1" \
    "SQL: 0001-01-01; Python: 0001-01-01 0001-01-01; SQL: -infinity, equal to the default: 0" \
    "$seen"
