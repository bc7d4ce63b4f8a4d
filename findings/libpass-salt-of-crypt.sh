#!/usr/bin/env bash
# Good guess: a hash of crypt(3) that the system's own crypt(3) made can be verified with libpass (the living fork of
#   passlib), which knows the scheme; if the password were wrong, verify() would answer False.
# What happens: libpass takes only ./0-9A-Za-z for the salt of SHA-crypt, while crypt(3) takes others,
#   like "-". verify() raises ValueError for such a hash, and identify() still says that it is one.
# Why it matters to iredapi: PHP programs that manage mail accounts choose salts of their own and hand them to crypt(3).
#   Dovecot lets such users in. A login that trusts libpass alone answers them with an error, and a check for "can this
#   hash be verified" that asks identify() says yes. So those hashes go to the host's crypt(3).
# Source: libpass, passlib/handlers/sha2_crypt.py, salt_chars = HASH64_CHARS.
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

unpack libcrypt1=1:4.4.33-2
pip libpass==1.9.4

cat >verify.py <<'PYTHON'
import ctypes
import sys

from passlib.hash import sha512_crypt

library = ctypes.CDLL(sys.argv[1])
library.crypt.restype = ctypes.c_char_p
library.crypt.argtypes = [ctypes.c_char_p, ctypes.c_char_p]


def crypt(password, setting):
    return library.crypt(password.encode(), setting.encode()).decode()


def attempt(hashed):
    try:
        return sha512_crypt.verify("secret", hashed)
    except ValueError:
        return "ValueError"


for salt in "abcd", "ab-d":
    made = crypt("secret", f"$6${salt}$")
    print(f"salt {salt}: crypt(3) {crypt('secret', made) == made},", end=" ")
    print(f"identify {sha512_crypt.identify(made)}, verify {attempt(made)}", end="; ")
PYTHON
library=$(find "$work/root" -name libcrypt.so.1 | head -n 1)
seen=$(venv/bin/python verify.py "$library")

report "libpass $(venv/bin/pip list --format=freeze 2>/dev/null | sed -n 's/^libpass==//p'), libcrypt1 4.4.33" \
    "salt abcd: crypt(3) True, identify True, verify True; salt ab-d: crypt(3) True, identify True, verify True" \
    "salt abcd: crypt(3) True, identify True, verify True; salt ab-d: crypt(3) True, identify True, verify ValueError" \
    "${seen%; }"
