"""Child processes that never outlive the test process, and temporary directories likewise."""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "iredapi-test-"
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_locks: dict[Path, int] = {}


class ServerError(Exception):
    """A server did not start, or answered something that is neither yes nor no."""


def is_root() -> bool:
    return os.geteuid() == 0


def find_program(name: str, *directories: str) -> str | None:
    """The path of a program, also when it is in an administrator's directory."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", *directories])
    return shutil.which(name, path=path)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _sweep(base: Path) -> None:
    """Remove what test processes that were killed left behind (their lock is free)."""
    for directory in base.glob(f"{PREFIX}*"):
        try:
            descriptor = os.open(directory / "lock", os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            status = os.fstat(descriptor)
            # A lock that was just made may not be taken yet.
            if status.st_uid == os.geteuid() and time.time() - status.st_mtime > 60:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
        except OSError:
            pass
        finally:
            os.close(descriptor)


def temporary_directory(purpose: str, owner: str | None = None) -> Path:
    """A new directory, given to ``owner`` when we are root; removed when we end.

    A file ``lock`` in it is locked as long as we live, so that a later run can tell and remove
    what a killed one left. Names are short: paths of Unix sockets have a limit of 108 bytes.
    """
    base = Path(tempfile.gettempdir())
    _sweep(base)
    path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-", dir=base))
    path.chmod(0o755)
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    _locks[path] = lock
    if owner is not None and is_root():
        account = pwd.getpwnam(owner)
        os.chown(path, account.pw_uid, account.pw_gid)
    atexit.register(remove_directory, path)
    return path


def remove_directory(path: Path) -> None:
    lock = _locks.pop(path, None)
    if lock is not None:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def run(
    command: Sequence[str | Path], *, user: str | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as ``user`` when we are root; no input, output captured."""
    drop = _drop_to(user)
    return subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
        cwd="/",
        env=_environment(),
        user=drop.user,
        group=drop.group,
        extra_groups=drop.extra_groups,
    )


@dataclass(frozen=True)
class _Drop:
    user: int | None = None
    group: int | None = None
    extra_groups: list[int] | None = None


def _drop_to(user: str | None) -> _Drop:
    if user is None or not is_root():
        return _Drop()
    account = pwd.getpwnam(user)
    return _Drop(account.pw_uid, account.pw_gid, os.getgrouplist(user, account.pw_gid))


def _environment() -> dict[str, str]:
    kept: Mapping[str, str] = {
        name: os.environ[name] for name in ("PATH", "TZ", "TMPDIR") if name in os.environ
    }
    return {**kept, "LC_ALL": "C.UTF-8", "HOME": "/"}


@dataclass
class Daemon:
    """A server in the foreground of a session of its own, with its output in a log file."""

    process: subprocess.Popen[bytes]
    log: Path
    stop_signal: signal.Signals
    _stopped: bool = field(default=False, init=False)

    @classmethod
    def start(
        cls,
        command: Sequence[str | Path],
        *,
        log: Path,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        ready: Callable[[], bool],
        timeout: float = 60,
    ) -> Daemon:
        """Start, wait until ``ready()``; the kernel sends ``stop_signal`` if we are killed."""
        parent = os.getpid()

        def tie_to_parent() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(stop_signal))
            if os.getppid() != parent:
                os._exit(1)

        drop = _drop_to(user)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=_environment(),
                start_new_session=True,
                user=drop.user,
                group=drop.group,
                extra_groups=drop.extra_groups,
                preexec_fn=tie_to_parent,  # noqa: PLW1509 - set after the change of user
            )
        daemon = cls(process, log, stop_signal)
        atexit.register(daemon.stop)
        deadline = time.monotonic() + timeout
        while not ready():
            code = process.poll()
            if code is not None or time.monotonic() > deadline:
                daemon.stop()
                reason = "did not get ready" if code is None else f"ended with status {code}"
                raise ServerError(f"{command[0]} {reason}:\n{daemon.tail()}")
            time.sleep(0.02)
        return daemon

    def tail(self, lines: int = 30) -> str:
        """The end of the log."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, timeout: float = 15) -> None:
        """Stop the server; kill what is left of its process group."""
        if self._stopped:
            return
        self._stopped = True
        atexit.unregister(self.stop)
        if self.stop_signal is not signal.SIGKILL and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout)
