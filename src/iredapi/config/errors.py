"""Errors of the configuration, which end the command line with one sentence."""


class ConfigurationError(Exception):
    """A setting is wrong; the message names the setting and the reason."""

    status = 2
    """Exit status of the command line."""


class NotReady(ConfigurationError):
    """A database that is needed cannot be reached; a later attempt may succeed."""

    status = 3
