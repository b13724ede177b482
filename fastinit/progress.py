"""Display: running medians and the time left, on a terminal."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from fastinit.tables import Table

if TYPE_CHECKING:
    from rich.table import Table as RichTable


class Display:
    """A live table above a progress bar, on standard error, while the context lasts.

    Parameters
    ----------
    total : int
        Steps of the whole work.
    rows : callable
        Returns the table as it stands.
    wanted : bool
        Without it, or where standard error is no terminal, nothing is shown.
    """

    def __init__(self, total: int, rows: Callable[[], Table], wanted: bool) -> None:
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
            get_renderable=lambda: Group(rich_table(rows(), compact=True), self._progress),
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


def rich_table(rows: Table, title: str | None = None, *, compact: bool = False) -> "RichTable":
    """Return the rows as a table of rich, numbers to the right.

    A compact one has three digits and no frame, so that many columns fit into a terminal.
    """
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(title=title)
    if compact:
        table.box, table.padding = box.SIMPLE, (0, 0)
    for name in rows.columns:
        left = name in ("scheme", "verdict")
        table.add_column(
            name, justify="left" if left else "right", overflow="fold", no_wrap=name == "scheme"
        )
    for cells in rows.cells(3) if compact else rows.cells():
        table.add_row(*map(Text, cells))
    return table
