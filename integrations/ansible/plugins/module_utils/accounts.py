"""Bring an account into the state that a task describes, with as few changes as possible."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.iredapi.mail.plugins.module_utils.service import (
    ARGUMENTS,
    NOT_THERE,
    Refused,
    Service,
    Unreachable,
)

STATE = {"type": "str", "default": "present", "choices": ["present", "absent"]}
STATUS = {"type": "str", "choices": ["active", "disabled"]}
UPDATE_PASSWORD = {
    "type": "str",
    "default": "always",
    "choices": ["always", "on_create"],
    "no_log": False,
}
TEXT = {"type": "str"}
NUMBER = {"type": "int"}
SWITCH = {"type": "bool"}
LIST = {"type": "list", "elements": "str"}
SECRET = {"type": "str", "no_log": True}
_SECRETS = ("password", "password_hash")


def wire(params, names, joined=","):
    """Return parameters of the service; ``names``: option → parameter. What is None is left out."""
    sent = {}
    for option, parameter in names.items():
        value = params[option]
        if value is None:
            continue
        if isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, list):
            value = joined.join(value)
        sent[parameter] = value
    return sent


def difference(wanted, current):
    """Return what to add to a list and what to remove from it, as the service spells them."""
    have = {_spelled(item) for item in current}
    want = {_spelled(item) for item in wanted}
    return sorted(want - have), sorted(have - want)


def _spelled(item):
    """Return an address or a domain in lower case, with the domain in ASCII."""
    local, at, domain = item.strip().lower().rpartition("@")
    try:
        return f"{local}{at}{domain.encode('idna').decode('ascii')}"
    except UnicodeError:
        return f"{local}{at}{domain}"  # the service says what is wrong with it


class Task:
    """A module that runs: its options, the service, and what it has done so far."""

    def __init__(self, arguments, kind, names, **more):
        """``names``: option → parameter of the service, for messages."""
        self.module = AnsibleModule(
            argument_spec={**ARGUMENTS, **arguments}, supports_check_mode=True, **more
        )
        self.params = self.module.params
        self.kind = kind
        self._names = {parameter: option for option, parameter in names.items()}
        self._service = Service(self.module)
        self._changed = False
        self._fields = []
        self._changes = []
        self._skipped = []

    def run(self, ensure):
        """Run ``ensure(task)``, which returns the profile of the account, and end the module."""
        try:
            account = ensure(self)
        except Refused as error:
            self.module.fail_json(changed=self._changed, **error.result(self._names))
        except Unreachable as error:
            self.module.fail_json(changed=self._changed, msg=str(error), code="UNREACHABLE")
        result = {
            "changed": self._changed,
            "changed_fields": sorted(set(self._fields)),
            "skipped_values": self._skipped,
        }
        if account is not None:
            result["account"] = account
        if self.module._diff and self._changes:
            result["diff"] = _diff(self._changes)
        for item in self._skipped:
            words = (self._names.get(item.get("param"), item.get("param")), item.get("value"))
            self.module.warn(
                f"{words[0]}: {words[1]}: {item.get('reason')}; left out or without effect"
            )
        self.module.exit_json(**result)

    def remove(self, path, parameters):
        """Remove an account, if it is there."""
        try:
            self._write("DELETE", path, parameters)
        except Refused as error:
            if error.code not in NOT_THERE:
                raise
        else:
            self._changed = True

    def create_or_change(self, path, parameters, *, new=None, adapt=None, **query):
        """Create an account with ``parameters`` and ``new``, or change what differs.

        ``adapt(parameters, current)`` replaces what depends on the stored profile. Returns the
        profile of before, or None.
        """
        current = self._service.read(path, **query)
        if adapt is not None:
            parameters = adapt(parameters, current)
        if current is None:
            self._create(path, {**parameters, **(new or {})})
        else:
            if self.params.get("update_password") == "on_create":
                parameters = {k: v for k, v in parameters.items() if k not in _SECRETS}
            if parameters:
                self.change(path, parameters)
        return current

    def change(self, path, parameters):
        """Change something that exists; the service tells what has another value now."""
        fields = self._write("PUT", path, parameters).get("_changed", [])
        self._fields += [self._names.get(field, field) for field in fields]
        self._changed = self._changed or bool(fields)

    def manage(self, account, wanted, current):
        """Give an account the rights over exactly these domains."""
        if wanted is None:
            return
        added, removed = difference(wanted, (current or {}).get("managedDomains", []))
        if current is None and self.module.check_mode:
            if added:
                self._note(account, "managedDomains", None, added)
            return
        for domains, parameter in ((removed, "removeAdmin"), (added, "addAdmin")):
            for domain in domains:
                try:
                    self.change(f"domain/admins/{domain}", {parameter: account})
                except Refused as error:
                    if not self._is_expected(error):
                        raise
                    self._note(domain, "admins", None, [account])

    def after(self, path, current, **query):
        """Return the profile as it is now."""
        if self.module.check_mode or not self._changed:
            return current
        return self._service.read(path, **query)

    def _create(self, path, parameters):
        try:
            self._write("POST", path, parameters)
        except Refused as error:
            if not self._is_expected(error):
                raise
            account = path.rpartition("/")[2]
            for name, value in parameters.items():
                self._note(account, name, None, "***" if name in _SECRETS else value)
        self._changed = True

    def _is_expected(self, error):
        """Tell whether this is check mode, and an earlier task may create the domain."""
        if self.module.check_mode and error.code == "NO_SUCH_DOMAIN":
            self.module.warn(
                f"{error.request}: there is no such domain; values were not checked against it."
            )
            return True
        return False

    def _note(self, account, field, old, new):
        self._changed = True
        change = {"kind": self.kind, "account": account, "field": field, "old": old, "new": new}
        self._changes.append(change)

    def _write(self, method, path, parameters):
        answer = None
        if self.module.check_mode or self.module._diff:
            answer = self._service.write(method, path, parameters, dry_run=True)
            self._changes += answer.get("_changes", [])
            if answer.get("_more_changes"):
                self.module.warn("There are more changes than the service tells.")
        if not self.module.check_mode:
            answer = self._service.write(method, path, parameters)
        self._skipped += answer.get("_skipped", [])
        return answer


def _diff(changes):
    """Return Ansible's form of ``_changes``: before and after of each account."""
    accounts = {}
    for change in changes:
        before, after = accounts.setdefault((change["kind"], change["account"]), ({}, {}))
        field, old, new = change["field"], change["old"], change["new"]
        if old is not None:
            before[field] = old
        if new is not None:
            after[field] = f"{new} (another one)" if new == old else new
    return [
        {
            "before_header": f"{kind} {account}",
            "after_header": f"{kind} {account}",
            "before": before,
            "after": after,
        }
        for (kind, account), (before, after) in accounts.items()
    ]
