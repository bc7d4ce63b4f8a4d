#!/usr/bin/env bash
# Good guess: Postfix hands on what the database holds. The database is UTF-8, Postfix speaks SMTPUTF8, and the same
#   value in an SQLite map is found.
# What happens: Postfix 3.7 asks PostgreSQL for Latin-1, whatever the database holds. With the default
#   smtputf8_enable=yes Postfix then refuses the bytes as "non-UTF-8 value" and the lookup is an error, which
#   defers mail instead of delivering or bouncing it. A letter outside Latin-1 is an error of the server
#   already. With smtputf8_enable=no the value arrives in Latin-1 bytes.
# Why it matters to iredapi: whatever it stores in a column that Postfix selects (forwarding addresses, transports,
#   directories of mailboxes) has to be ASCII on PostgreSQL, or the account gets no mail, though the row looks right and
#   works on the other storages.
# Source: Postfix 3.7, src/global/dict_pgsql.c, PQsetClientEncoding(..., "LATIN1"). Later releases were not tried.
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

unpack postgresql-15=15.18-0+deb12u1 postgresql-client-15=15.18-0+deb12u1 \
    postfix=3.7.11-0+deb12u1 postfix-pgsql=3.7.11-0+deb12u1 postfix-sqlite=3.7.11-0+deb12u1 \
    libsqlite3-0=3.40.1-2+deb12u2 libdb5.3=5.3.28+dfsg2-1 libnsl2=1.3.0-2 libtirpc3=1.3.3+ds-1 \
    libpq5=15.18-0+deb12u1 libldap-2.5-0=2.5.13+dfsg-5 libsasl2-2=2.1.28+dfsg-10 libreadline8=8.2-1.3 \
    libgssapi-krb5-2=1.20.1-2+deb12u5 libkrb5-3=1.20.1-2+deb12u5 libk5crypto3=1.20.1-2+deb12u5 \
    libkrb5support0=1.20.1-2+deb12u5 libkeyutils1=1.6.3-2 libssl3=3.0.20-1~deb12u2 \
    libicu72=72.1-3+deb12u1 libxml2=2.9.14+dfsg-1.3~deb12u6

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

rows="CREATE TABLE forwardings (address text, forwarding text);
    INSERT INTO forwardings VALUES ('a@x.test', 'ana@x.test'), ('e@x.test', 'Élan@x.test'), ('l@x.test', 'Łódź@x.test')"
sql "$rows"
"${PYTHON:-python3}" -c 'import sqlite3, sys; sqlite3.connect("mail.db").executescript(sys.argv[1])' "$rows"

mkdir conf
query="query = SELECT forwarding FROM forwardings WHERE address = '%s'"
printf '%s\n' "hosts = unix:$work/pg" "user = tester" "dbname = postgres" "$query" >conf/pgsql.cf
printf '%s\n' "dbpath = $work/mail.db" "$query" >conf/sqlite.cf
for kind in pgsql sqlite; do
    printf '%s\t%s\t%s\n' "$kind" "$work/root/usr/lib/postfix/postfix-$kind.so" "dict_${kind}_open"
done >conf/dynamicmaps.cf
# The owner's and the group's name only have to exist; nothing of Postfix is started.
printf '%s\n' "compatibility_level = 3.6" "mail_owner = mail" "setgid_group = tty" "queue_directory = $work/queue" \
    "data_directory = $work/data" "command_directory = $work/root/usr/sbin" \
    "daemon_directory = $work/root/usr/lib/postfix/sbin" "shlib_directory = $work/root/usr/lib/postfix" \
    "meta_directory = $work/conf" >conf/main.cf
: >conf/master.cf
mkdir conf8
{ cat conf/main.cf; echo "smtputf8_enable = no"; } >conf8/main.cf

lookup() { # DIRECTORY KIND ADDRESS
    local found status=0
    found=$(within root/usr/sbin/postmap -c "$work/$1" -q "$3" "$2:$work/conf/$2.cf" 2>>postmap.log) || status=$?
    # postmap exits with 1 for "not there" as for an error, but says something only of the latter.
    if [ "$status" = 0 ]; then printf %s "${found%@*}" | od -An -tx1 | tr -d ' \n'; else echo error; fi
}
seen="a: $(lookup conf pgsql a@x.test)"
seen+=", É: $(lookup conf pgsql e@x.test) (sqlite $(lookup conf sqlite e@x.test))"
seen+=", Ł: $(lookup conf pgsql l@x.test) (sqlite $(lookup conf sqlite l@x.test))"
seen+=", É without SMTPUTF8: $(lookup conf8 pgsql e@x.test) (sqlite $(lookup conf8 sqlite e@x.test))"
sort -u postmap.log | cut -c1-200

report "Postfix $(within root/usr/sbin/postconf -c "$work/conf" -h mail_version), PostgreSQL $(sql "SHOW server_version")" \
    "a: 616e61, É: c3896c616e (sqlite c3896c616e), Ł: c581c3b364c5ba (sqlite c581c3b364c5ba), É without SMTPUTF8: c3896c616e (sqlite c3896c616e)" \
    "a: 616e61, É: error (sqlite c3896c616e), Ł: error (sqlite c581c3b364c5ba), É without SMTPUTF8: c96c616e (sqlite c3896c616e)" \
    "$seen"
