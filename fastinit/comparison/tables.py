"""Table: rows of named values that print in a terminal and in a notebook."""

import csv
import importlib
import io
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from fastinit.markup import html_table
from fastinit.training.files import replace_file

if TYPE_CHECKING:
    from rich.table import Table as RichTable


# With these abbreviations, the summary fits into 80 columns.
SHORTER = {
    "accuracy": "acc.", "converged": "conv.", "diverged": "div.", "iterations": "iter.",
}  # fmt: skip


class Table(Sequence[dict[str, Any]]):
    """Rows of named values that print as a table in a terminal and in a notebook.

    Parameters
    ----------
    rows : sequence of dict
        All with the same keys, the names of the columns.

    Examples
    --------
    >>> table = Table([{"scheme": "he", "train accuracy": 0.99}])
    >>> table
    scheme  train accuracy
    ------  --------------
    he      0.99
    >>> table[0]["train accuracy"]
    0.99
    """

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows = list(rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> "Table": ...
    def __getitem__(self, index: int | slice) -> "dict[str, Any] | Table":
        return Table(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._rows[0]) if self._rows else []

    def cells(self, digits: int = 6) -> Iterator[list[str]]:
        """Yield each row as text.

        Parameters
        ----------
        digits : int, default 6
            Significant digits of floats.

        Yields
        ------
        list of str
            None is an empty string.
        """
        for row in self._rows:
            yield [
                "" if v is None else f"{v:.{digits}g}" if isinstance(v, float) else str(v)
                for v in row.values()
            ]

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as CSV in UTF-8, floats with all their digits and None as an empty field.

        An existing file is replaced as a whole or not at all.
        """
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self._rows)
        replace_file(path, text.getvalue().encode())

    def to_pandas(self) -> Any:
        """Return the rows as a ``pandas.DataFrame``; requires pandas."""
        # Imported by name, because mypy would demand stubs that few users have installed.
        pandas: Any = importlib.import_module("pandas")
        return pandas.DataFrame(self._rows, columns=self.columns)

    def __repr__(self) -> str:
        if not self._rows:
            return "(no rows)"
        lines = [self.columns, *self.cells()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, ["-" * width for width in widths])
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def _repr_html_(self) -> str:
        return html_table(self.cells(), columns=self.columns)


def rich_table(rows: Table, title: str | None = None, *, compact: bool = False) -> "RichTable":
    """Return the rows as a table of rich, with numbers aligned to the right.

    Columns are as wide as the longest word; those of :data:`SHORTER` are abbreviated in headers. A
    compact table has three significant digits and no frame, so that more columns fit into a
    terminal.
    """
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(title=title)
    if compact:
        table.box, table.padding = box.SIMPLE, (0, 0)
    lines = list(rows.cells(3) if compact else rows.cells())
    for i, name in enumerate(rows.columns):
        header = [SHORTER.get(word, word) for word in name.split()]
        longest = max(map(len, [*header, *(cells[i] for cells in lines)]))
        table.add_column(
            " ".join(header), justify="left" if name == "scheme" else "right", width=longest
        )
    for cells in lines:
        table.add_row(*map(Text, cells))
    return table
