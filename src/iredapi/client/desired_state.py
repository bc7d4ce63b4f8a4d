"""The file of ``iredapi apply``: which accounts and policies there should be, and how.

Values are those of the API's parameters: texts, numbers, yes and no, lists. PyYAML is imported here
only, and optional.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from iredapi.config.errors import ConfigurationError
from iredapi.domain.account_records import RecordType, parameters
from iredapi.domain.addresses import fold

KINDS: Final[Mapping[str, str]] = {
    "domains": "domain",
    "users": "user",
    "aliases": "alias",
    "lists": "ml",
    "maillists": "maillist",
}
"""Section of the file → kind of accounts, in the order in which they are made."""
POLICIES: Final = "policies"
NONE: Final = ("none", "inherit")
"""Words for "no policy of its own"."""
_POLICY_KEYS: Final = ("throttle", "greylisting", "greylisting_senders", "spampolicy", "wblist")
_DIRECTIONS: Final = ("inbound", "outbound", "external")


class WrongFile(ConfigurationError):
    """The file cannot be used. The message names the place."""


@dataclass(frozen=True, slots=True)
class Account:
    """What is wanted of one account."""

    kind: str
    name: str
    params: Mapping[str, Any]
    """Parameters as they are sent, but for those of ``special``."""
    password: str = field(default="", repr=False)
    """The plain password."""
    special: Mapping[str, Any] = field(default_factory=dict)
    """``admins`` of a domain, ``subscribers`` of a list: there are only parameters that add."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is wanted of the policies of one account; a key that is missing is not touched."""

    account: str
    wanted: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Desired:
    """All that a file says."""

    accounts: list[Account]
    """In the order in which they are made."""
    policies: list[Policy]
    sections: frozenset[str]
    """Kinds whose section is in the file, and ``policies``."""

    def names(self, kind: str) -> frozenset[str]:
        """Return the names of the accounts of a kind."""
        return frozenset(item.name for item in self.accounts if item.kind == kind)


def read(path: Path, environment: Mapping[str, str]) -> Desired:
    """Read a file; ``environment`` has the passwords. Raises ConfigurationError."""
    document = _mapping(_loaded(path), str(path))
    if unknown := document.keys() - {*KINDS, POLICIES}:
        known = ", ".join((*KINDS, POLICIES))
        raise WrongFile(f"{path}: there is no section {min(unknown)}; there are {known}")
    accounts = [
        _account(kind, name, _mapping(given, f"{section}: {name}"), environment)
        for section, kind in KINDS.items()
        for name, given in _mapping(document.get(section), section).items()
    ]
    policies = [
        _policy(name, _mapping(given, f"{POLICIES}: {name}"))
        for name, given in _mapping(document.get(POLICIES), POLICIES).items()
    ]
    sections = {KINDS.get(section, POLICIES) for section in document}
    return Desired(accounts, policies, frozenset(sections))


def _loaded(path: Path) -> Any:
    try:
        import yaml
    except ImportError:
        raise ConfigurationError(
            "PyYAML is missing, which reads the file: pip install 'iredapi[yaml]'"
        ) from None

    class Loader(yaml.SafeLoader):
        """Refuses a key that is there twice: PyYAML would silently take the last one."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
            """Return a mapping without repeated keys."""
            seen = set()
            for key_node, _ in node.value:
                key = str(self.construct_object(key_node, deep=True))
                if key in seen:
                    line = key_node.start_mark.line + 1
                    raise WrongFile(f"{path}, line {line}: {key} is there twice")
                seen.add(key)
            return super().construct_mapping(node, deep)

    # Numbers and dates stay the texts that they are: +49123, 0123 and 1_000 are no numbers here.
    kept = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
    Loader.yaml_implicit_resolvers = {
        first: [pair for pair in pairs if pair[0] in kept]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        # Loader is a SafeLoader: it makes no objects but plain ones.
        return yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506
    except OSError as error:
        raise WrongFile(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise WrongFile(f"{path}: not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise WrongFile(f"{path}, line {line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise WrongFile(f"{path}: {error}") from None


def _mapping(given: Any, where: str) -> dict[str, Any]:
    """Return a mapping whose keys are texts; an empty place is an empty one."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise WrongFile(f"{where}: names with values are expected, such as `name: value`")
    return {str(key): value for key, value in given.items()}


def _account(
    kind: str, name: str, given: dict[str, Any], environment: Mapping[str, str]
) -> Account:
    where = f"{kind} {name}"
    password = ""
    if kind == "user":
        password = _password(where, given, environment)
    special = {}
    for key, of in (("admins", "domain"), ("subscribers", "ml")):
        if kind == of and key in given:
            special[key] = _subscribers(where, given.pop(key))
    values = {key: _value(f"{where}: {key}", value) for key, value in given.items()}
    return Account(kind, fold(name), parameters(RecordType(kind), values), password, special)


def _password(where: str, given: dict[str, Any], environment: Mapping[str, str]) -> str:
    if "password" in given:
        raise WrongFile(
            f"{where}: no password belongs into a file: name a variable of the environment "
            "(password_env) or give a hash (password_hash)"
        )
    variable = given.pop("password_env", None)
    if variable is None:
        return ""
    if "password_hash" in given:
        raise WrongFile(f"{where}: password_env and password_hash exclude each other")
    found = environment.get(str(variable), "")
    if not found:
        raise WrongFile(f"{where}: the environment has no {variable}")
    return found


def _subscribers(where: str, given: Any) -> Any:
    """Return a list of addresses, or a mapping of addresses to kinds of subscriptions."""
    if isinstance(given, dict):
        return {fold(str(mail)): str(kind) for mail, kind in given.items()}
    value = _value(where, given)
    if isinstance(value, str):
        value = [item for item in value.split(",") if item]
    return [fold(item) for item in value]


def _value(where: str, given: Any) -> Any:
    """Return a value as it is sent: a text, or a list of texts."""
    if isinstance(given, list):
        found = [_value(where, item) for item in given]
        if all(isinstance(item, str) for item in found):
            return found
    elif isinstance(given, bool):
        return "yes" if given else "no"
    elif given is None:
        return ""
    elif isinstance(given, str | int | float):
        return str(given)
    raise WrongFile(f"{where}: a text, a number, yes or no, or a list of texts is expected")


def _policy(name: str, given: dict[str, Any]) -> Policy:
    where = f"{POLICIES}: {name}"
    if unknown := given.keys() - set(_POLICY_KEYS):
        raise WrongFile(f"{where}: there is no {min(unknown)}; there are {', '.join(_POLICY_KEYS)}")
    wanted: dict[str, Any] = {}
    for key, value in given.items():
        if key == "throttle":
            wanted[key] = {
                direction: _setting(f"{where}: {key}: {direction}", limits)
                for direction, limits in _known(f"{where}: {key}", value, _DIRECTIONS).items()
            }
        elif key == "wblist":
            wanted[key] = {
                (direction, kind): _value(f"{where}: {key}: {direction}: {kind}", addresses) or []
                for direction, lists in _known(f"{where}: {key}", value, _DIRECTIONS[:2]).items()
                for kind, addresses in _known(
                    f"{where}: {key}: {direction}", lists, ("whitelist", "blacklist")
                ).items()
            }
        elif key == "spampolicy":
            wanted[key] = _setting(f"{where}: {key}", value)
        else:
            wanted[key] = _value(f"{where}: {key}", value)
    return Policy(fold(name), wanted)


def _known(where: str, given: Any, names: tuple[str, ...]) -> dict[str, Any]:
    found = _mapping(given, where)
    if unknown := found.keys() - set(names):
        raise WrongFile(f"{where}: there is no {min(unknown)}; there are {', '.join(names)}")
    return found


def _setting(where: str, given: Any) -> dict[str, Any] | None:
    """Return parameters; None: there should be no setting."""
    if given is None or (isinstance(given, str) and given in NONE):
        return None
    return {key: _value(f"{where}: {key}", value) for key, value in _mapping(given, where).items()}
