"""A lock file that allows one service at a time on a set of SQLite files.

It is locked with ``flock``, which the kernel releases when the process ends, also by SIGKILL.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy.engine import make_url

from iredapi.config.errors import ConfigurationError
from iredapi.config.settings import Settings
from iredapi.runtime.start_errors import file_trouble

NAME = "iredapi.lock"
"""The file in the data directory."""


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Hold the locks of all SQLite files of a configuration.

    Raises ConfigurationError with the id of the process that holds one of them.
    """
    with ExitStack() as held:
        for path, setting in _files(settings).items():
            held.enter_context(_locked(path, setting))
        yield


def _files(settings: Settings) -> dict[Path, str]:
    """Return the path of each lock file, with the setting that determines it."""
    files = {}
    directory = settings.data_dir.absolute()
    for name, text in settings.urls().items():
        url = make_url(text)
        if url.get_backend_name() != "sqlite":
            continue
        path = Path(url.database or "").absolute()
        if path.parent == directory:
            files[directory / NAME] = "IREDAPI_DATA_DIR"
        else:
            files[path.with_name(f"{path.name}.lock")] = f"IREDAPI_{name.upper()}_URL"
    return files


@contextmanager
def _locked(path: Path, setting: str) -> Iterator[None]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{setting}: the directory {path.parent} cannot be created: {error.strerror}"
        ) from None
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        trouble = file_trouble(path) or f"{path} cannot be created: {error.strerror}"
        raise ConfigurationError(f"{setting}: {trouble}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            raise ConfigurationError(
                f"{setting}: the SQLite files there ({path}) are in use by another `iredapi "
                f"serve`, process {process or 'unknown'}: stop it first, or use another directory"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
