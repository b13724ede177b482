"""Table: rows of named values, for reading in a terminal or a notebook, and for other programs."""

import csv
import html
import importlib
import io
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastinit.training.files import replace_file

if TYPE_CHECKING:
    from rich.table import Table as RichTable


class Table(Sequence[dict[str, Any]]):
    """Rows of named values that print as a table in a terminal and in a notebook.

    Examples
    --------
    >>> Table([{"scheme": "he", "train accuracy": 0.99}])
    scheme  train accuracy
    ------  --------------
    he      0.99
    """

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows = list(rows)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return list(self._rows[0]) if self._rows else []

    def cells(self, digits: int = 6) -> Iterator[list[str]]:
        """Yield each row as printed: numbers to so many significant digits, nothing for None."""
        for row in self._rows:
            yield [
                "" if v is None else f"{v:.{digits}g}" if isinstance(v, float) else str(v)
                for v in row.values()
            ]

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as CSV in UTF-8, every digit of every number, nothing for None.

        An older file is replaced as a whole or not at all.
        """
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self._rows)
        replace_file(path, text.getvalue().encode())

    def to_pandas(self) -> Any:
        """Return the rows as a ``pandas.DataFrame``."""
        # By its name, for there are types of it only where its stubs are installed, too.
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
        head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.cells()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


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
