#!/usr/bin/env bash
# Good guess: a form field whose value is None is not sent. requests, in which the examples of this API are written,
#   documents that, and httpx calls its interface "broadly compatible with requests".
# What happens: four clients make three different requests of {"name": "Ana", "forwarding": None}. requests and
#   Ansible's uri module leave the field out. httpx sends it with an empty value. aiohttp, and urllib of Python, send
#   the four letters "None". None of them warns. In a list, requests and httpx treat None likewise.
# Why it matters to iredapi: a field that is left out stays as it is, and an empty one is cleared: for forwarding that
#   is the end of all forwarding of a user. A script that fills a dictionary from another system, and that moves from
#   requests to httpx for the sake of asyncio, loses what it used to leave alone; with aiohttp users are renamed to
#   "None". So absent values have to be taken out before the call (docs/clients.md).
# Source: requests, models.py, RequestEncodingMixin._encode_params; httpx, _utils.py, primitive_value_to_str; aiohttp,
#   formdata.py, FormData._gen_form_urlencoded; ansible-core, modules/uri.py, form_urlencoded.
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

pip() { # NAME==VERSION...: Python packages, into $work/venv
    "${PYTHON:-python3}" -m venv venv
    venv/bin/pip -q --disable-pip-version-check install "$@" 2>pip.log || { cat pip.log >&2; return 1; }
}
report() { # VERSION GUESS DESCRIBED SEEN
    printf 'version:   %s\nguessed:   %s\ndescribed: %s\nseen:      %s\n' "$@"
    [ "$3" = "$4" ] || { echo "Not as described any more." >&2; exit 1; }
}

pip requests==2.34.2 httpx==0.28.1 aiohttp==3.14.5 ansible-core==2.19.14

cat >put.py <<'PYTHON'
import asyncio
import http.server
import importlib.metadata
import json
import os
import subprocess
import sys
import threading
import urllib.parse
import urllib.request

import aiohttp
import httpx
import requests

FORM = {"name": "Ana", "forwarding": None}
bodies = []


class Server(http.server.BaseHTTPRequestHandler):
    def do_PUT(self):
        bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


async def with_aiohttp(url):
    async with aiohttp.ClientSession() as session, session.put(url, data=FORM) as response:
        response.raise_for_status()


def with_urllib(url):
    data = urllib.parse.urlencode(FORM).encode()
    urllib.request.urlopen(urllib.request.Request(url, data, method="PUT")).close()


def with_ansible(url):
    arguments = json.dumps({"url": url, "method": "PUT", "body_format": "form-urlencoded", "body": FORM})
    command = [f"{os.path.dirname(sys.executable)}/ansible", "localhost", "-c", "local", "-i", "localhost,"]
    command += ["-e", f"ansible_python_interpreter={sys.executable}", "-m", "ansible.builtin.uri", "-a", arguments]
    subprocess.run(command, check=True, capture_output=True)


with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/api/user/ana@x.test"
    seen = []
    for name, put in {
        "requests": lambda url: requests.put(url, data=FORM).raise_for_status(),
        "ansible": with_ansible,
        "httpx": lambda url: httpx.put(url, data=FORM).raise_for_status(),
        "aiohttp": lambda url: asyncio.run(with_aiohttp(url)),
        "urllib": with_urllib,
    }.items():
        put(url)
        seen.append(f"{name} {bodies.pop()}")
    server.shutdown()
names = ("requests", "ansible-core", "httpx", "aiohttp")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in names))
print("; ".join(seen))
PYTHON
mkdir home
{ read -r version; read -r seen; } < <(env -u http_proxy -u HTTP_PROXY -u all_proxy -u ALL_PROXY \
    HOME="$work/home" ANSIBLE_LOCALHOST_WARNING=false LC_ALL=C.UTF-8 venv/bin/python put.py)

report "$version, Python $(venv/bin/python -c 'import platform; print(platform.python_version())')" \
    "requests name=Ana; ansible name=Ana; httpx name=Ana; aiohttp name=Ana; urllib name=Ana" \
    "requests name=Ana; ansible name=Ana; httpx name=Ana&forwarding=; aiohttp name=Ana&forwarding=None; urllib name=Ana&forwarding=None" \
    "$seen"
