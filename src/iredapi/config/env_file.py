"""Writing our env file, so that systemd and python-dotenv read the same."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from iredapi.config.errors import ConfigurationError
from iredapi.config.loading import load


def render(values: Mapping[str, str], *, heading: str = "") -> str:
    """Return the text of an env file that systemd and python-dotenv read alike.

    Both take a double-quoted value as it is, except that a backslash protects a quote or a
    backslash; systemd does not expand ``$`` in an EnvironmentFile, and our reader of the same
    file does not either. Raises ConfigurationError for control characters, which systemd refuses.
    """
    lines = [f"# {line}".rstrip() for line in heading.splitlines()]
    for name, value in values.items():
        if any(ord(char) < 32 or ord(char) == 127 for char in value):
            raise ConfigurationError(f"{name}: control characters cannot stand in an env file")
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'{name}="{escaped}"')
    return "\n".join(lines) + "\n"


def write(path: Path, values: Mapping[str, str], *, heading: str = "", force: bool = False) -> None:
    """Write the env file, readable by its owner only, whole or not at all.

    What would be written is loaded first, so that no file is left that the server refuses. Raises
    ConfigurationError when it is refused, or when the file is there already and not ``force``.
    """
    text = render(values, heading=heading)
    if os.path.lexists(path) and not force:
        raise ConfigurationError(f"{path}: exists already; --force overwrites it")
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp makes the file with mode 0600.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        load(
            Path(temporary),
            **{name.removeprefix("IREDAPI_").lower(): value for name, value in values.items()},
        )
        if path.exists():  # keep it readable for the account that the service runs under
            before = path.stat()
            os.chown(temporary, before.st_uid, before.st_gid)
        Path(temporary).replace(path)
        temporary = None
    except UnicodeEncodeError:
        raise ConfigurationError(f"{path}: a value holds text that is not Unicode") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
