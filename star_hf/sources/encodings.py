"""Files as text: how their characters are encoded, with or without a mark that says so."""

import codecs
import contextlib
import io
import re
import unicodedata
from pathlib import Path
from typing import Any

from ..errors import SourceError


__all__ = ["DAMAGED", "UNDECODED", "text_of"]

BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""In this order, since the mark of UTF-32 begins with that of UTF-16. In UTF-8 it is stripped from each text."""

UNDECODED = re.compile("[\udc80-\udcff]")
"""What `surrogateescape` makes of bytes that are not UTF-8."""

DAMAGED = "Fix the file or download it again."


def text_of(stream: Any, path: Path, newline: str | None = None) -> io.TextIOWrapper:
    """The stream as text: by its byte order mark, as UTF-16 if every other byte is zero, else as UTF-8."""
    buffered = io.BufferedReader(stream) if not hasattr(stream, "peek") else stream
    head = buffered.peek(4096)[:4096]
    if not head:
        raise SourceError(f"{path} is empty.", DAMAGED)
    encoding = next((encoding for bom, encoding in BOMS.items() if head.startswith(bom)), "utf-8")
    if encoding == "utf-8" and b"\0" in head:
        odd, even = head[1::2].count(0), head[::2].count(0)
        if abs(odd - even) * 4 > len(head):
            encoding = "utf-16-le" if odd > even else "utf-16-be"
        elif wide := _wide(head):
            encoding = wide
        elif (odd + even) * 10 > len(head):
            raise SourceError(f"{path} is not a text file: it holds zero bytes.", DAMAGED)
    errors = "surrogateescape" if encoding == "utf-8" else "strict"
    return io.TextIOWrapper(buffered, encoding, errors, newline)


def _wide(head: bytes) -> str | None:
    """The form of UTF-16 of a file without a mark and with few Latin letters; `None` if it is UTF-8, or no text."""
    for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
        with contextlib.suppress(UnicodeDecodeError):
            text = codecs.getincrementaldecoder(encoding)().decode(head)
            if encoding == "utf-8":
                return None
            if all(sign in "\t\n\r" or unicodedata.category(sign) not in ("Cc", "Cn", "Co", "Cs") for sign in text):
                return encoding
    return None
