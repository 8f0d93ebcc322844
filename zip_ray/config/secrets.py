"""Secrets of a config are used in requests and never written or shown; this module removes them.
A run resumed from its folder takes them from the environment or the command line.

A run that is resumed from its folder takes them from the environment, or from the command line.
"""

import re
from typing import Any

NAMES = re.compile(r"(.*[-_.])?(token|password|passwd|secret|api[-_]?key|access[-_]?key|authorization)", re.IGNORECASE)
"""Names of fields whose whole value is secret."""
HIDDEN = "***"
_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*:/{1,3})[^/@\s]*:[^@\s]*@", re.IGNORECASE)
_USER = re.compile(r"(\bhttps?:/{1,3})[^/@\s]*@", re.IGNORECASE)
"""Schemes of web addresses, whose user part may be a token; elsewhere it is a user, or a storage container."""
_PARAMETER = re.compile(
    r"([?&;][\w.-]*(?:token|key|secret|password|sig|signature|credential)=)[^&;#\s'\"]+", re.IGNORECASE
)


def without_secrets(value: Any) -> Any:
    """Plain values or a text, less what is secret: user and password in addresses, keys in their queries, tokens."""
    if isinstance(value, dict):
        return {name: _of_field(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(without_secrets(inner) for inner in value)
    if not isinstance(value, str):
        return value
    return _PARAMETER.sub(rf"\g<1>{HIDDEN}", _USER.sub(r"\g<1>", _PASSWORD.sub(r"\g<1>", value)))


def _of_field(name: str, value: Any) -> Any:
    return HIDDEN if NAMES.fullmatch(name) and isinstance(value, str) else without_secrets(value)
