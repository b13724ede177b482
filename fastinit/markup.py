"""HTML tables for notebooks and reports."""

import html
from collections.abc import Iterable, Sequence
from typing import Any


def escaped(value: Any) -> str:
    """Return the value as text of an HTML page: names and paths come from the user.

    Characters that HTML does not allow are replaced.
    """
    text = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in str(value))
    return html.escape(text)


def html_table(
    rows: Iterable[Sequence[str]],
    *,
    columns: Sequence[str] = (),
    caption: str = "",
    sortable: bool = False,
) -> str:
    """Return an HTML table. All text is escaped.

    Parameters
    ----------
    rows : iterable of sequence of str
        The cells of each row. The first cell is the header of the row.
    columns : sequence of str, optional
        The header of each column.
    caption : str, optional
        The caption of the table.
    sortable : bool, default False
        Whether the table has the class "sortable", and the class "text" is that of cells that are
        neither numbers nor ranges of numbers, such as "1 to 2", and of the headers above them.

    Returns
    -------
    str
        The element ``<table>``.

    Examples
    --------
    >>> print(html_table([["he_normal", "0.1"]], columns=["scheme", "cost"]))
    <table>
    <thead><tr><th scope="col">scheme</th><th scope="col">cost</th></tr></thead>
    <tbody>
    <tr><th scope="row">he_normal</th><td>0.1</td></tr>
    </tbody>
    </table>
    """
    rows = list(rows)
    lines = ['<table class="sortable">' if sortable else "<table>"]
    if caption:
        lines.append(f"<caption>{escaped(caption)}</caption>")
    if columns:
        head = "".join(
            _head(name, sortable and not all(_is_numeric(row[i]) for row in rows))
            for i, name in enumerate(columns)
        )
        lines.append(f"<thead><tr>{head}</tr></thead>")
    lines.append("<tbody>")
    for first, *others in rows:
        cells = "".join(_cell(cell, sortable) for cell in others)
        # A block has a width of its own: a long name is broken, a short one is not.
        name = f"<span>{escaped(first)}</span>" if sortable else escaped(first)
        lines.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody>", "</table>"])


def _head(name: str, text: bool) -> str:
    start = '<th scope="col" class="text">' if text else '<th scope="col">'
    return f"{start}{escaped(name)}</th>"


def _is_numeric(text: str) -> bool:
    """Return whether a cell is a number, or a range of numbers."""
    return all(map(is_number, text.split(" to ")))


def _cell(text: str, sortable: bool) -> str:
    start = '<td class="text">' if sortable and not _is_numeric(text) else "<td>"
    return f"{start}{escaped(text)}</td>"


def is_number(text: str) -> bool:
    """Return whether a cell is a number, or empty."""
    try:
        float(text.replace(",", "") or "0")
    except ValueError:
        return False
    return True
