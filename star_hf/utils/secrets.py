"""Secrets that this process has read, and texts without them: the one place that removes a key."""

import math
import re
from typing import Any


__all__ = ["redacted", "remember", "without_secrets"]

SHORTEST = 8
"""Shorter keys, such as vLLM's `EMPTY`, are words that any text may contain, and are not removed."""
SHOWN = "[the key]"

_SECRETS: dict[bytes, re.Pattern[str]] = {}
_least = math.inf
"""Length of the shortest secret; a shorter text holds none."""

_SPACE = b" \t\r\n\x0b\x0c"
_INVISIBLE = tuple(c.encode() for c in "\u00ad\u200b\u200c\u200d\u2060\ufeff\u00a0\u2028")
_ESCAPE = re.compile(
    rb"\\+(?:u00([0-9a-fA-F]{2})|[nrtbf])|%(?:25)*([0-9a-fA-F]{2})|&#(?:x0*([0-9a-fA-F]{2})|0*(\d+));"
)
_BETWEEN = r"(?:[\s\u00ad\u200b-\u200d\u2060\ufeff]|\\+[nrtbf])*"


def remember(secret: str) -> None:
    """Have a secret removed from every text that [`redacted`] is given from now on."""
    global _least
    if len(secret) >= SHORTEST:
        _least = min(_least, len(secret))
        _SECRETS.setdefault(_plain(secret), re.compile(_BETWEEN.join(map(_any_form, secret))))


def redacted(text: str) -> str:
    """The text without any remembered secret, also if that is JSON-escaped, URL-quoted, or split by white space."""
    if len(text) < _least:
        return text
    plain = _plain(text)
    for secret, pattern in _SECRETS.items():
        if secret in plain:
            text = pattern.sub(SHOWN, text)
    return text


def without_secrets(value: Any) -> Any:
    """A JSON value in which every string, also a name, is [`redacted`]."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {redacted(name): without_secrets(inside) for name, inside in value.items()}
    return [without_secrets(item) for item in value] if isinstance(value, list) else value


def _any_form(character: str) -> str:
    number = ord(character)
    forms = rf"\\+u00{number:02x}|%(?:25)*{number:02x}|&#(?:x0*{number:02x}|0*{number});"
    return rf"(?:\\*{re.escape(character)}|(?i:{forms}))"


def _plain(text: str) -> bytes:
    """The text without escapes, white space and invisible characters. Fast, since it reads every answer."""
    data = text.encode("utf-8", "surrogatepass")
    if b"\\" in data or b"%" in data or b"&#" in data:
        data = _ESCAPE.sub(_unescaped, data)
    data = data.translate(None, _SPACE)
    if not text.isascii():
        for character in _INVISIBLE:
            data = data.replace(character, b"")
    return data.replace(b"\\", b"")


def _unescaped(found: re.Match[bytes]) -> bytes:
    hexadecimal = found[1] or found[2] or found[3]
    number = int(hexadecimal, 16) if hexadecimal else int(found[4] or 0)
    return bytes([number]) if 32 < number < 127 else b""
