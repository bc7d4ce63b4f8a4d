#!/usr/bin/env bash
# Good guess: mlmmj-sub, told to add a subscriber, adds a line; a file of addresses whose last line has no line end is
#   either given one first, or the command fails.
# What happens: mlmmj-sub writes the new address straight behind the last byte. The two become one address that is
#   nobody's, the old subscriber is lost with the new one, and the exit status is 0.
# Why it matters to iredapi: subscribers.d is also written by scripts and by hand, and a file made with printf or an
#   editor that adds no line end looks right. Whoever adds a subscriber has to end the last line first; asking
#   mlmmj-sub's exit status is not enough, the list has to be read again.
# Source: mlmmj 1.3.0, src/mlmmj-sub.c.
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
mkdir -p "$list"/{control,subscribers.d,digesters.d,nomailsubs.d,queue/discarded,text}
echo list@x.test >"$list/control/listaddress"
printf 'cora@x.test' >"$list/subscribers.d/c"

status=0
root/usr/bin/mlmmj-sub -L "$list" -a cid@x.test -f -q -s >mlmmj.log 2>&1 || status=$?

report "$(root/usr/bin/mlmmj-sub -V)" \
    "exit status 0, subscribers: cid@x.test cora@x.test" \
    "exit status 0, subscribers: cora@x.testcid@x.test" \
    "exit status $status, subscribers: $(root/usr/bin/mlmmj-list -L "$list" 2>>mlmmj.log | sort | paste -sd' ')"
