"""Report: a comparison as one self-contained HTML file."""

import ast
import base64
import hashlib
import itertools
import json
import math
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastinit.comparison.grid import AXES, as_code, optimizer_labels, scheme_code
from fastinit.comparison.ranking import Rank
from fastinit.comparison.results import Comparison, RankingTable
from fastinit.comparison.tables import (
    FEW_DIGITS,
    Table,
    counted,
    joined,
    rounded,
    with_axis_values,
)
from fastinit.kernels import show_config
from fastinit.markup import escaped, html_table
from fastinit.training.files import replace_file
from fastinit.validation import check_name

if TYPE_CHECKING:
    from fastinit.comparison.vectors import Vector

TITLE = "What does the weight initialisation do?"
MOST_NETWORKS = 200  # that are listed
MOST_ROWS = 600  # of a table; a longer one is left to CSV files
MOST_GROUPS = 100  # with a ranking of their own
OPEN_GROUPS = 3  # of more, only the answers are shown at first
MOST_CODE = 2000  # characters of one argument

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1b1b; --soft: #565656; --line: #d0d0d0;
  --shade: #f4f4f4; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #000; --ink: #e8e8e8;
  --soft: #a8a8a8; --line: #444; --shade: #1a1a1a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 66rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 0.3rem; }
h2, h3, p.soft { break-after: avoid; }
.answer { font-size: 1.1rem; }
.soft, caption { color: var(--soft); }
.frame { overflow: auto; max-height: 36rem; margin: 0.8rem 0; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
caption { text-align: left; padding-bottom: 0.3rem; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; }
td { white-space: nowrap; }
td.text, .facts td { white-space: normal; }
th { font-weight: 600; }
th[scope=row], thead th:first-child, .text, .facts td { text-align: left; }
.facts td { overflow-wrap: anywhere; }
th span { display: inline-block; max-width: 16rem; overflow-wrap: break-word; }
thead th { position: sticky; top: 0; background: var(--paper); vertical-align: bottom; z-index: 1; }
th button { all: unset; cursor: pointer; font-weight: 600; text-align: inherit; }
th button:focus-visible { outline: 2px solid currentColor; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
details { margin: 0.6rem 0; }
summary { cursor: pointer; font-weight: 600; }
dt { font-weight: 600; }
dd { margin: 0 0 0.7rem; }
.panels { display: grid; gap: 1rem; margin: 0.6rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.square { grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
figure { margin: 0; max-width: 42rem; break-inside: avoid; }
.square figure { max-width: 26rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
.curves { touch-action: pan-y; outline-offset: 2px; }
.active .curve, .active .label { opacity: 0.25; }
.active .on { opacity: 1; }
.active .curve.on path { stroke-width: 3 !important; }
.active .label.on text { font-weight: 700; }
.readout { min-height: 1.5em; margin: 0; color: var(--soft); font-size: 0.9rem; }
pre { background: var(--shade); padding: 0.8rem; overflow-x: auto; font-size: 0.85rem;
  overflow-wrap: normal; }
@media (max-width: 40rem) { th, td { padding: 0.2rem 0.4rem; font-size: 0.85rem; }
  th[scope=row] { position: sticky; left: 0; background: var(--paper); }
  th span { max-width: 8.5rem; }
  caption { position: sticky; left: 0; max-width: calc(100vw - 3rem); } }
@media print { body { max-width: none; padding: 0; } tr { break-inside: avoid; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  .frame { overflow: visible; max-height: none; } .frame table { font-size: 0.75rem; }
  .panels { grid-template-columns: 1fr 1fr; }
  .square { grid-template-columns: 1fr 1fr 1fr; } thead th { position: static; } }
"""

SCRIPT = r"""
"use strict";
// Tables: a click on a header sorts by its column, upwards, downwards, and as at first.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, i) => {
    const text = row.cells[i].textContent.trim();
    if (text === "") return null;
    const number = Number(text.replace(/,/g, "").replace(/^(-?)inf$/, "$1Infinity"));
    return Number.isNaN(number) ? text : number;
  };
  const order = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a === b ? 0 : a < b ? -1 : 1;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, undefined, { numeric: true });
  };
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" };
      const way = next[head.getAttribute("aria-sort")];
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", way);
      const sign = way === "descending" ? -1 : 1;
      const keyed = original.map((row) => [value(row, i), row]);
      if (way !== "none") {
        // Empty cells come last either way.
        keyed.sort(([a], [b]) =>
          a === null || b === null ? (a === null) - (b === null) : sign * order(a, b));
      }
      body.append(...keyed.map(([, row]) => row));
    });
  });
}
// What is folded is printed as well.
const folded = [];
addEventListener("beforeprint", () => {
  folded.push(...document.querySelectorAll("details:not([open])"));
  for (const part of folded) part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of folded.splice(0)) part.open = false;
});
// Curves: the one nearest to the pointer is highlighted, with its value there.
for (const figure of document.querySelectorAll("figure.curves")) {
  const svg = figure.querySelector("svg");
  const readout = figure.querySelector(".readout");
  const { view, curves, of } = JSON.parse(figure.querySelector("script").textContent);
  const place = ([low, high, start, end], log) => (v) => {
    const f = log ? Math.log : (u) => u;
    const share = v > 0 || !log ? (f(v) - f(low)) / (f(high) - f(low)) : 0;
    return start + Math.min(1.02, Math.max(-0.02, share)) * (end - start);
  };
  const toX = place(view.x, view.logx), toY = place(view.y, view.logy);
  for (const curve of curves) {
    curve.px = curve.x.map(toX);
    curve.py = curve.y.map(toY);
    curve.parts = svg.querySelectorAll(`[data-k="${curve.k}"]`);
  }
  const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  dot.setAttribute("r", "3.5");
  dot.setAttribute("fill", "currentColor");
  dot.setAttribute("visibility", "hidden");
  svg.append(dot);
  let chosen = 0, at = null;
  const nearest = (curve, x) => {
    let low = 0, high = curve.px.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (curve.px[middle] < x) low = middle; else high = middle;
    }
    return x - curve.px[low] < curve.px[high] - x ? low : high;
  };
  const written = (v) => v === Infinity ? "\u221e" : String(Number(v.toPrecision(3)));
  const show = () => {
    const curve = curves[chosen], i = Math.min(at, curve.x.length - 1);
    figure.classList.add("active");
    for (const other of curves)
      other.parts.forEach((part) => part.classList.toggle("on", other === curve));
    dot.setAttribute("cx", curve.px[i]);
    dot.setAttribute("cy", curve.py[i]);
    dot.setAttribute("visibility", "visible");
    const x = String(Number(curve.x[i].toPrecision(6)));
    readout.textContent = `${curve.label}: ${of.x} ${x}, ${of.y} ${written(curve.y[i])}`;
  };
  const clear = () => {
    figure.classList.remove("active");
    dot.setAttribute("visibility", "hidden");
    readout.textContent = "";
    at = null;
  };
  const point = (event) => {
    const here = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(svg.getScreenCTM().inverse());
    let least = Infinity;
    const label = event.target.closest?.(".label");
    curves.forEach((curve, number) => {
      const i = nearest(curve, here.x);
      let far = Math.hypot((curve.px[i] - here.x) / 4, curve.py[i] - here.y);
      if (label && label.dataset.k === String(curve.k)) far = -1;
      if (far < least) [least, chosen, at] = [far, number, i];
    });
    show();
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") clear(); });
  figure.addEventListener("focus", () => {
    if (at === null) { at = curves[chosen].x.length - 1; show(); }
  });
  figure.addEventListener("blur", clear);
  figure.addEventListener("keydown", (event) => {
    const length = curves[chosen].x.length, n = curves.length;
    if (at === null) at = length - 1;
    const step = event.shiftKey ? Math.ceil(length / 10) : 1;
    if (event.key === "ArrowLeft") at = Math.max(0, at - step);
    else if (event.key === "ArrowRight") at = Math.min(length - 1, at + step);
    else if (event.key === "ArrowDown") chosen = (chosen + 1) % n;
    else if (event.key === "ArrowUp") chosen = (chosen + n - 1) % n;
    else if (event.key === "Escape") return clear();
    else return;
    event.preventDefault();
    show();
  });
}
"""


def write(
    comparison: Comparison,
    path: str | os.PathLike[str],
    *,
    data: str | None = None,
    command: Sequence[str] | None = None,
    by: str | Sequence[str] | None = None,
    metric: str | None = None,
    best_of: str | Sequence[str] = (),
) -> None:
    """Write a comparison as one self-contained HTML file.

    The report contains the networks that were run, the ranking, the verdict of each scheme, the
    figures, tables that a click sorts, settings and versions, and the code that reproduces the
    comparison. Curves answer the mouse, touch, and the arrow keys. It loads nothing else, follows
    the colours of the system, and can be printed. It requires matplotlib.

    Parameters
    ----------
    comparison : Comparison
        With at least one finished run.
    path : path-like
        An existing file is replaced as a whole or not at all.
    data : str, optional
        Python code that defines ``X, Y``, with test data also ``X_test, Y_test``, and with
        validation data the pair ``validation``; it may use ``np`` and ``fi``. By default the code
        in the report identifies the data by their SHA-256.
    command : sequence of str, optional
        The arguments of the command line that made the comparison.
    by : str or sequence of str, optional
        Axes. The schemes are ranked, and have verdicts, within each group of runs that share the
        values of these axes. Those of the first two axes have panels of their own, as in
        :func:`fastinit.comparison.plots.figures`. By default, the ranking is over all runs, and the
        panels are those of the axes that change the cost most.
    metric, best_of
        As in :meth:`Comparison.ranking`.

    Raises
    ------
    OSError
        If the file cannot be written; an existing one is kept.
    ValueError
        If no run is finished, for an unknown axis or one that was sampled from a distribution, or
        for an unknown metric.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import fastinit as fi
    >>> X, Y, X_test, Y_test = fi.lesson.load_dataset()
    >>> result = fi.compare(X, Y, fi.Network([2, 10, 5, 1]), ["zeros", "lesson.he"], iterations=100)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(result, Path(folder, "report.html"), data="X, Y = fi.lesson.load_dataset()[:2]")
    ...     Path(folder, "report.html").read_text(encoding="utf-8")[:15]
    '<!DOCTYPE html>'
    """
    if not len(comparison):
        raise ValueError("comparison: expected at least one finished run; got none")
    page = _page(comparison, data, command, by, _Ranker(comparison, metric, best_of))
    replace_file(path, page.encode())


def code(comparison: Comparison, data: str | None = None) -> str:
    """Return Python code that reproduces a comparison.

    Parameters
    ----------
    comparison : Comparison
    data : str, optional
        As for :func:`write`.

    Returns
    -------
    str

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, _, _ = fi.lesson.load_dataset()
    >>> result = fi.compare(X, Y, fi.Network([2, 3, 1]), ["lesson.he"], seed=[0, 1], iterations=10)
    >>> print(code(result, "X, Y = fi.lesson.load_dataset()[:2]"))
    import numpy as np
    import fastinit as fi
    <BLANKLINE>
    X, Y = fi.lesson.load_dataset()[:2]
    result = fi.compare(
        X,
        Y,
        fi.Network([2, 3, 1], activation='relu', output='sigmoid', dtype='float64'),
        ['lesson.he'],
        seed=[0, 1],
        iterations=10,
    )
    """
    loads = data or f"# X, Y: the arrays of SHA-256 {comparison.digest()}"
    if data is None and "validation" in comparison.settings:
        loads += "\n# validation: the pair of arrays that compare was called with"
    test = ["test=(X_test, Y_test)"] if comparison.data.test is not None else []
    lines = ["X", "Y", f"fi.{comparison.network!r}", _schemes_code(comparison.schemes), *test]
    written = [f"    {line}," for line in lines]
    if "..." in lines[3]:
        written[3] += "  # replace ... by the schemes: these have no code"
    for name, value in comparison.settings.items():
        text = "validation" if name == "validation" else as_code(value)
        if _is_code(text):
            written.append(f"    {name}={text},")
        else:
            shown = " ".join(text.split())
            shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
            written.append(f"    {name}=...,  # no code for {shown}")
    imports = ["import functools"] if "functools." in lines[3] else []
    return "\n".join(
        [
            *imports,
            "import numpy as np",
            "import fastinit as fi",
            "",
            loads,
            "result = fi.compare(",
            *written,
            ")",
        ]
    )


def _is_code(text: str) -> bool:
    """Return whether a text is an expression of literals, ``np`` and ``fi``, short enough to read.

    A callable or a distribution has no code, and sample weights have as many numbers as examples.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):
        return False
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return len(text) <= MOST_CODE and names <= {"fi", "np", "range", "validation"}


def _schemes_code(labels: Sequence[str]) -> str:
    """Return the schemes as code: a list, or a mapping if one is unlike its label."""
    codes = {label: scheme_code(label) for label in labels}
    if None not in codes.values():
        return f"[{', '.join(str(each) for each in codes.values())}]"
    entries = [f"{label!r}: {each or '...'}" for label, each in codes.items()]
    return f"{{{', '.join(entries)}}}"


def _page(
    comparison: Comparison,
    data: str | None,
    command: Sequence[str] | None,
    by: str | Sequence[str] | None,
    ranker: "_Ranker",
) -> str:
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    from fastinit.comparison import plots  # optional, and slow to import

    axes = [by] if isinstance(by, str) else list(by or ())
    for name in axes:
        check_name("by", name, AXES)
    facets = plots.facet_axes(comparison, axes[:2] or None)
    comparison.check_by(*axes)
    groups = _groups(comparison, axes, ranker)
    varying = comparison.varying
    sections = [
        f"<h1>{TITLE}</h1>",
        f"<p>{_question(comparison, varying)}</p>",
        "<h2>Ranking</h2>",
        *_rankings(ranker, axes, groups),
        "<h2>Verdicts</h2>",
        *_verdicts(comparison, groups),
        "<h2>Figures</h2>",
        *_figures(comparison, facets, ranker),
        "<h2>Outcomes</h2>",
        *_outcomes(comparison, axes or facets),
        "<h2>What was run</h2>",
        *_networks(comparison),
        _facts(comparison, varying),
        "<h2>Reproduce</h2>",
        *([f"<pre><code>{escaped(shlex.join(command))}</code></pre>"] if command else []),
        f"<pre><code>{escaped(code(comparison, data))}</code></pre>",
    ]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            # An empty icon, so that the browser does not request one.
            '<link rel="icon" href="data:,">',
            f"<title>{TITLE}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            "<main>",
            *sections,
            "</main>",
            f"<script>{SCRIPT}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _question(comparison: Comparison, varying: Sequence[str]) -> str:
    """Return what was run in a sentence or two."""
    n, missing = len(comparison), comparison.missing()
    values = comparison.cells.values
    networks = len(_network_counts(comparison.cells.codes, comparison)[0])
    first = next(iter(comparison.cells.networks.values()))
    what = f"the network {_layers(first.sizes)}" if networks == 1 else f"{networks:,} networks"
    parts = [
        f"{counted(n, 'run')} of {what}",
        f"from {counted(len(comparison.schemes), 'initialisation')}",
        f"{', '.join(map(str, values['activation']))} hidden units",
        f"trained by {', '.join(optimizer_labels(values['optimizer']))}",
        f"in {_batches(comparison)}",
        f"for up to {_length(comparison)}",
        f"on {comparison.X.shape[1]:,} examples",
    ]
    left = f" {missing}" if missing else ""
    varied = [f"{name.replace('_', ' ')} ({len(values[name]):,} values)" for name in varying]
    axes = f" Varied: {', '.join(varied)}." if varied else ""
    return escaped(f"{parts[0]} {', '.join(parts[1:])}.{axes}{left}")


def _layers(sizes: Sequence[int]) -> str:
    """Return the units of each layer.

    Examples
    --------
    >>> _layers([2, 10, 5, 1]), _layers([2, 10, 10, 10, 1])
    ('2-10-5-1', '2-10×3-1')
    """
    groups = [(size, len(list(same))) for size, same in itertools.groupby(sizes)]
    return "-".join(
        f"{size}\N{MULTIPLICATION SIGN}{n}" if n > 2 else "-".join([str(size)] * n)
        for size, n in groups
    )


def _batches(comparison: Comparison) -> str:
    sizes = comparison.cells.values["batch_size"]
    found = ["full batches"] if None in sizes else []
    numbers = [f"{each:,}" for each in sizes if each is not None]
    return " and ".join([*found, *([f"batches of {', '.join(numbers)}"] if numbers else [])])


def _length(comparison: Comparison) -> str:
    training = comparison.data.training
    if training.epochs is not None:
        return counted(training.epochs, "epoch")
    return counted(training.iterations or 0, "iteration")


def _frame(caption: str, rows: Table) -> str:
    """Return a table in a frame that scrolls; it must be focusable to be scrolled by keyboard."""
    rows = with_axis_values(rows)
    kept = [name for name in rows.columns if any(row[name] not in (None, "") for row in rows)]
    shown = Table([{name: row[name] for name in kept} for row in rows])
    table = html_table(
        shown.cells(FEW_DIGITS), columns=shown.columns, caption=caption, sortable=True
    )
    return (
        f'<div class="frame" role="region" aria-label="{escaped(caption)}" tabindex="0">\n'
        f"{table}\n</div>"
    )


@dataclass(frozen=True)
class _Ranker:
    """How the schemes of a comparison are ranked."""

    comparison: Comparison
    metric: str | None
    best_of: str | Sequence[str]

    def __call__(self, **where: Any) -> RankingTable:
        return self.comparison.ranking(self.metric, best_of=self.best_of, **where)


@dataclass(frozen=True)
class _Group:
    """The ranking and the verdicts of the runs that share the values of the axes of ``by``."""

    title: str
    values: tuple[Any, ...]
    ranking: RankingTable
    verdicts: list[dict[str, Any]]


def _groups(comparison: Comparison, axes: Sequence[str], ranker: _Ranker) -> list[_Group]:
    """Return the groups in the order of the grid; none if there are too many."""
    if not axes or len(comparison.groups(*axes)) > MOST_GROUPS * len(comparison.schemes):
        return []
    verdicts = comparison.verdicts(*axes)
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in verdicts:
        found.setdefault(tuple(row[name.replace("_", " ")] for name in axes), []).append(row)
    texts = [rounded(values) for values in zip(*found, strict=True)]
    return [
        _Group(
            ", ".join(map(_value_named, axes, own)),
            values,
            ranker(**dict(zip(axes, values, strict=True))),
            rows,
        )
        for own, (values, rows) in zip(zip(*texts, strict=True), found.items(), strict=True)
    ]


def _value_named(axis: str, text: str) -> str:
    if axis == "batch_size":
        return f"batches of {text}" if text else "full batches"
    return text if axis in ("activation", "optimizer") else f"{axis.replace('_', ' ')} {text}"


def _rankings(ranker: _Ranker, axes: Sequence[str], groups: Sequence[_Group]) -> Iterator[str]:
    """Yield one ranking, or an overview of the groups and the ranking of each."""
    if not groups:
        if axes:
            named = joined([name.replace("_", " ") for name in axes])
            yield (
                f'<p class="soft">{escaped(named)}: more than {MOST_GROUPS} groups, too many for '
                f"rankings of their own.</p>"
            )
        ranking = ranker()
        yield f'<p class="answer">{escaped(ranking.answer)}</p>'
        yield _ranking(ranking, "From the best to the worst")
        return
    overview = [
        {name.replace("_", " "): value for name, value in zip(axes, group.values, strict=True)}
        | {
            "best": group.ranking.rows[0].scheme,
            **_chosen(group.ranking, group.ranking.rows[0].scheme, "its "),
            f"median {group.ranking.metric.label}": group.ranking.rows[0].median,
            "not distinguished from it": _of_verdict(group.ranking, "not distinguished"),
            "better in pairs": _of_verdict(group.ranking, "better in pairs"),
            "interval of the median": _interval(
                group.ranking.rows[0].low, group.ranking.rows[0].high
            ),
        }
        for group in groups
    ]
    named = joined([name.replace("_", " ") for name in axes])
    yield _frame(f"The best scheme by {named}. {INTERVALS}", Table(overview))
    for group in groups:
        body = [
            f'<p class="answer">{escaped(group.ranking.answer)}</p>',
            _ranking(group.ranking, f"{group.title}: from the best to the worst"),
        ]
        yield _folded(group.title, body, groups)


def _folded(title: str, body: Sequence[str], groups: Sequence[_Group]) -> str:
    """Return a part of the page that opens with a click, and is open if there are few."""
    start = "<details open>" if len(groups) <= OPEN_GROUPS else "<details>"
    return "\n".join([start, f"<summary>{escaped(title)}</summary>", *body, "</details>"])


def _of_verdict(ranking: RankingTable, verdict: str) -> str:
    names = [row.scheme for row in ranking.rows if row.verdict == verdict]
    return "all others" if len(names) == len(ranking) - 1 > 3 else ", ".join(names)


INTERVALS = (
    "Intervals of medians are those of 95 % confidence, or the range of fewer than six seeds."
)


def _ranking(ranking: RankingTable, caption: str) -> str:
    """Return a ranking as a table; what matters most comes first, for narrow screens."""
    best = ranking.rows[0]
    rows = [
        {
            "scheme": row.scheme,
            **_chosen(ranking, row.scheme),
            "median": row.median,
            "against the best": row.verdict,
            "difference to the best": None if row is best else _differences(row, best)[0],
            "interval of the difference": _interval(*_differences(row, best)[1:]),
            "p\N{NON-BREAKING HYPHEN}value": _known(row.p_value),
            "interval of the median": _interval(row.low, row.high),
            "runs": row.runs,
            "failed": row.failed,
        }
        for row in ranking.rows
    ]
    return _frame(f"{caption}, by {ranking.metric.label}. {INTERVALS}", Table(rows))


def _chosen(ranking: RankingTable, scheme: str, prefix: str = "") -> dict[str, Any]:
    """Return the values of the axes at which a scheme is ranked, by the names of their columns."""
    return {
        f"{prefix}{axis.replace('_', ' ')}": value
        for axis, value in ranking.best_of.get(scheme, {}).items()
    }


def _differences(row: Rank, best: Rank) -> list[float]:
    """Return the difference to the best and its interval; rounding errors are 0."""
    least = 1e-12 * max(abs(row.median), abs(best.median))
    found = (row.difference, row.difference_low, row.difference_high)
    return [0.0 if abs(value) <= least < math.inf else value for value in found]


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) or math.isnan(high) else f"{low:.3g} to {high:.3g}"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _verdicts(comparison: Comparison, groups: Sequence[_Group]) -> Iterator[str]:
    """Yield the verdict of each scheme, of each group if there are groups."""
    if not groups:
        yield _definitions(comparison.verdicts())
    for group in groups:
        yield _folded(group.title, [_definitions(group.verdicts)], groups)


def _definitions(rows: Sequence[dict[str, Any]]) -> str:
    words = [
        f"<dt>{escaped(row['scheme'])}</dt><dd>{escaped(row['verdict'])}.</dd>" for row in rows
    ]
    return "\n".join(["<dl>", *words, "</dl>"])


def _outcomes(comparison: Comparison, axes: Sequence[str]) -> list[str]:
    words = "Medians, quartiles and shares over the runs of each scheme"
    found = [_frame(words, comparison.summary())]
    if axes:
        named = joined([name.replace("_", " ") for name in axes])
        if len(comparison.groups(*axes)) <= MOST_ROWS:
            found.append(_frame(f"{words} by {named}", comparison.summary(*axes)))
        else:
            found.append(f'<p class="soft">There are too many values of {named} for a table.</p>')
    return found


def _networks(comparison: Comparison) -> list[str]:
    """Return a table of the networks with their numbers of finished runs."""
    grid = comparison.cells
    found, counts = _network_counts(grid.codes[comparison.columns()["place"]], comparison)
    rows = []
    for key, runs in zip(found[:MOST_NETWORKS].tolist(), counts.tolist(), strict=False):
        network = grid.networks[tuple(key)]
        rows.append(
            {
                "network": _layers(network.sizes),
                "activation": network.activation,
                "output": network.output,
                "parameters": network.n_parameters,
                "runs": runs,
            }
        )
    more = f", the first {MOST_NETWORKS} of {len(found):,}" if len(found) > MOST_NETWORKS else ""
    return [_frame(f"Networks: units of each layer{more}", Table(rows))]


def _network_counts(codes: NDArray[np.int32], comparison: Comparison) -> tuple[Any, Any]:
    """Return the codes of the different networks among those of cells, and their numbers."""
    lengths = [len(comparison.cells.values[name]) for name in ("depth", "width", "activation")]
    counts = np.bincount(np.ravel_multi_index(tuple(codes[:, 2:5].T), lengths))
    found = np.flatnonzero(counts)
    return np.column_stack(np.unravel_index(found, lengths)), counts[found]


def _facts(comparison: Comparison, varying: Sequence[str]) -> str:
    values, config = comparison.cells.values, show_config("dicts") or {}
    data = comparison.data
    facts: dict[str, Any] = {
        "network given": comparison.network,
        "initialisations": ", ".join(comparison.schemes),
    }
    if values["learning_rate"] == (None,):
        facts["optimizer"] = _several(values["optimizer"])
    else:
        facts["optimizer"] = _several(optimizer_labels(values["optimizer"]))
        facts["learning rate"] = _several(values["learning_rate"])
    facts["batches"] = _batches(comparison)
    facts["length"] = _length(comparison)
    facts["seed"] = _several(values["seed"])
    for name in varying:
        if name not in ("seed", "optimizer", "learning_rate", "batch_size"):
            facts[name] = _several(values[name])
    n_features, n_examples = data.X.shape
    tested = "no" if data.test is None else f"{data.test[0].shape[1]:,}"
    stored = "" if comparison.has_data else " (too large for the store)"
    facts["data"] = (
        f"{n_examples:,} examples of {n_features:,} features, {tested} test examples{stored}"
    )
    facts["SHA-256 of the data"] = comparison.digest()
    facts["time of all runs"] = f"{comparison.columns()['seconds'].sum():.3g} s"
    facts |= {name: config[name] for name in ("fastinit", "kernels", "numpy", "python")}
    table = html_table([name, str(fact)] for name, fact in facts.items())
    return f'<div class="facts">\n{table}\n</div>'


def _several(values: Sequence[Any]) -> str:
    """Return the values, shortened: an axis may have thousands."""
    shown = [*values[:3], *values[-1:]] if len(values) > 8 else values
    numbers = all(isinstance(value, (int, float)) for value in shown)
    found = rounded(shown) if numbers else [_setting(value) for value in shown]
    if len(values) > 8:
        return f"{', '.join(found[:3])}, ..., {found[3]} ({len(values):,} values)"
    return ", ".join(found)


def _setting(value: Any) -> str:
    if value is None:
        return "NumPy's global random state"
    return as_code(value) if isinstance(value, np.random.SeedSequence) else str(value)


def _figures(comparison: Comparison, facets: Sequence[str], ranker: _Ranker) -> Iterator[str]:
    """Yield the figures: each has a heading, a caption, and panels, which reflow."""
    from fastinit.comparison import plots, vectors

    pictures = plots.pictures(comparison, facets, metric=ranker.metric, best_of=ranker.best_of)
    for number, (name, picture) in enumerate(pictures.items()):
        yield f"<h3>{escaped(picture.title)}</h3>"
        if picture.caption:
            yield f'<p class="soft">{escaped(picture.caption)}</p>'
        yield f'<div class="panels {"square " if picture.square else ""}{name}">'
        for (title, _), vector in zip(
            picture.panels, vectors.vectors(picture, f"f{number}-"), strict=True
        ):
            words = ". ".join(part for part in (picture.title, title, vector.description) if part)
            svg = vector.svg.replace("<svg", f'<svg role="img" aria-label="{escaped(words)}"', 1)
            if vector.curves:
                yield '<figure class="curves" tabindex="0">'
                yield svg
                yield '<p class="readout" aria-live="polite"></p>'
                yield f'<script type="application/json">{_curve_data(vector)}</script>'
            else:
                yield f"<figure>{svg}"
            yield "</figure>"
        yield "</div>"


def _curve_data(vector: "Vector") -> str:
    """Return the values of curves as JSON that cannot end the element that contains it."""
    curves = [
        {
            "k": k,
            "label": curve.label,
            "x": [_short(value) for value in curve.x],
            "y": [_short(value) for value in curve.y],
        }
        for k, curve in vector.curves.items()
    ]
    text = json.dumps(
        {"view": vector.view, "curves": curves, "of": vector.names}, separators=(",", ":")
    )
    # JSON has no infinity; a number that is too large is read as infinity.
    text = text.replace("Infinity", "1e999")
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _short(value: Any) -> float | int:
    """Return a number of four significant digits, an integer as it is; NaN is infinite."""
    number = float(value)
    if not math.isfinite(number):
        return math.inf if math.isnan(number) else number
    return int(number) if number.is_integer() and abs(number) < 1e9 else float(f"{number:.4g}")
