"""Progress bars: how many steps are done, how fast, the time left, and the cost."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
    """Show a bar on standard error while the block runs."""
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[info]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        bar = Bar(progress, progress.add_task(description, total=total, info=""))
        try:
            yield bar
        finally:
            bar.draw()
