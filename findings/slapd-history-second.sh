#!/usr/bin/env bash
# Good guess: the rootdn is exempt from the password policy, so it may replace the hash in userPassword as often as it
#   likes; and what would be refused would be refused as a constraint violation (19).
# What happens: with pwdInHistory slapd files each replaced hash in pwdHistory, with a time of whole seconds. Setting A,
#   B, A, B within one second files A twice with the same time, which is the same value, so the last change is refused
#   with 20, "Type or value exists", about an attribute that the request did not name. A second later the same
#   request succeeds.
# Why it matters to iredapi: two clients (or one that retries) that set and take back a password quickly meet an error
#   that looks like "the password is there already" and is not. Answer 20 to a replace of userPassword means that
#   nothing has changed and that it is worth another try.
# Source: OpenLDAP 2.5.13, servers/slapd/overlays/ppolicy.c, ppolicy_modify and make_pwd_history_value.
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

unpack slapd=2.5.13+dfsg-5 ldap-utils=2.5.13+dfsg-5 \
    libldap-2.5-0=2.5.13+dfsg-5 libsasl2-2=2.1.28+dfsg-10 libltdl7=2.4.7-7~deb12u1 libwrap0=7.6.q-32 \
    libnsl2=1.3.0-2 libtirpc3=1.3.3+ds-1 libgssapi-krb5-2=1.20.1-2+deb12u5 libkrb5-3=1.20.1-2+deb12u5 \
    libk5crypto3=1.20.1-2+deb12u5 libkrb5support0=1.20.1-2+deb12u5 libkeyutils1=1.6.3-2 libssl3=3.0.20-1~deb12u2

mkdir data
cat >slapd.conf <<CONF
modulepath $work/root/usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
include $work/root/etc/ldap/schema/core.schema
database mdb
suffix o=test
rootdn cn=root,o=test
rootpw secret
directory $work/data
overlay ppolicy
ppolicy_default cn=policy,o=test
CONF
url=ldapi://${work//\//%2F}%2Fsocket
LD_LIBRARY_PATH=$libraries root/usr/sbin/slapd -f slapd.conf -h "$url" -d 0 2>slapd.log &
servers+=($!)
for _ in $(seq 50); do [ -S socket ] && break; sleep 0.1; done
client=(-x -H "$url" -D "cn=root,o=test" -w secret)
a='{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g='
b='{SHA}C+7Hteo/D9vJXQ3UfzxbwnXaijM='
within root/usr/bin/ldapadd "${client[@]}" >ldapadd.log <<LDIF
dn: o=test
objectClass: organization
o: test

dn: cn=policy,o=test
objectClass: device
objectClass: pwdPolicy
cn: policy
pwdAttribute: userPassword
pwdInHistory: 6

dn: cn=ana,o=test
objectClass: person
cn: ana
sn: Ana
userPassword: $a
LDIF

replace() { # HASH: the result code
    local code=0
    printf '%s\n' "dn: cn=ana,o=test" "changetype: modify" "replace: userPassword" "userPassword: $1" |
        within root/usr/bin/ldapmodify "${client[@]}" >>ldapmodify.log 2>&1 || code=$?
    echo "$code"
}
# Begin with a new second; repeat when the machine was too slow to do it all in that one.
for _ in $(seq 20); do
    second=$(date +%s)
    while [ "$(date +%s)" = "$second" ]; do sleep 0.01; done
    second=$(date +%s)
    seen="B $(replace "$b"), A $(replace "$a"), B $(replace "$b"), A $(replace "$a")"
    [ "$(date +%s)" = "$second" ] && break
done
sleep 1.1
seen+="; a second later A $(replace "$a")"
sed -n 's/.*additional info: //p' ldapmodify.log | sort -u

report "$(within root/usr/sbin/slapd -VV 2>&1 | sed -n 's/.*\(OpenLDAP: slapd [^ ]*\).*/\1/p')" \
    "B 0, A 0, B 0, A 0; a second later A 0" \
    "B 0, A 0, B 20, A 20; a second later A 0" \
    "$seen"
