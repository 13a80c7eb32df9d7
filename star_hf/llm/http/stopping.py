"""How a stage ends early: requests in flight are paid for, so their answers are waited for, for a few seconds."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


__all__ = ["DRAIN_S", "stoppable"]

DRAIN_S = 5.0
"""Seconds that requests in flight may take after a signal. A second signal ends the wait."""
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def stoppable(stop: Callable[[], Any]) -> Iterator[None]:
    """Call `stop` on Ctrl-C, SIGTERM, or a closed terminal, let the block end, and only then end the process.

    Signals that are ignored, such as SIGHUP under `nohup`, or that the program handles itself, stay as they are.

    Raises:
        KeyboardInterrupt, SystemExit: After the block, if there was a signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []

    def handle(number: int, frame: Any) -> None:
        caught.append(number)
        stop()

    defaults = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in SIGNALS if signal.getsignal(number) in defaults}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if caught:
            raise KeyboardInterrupt if caught[0] == signal.SIGINT else SystemExit(128 + caught[0])
