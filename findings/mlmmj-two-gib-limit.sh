#!/usr/bin/env bash
# Good guess: the larger the number in control/maxmailsize, the larger the posts that a list takes; a limit of several
#   gigabytes is as good as none.
# What happens: mlmmj keeps 32 bits of the number, one of them the sign. 2147483647 works. 2147483648 and more wrap
#   around: the limit becomes negative, or a few bytes, and every post is denied. The author is told that a post of a
#   few lines "exceeded the maximum allowed message size of 2147483648 bytes". Other large numbers, like 5 GiB, happen
#   to work (as 1 GiB).
# Why it matters to iredapi: max_message_size of a list is written there. A number that raises the limit must not
#   silence the list, so what does not fit has to be refused or left out (no file means no limit).
# Source: mlmmj 1.3.0, src/mlmmj-process.c.
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

unpack mlmmj=1.3.0-4

list=$work/list
mkdir -p "$list"/{control,incoming,archive,moderation,bounce,requeue,subconf,unsubconf} \
    "$list"/{subscribers.d,digesters.d,nomailsubs.d,queue/discarded} taken
cp -r root/usr/share/mlmmj/text.skel/en "$list/text"
echo list@x.test >"$list/control/listaddress"
echo 127.0.0.1 >"$list/control/relayhost"
echo ana@x.test >"$list/subscribers.d/a"

# The mail server that mlmmj hands its mail to: it keeps each mail in a file, recipients first.
cat >sink.py <<'PYTHON'
import itertools
import pathlib
import socketserver
import sys

number = itertools.count()


class Sink(socketserver.StreamRequestHandler):
    def handle(self):
        def say(text):
            self.wfile.write(text + b"\r\n")

        say(b"220 sink")
        kept = []
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"RCPT":
                kept.append(line)
            if verb == b"DATA":
                say(b"354 go on")
                kept += iter(self.rfile.readline, b".\r\n")
                new = pathlib.Path("taken", f"{next(number)}.new")
                new.write_bytes(b"".join(kept))
                new.rename(new.with_suffix(".eml"))
                kept = []
            say(b"221 bye" if verb == b"QUIT" else b"250 fine")
            if verb == b"QUIT":
                break


with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Sink) as server:
    server.daemon_threads = True
    pathlib.Path(sys.argv[1]).write_text(f"{server.server_address[1]}\n")
    server.serve_forever()
PYTHON
"${PYTHON:-python3}" sink.py "$list/control/smtpport" 2>sink.log &
servers+=($!)
for _ in $(seq 50); do [ -s "$list/control/smtpport" ] && break; sleep 0.1; done

post() { # LIMIT: who gets what of a short post
    rm -f taken/*
    echo "$1" >"$list/control/maxmailsize"
    printf '%s\n' "Return-Path: <bob@x.test>" "From: bob@x.test" "To: list@x.test" "Subject: hello" "" "Hello." |
        root/usr/bin/mlmmj-receive -F -L "$list" >>mlmmj.log 2>&1
    for _ in $(seq 50); do compgen -G "taken/*.eml" >/dev/null && break; sleep 0.1; done
    if grep -q "^RCPT TO:<ana@x.test>" taken/*.eml; then echo delivered; fi
    if grep -q "^Subject: .*denied" taken/*.eml; then echo denied; fi
}
seen=
for limit in 1000 2147483647 2147483648 4294967300; do seen+="$limit $(post "$limit"), "; done

report "$(root/usr/bin/mlmmj-sub -V)" \
    "1000 delivered, 2147483647 delivered, 2147483648 delivered, 4294967300 delivered" \
    "1000 delivered, 2147483647 delivered, 2147483648 denied, 4294967300 denied" \
    "${seen%, }"
