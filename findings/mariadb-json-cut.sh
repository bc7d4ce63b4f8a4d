#!/usr/bin/env bash
# Good guess: what JSON_ARRAYAGG answers is all the values, or an error. And if group_concat_max_len should cut it as
#   it cuts GROUP_CONCAT, the end of the text is missing, which no JSON parser takes: nobody reads half a list unawares.
# What happens: at 1 MiB MariaDB cuts the last value and then ends the string and the array. So the text is valid JSON
#   again, with fewer values, of which the last one has lost its end: m49931@example.com became m49931@example.co,
#   another domain. For a SELECT that is a warning, in strict mode, too, and neither PyMySQL nor the command-line
#   client in batch mode shows warnings unless asked.
# Why it matters to iredapi: a script that reads the members of a large alias in one row and puts them where the API takes
#   all of them (PUT of members) takes thousands off the list, and has their mail sent to an address in a domain of
#   somebody else. Members are to be read as rows; iredapi reads rows.
# Source: MariaDB 10.11, sql/item_jsonfunc.cc, Item_func_json_arrayagg (it inherits GROUP_CONCAT's limit).
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

unpack mariadb-server-core=1:10.11.18-0+deb12u1 libaio1=0.3.113-4 liburing2=2.3-3 libnuma1=2.0.16-1 \
    libpcre2-8-0=10.42-1 libssl3=3.0.20-1~deb12u2
pip PyMySQL==1.2.4

mkdir data
# Without tables of its own for users and time zones, which nothing here needs.
LD_LIBRARY_PATH=$libraries root/usr/sbin/mariadbd --no-defaults --datadir="$work/data" --socket="$work/socket" \
    --lc-messages-dir="$work/root/usr/share/mysql" --skip-networking --skip-grant-tables --user="$(id -un)" \
    >mariadbd.log 2>&1 &
servers+=($!)
for _ in $(seq 100); do [ -S socket ] && break; sleep 0.1; done

cat >members.py <<'PYTHON'
import importlib.metadata
import json
import sys

import pymysql

database = pymysql.connect(unix_socket=sys.argv[1])
cursor = database.cursor()
cursor.execute("SELECT VERSION(), @@sql_mode, @@group_concat_max_len")
version, mode, limit = cursor.fetchone()
print(f"MariaDB {version}, {mode.partition(',')[0]}, group_concat_max_len {limit}, PyMySQL {importlib.metadata.version('PyMySQL')}")
cursor.execute("CREATE DATABASE vmail")
cursor.execute("USE vmail")
cursor.execute("CREATE TABLE forwardings (id INT AUTO_INCREMENT PRIMARY KEY, forwarding VARCHAR(255))")
members = ["chairwoman00@example.com", *(f"m{number:05}@example.com" for number in range(1, 60000))]
cursor.executemany("INSERT INTO forwardings (forwarding) VALUES (%s)", members)
database.commit()
cursor.execute("SELECT COUNT(*), JSON_ARRAYAGG(forwarding) FROM forwardings")
count, text = cursor.fetchone()
try:
    read = json.loads(text)
    print(f"{count} rows, {len(read)} values, the last is {read[-1]}, new addresses: {set(read) - set(members) or 'none'}")
except ValueError as error:
    print(f"{count} rows, no JSON: {error}")
PYTHON
{ read -r version; read -r seen; } < <(venv/bin/python members.py "$work/socket")

report "$version" \
    "60000 rows, 60000 values, the last is m59999@example.com, new addresses: none" \
    "60000 rows, 49932 values, the last is m49931@example.co, new addresses: {'m49931@example.co'}" \
    "$seen"
