"""Bare systems of a release for `scripts/package-test`: made by debootstrap, entered, and booted.

Mounts and processes are in namespaces of their own: they end with this program, however it ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import apt_mirrors

PROJECT = Path(__file__).resolve().parents[1]
WORK = PROJECT / ".releases"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
UBUNTU = ("noble",)
UBUNTU_KEYS = "usr/share/keyrings/ubuntu-archive-keyring.gpg"
RELEASES = ("bookworm", "trixie", "noble", "sid")

# $1 is the system; the rest is the command.
ENTER = """
set -e
mount -t proc proc "$1/proc"
mkdir -p "$CACHE" "$1/root/.cache/pip"
mount --bind "$CACHE" "$1/root/.cache/pip"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive PIP_CERT=/etc/ssl/certs/ca-certificates.crt chroot "$@"
"""
# systemd as the first process. Of this machine's kernel it can read the settings, not change them.
BOOT = """
set -e
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --bind "$1/proc/sys" "$1/proc/sys"
mount -o remount,bind,ro "$1/proc/sys"
mount -t sysfs -o ro sysfs "$1/sys"
mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$1/run"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
exec env -i container=package-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$1" /lib/systemd/systemd --unit=multi-user.target
"""


class Failed(Exception):
    """A step did not work; the message is for the user."""


def say(message: str) -> None:
    print(f"package-test {time.strftime('%H:%M:%S')}: {message}", flush=True)


def run(*command: str | Path, accept: tuple[int, ...] = (0,), **given: object) -> str:
    """Run a command, and return what it printed. Raises Failed for a status not in ``accept``."""
    done = subprocess.run(  # type: ignore[call-overload]
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
        **(given if "input" in given else {"stdin": subprocess.DEVNULL, **given}),
    )
    if done.returncode not in accept:
        shown = " ".join(str(word) for word in command[-4:])
        raise Failed(f"status {done.returncode} of {shown}\n{done.stdout[-3000:]}")
    return str(done.stdout)


def minimal(release: str) -> Path:
    """Return a bare system of the release, which nobody may change."""
    path = WORK / f"minimal-{release}"
    finished = WORK / f"minimal-{release}.finished"
    if finished.exists() and path.is_dir():
        return path
    remove(path)
    words = ["debootstrap", "--variant=minbase", "--include=ca-certificates"]
    distribution = "ubuntu" if release in UBUNTU else "debian"
    mirror = apt_mirrors.mirror(distribution)
    if mirror is None:
        raise Failed(f"set {distribution.upper()}_MIRROR to the URL of an archive of {release}")
    rest = [release, str(path), mirror]
    if release in UBUNTU:
        # Debian signs the keys of Ubuntu; older debootstraps have no script of newer releases.
        words += [f"--keyring={_ubuntu_keys()}", "--components=main,universe"]
        rest += ["/usr/share/debootstrap/scripts/gutsy"]
    say(f"debootstrap {release}: a few minutes")
    run(*words, *rest)
    finished.touch()
    return path


def _ubuntu_keys() -> Path:
    if Path("/", UBUNTU_KEYS).exists():
        return Path("/", UBUNTU_KEYS)
    found = WORK / "ubuntu-keys"
    if not (found / UBUNTU_KEYS).exists():
        system = copy(minimal("trixie"), "keys")
        enter(system, "cd /tmp && apt-get update -q && apt-get download ubuntu-archive-keyring")
        (package,) = system.glob("tmp/ubuntu-archive-keyring_*.deb")
        run("dpkg-deb", "-x", package, found)
        remove(system)
    return found / UBUNTU_KEYS


def copy(base: Path, name: str) -> Path:
    """Return a copy of ``base`` that knows this machine's network and certificates."""
    path = WORK / name
    remove(path)
    run("cp", "-a", "--reflink=auto", base, path)
    for name in ("etc/resolv.conf", CERTIFICATES):
        shutil.copyfile(Path("/", name), path / name)
    return path


def remove(path: Path) -> None:
    run("rm", "-rf", "--one-file-system", path)


def put_sources(system: Path, revision: str = "", version: str = "") -> None:
    """Put the sources into ``/source``; those of ``revision``, with this tree's packaging."""
    target = system / "source"
    remove(target)
    target.mkdir()
    files = "git ls-files -co --exclude-standard -z | tar -c --null -T - "
    run("bash", "-o", "pipefail", "-c", files + '| tar -x -C "$0"', target, cwd=PROJECT)
    if revision:
        run("rm", "-rf", target / "src")
        archive = f"git archive {revision} src pyproject.toml README.md LICENSE CHANGELOG.md"
        run("bash", "-o", "pipefail", "-c", archive + ' | tar -x -C "$0"', target, cwd=PROJECT)
        (target / "src/iredapi/__init__.py").write_text(f'__version__ = "{version}"\n')


def enter(system: Path, command: str, *, accept: tuple[int, ...] = (0,)) -> str:
    """Run a shell command in the system, with this machine's network."""
    return run(
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
        "bash", "-c", ENTER, "bash", system, "/bin/bash", "-c", command,
        accept=accept, env={**os.environ, "CACHE": str(WORK / "pip-cache")},
    )  # fmt: skip


class Machine:
    """A system with systemd running, and a network of its own: loopback only."""

    def __init__(self, system: Path) -> None:
        self.root = system
        self._unshare = subprocess.Popen(
            [
                "unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork",
                "--kill-child", "--propagation", "private", "bash", "-c", BOOT, "bash", str(system),
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._first = 0
        deadline = time.monotonic() + 60
        state = ""
        while time.monotonic() < deadline and self._unshare.poll() is None:
            children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
            self._first = int((children.read_text().split() or ["0"])[0])
            if self._first:
                try:
                    state = (self("systemctl is-system-running", accept=(0, 1)).split() or [""])[-1]
                except Failed as error:
                    state = str(error)
                if state in ("running", "degraded"):
                    return
            time.sleep(0.5)
        self.stop()
        raise Failed(f"systemd does not start in namespaces here: {state}")

    def __call__(self, command: str, *, accept: tuple[int, ...] = (0,), text: str = "") -> str:
        """Run a shell command in the running system."""
        return run(
            "nsenter", f"--target={self._first}", "--mount", "--pid", "--net", "--uts", "--ipc",
            "--cgroup", "--root", "--wd",
            "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8",
            "DEBIAN_FRONTEND=noninteractive", "/bin/bash", "-c", command,
            accept=accept, input=text,
        )  # fmt: skip

    def stop(self) -> None:
        """Kill every process of it."""
        if self._first:
            os.kill(self._first, signal.SIGKILL)
        self._unshare.kill()
        self._unshare.wait()
