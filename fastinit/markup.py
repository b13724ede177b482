"""HTML tables, for notebooks and reports."""

import html
from collections.abc import Iterable, Sequence


def html_table(
    rows: Iterable[Sequence[str]], *, columns: Sequence[str] = (), caption: str = ""
) -> str:
    """Return rows of text as an HTML table, whose first column holds the headers of the rows.

    Parameters
    ----------
    rows : iterable of sequence of str
        The cells of each row; they are escaped.
    columns : sequence of str, optional
        Headers of the columns.
    caption : str, optional

    Returns
    -------
    str

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
