"""What is left in the bytes of a journal, whether SQLite can read the file or not.

A row is found by the form of its record and not through the trees that lead to it, so a damaged page costs the rows in
it and no others. The format is SQLite's (sqlite.org/fileformat2.html, sections 1.6 and 2.1).
"""

import json
import mmap
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..types import Completion
from .log import FRAME_HEAD, LOG_HEAD, frames_of


__all__ = [
    "BATCH",
    "KEY",
    "RESPONSE",
    "completion_of",
    "copy_of",
    "log_of",
    "page_size",
    "read_rows",
]

RESPONSE, BATCH, KEY = "response", "batch", "key"
"""A row of `responses`, one of `batches`, and a request's key whose answer may be lost."""

PAGE = 4096
"""Bytes of a page, unless the file says otherwise."""
RECORD = re.compile(rb"[\x04-\x20](?=\x81\x0d|\x4d)")
"""Size of a record's head, before the type of its first value: text of 64 characters (a key) or of 32 (a batch)."""
YEAR_10000 = 253_402_300_800.0

Values = list[Any]


def log_of(path: Path) -> Path:
    """SQLite's write-ahead log of a file: what was committed and is not in the file yet."""
    return path.with_name(f"{path.name}-wal")


def copy_of(path: Path) -> Path:
    """The checked copy of a journal."""
    return path.with_name(f"{path.stem}.copy{path.suffix}")


def completion_of(text: Any) -> Completion:
    """The completion in a row. Raises `ValueError` if it is damaged."""
    try:
        completion = Completion(**json.loads(text))
    except (TypeError, ValueError, RecursionError):
        raise ValueError("an answer in it is damaged") from None
    texts = (completion.text, completion.reasoning or "", completion.outcome, completion.detail)
    numbers = (completion.prompt_tokens, completion.completion_tokens, completion.latency_s)
    if not all(isinstance(value, str) for value in texts) or not all(isinstance(n, int | float) for n in numbers):
        raise ValueError("an answer in it is damaged")
    return completion


def read_rows(path: Path) -> Iterator[tuple[str, Values]]:
    """What can be read in a file and in its log, each row as often as it is there: its kind and its values."""
    with ExitStack() as opened:
        main, log = (_mapped(each, opened) for each in (path, log_of(path)))
        for size in dict.fromkeys((page_size(main[:100]) or PAGE, PAGE)):
            whole = [frame.whole for frame in frames_of(log_of(path), size)] if log else []
            yield from _Pages(main, log, size, whole).rows()


def page_size(head: bytes) -> int | None:
    """The size of a page by the first 100 bytes of a file; `None` if they are not as SQLite writes them."""
    if len(head) < 100 or not head.startswith(b"SQLite format 3\0"):
        return None
    size = int.from_bytes(head[16:18], "big")
    size = 65_536 if size == 1 else size
    known = head[18] in (1, 2) and head[19] in (1, 2) and head[21:24] == b"\x40\x20\x20"
    return size if known and size in (512 << power for power in range(8)) else None


def _mapped(path: Path, opened: ExitStack) -> bytes | mmap.mmap:
    if not path.is_file() or not path.stat().st_size:
        return b""
    with path.open("rb") as file:
        return opened.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class _Pages:
    """The pages of a file, in the file and in its log."""

    def __init__(self, main: bytes | mmap.mmap, log: bytes | mmap.mmap, size: int, whole: list[bool]):
        self._main, self._log, self._size = main, log, size
        self._usable = size - (main[20] if page_size(main[:100]) else 0)
        stride = FRAME_HEAD + size
        places = dict(enumerate(range(LOG_HEAD, len(log) - stride + 1, stride)))
        self._ends = {number: at + stride for number, at in places.items()}
        self._whole = {number for number in places if number < len(whole) and whole[number]}
        trusted = sorted(places, key=lambda number: (number in self._whole, number))  # the last is the best
        self._newest = {int.from_bytes(log[at : at + 4], "big"): at + FRAME_HEAD for at in map(places.get, trusted)}

    def rows(self) -> Iterator[tuple[str, Values]]:
        """All rows: of the whole frames of the log, of the file, and of damaged frames."""
        matches = [match.start() for match in RECORD.finditer(self._log)]
        frames = [(at - LOG_HEAD) // (FRAME_HEAD + self._size) for at in matches]
        for whole in (True, False):
            for at, frame in zip(matches, frames, strict=True):
                if frame in self._ends and (frame in self._whole) == whole:
                    yield from self._row(self._log, at, self._ends[frame])
            if whole:
                for match in RECORD.finditer(self._main):
                    end = (match.start() // self._size + 1) * self._size
                    yield from self._row(self._main, match.start(), end)

    def _row(self, data: bytes | mmap.mmap, at: int, end: int) -> Iterator[tuple[str, Values]]:
        """The row whose record's head is at this place on a page that ends at `end`, if there is one."""
        types = _types(data, at, end)
        first = data[at + data[at] : at + data[at] + 64].decode("latin-1")
        if types is None or not re.fullmatch(r"[0-9a-f]{64}" if types[0] == 141 else r"[0-9a-f]{32}.*", first, re.S):
            return
        if types[0] == 141 and len(types) == 2:
            yield KEY, [first]
            return
        kind = RESPONSE if types[0] == 141 else BATCH
        total = data[at] + sum(map(_length, types))
        for payload in self._payloads(data, at, end, total):
            values = _values(payload, types)
            if values is not None and (_is_response if kind == RESPONSE else _is_batch)(values):
                yield kind, values
                return
        if kind == RESPONSE and len(types) >= 7:
            yield KEY, [first]

    def _payloads(self, data: bytes | mmap.mmap, at: int, end: int, total: int) -> Iterator[bytes]:
        """A record's bytes. What is too long for its page goes on in others, in tables later than in indices; those
        are looked up in the log first, and then in the file alone."""
        usable = self._usable
        if total <= usable - 35:
            yield bytes(data[at : min(at + total, end)])
        if total > len(self._main) + len(self._log):
            return
        least = (usable - 12) * 32 // 255 - 23
        for most in (usable - 35, (usable - 12) * 64 // 255 - 23):
            if total <= most:
                continue
            local = least + (total - least) % (usable - 4)
            local = local if local <= most else least
            if at + local + 4 <= end:
                number = int.from_bytes(data[at + local : at + local + 4], "big")
                for page in (self._page, self._page_of_main):
                    yield bytes(data[at : at + local]) + self._chain(number, total - local, page)

    def _chain(self, number: int, size: int, page: Callable[[int], bytes]) -> bytes:
        """The bytes in a chain of pages; fewer than `size` if it breaks."""
        parts = []
        while size > 0 and number:
            content = page(number)
            parts.append(content[4 : 4 + min(size, self._usable - 4)])
            if not parts[-1]:
                break
            size -= len(parts[-1])
            number = int.from_bytes(content[:4], "big")
        return b"".join(parts)

    def _page(self, number: int) -> bytes:
        at = self._newest.get(number)
        return self._page_of_main(number) if at is None else self._log[at : at + self._size]

    def _page_of_main(self, number: int) -> bytes:
        return self._main[(number - 1) * self._size : number * self._size]


def _types(data: bytes | mmap.mmap, at: int, end: int) -> list[int] | None:
    """The types of a record's values, if there is a record's head at this place."""
    types, place, stop = [], at + 1, min(at + data[at], end)
    while place < stop:
        kind = 0
        for _ in range(9):
            if place >= stop:
                return None
            byte = data[place]
            place += 1
            kind = kind << 7 | byte & 0x7F
            if byte < 0x80:
                break
        types.append(kind)
    return types if len(types) > 1 and place == at + data[at] and not {10, 11} & set(types) else None


def _length(kind: int) -> int:
    return (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)[kind] if kind < 10 else (kind - 12) // 2


def _values(payload: bytes, types: list[int]) -> Values | None:
    """A record's values; `None` if bytes are missing or are no text."""
    values: Values = []
    at = payload[0] if payload else 0
    for kind in types:
        part = payload[at : at + _length(kind)]
        at += len(part)
        if len(part) < _length(kind):
            return None
        if kind >= 12:
            try:
                values.append(part.decode("utf-8") if kind % 2 else part)
            except UnicodeDecodeError:
                return None
        elif kind == 7:
            values.append(struct.unpack(">d", part)[0])
        else:
            values.append(None if kind == 0 else kind - 8 if kind > 7 else int.from_bytes(part, "big", signed=True))
    return values


def _is_response(values: Values) -> bool:
    try:
        completion_of(values[4])
    except (IndexError, ValueError):
        return False
    return len(values) >= 7 and all(isinstance(value, str) for value in values[:5]) and _are_numbers(values[5:7])


def _is_batch(values: Values) -> bool:
    """Name, stage, endpoint, versions, the provider's ids of file and batch, whether it ended, when it was made."""
    if len(values) < 8 or not all(isinstance(value, str) for value in values[:4]) or not _are_numbers(values[6:8]):
        return False
    try:
        versions = json.loads(values[3])
    except (ValueError, RecursionError):
        return False
    return isinstance(versions, dict) and all(isinstance(value, str | None) for value in values[4:6])


def _are_numbers(values: Values) -> bool:
    *others, at = values
    return (
        isinstance(at, int | float) and 0 <= at < YEAR_10000 and all(isinstance(n, int | float | None) for n in others)
    )
