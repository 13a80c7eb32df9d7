"""Which frames of SQLite's write-ahead log are whole: SQLite takes those before a damage, and drops the rest silently.

The format: sqlite.org/fileformat2.html, section 4.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np


__all__ = ["FRAME_HEAD", "LOG_HEAD", "Frame", "frames_of", "log_is_damaged"]

LOG_HEAD, FRAME_HEAD = 32, 24
"""Bytes before the first frame, and before the page in each frame."""
LOG_MAGIC = {0x377F0682: "<u4", 0x377F0683: ">u4"}
"""First number of a log, and the order of the bytes that its checksums add up."""
AT_ONCE = 2_000
"""Frames that are read at a time."""


@dataclass(frozen=True)
class Frame:
    """A frame of a log.

    Attributes:
        page (`int`): Number of the page that it holds.
        commits (`bool`): Whether it is the last of a transaction.
        current (`bool`): Whether it was written since the log was begun anew; older frames are in the file already.
        whole (`bool`): Whether its checksum is right, after that of the frame before it.
    """

    page: int
    commits: bool
    current: bool
    whole: bool


def log_is_damaged(log: Path) -> bool:
    """Whether committed frames of a log are behind a damaged one.

    An unfinished write at the end, which a kill leaves, is no damage. Other processes may write to the log meanwhile:
    only what two looks find alike is damage.
    """
    first = _damage(log)
    return first is not None and first == _damage(log)


def frames_of(log: Path, size: int | None = None) -> Iterator[Frame]:
    """The frames of a log, of pages of this size; by default as it says. None if its head is damaged."""
    with log.open("rb") as file:
        head = file.read(LOG_HEAD)
        if not _is_head(head) or size not in (None, int.from_bytes(head[8:12], "big")):
            return
        magic, _, size, _, *salts, first, second = struct.unpack(">8I", head)
        before = (first, second)
        while part := file.read(AT_ONCE * (FRAME_HEAD + size)):
            count = len(part) // (FRAME_HEAD + size)
            frames = np.frombuffer(part, np.uint8, count * (FRAME_HEAD + size)).reshape(count, FRAME_HEAD + size)
            heads = frames[:, :FRAME_HEAD].copy().view(">u4").tolist()
            words = np.hstack([frames[:, :8], frames[:, FRAME_HEAD:]]).view(LOG_MAGIC[magic])
            for own, (page, commit, *rest) in zip(_sums(words).tolist(), heads, strict=True):
                whole = page > 0 and list(_added(before, own, words.shape[1] // 2)) == rest[2:]
                yield Frame(page, commit > 0, rest[:2] == salts, whole)
                before = (rest[2], rest[3])


def _is_head(head: bytes) -> bool:
    order = LOG_MAGIC.get(int.from_bytes(head[:4], "big"))
    if len(head) < LOG_HEAD or order is None:
        return False
    return _sums(np.frombuffer(head[:24], order)[None])[0].tolist() == list(struct.unpack(">2I", head[24:]))


def _damage(log: Path) -> tuple[bytes, int] | None:
    """A log's head and the number of its first damaged frame, if a committed one follows, or if it is the last."""
    try:
        with log.open("rb") as file:
            head, length = file.read(LOG_HEAD), os.fstat(file.fileno()).st_size
        if length <= LOG_HEAD:
            return None
        if not _is_head(head):
            return head, 0
        broken = last = None
        for number, frame in enumerate(frames_of(log)):
            if broken is None and not (frame.current and frame.whole):
                broken, last = number, frame
            elif broken is not None and frame.current and frame.commits:
                return head, broken
    except OSError:
        return None
    # A write that was cut off does not end with its frame, unless an older frame ended there.
    end = LOG_HEAD + (0 if broken is None else broken + 1) * (FRAME_HEAD + int.from_bytes(head[8:12], "big"))
    return (head, broken) if last is not None and last.current and last.commits and end == length else None


def _sums(words: np.ndarray) -> np.ndarray:
    """SQLite's checksums of rows of words, uint32 of shape `(rows, 2)`.

    Of each pair `a, b` of words it computes `s0 += a + s1; s1 += b + s0`, which is linear: all pairs at once.
    """
    steps = words.shape[1] // 2
    powers = _powers(steps)[:steps][::-1]  # what a pair's sums are multiplied by until the end
    pairs = words.astype(np.uint32).reshape(len(words), steps, 2)
    a, b = pairs[:, :, 0], pairs[:, :, 0] + pairs[:, :, 1]
    sums = [(a * powers[:, row, 0]).sum(1, np.uint32) + (b * powers[:, row, 1]).sum(1, np.uint32) for row in (0, 1)]
    return np.stack(sums, axis=1)


def _added(before: tuple[int, ...], own: list[int], steps: int) -> tuple[int, ...]:
    """The checksums of a frame, from those before it and its own."""
    power = _powers(steps)[steps].tolist()
    return tuple((row[0] * before[0] + row[1] * before[1] + one) % 2**32 for row, one in zip(power, own, strict=True))


@lru_cache(maxsize=8)
def _powers(steps: int) -> np.ndarray:
    """The powers 0 to `steps` of the matrix of one step, `[[1, 1], [1, 2]]`, modulo 2**32."""
    powers = [(1, 0, 0, 1)]
    for _ in range(steps):
        a, b, c, d = powers[-1]
        powers.append(((a + b) % 2**32, (a + 2 * b) % 2**32, (c + d) % 2**32, (c + 2 * d) % 2**32))
    return np.array(powers, np.uint32).reshape(-1, 2, 2)
