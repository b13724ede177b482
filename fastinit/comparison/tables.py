"""Table: rows of named values that print in a terminal and in a notebook."""

import csv
import importlib
import io
import os
import re
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from fastinit.comparison.grid import AXES
from fastinit.markup import html_table, is_number
from fastinit.training.files import replace_file

# Headers of tables that are too wide have these abbreviations.
SHORTER = {
    "accuracy": "acc.", "activation": "activ.", "converged": "conv.",
    "difference": "diff.", "diverged": "div.", "iterations": "iter.", "learning": "learn.",
    "optimizer": "optim.",
}  # fmt: skip
WIDTH = 80
GAP, LEAST_GAP = 2, 1  # spaces between columns
DIGITS, FEW_DIGITS = 6, 3
MOST_WORD = 30  # characters of a word; longer ones are shortened, and given below the table
# The columns that are repeated in each block of a table that is too wide.
KEYS = ("scheme", *(name.replace("_", " ") for name in AXES))


class Table(Sequence[dict[str, Any]]):
    """Rows of named values that print as a table in a terminal and in a notebook.

    A table that is wider than 80 columns is printed with three significant digits, headers in
    several lines, and without the columns that have one value in all rows, which a line below the
    table gives; if this is not enough, with narrower gaps, or in blocks one below the other. Words
    are never broken.

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

    def cells(self, digits: int = DIGITS) -> Iterator[list[str]]:
        """Yield each row as text.

        Parameters
        ----------
        digits : int, default 6
            Significant digits of floats.

        Yields
        ------
        list of str
            None is an empty string. Characters that cannot be printed are replaced, because labels
            are the user's.
        """
        columns = [self._texts(name, digits) for name in self.columns]
        for row in zip(*columns, strict=True):
            yield [_printable(text) for text in row]

    def _texts(self, name: str, digits: int) -> list[str]:
        values = [row[name] for row in self._rows]
        if name.replace("_", " ") in KEYS:
            return rounded(values)
        return [_text(value, digits) for value in values]

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
        blocks, notes = fitted(self, WIDTH)
        return "\n\n".join(["\n".join(block.lines()) for block in blocks] + notes)

    def _repr_html_(self) -> str:
        return html_table(self.cells(), columns=self.columns)


def rich_table(rows: Table, title: str | None = None, *, compact: bool = False) -> "Fitted":
    """Return the rows as a renderable of rich that fits itself to the width of the terminal.

    Numbers are aligned to the right. A compact table has three significant digits.
    """
    return Fitted(rows, title, compact)


@dataclass
class Fitted:
    """A table that rich prints, as wide as the terminal allows."""

    rows: Table
    title: str | None
    compact: bool

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        if self.title:
            yield Text(self.title, style="bold")
        if not len(self.rows):
            yield Text("(no rows)")
            return
        digits = FEW_DIGITS if self.compact else DIGITS
        blocks, notes = fitted(self.rows, max(40, options.max_width), digits)
        for block in blocks:
            yield Text()
            lines = block.lines(right=True)
            for line in lines[: block.height]:
                yield Text(line, style="bold", no_wrap=True, overflow="ignore")
            for line in lines[block.height :]:
                yield Text(line, no_wrap=True, overflow="ignore")
        for note in notes:
            yield Text()
            yield Text(note, style="dim")


# --- fitting a table to a width -------------------------------------------------------------------


@dataclass
class ColumnBlock:
    """Columns side by side: the lines of each header and of each cell, and the widths."""

    headers: list[list[str]]
    cells: list[list[list[str]]]  # by row, then by column
    widths: list[int]
    gap: int = GAP

    @property
    def height(self) -> int:
        """The number of lines above the first row."""
        return max(map(len, self.headers)) + 1

    def lines(self, *, right: bool = False) -> list[str]:
        """Return the lines of text; ``right`` aligns columns of numbers to the right."""
        aligned = [
            right and all(len(row[i]) == 1 and is_number(row[i][0]) for row in self.cells)
            for i in range(len(self.widths))
        ]
        found = self._joined(self.headers, aligned, bottom=True)
        found += self._joined([["-" * width] for width in self.widths], aligned)
        for row in self.cells:
            found += self._joined(row, aligned)
        return found

    def _joined(
        self, row: Sequence[Sequence[str]], aligned: Sequence[bool], *, bottom: bool = False
    ) -> list[str]:
        height = max(map(len, row))
        columns = []
        for lines, width, right in zip(row, self.widths, aligned, strict=True):
            missing = [""] * (height - len(lines))
            full = [*missing, *lines] if bottom else [*lines, *missing]
            columns.append([_padded(line, width, right) for line in full])
        return [(" " * self.gap).join(parts).rstrip() for parts in zip(*columns, strict=True)]


def fitted(rows: Table, width: int, digits: int = DIGITS) -> tuple[list[ColumnBlock], list[str]]:
    """Return a table as blocks of columns that fit into a width, and notes below it.

    Parameters
    ----------
    rows : Table
        With at least one row.
    width : int
    digits : int, default 6
        Significant digits, if there is space for them.

    Returns
    -------
    blocks : list of ColumnBlock
    notes : list of str
    """
    columns, notes = rows.columns, []
    cells = list(rows.cells(digits))
    block = _block(columns, cells)
    if _total(block.widths) <= width:
        return [block], []
    cells = list(rows.cells(FEW_DIGITS))
    legend = _shorten_words(cells)
    short = [" ".join(SHORTER.get(word, word) for word in name.split()) for name in columns]
    least = _least_widths(short, cells)
    kept = list(range(len(columns)))
    if _total(least) > width and len(cells) > 1:
        kept = [i for i in kept if i == 0 or len({row[i] for row in cells}) > 1]
        same = [f"{columns[i]} {cells[0][i] or '-'}" for i in range(len(columns)) if i not in kept]
        if same:
            notes.append(_filled(f"In all rows: {', '.join(same)}.", width))
    notes += [_filled(line, width) for line in legend]
    # Narrower gaps are better than a second block for a column or two.
    total = _total([least[i] for i in kept], LEAST_GAP)
    gap = LEAST_GAP if total <= width < total + len(kept) - 1 else GAP
    blocks = []
    for chosen in _in_blocks(columns, least, kept, width, gap):
        parts = [[row[i] for i in chosen] for row in cells]
        widths = _shared([least[i] for i in chosen], [short[i] for i in chosen], parts, width, gap)
        blocks.append(_block([short[i] for i in chosen], parts, widths, gap))
    return blocks, notes


def _block(
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    widths: Sequence[int] | None = None,
    gap: int = GAP,
) -> ColumnBlock:
    if widths is None:
        lines = zip(columns, *cells, strict=True)
        widths = [max(map(_width, column)) for column in lines]
    return ColumnBlock(
        [_wrapped(name, width) for name, width in zip(columns, widths, strict=True)],
        [[_wrapped(c, width) for c, width in zip(row, widths, strict=True)] for row in cells],
        list(widths),
        gap,
    )


def _total(widths: Sequence[int], gap: int = GAP) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _least_widths(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    """Return for each column the length of its longest word."""
    return [
        max(_width(word) for text in column for word in _words(text) or [""])
        for column in zip(columns, *cells, strict=True)
    ]


def _in_blocks(
    columns: Sequence[str], least: Sequence[int], kept: Sequence[int], width: int, gap: int
) -> list[list[int]]:
    """Return the columns of each block; each begins with the columns that tell the rows apart."""
    keys = [i for i in kept if i == 0 or columns[i] in KEYS]
    if _total([least[i] for i in keys], gap) > width - 12:
        keys = keys[:1]
    found, current = [], list(keys)
    for i in kept:
        if i in keys:
            continue
        if len(current) > len(keys) and _total([least[j] for j in [*current, i]], gap) > width:
            found.append(current)
            current = list(keys)
        current.append(i)
    return [*found, current]


def _shared(
    least: Sequence[int],
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    width: int,
    gap: int,
) -> list[int]:
    """Return widths of columns: what is left of the width goes to cells of several lines."""
    widths = list(least)
    wanted = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    left = width - _total(widths, gap)
    while left > 0:
        narrow = [i for i in range(len(widths)) if wanted[i] > widths[i]]
        if not narrow:
            break
        # The column that needs the fewest lines less than the others comes last.
        i = max(narrow, key=lambda j: wanted[j] / widths[j])
        widths[i] += 1
        left -= 1
    return widths


def _shorten_words(cells: list[list[str]]) -> list[str]:
    """Shorten words that are too long for a column in place, and return what they stand for."""
    legend = []
    for i in range(len(cells[0])):
        column = [row[i] for row in cells]
        if max((_width(word) for text in column for word in _words(text)), default=0) > MOST_WORD:
            unique = list(dict.fromkeys(column))
            short = dict(zip(unique, shortened(unique, MOST_WORD), strict=True))
            legend += [f"{short[text]}: {text}" for text in unique if short[text] != text]
            for row in cells:
                row[i] = short[row[i]]
    return legend


def shortened(labels: Sequence[str], width: int) -> list[str]:
    """Return labels of at most ``width`` characters, different ones for different labels.

    Examples
    --------
    >>> shortened(["he_normal", "variance_scaling(scale=2.0)"], 20)
    ['he_normal', 'variance_sc…ale=2.0)']
    """
    found = []
    for label in map(_printable, labels):
        if _width(label) > width:
            tail = (width - 1) * 9 // 20
            label = f"{_cut(label, width - 1 - tail)}…{_cut(label[::-1], tail)[::-1]}"
        found.append(label)
    # Labels that differ only in what was left out are numbered.
    for i, label in enumerate(found):
        if label in found[:i]:
            number = f"…{i + 1}"
            found[i] = _cut(label, width - len(number)) + number
    return found


def rounded(values: Sequence[Any], digits: int = FEW_DIGITS) -> list[str]:
    """Return values of an axis as text, with the fewest digits that keep different ones different.

    Parameters
    ----------
    values : sequence
        Values that are not floats are written in full, None as an empty string.
    digits : int, default 3
        The least number of significant digits.

    Examples
    --------
    >>> rounded([0.010000000000000004, 0.00137936938299795]), rounded([0.1234, 0.12341])
    (['0.01', '0.00138'], ['0.1234', '0.12341'])
    """
    different = set(map(_exact, values))
    for enough in range(digits, 17):
        found = [_text(value, enough) for value in values]
        if len(set(found)) == len(different):
            return found
    return [_exact(value) for value in values]


def _exact(value: Any) -> str:
    return "" if value is None else str(value)


def counted(n: int, noun: str) -> str:
    """Return a number of things in words.

    Examples
    --------
    >>> counted(1, "run"), counted(2000, "run")
    ('1 run', '2,000 runs')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def joined(words: Sequence[str], last: str = "and") -> str:
    """Return words as a list in a sentence.

    Examples
    --------
    >>> joined(["a"]), joined(["a", "b"]), joined(["a", "b", "c"], "or")
    ('a', 'a and b', 'a, b or c')
    """
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def axis_value(axis: str, value: Any) -> Any:
    """Return a value of an axis as the command line takes it: full batches are "full".

    Examples
    --------
    >>> axis_value("batch_size", None), axis_value("depth", 2)
    ('full', 2)
    """
    return "full" if value is None and axis[-10:] in ("batch_size", "batch size") else value


def with_axis_values(rows: Table) -> Table:
    """Return a table with the values of all axes as the command line takes them.

    Examples
    --------
    >>> list(with_axis_values(Table([{"scheme": "he_normal", "batch size": None}])))
    [{'scheme': 'he_normal', 'batch size': 'full'}]
    """
    return Table([{name: axis_value(name, value) for name, value in row.items()} for row in rows])


def _cut(text: str, width: int) -> str:
    """Return the beginning of a text that is at most so wide."""
    while _width(text) > width:
        text = text[: min(len(text) - 1, width)]
    return text


def _width(text: str) -> int:
    """Return the number of columns that a terminal needs for a text."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _padded(text: str, width: int, right: bool) -> str:
    missing = " " * (width - _width(text))
    return missing + text if right else text + missing


def _words(text: str) -> list[str]:
    """Return the parts of a text between which a line may end: words, and arguments of calls."""
    return [word.strip() for word in _pieces(text)]


def _pieces(text: str) -> list[str]:
    if is_number(text):
        return [text]
    return [piece for piece in re.findall(r"\s*[^\s(,/]*[(,/]?", text) if piece.strip()]


def _wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines that are at most so wide."""
    lines = [""]
    for piece in [text] if _width(text) <= width else _pieces(text):
        if _width(lines[-1] + piece) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return lines


def _filled(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_on_hyphens=False)


def _text(value: Any, digits: int) -> str:
    if value is None:
        return ""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _printable(text: str) -> str:
    """Return the text without control characters and halves of surrogate pairs."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
