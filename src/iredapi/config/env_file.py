"""Write our env file in a notation that systemd and our own parser read alike."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from iredapi.config.errors import ConfigurationError
from iredapi.config.loading import load

PACKAGED: Final = 'IREDAPI_DATA_DIR="/var/lib/iredapi"'
"""The only setting in the file of a package, so that commands find the data of the service."""


def render(values: Mapping[str, str], *, heading: str = "") -> str:
    """Return the text of an env file.

    Values are in double quotes, with a backslash before quotes and backslashes. Neither systemd
    (EnvironmentFile) nor our parser expands ``$``. Raises ConfigurationError for control
    characters, which systemd refuses.
    """
    lines = [f"# {line}".rstrip() for line in heading.splitlines()]
    for name, value in values.items():
        if any(ord(char) < 32 or ord(char) == 127 for char in value):
            raise ConfigurationError(f"{name}: control characters cannot stand in an env file")
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'{name}="{escaped}"')
    return "\n".join(lines) + "\n"


def check_replaceable(path: Path) -> None:
    """Refuse a path where something is, other than a package's file, in which nobody set anything.

    Raises ConfigurationError.
    """
    if not os.path.lexists(path):
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else ["?"]
    except (OSError, UnicodeDecodeError):
        lines = ["?"]
    words = [line.strip() for line in lines]
    if any(word and word[0] != "#" and word != PACKAGED for word in words):
        raise ConfigurationError(f"{path}: exists already; --force overwrites it")


def write(path: Path, values: Mapping[str, str], *, heading: str = "", force: bool = False) -> None:
    """Write the env file atomically, readable by its owner only.

    A file that is replaced keeps its owner and group; with mode 0640 also that. The new
    file is loaded first, so that the server will accept it. Raises ConfigurationError when it is
    not valid, or when a file with settings exists and ``force`` is false.
    """
    text = render(values, heading=heading)
    if not force:
        check_replaceable(path)
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp creates the file with mode 0600.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        load(
            Path(temporary),
            **{name.removeprefix("IREDAPI_").lower(): value for name, value in values.items()},
        )
        if path.exists():  # keep the owner: the account that the service runs as
            before = path.stat()
            os.chown(temporary, before.st_uid, before.st_gid)
            if before.st_mode & 0o044 == 0o040:  # its group, and nobody else
                Path(temporary).chmod(0o640)
        Path(temporary).replace(path)
        temporary = None
    except UnicodeEncodeError:
        raise ConfigurationError(f"{path}: a value holds text that is not Unicode") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
