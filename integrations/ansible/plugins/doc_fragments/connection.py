"""The options that all modules of this collection have."""

from __future__ import annotations


class ModuleDocFragment:
    """How to reach the service."""

    DOCUMENTATION = r"""
options:
  url:
    description:
      - Address of the service, with or without C(/api) at the end.
      - Without it, the environment variable E(ANSIBLE_IREDAPI_URL) of the host on which the module runs.
      - Use C(https); with C(http) to another host the token is sent unencrypted, and the module warns.
    type: str
  token:
    description:
      - API token (C(iredapi token create), or C(POST /api/tokens)). It is sent as C(Authorization, Bearer).
      - Without it, the environment variable E(ANSIBLE_IREDAPI_TOKEN) of the host on which the module runs.
    type: str
  validate_certs:
    description: Whether the certificate of the service is verified.
    type: bool
    default: true
  ca_path:
    description: File with the certificates (PEM) of the authorities that are trusted; without it those of the system.
    type: path
  client_cert:
    description: File with a client certificate (PEM), if the web server in front asks for one.
    type: path
  client_key:
    description: File with its key, if that is not in O(client_cert).
    type: path
  use_proxy:
    description: Whether the proxy that the environment names is used.
    type: bool
    default: true
  timeout:
    description: Seconds to wait for each answer.
    type: int
    default: 60
  retries:
    description:
      - How often a request is sent again when there is no answer, or when the service says that it cannot answer now.
      - Each request has an C(Idempotency-Key), so it is carried out once, however often it is sent.
    type: int
    default: 3
requirements:
  - iredapi 0.1.0 or later
attributes:
  check_mode:
    support: full
    description:
      - The service checks the request as the real one (C(dry_run=yes)), and changes nothing.
      - If the domain does not exist, the module says C(changed) with a warning, because an earlier task may create it.
  diff_mode:
    support: full
    description: The service tells each field with its old and its new value. Passwords are C(***).
"""
