#!/usr/bin/env bash
# Good guess: the name in front of a Dovecot password says how it was made, so {ARGON2ID} before an "$argon2i$" hash
#   (or the other way round) is a wrong scheme and verifies nothing.
# What happens: the name only chooses who is asked, libsodium or crypt(3), and those go by the hash itself. The
#   mixtures tried within one of the two families verify, {SHA256-CRYPT} before a "$6$" hash, too; an argon2 hash
#   named SHA512-CRYPT does not.
# Why it matters to iredapi: such rows let their users in, so they are to be read as good passwords and not as broken
#   ones; and the name alone does not tell whether a hash still is of the kind that new ones are.
# Source: Dovecot 2.3.19, src/auth/password-scheme-sodium.c and password-scheme-crypt.c (one verify function for all
#   names).
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

unpack dovecot-core=1:2.3.19.1+dfsg1-2.1+deb12u6 libsodium23=1.0.18-1+deb12u1 libunwind8=1.6.2-3

echo "protocols =" >dovecot.conf
doveadm() { within root/usr/bin/doveadm -c dovecot.conf "$@"; }
verifies() { if doveadm pw -t "$1" -p secret >>pw.log 2>&1; then echo yes; else echo no; fi; }
i=$(doveadm pw -s ARGON2I -p secret)
id=$(doveadm pw -s ARGON2ID -p secret)
sha512=$(doveadm pw -s SHA512-CRYPT -p secret)
[[ $i == "{ARGON2I}\$argon2i\$"* && $id == "{ARGON2ID}\$argon2id\$"* && $sha512 == "{SHA512-CRYPT}\$6\$"* ]]

seen="right names: $(verifies "$i") $(verifies "$id") $(verifies "$sha512")"
seen+=", wrong names: $(verifies "{ARGON2ID}${i#*\}}") $(verifies "{ARGON2I}${id#*\}}")"
seen+=" $(verifies "{SHA256-CRYPT}${sha512#*\}}"), of the other family: $(verifies "{SHA512-CRYPT}${id#*\}}")"
report "dovecot-core $(within root/usr/sbin/dovecot --version 2>&1 | cut -d' ' -f1)" \
    "right names: yes yes yes, wrong names: no no no, of the other family: no" \
    "right names: yes yes yes, wrong names: yes yes yes, of the other family: no" \
    "$seen"
