#!/usr/bin/env bash
# Good guess: with "stick-table type ip size 1 nopurge" and "stick on dst", the usual way to keep everybody on the
#   backup after a failover, new connections stay on the backup when the first server is back. The table has one
#   place because there is one key, and "nopurge" keeps its entry from being thrown out.
# What happens: the failover itself works, but the entry is never changed: it still names the first server, and all
#   connections go back to it at its first good check. With "size 2", or without "nopurge", they stay on the backup.
# Why it matters to iredapi: the first server of a pair that is back may have old data (PostgreSQL before pg_rewind,
#   a MariaDB replica). deploy/haproxy-postgresql.cfg has a table of more than one place.
# Source: not looked up. The behaviour fits HAProxy taking a new entry before it looks for the one with the same key,
#   which a full table with "nopurge" does not give.
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

unpack haproxy=2.6.12-1+deb12u4 liblua5.3-0=5.3.6-2 libpcre2-8-0=10.42-1 libopentracing-c-wrapper0=1.1.3-3+b1 \
    libopentracing1=1.6.0-4 || exit 1
haproxy=$work/root/usr/sbin/haproxy

cat >server.py <<'PYTHON'
"""Says its name to everybody who asks, and waits until the client closes."""
import socketserver
import sys


class Name(socketserver.BaseRequestHandler):
    def handle(self):
        # A health check sends nothing.
        while self.request.recv(1):
            self.request.sendall(sys.argv[1].encode())


socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer.daemon_threads = True
socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[2])), Name).serve_forever()
PYTHON
cat >ports.py <<'PYTHON'
import socket

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(each.getsockname()[1] for each in sockets))
PYTHON
read -r front one two <<<"$(python3 ports.py)"

start() { # NAME PORT: sets $last
    python3 server.py "$1" "$2" &
    last=$!
    servers+=("$last")
    for _ in $(seq 100); do
        python3 -c "import socket; socket.create_connection(('127.0.0.1', $2))" 2>/dev/null && return
        sleep 0.1
    done
    return 1
}
name() { # which server answers a new connection
    python3 -c "
import socket
s = socket.create_connection(('127.0.0.1', $front), 5)
s.sendall(b'?')
print(s.recv(9).decode(), end='')"
}
is() { # PATTERN: wait until HAProxy has seen the first server so
    for _ in $(seq 100); do
        python3 -c "
import re, socket
s = socket.socket(socket.AF_UNIX)
s.connect('stats')
s.sendall(b'show stat\n')
text = b''.join(iter(lambda: s.recv(65536), b'')).decode()
raise SystemExit(not re.search(r'^db,first,.*,$1', text, re.M))
" 2>/dev/null && return
        sleep 0.1
    done
    return 1
}

try() { # TABLE: the answers before, during and after an outage of the first server
    cat >haproxy.cfg <<CONFIG
global
    stats socket $work/stats level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 9s
    timeout server 9s
listen db
    bind 127.0.0.1:$front
    stick-table $1
    stick on dst
    server first 127.0.0.1:$one check inter 1s fall 1 rise 1
    server second 127.0.0.1:$two check inter 1s fall 1 rise 1 backup
CONFIG
    local first second proxy seen
    start first "$one"; first=$last
    start second "$two"; second=$last
    LD_LIBRARY_PATH=$libraries "$haproxy" -f haproxy.cfg -db >haproxy.log 2>&1 &
    proxy=$!
    servers+=("$proxy")
    is "UP.*L4OK"
    seen=$(name)
    kill "$first"; wait "$first" 2>/dev/null || true
    is "DOWN"
    seen+=" $(name) $(name)"
    start first "$one"; first=$last
    is "UP.*L4OK"
    seen+=" $(name) $(name)"
    kill "$proxy" "$first" "$second"
    wait "$proxy" "$first" "$second" 2>/dev/null || true
    echo "$seen"
}

try "type ip size 1 nopurge" >one.txt
try "type ip size 2 nopurge" >two.txt
try "type ip size 1" >purged.txt
report "HAProxy $(within "$haproxy" -v | sed -n 's/^HAProxy version \([^ ]*\).*/\1/p')" \
    "size 1 nopurge: first second second second second" \
    "size 1 nopurge: first second second first first; size 2 nopurge: first second second second second; size 1: first second second second second" \
    "size 1 nopurge: $(cat one.txt); size 2 nopurge: $(cat two.txt); size 1: $(cat purged.txt)"
