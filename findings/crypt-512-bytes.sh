#!/usr/bin/env bash
# Good guess: SHA-crypt has no longest password, so what a library hashes as "$6$..." the system can verify.
# What happens: crypt(3) of libxcrypt takes at most 511 bytes, for any scheme, and fails for 512 (it answers "*0").
#   libpass (as passlib) hashes 512 bytes and more, up to 4096, and verifies its own hash. The user can log in
#   where libpass asks, and nowhere where crypt(3) does.
# Why it matters to iredapi: Dovecot and slapd ask crypt(3) for {SHA512-CRYPT} and {CRYPT}. A long passphrase that is set
#   with success would lock the user out of mail, so new passwords end at 511 bytes for this scheme.
# Source: libxcrypt, CRYPT_MAX_PASSPHRASE_SIZE in crypt.h; libpass, passlib/exc.py, PasswordSizeError (4096).
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

for size in 511, 512:
    password = "a" * size
    made = sha512_crypt.using(rounds=5000).hash(password)
    answer = (library.crypt(password.encode(), made.encode()) or b"").decode()
    print(f"{size} bytes: libpass {sha512_crypt.verify(password, made)}, crypt(3) {answer == made}", end="; ")
PYTHON
library=$(find "$work/root" -name libcrypt.so.1 | head -n 1)
seen=$(venv/bin/python verify.py "$library")

report "libpass $(venv/bin/pip list --format=freeze 2>/dev/null | sed -n 's/^libpass==//p'), libcrypt1 4.4.33" \
    "511 bytes: libpass True, crypt(3) True; 512 bytes: libpass True, crypt(3) True" \
    "511 bytes: libpass True, crypt(3) True; 512 bytes: libpass True, crypt(3) False" \
    "${seen%; }"
