"""HTML tables for notebooks and reports."""

import html
from collections.abc import Iterable, Sequence


def html_table(
    rows: Iterable[Sequence[str]], *, columns: Sequence[str] = (), caption: str = ""
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
    lines = ["<table>"]
    if caption:
        lines.append(f"<caption>{html.escape(caption)}</caption>")
    if columns:
        head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
        lines.append(f"<thead><tr>{head}</tr></thead>")
    lines.append("<tbody>")
    for first, *others in rows:
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{html.escape(first)}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody>", "</table>"])
