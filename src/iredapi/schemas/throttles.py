"""Forms of throttle settings."""

from __future__ import annotations

from iredapi.schemas import fields
from iredapi.schemas.params import Params, param


class ThrottleEdit(Params):
    """A complete throttle setting. Parameters that are not sent are inherited."""

    period: fields.Period = param(
        "Seconds over which messages and bytes are counted.", "3600", required=True
    )
    msg_size: fields.ThrottleLimit = param(
        "Maximum size of a message in bytes; 0 is unlimited, -1 (or empty) inherited.",
        "10485760",
        alias="msg_size",
    )
    max_msgs: fields.ThrottleLimit = param(
        "Maximum number of messages in a period, where a message counts once for each recipient; 0 "
        "is unlimited, -1 (or empty) inherited. On MariaDB iRedAPD cannot count beyond 16777215: "
        "larger limits are reported in `_skipped` with the reason `NO_EFFECT`.",
        "20",
        alias="max_msgs",
    )
    max_quota: fields.ThrottleLimit = param(
        "Bytes in a period, after which the next message is refused; 0 is unlimited, -1 (or empty) "
        "inherited. On MariaDB iRedAPD cannot count beyond 4 GiB: larger limits never refuse "
        "and are reported in `_skipped` with the reason `NO_EFFECT`.",
        "1048576000",
        alias="max_quota",
    )
    max_rcpts: fields.ThrottleLimit = param(
        "Maximum number of recipients of one message; 0 is unlimited, -1 (or empty) inherited. "
        "Unlike the other limits it stays as it is when it is not sent.",
        "50",
        alias="max_rcpts",
    )
