"""The files for operation: they parse, and name only settings and commands that exist."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

from iredapi import __version__
from iredapi.config import env_file, import_iredadmin
from iredapi.config.ldap_settings import Backend
from iredapi.config.loading import load
from iredapi.config.settings import Settings
from iredapi.web import connection_limits

ROOT = Path(__file__).parents[2]
FILES = [
    "Dockerfile",
    "docker-compose.yml",
    "README.md",
    *sorted(
        str(p.relative_to(ROOT))
        for name in ("deploy", "packaging")
        for p in (ROOT / name).rglob("*")
        if p.is_file()
    ),
]
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
"""What dpkg runs."""


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("name", FILES)
def test_names_of_settings_exist(name: str) -> None:
    known = {f"IREDAPI_{field.upper()}" for field in Settings.model_fields}
    used = set(re.findall(r"IREDAPI_[A-Z0-9_]*[A-Z0-9]", (ROOT / name).read_text(encoding="utf-8")))
    assert used <= known


def test_compose_is_well_formed(compose: dict[str, Any]) -> None:
    keys = {
        "build", "image", "restart", "read_only", "tmpfs", "cap_drop", "security_opt", "ports",
        "environment", "depends_on", "profiles", "volumes", "healthcheck", "networks",
    }  # fmt: skip
    services = compose["services"]
    assert {key for key in compose if not key.startswith("x-")} == {
        "services", "volumes", "networks",
    }  # fmt: skip
    assert services.keys() == {
        "api", "postgresql", "api-mariadb", "mariadb", "api-ldap", "openldap",
        "nginx", "api-galera-1", "api-galera-2", "haproxy", "galera1", "galera2", "galera3",
    }  # fmt: skip
    for service in services.values():
        assert service.keys() <= keys
        assert "image" in service
        for other in service.get("depends_on", {}):
            # What a service needs must be there in every profile that the service is in.
            there = set(services[other].get("profiles", []))
            own = set(service.get("profiles", []))
            assert not there or (own and own <= there)
            started = service["depends_on"][other]["condition"] == "service_started"
            assert started or "healthcheck" in services[other]
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose["volumes"]
        assert all(isinstance(value, str) for value in service.get("environment", {}).values())


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def test_compose_has_no_default_secrets(compose: dict[str, Any]) -> None:
    for text in _texts(compose):
        for name, rest in re.findall(r"\$\{([A-Z_]+)([^}]*)\}", text):
            if "PASSWORD" in name or name == "IREDAPI_VMAIL_URL":
                assert re.fullmatch(r":\?.{20,}", rest), text
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if name.endswith("_PASSWORD") and name != "MARIADB_RANDOM_ROOT_PASSWORD":
                assert value.startswith("${"), name


def test_compose_settings_load(compose: dict[str, Any], tmp_path: Path) -> None:
    given = {
        "IREDAPI_VMAIL_URL": "mysql://vmailadmin:x@mail/vmail",
        "STATE_PASSWORD": "x",
        "LDAP_SUFFIX": "dc=example,dc=com",
        "LDAP_VMAILADMIN_PASSWORD": "x",
    }

    def substitute(match: re.Match[str]) -> str:
        name, default = match[1], match[2] or ""
        return given.get(name, default.removeprefix(":-"))

    innermost = re.compile(r"\$\{([A-Z_]+)(:[-?][^${}]*)?\}")

    def filled(text: str) -> str:
        while innermost.search(text):
            text = innermost.sub(substitute, text)
        return text

    gateway = filled(compose["networks"]["default"]["ipam"]["config"][0]["gateway"])
    for service in ("api", "api-mariadb", "api-galera-1", "api-galera-2", "api-ldap"):
        environment = compose["services"][service]["environment"]
        lines = [f'{n}="{filled(value)}"' for n, value in environment.items()]
        path = tmp_path / f"{service}.env"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        settings = load(path)
        assert not settings.uses_sqlite
        assert settings.workers == 2
        # The web server of the machine comes from there.
        proxies = [gateway]
        if "galera" in service:
            # nginx reaches it from an address of its own.
            fixed = compose["services"]["nginx"]["networks"]["default"]["ipv4_address"]
            proxies.append(filled(fixed))
        assert settings.trusted_proxies == proxies
    assert settings.backend is Backend.LDAP
    assert settings.ldap_uri == ["ldap://openldap:1389"]


def test_compose_starts_openldap_with_what_it_needs(compose: dict[str, Any]) -> None:
    service = compose["services"]["openldap"]
    script = (ROOT / "deploy" / "openldap" / "entrypoint").read_text(encoding="utf-8")
    required = set(re.findall(r"\$\{(LDAP_[A-Z_]+):\?", script)) - {"LDAP_TLS_KEY"}
    assert required == service["environment"].keys()
    image = (ROOT / service["build"] / "Dockerfile").read_text(encoding="utf-8")
    assert "\nUSER openldap\n" in image
    (volume,) = service["volumes"]
    assert f"LDAP_DATA={volume.split(':')[1]} " in image
    copied = re.search(r"^COPY (.+) \S+/$", image, re.MULTILINE)
    assert copied is not None
    assert {*copied[1].split(), "Dockerfile"} == {
        path.name for path in (ROOT / "deploy" / "openldap").iterdir()
    }
    port = re.search(r"LDAP_LISTEN=ldap://0\.0\.0\.0:(\d+)/", image)
    assert port is not None
    assert f"ldap://127.0.0.1:{port[1]};" in service["healthcheck"]["test"][1]
    # Only names that the script reads.
    for name in re.findall(r"LDAP_[A-Z_]+(?==)", image):
        assert f"${{{name}:-" in script, name


def test_compose_starts_a_cluster(compose: dict[str, Any]) -> None:
    """Names agree in the files of nginx, of HAProxy and of the nodes."""
    services = compose["services"]
    nodes = [name for name in services if re.fullmatch(r"galera\d", name)]
    for node in nodes:
        environment = services[node]["environment"]
        assert environment["GALERA_NODE"] == node
        assert environment["GALERA_NODES"].split(",") == nodes
        assert services[node]["volumes"] == [f"{node}:/var/lib/mysql"]
    deploy = ROOT / "deploy"
    proxy = (deploy / "haproxy-galera.cfg").read_text(encoding="utf-8")
    servers = re.findall(r"^ *server (\S+) (\S+):3306 check( backup)?$", proxy, re.MULTILINE)
    assert servers == [(node, node, " backup" if index else "") for index, node in enumerate(nodes)]
    script = (deploy / "galera" / "start").read_text(encoding="utf-8")
    required = set(re.findall(r"\$\{(GALERA_[A-Z_]+):\?", script))
    assert required == {"GALERA_NODE", "GALERA_NODES"}
    port = re.search(r"GALERA_CHECK_LISTEN:-(\d+)", script)
    assert port is not None
    assert f"default-server port {port[1]} " in proxy


def test_compose_replicas_are_reached_by_nginx(compose: dict[str, Any], tmp_path: Path) -> None:
    """What the image of nginx does with its two files."""
    deploy = ROOT / "deploy"
    recipe = (deploy / "nginx.Dockerfile").read_text(encoding="utf-8")
    for name, place in re.findall(r"^COPY (\S+) (\S+)$", recipe, re.MULTILINE):
        copy = tmp_path / place.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(deploy / name, copy)
    commands = recipe.partition("RUN ")[2].replace("/etc/", f"{tmp_path}/etc/")
    subprocess.run(["/bin/sh", "-e", "-c", commands], check=True)
    read = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.conf")}
    assert "include iredapi.conf;" in read["default.conf"]
    assert read["iredapi.conf"].count("proxy_pass http://iredapi;") == 2
    servers = re.findall(r"^ *server (\S+):8000 ", read["iredapi-replicas.conf"], re.MULTILINE)
    assert servers == [name for name in compose["services"] if name.startswith("api-galera-")]


def test_env_example_loads() -> None:
    path = ROOT / "deploy" / "iredapi.env.example"
    settings = load(path)
    assert not settings.embedded
    assert None not in dotenv_values(path, interpolate=False).values()


def test_env_example_for_openldap_loads(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "iredapi.env.example").read_text(encoding="utf-8")
    text = re.sub(r"^IREDAPI_VMAIL_URL.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^#(?=IREDAPI_(BACKEND|LDAP))", "", text, flags=re.MULTILINE)
    (tmp_path / "env").write_text(text, encoding="utf-8")
    settings = load(tmp_path / "env")
    assert settings.backend is Backend.LDAP
    assert settings.ldap_starttls


def test_unit_is_well_formed() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "deploy" / "iredapi.service", encoding="utf-8")
    assert unit.sections() == ["Unit", "Service", "Install"]
    service = unit["Service"]
    assert service["EnvironmentFile"] == "/etc/iredapi/iredapi.env"
    assert service["User"] == "iredapi"
    assert service["StateDirectory"] == "iredapi"
    assert service["ExecStart"].endswith("/iredapi serve")


def test_unit_bounds_what_an_attack_may_take() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "deploy" / "iredapi.service", encoding="utf-8")
    service = unit["Service"]
    assert service["LimitCORE"] == "0"
    assert re.fullmatch(r"[1-9]G", service["MemoryMax"])
    # So many descriptors are enough for all connections that a worker keeps.
    descriptors = int(service["LimitNOFILE"])
    settings = Settings(_env_file=None, pool_size=100)
    found = connection_limits.max_connections(settings, descriptors)
    assert found == connection_limits.MOST_CONNECTIONS


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_unit_is_accepted_by_systemd(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "iredapi.service").read_text(encoding="utf-8")
    # What is not on this machine: the program and the account.
    text = text.replace("/opt/iredapi/bin/iredapi", shutil.which("true") or "/bin/true")
    text = text.replace("User=iredapi", "User=root").replace("Group=iredapi", "Group=root")
    (tmp_path / "iredapi.service").write_text(text, encoding="utf-8")
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "iredapi.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in checked.stderr.splitlines() if "iredapi.service" in line]
    assert (checked.returncode, ours) == (0, [])


def test_dockerfile_runs_without_root_and_development_dependencies() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    final = text.split("\nFROM ")[-1]
    assert re.search(r"^USER (?!root)\w+$", final, re.MULTILINE)
    assert "HEALTHCHECK" in final
    assert "[dev]" not in text
    assert "'.[ldap,otel,yaml]'" in text
    assert " gcc " not in final
    assert "libldap2" in final
    assert final.startswith("python:3.13-slim")


def test_nginx_passes_both_prefixes() -> None:
    text = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    assert re.findall(r"^location \^~ (\S+) \{$", text, re.MULTILINE) == [
        f"{prefix}/" for prefix in Settings().prefixes
    ]
    assert text.count("{") - text.count("{ …") == text.count("}") - text.count("… }")
    assert text.count("X-Forwarded-For $proxy_add_x_forwarded_for;") == 2
    assert text.count("X-Forwarded-Proto $scheme;") == 2


def test_nginx_asks_every_replica_again() -> None:
    """A replica that was just restarted is not passed over; kept connections lose POSTs."""
    text = (ROOT / "deploy" / "nginx-replicas.conf").read_text(encoding="utf-8")
    servers = re.findall(r"^ *server (.*);$", text, re.MULTILINE)
    assert len(servers) == 2
    assert all(server.endswith(" max_fails=0") for server in servers)
    assert not re.search(r"^\s*keepalive", text, re.MULTILINE)


@pytest.mark.parametrize("name", SCRIPTS)
def test_package_scripts_parse_and_stop_at_errors(name: str) -> None:
    path = ROOT / "packaging" / name
    assert path.read_text(encoding="utf-8").startswith("#!/bin/sh\n")
    assert "\nset -e\n" in path.read_text(encoding="utf-8")
    subprocess.run(["/bin/sh", "-n", path], check=True)


def test_package_configuration_is_replaced_by_init(tmp_path: Path) -> None:
    path = Path(shutil.copy(ROOT / "packaging" / "iredapi.env", tmp_path))
    assert dotenv_values(path) == {"IREDAPI_DATA_DIR": import_iredadmin.DATA_DIR}
    assert env_file.PACKAGED in path.read_text(encoding="utf-8").splitlines()
    assert load(path).embedded
    env_file.write(path, {"IREDAPI_PORT": "8001"})
    assert dotenv_values(path) == {"IREDAPI_PORT": "8001"}


def test_package_has_the_version_of_the_program() -> None:
    changelog = (ROOT / "packaging" / "changelog").read_text(encoding="utf-8")
    assert changelog.startswith(f"iredapi ({__version__}-1) ")


def test_package_and_unit_name_the_same_places() -> None:
    unit = (ROOT / "deploy" / "iredapi.service").read_text(encoding="utf-8")
    build = (ROOT / "scripts" / "build-package").read_text(encoding="utf-8")
    scripts = "".join((ROOT / "packaging" / name).read_text(encoding="utf-8") for name in SCRIPTS)
    for text in (build, scripts):
        assert "/opt/iredapi" in text
        assert "/etc/iredapi/iredapi.env" in text
    assert "\nExecStart=/opt/iredapi/bin/iredapi serve\n" in unit
    assert "\nEnvironmentFile=/etc/iredapi/iredapi.env\n" in unit
    assert "data=/var/lib/iredapi\n" in scripts
    assert str(import_iredadmin.PACKAGED_UNIT) == "/usr/lib/systemd/system/iredapi.service"
    assert "$root/usr/lib/systemd/system/iredapi.service" in build
