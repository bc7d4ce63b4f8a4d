#!/usr/bin/env bash
# Good guess: a blank line in control/customheaders, between two headers or at the end of the file, is passed over, as
#   mlmmj passes over blank lines in the files of subscribers and moderators and in control/delheaders.
# What happens: mlmmj copies the file into each post as it is, in front of the post's first MIME header. So the blank
#   line ends the header of the mail there. What comes behind is text now: Content-Type, and where a mail program
#   writes MIME-Version first, From and Subject, too. Every post with HTML, an attachment or a letter outside ASCII
#   arrives as source text, maybe from nobody. mlmmj's exit status is 0.
# Why it matters to iredapi: custom_headers of a list is that file, and an editor or a script that ends its text with
#   two line ends is enough. iredapi writes none, and removes those of others with its next change of the list.
# Source: mlmmj 1.3.0, src/do_all_the_voodo_here.c.
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
printf '\nana@x.test\n\n' >"$list/subscribers.d/a"
printf 'X-Spam:\n\n' >"$list/control/delheaders"

# The mail server that mlmmj hands its mail to: it keeps each mail in a file.
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

cat >shown.py <<'PYTHON'
import email
import sys
from email import policy

lines = sys.stdin.buffer.read().splitlines(keepends=True)
mail = email.message_from_bytes(b"".join(line for line in lines if not line.startswith(b"RCPT ")), policy=policy.default)
attached = ", ".join(part.get_filename() for part in mail.iter_attachments()) or "nothing"
print(f"{mail['From']}, {mail.get_content_type()}, {attached} attached", end="")
PYTHON
post() { # CUSTOMHEADERS: what a mail program sees in a post with an attachment
    local status=0
    rm -f taken/*
    printf "$1" >"$list/control/customheaders"
    printf '%s\n' "Return-Path: <bob@x.test>" "X-Spam: no" "MIME-Version: 1.0" "From: bob@x.test" "To: list@x.test" \
        "Subject: hello" 'Content-Type: multipart/mixed; boundary="b"' "" \
        "--b" "Content-Type: text/plain" "" "Hello." "--b" "Content-Type: application/pdf" \
        'Content-Disposition: attachment; filename="bill.pdf"' "Content-Transfer-Encoding: base64" "" "JVBERi0=" "--b--" |
        root/usr/bin/mlmmj-receive -F -L "$list" >>mlmmj.log 2>&1 || status=$?
    for _ in $(seq 50); do compgen -G "taken/*.eml" >/dev/null && break; sleep 0.1; done
    "${PYTHON:-python3}" shown.py <taken/*.eml
    [ "$status" = 0 ] || printf ', exit status %s' "$status"
}
seen="no blank line: $(post 'X-A: 1\nX-B: 2\n')"
seen+="; between: $(post 'X-A: 1\n\nX-B: 2\n')"
seen+="; at the end: $(post 'X-A: 1\nX-B: 2\n\n')"

good="bob@x.test, multipart/mixed, bill.pdf attached" bad="None, text/plain, nothing attached"
report "$(root/usr/bin/mlmmj-sub -V)" \
    "no blank line: $good; between: $good; at the end: $good" \
    "no blank line: $good; between: $bad; at the end: $bad" \
    "$seen"
