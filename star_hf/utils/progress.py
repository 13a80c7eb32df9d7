"""Progress: how many steps are done, how fast, the time left, and the cost. A bar in a terminal, lines in a pipe."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


__all__ = ["Bar", "quiet_datasets", "track"]

EVERY_S = 10.0
"""Seconds from one line to the next where there is no terminal."""
RATE_S = 120.0
"""The rate is that of the last so many seconds: an answer of a model can take half a minute."""


class Bar:
    """One running progress bar."""

    def __init__(self, progress: Progress, task: TaskID):
        self._progress = progress
        self._task = task
        self._cost = 0.0
        self._new = 0
        self._drawn = 0.0

    def advance(self, cost_usd: float = 0.0) -> None:
        """Count one more step, which cost this many dollars."""
        self._cost += cost_usd
        self._new += 1
        if time.monotonic() - self._drawn > 0.1:
            self.draw()

    def draw(self) -> None:
        """Show the current state. `advance` does this at most ten times a second, since it takes longer than a row."""
        task = self._progress.tasks[self._task]
        rate = f"{task.speed:.1f}/s" if task.speed else ""
        spent = f"${self._cost:.2f}" if self._cost else ""
        self._progress.update(self._task, advance=self._new, info=" ".join(filter(None, (rate, spent))))
        self._new, self._drawn = 0, time.monotonic()

    def line(self) -> str:
        """The current state in words."""
        task = self._progress.tasks[self._task]
        done, left = task.completed + self._new, task.time_remaining
        return ", ".join(
            filter(
                None,
                (
                    f"{task.description}: {done:,.0f}" + ("" if task.total is None else f" of {task.total:,.0f}"),
                    task.fields["info"],
                    f"{_whole(task.elapsed)} so far",
                    "" if left is None else f"{_whole(left)} left",
                ),
            )
        )

    def note(self, text: str) -> None:
        """Show a short text beside the bar, such as what it waits for."""
        self._progress.update(self._task, info=text)

    def part(self, what: str) -> Callable[[int, int], None]:
        """A function that shows the progress within one long step: call it with the parts done and their total."""

        def show(done: int, total: int) -> None:
            if done == total or time.monotonic() - self._drawn > 0.1:
                self._drawn = time.monotonic()
                self.note(f"{what}: {done / total:.0%}")

        return show

    def expect(self, total: int) -> None:
        """Set the number of steps."""
        self._progress.update(self._task, total=total)

    def restart(self) -> None:
        """Count from zero again; keep the cost."""
        self._new = 0
        self._progress.update(self._task, completed=0)


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """Keep `datasets` from showing progress bars: ours shows the same rows."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


@contextmanager
def track(description: str, total: int | None, show: bool = True) -> Iterator[Bar]:
    """Show a bar on standard error while the block runs; where that is no terminal, a line every `EVERY_S` seconds."""
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[info]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console, over = Console(stderr=True), threading.Event()
    with Progress(*columns, console=console, disable=not show, speed_estimate_period=RATE_S) as progress:
        bar = Bar(progress, progress.add_task(description, total=total, info=""))

        def tell() -> None:
            while not over.wait(EVERY_S):
                console.print(bar.line(), markup=False, highlight=False, soft_wrap=True)

        lines = threading.Thread(target=tell, daemon=True)
        if show and not console.is_terminal:
            lines.start()
        try:
            yield bar
        finally:
            over.set()
            if lines.is_alive():
                lines.join()
            bar.draw()


def _whole(seconds: float | None) -> timedelta:
    return timedelta(seconds=round(seconds or 0))
