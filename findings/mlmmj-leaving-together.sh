#!/usr/bin/env bash
# Good guess: mlmmj-unsub locks the file of subscribers, so 40 people who leave a list at the same moment are all gone.
# What happens: each process opens the file, waits for the lock, copies what it opened without its own address and
#   renames the copy over the file. Who has waited copies the old file, and puts back those who have left meanwhile.
#   Most of the 40 stay on the list, and every exit status is 0.
# Why it matters to iredapi: a lock that is got does not say that the file is still the one in the directory; that has
#   to be looked at after each lock. What was removed has to be looked for once more while mlmmj's own programs are at
#   work in that directory, and a list that people leave all at once keeps some of them without our taking part.
# Source: mlmmj 1.3.0, seen with strace: open, fcntl(F_SETLKW), rename, in src/mlmmj-unsub.c.
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

people=40 failed=0 left=0 rounds=0
while [ "$left" = 0 ] && [ "$rounds" -lt 5 ]; do # a race: it may be won once
    rounds=$((rounds + 1))
    seq -f 'member%g@x.test' "$people" >"$list/subscribers.d/m"
    processes=()
    for number in $(seq "$people"); do
        "$work/root/usr/bin/mlmmj-unsub" -L "$list" -a "member$number@x.test" -q -s >>mlmmj.log 2>&1 &
        processes+=($!)
    done
    for process in "${processes[@]}"; do wait "$process" || failed=$((failed + 1)); done
    left=$(cat "$list"/subscribers.d/* 2>/dev/null | grep -c @ || true)
done
echo "still subscribed after round $rounds: $left of $people"

report "$(root/usr/bin/mlmmj-unsub -V)" \
    "0 failed, nobody is still subscribed" \
    "0 failed, some are still subscribed" \
    "$failed failed, $([ "$left" = 0 ] && echo nobody is || echo some are) still subscribed"
