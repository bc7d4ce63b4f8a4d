#!/usr/bin/env bash
# Good guess: a name of an entry that slapd returns can be read by an LDAP client library; RFC 4514 wants a "#"
#   escaped only as the first character of a value.
# What happens: bonsai checks every name with a pattern of its own, which wants "#" escaped everywhere. slapd keeps
#   and returns it as it is, bonsai raises InvalidDN; and since the name of each entry found is checked, one entry
#   makes the whole search fail. (bonsai wants "=" escaped, too, but that does no harm: slapd itself returns it as
#   "\3D".)
# Why it matters to iredapi: addresses are part of names in iRedMail's tree (mail=a#b@x.test,...) and "#" may stand in
#   the local part. Another program can make such an account, and then every search that finds it would fail. So
#   iredapi puts a class of its own in the place of bonsai's, which keeps the name as the server sent it.
# Source: bonsai, ldapdn.py, LDAPDN._attrvalue; RFC 4514, section 3 (leadchar, stringchar).
# Needs what bonsai is compiled with: a C compiler, Python's headers, libldap-dev, libsasl2-dev (scripts/bootstrap).
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

unpack slapd=2.5.13+dfsg-5 ldap-utils=2.5.13+dfsg-5 \
    libldap-2.5-0=2.5.13+dfsg-5 libsasl2-2=2.1.28+dfsg-10 libltdl7=2.4.7-7~deb12u1 libwrap0=7.6.q-32 \
    libnsl2=1.3.0-2 libtirpc3=1.3.3+ds-1 libgssapi-krb5-2=1.20.1-2+deb12u5 libkrb5-3=1.20.1-2+deb12u5 \
    libk5crypto3=1.20.1-2+deb12u5 libkrb5support0=1.20.1-2+deb12u5 libkeyutils1=1.6.3-2 libssl3=3.0.20-1~deb12u2
pip bonsai==1.5.5

mkdir data
cat >slapd.conf <<CONF
modulepath $work/root/usr/lib/ldap
moduleload back_mdb
include $work/root/etc/ldap/schema/core.schema
include $work/root/etc/ldap/schema/cosine.schema
include $work/root/etc/ldap/schema/inetorgperson.schema
database mdb
suffix o=test
rootdn cn=root,o=test
rootpw secret
directory $work/data
CONF
url=ldapi://${work//\//%2F}%2Fsocket
LD_LIBRARY_PATH=$libraries root/usr/sbin/slapd -f slapd.conf -h "$url" -d 0 2>slapd.log &
servers+=($!)
for _ in $(seq 50); do [ -S socket ] && break; sleep 0.1; done
client=(-x -H "$url" -D "cn=root,o=test" -w secret)
printf '%s\n' "dn: o=test" "objectClass: organization" "o: test" "" |
    within root/usr/bin/ldapadd "${client[@]}" >ldapadd.log

cat >search.py <<'PYTHON'
import sys

import bonsai

client = bonsai.LDAPClient(sys.argv[1])
client.set_credentials("SIMPLE", user="cn=root,o=test", password="secret")
try:
    with client.connect() as connection:
        print(len(connection.search("o=test", 2, "(mail=*)")), "found")
except bonsai.InvalidDN:
    print("InvalidDN")
PYTHON
seen=
for address in ana@x.test a#b@x.test; do
    printf '%s\n' "dn: mail=$address,o=test" "objectClass: inetOrgPerson" "cn: Ana" "sn: Ana" "mail: $address" |
        within root/usr/bin/ldapadd "${client[@]}" >>ldapadd.log
    count=$(within root/usr/bin/ldapsearch -LLL "${client[@]}" -b o=test "(mail=*)" dn | grep -c '^dn:')
    seen+="$address: ldapsearch $count found, bonsai $(venv/bin/python search.py "$url"); "
done

report "bonsai $(venv/bin/python -c 'import bonsai; print(bonsai.__version__)'), $(
    within root/usr/sbin/slapd -VV 2>&1 | sed -n 's/.*\(OpenLDAP: slapd [^ ]*\).*/\1/p')" \
    "ana@x.test: ldapsearch 1 found, bonsai 1 found; a#b@x.test: ldapsearch 2 found, bonsai 2 found" \
    "ana@x.test: ldapsearch 1 found, bonsai 1 found; a#b@x.test: ldapsearch 2 found, bonsai InvalidDN" \
    "${seen%; }"
