"""A progress bar with the remaining time, for terminals and notebooks."""

from collections.abc import Callable
from time import perf_counter
from typing import Any, Self

# The longest share of the time that is spent on what is shown above the bar.
SHARE = 0.05
# The shortest time between two calls: the display is refreshed four times a second.
SECONDS = 0.25


class Display:
    """Context manager that shows a progress bar on standard error or in a notebook. Requires rich.

    Parameters
    ----------
    total : int
        Total number of steps.
    above : callable or None
        Called without arguments by :meth:`update`, in the thread that calls it; returns a rich
        renderable that is shown above the bar.
    enabled : bool
        If False, nothing is shown; nor if standard error is not a terminal and this is no notebook.
    """

    def __init__(self, total: int, above: Callable[[], Any] | None, enabled: bool) -> None:
        self._live: Any = None
        if not enabled:
            return
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

        console = Console(stderr=True)
        # In a notebook standard error is not a terminal; rich shows a widget there.
        if not (console.is_terminal or console.is_jupyter):
            return
        self._above, self._next = above, 0.0
        self._shown: list[Any] = []
        self._progress = Progress(
            BarColumn(), TaskProgressColumn(), TimeRemainingColumn(elapsed_when_finished=True)
        )
        self._task = self._progress.add_task("", total=total)
        self._live = Live(
            get_renderable=lambda: Group(*self._shown, self._progress),
            console=console,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self.update()
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def advance(self, steps: float) -> None:
        """Advance the bar by ``steps``. May be called from any thread."""
        if self._live is not None:
            self._progress.advance(self._task, steps)

    def update(self) -> None:
        """Call ``above`` and show what it returns, unless that would take too much of the time."""
        if self._live is None or self._above is None or (before := perf_counter()) < self._next:
            return
        self._shown = [self._above()]
        now = perf_counter()
        self._next = now + max(SECONDS, (now - before) / SHARE)
