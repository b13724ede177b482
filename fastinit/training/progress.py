"""Display: a progress bar and the time left, on a terminal."""

from collections.abc import Callable
from typing import Any, Self


class Display:
    """A progress bar on standard error while the context lasts, below what ``above`` returns.

    Parameters
    ----------
    total : int
        Steps of the whole work.
    above : callable or None
        Returns what is shown above the bar, for rich.
    wanted : bool
        Without it, or where standard error is no terminal, nothing is shown.
    """

    def __init__(self, total: int, above: Callable[[], Any] | None, wanted: bool) -> None:
        self._live: Any = None
        if not wanted:
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

    def advance(self, steps: int) -> None:
        """Note that so many steps are done; from any thread."""
        if self._live is not None:
            self._progress.advance(self._task, steps)
