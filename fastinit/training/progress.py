"""A progress bar with the remaining time, for terminals."""

from collections.abc import Callable
from typing import Any, Self


class Display:
    """Context manager that shows a progress bar on standard error. Requires rich.

    Parameters
    ----------
    total : int
        Total number of steps.
    above : callable or None
        Called without arguments; returns a rich renderable that is shown above the bar.
    enabled : bool
        If False, or if standard error is not a terminal, nothing is shown.
    """

    def __init__(self, total: int, above: Callable[[], Any] | None, enabled: bool) -> None:
        self._live: Any = None
        if not enabled:
            return
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

        console = Console(stderr=True)
        if not console.is_terminal:
            return
        self._progress = Progress(
            BarColumn(), TaskProgressColumn(), TimeRemainingColumn(elapsed_when_finished=True)
        )
        self._task = self._progress.add_task("", total=total)
        self._live = Live(
            get_renderable=lambda: Group(*([above()] if above else []), self._progress),
            console=console,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def advance(self, steps: float) -> None:
        """Advance the bar by ``steps``. May be called from any thread."""
        if self._live is not None:
            self._progress.advance(self._task, steps)
