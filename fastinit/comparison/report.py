"""Report: one comparison as one HTML file that needs nothing else."""

import base64
import html
import os
import shlex
from collections.abc import Sequence
from typing import Any

from fastinit.comparison.results import Comparison
from fastinit.comparison.runner import digest
from fastinit.comparison.tables import Table
from fastinit.kernels import show_config
from fastinit.training.files import replace_file

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1b1b; --soft: #5a5a5a; --line: #d0d0d0;
  --shade: #f4f4f4; }
@media (prefers-color-scheme: dark) { :root { --paper: #000; --ink: #e8e8e8; --soft: #a8a8a8;
  --line: #444; --shade: #1a1a1a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.2rem; margin-top: 2rem; border-bottom: 1px solid var(--line); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: 0.3rem; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; }
th { font-weight: 600; }
th[scope=row], thead th:first-child, td.text, .facts td { text-align: left; }
.facts td { overflow-wrap: anywhere; }
dt { font-weight: 600; }
dd { margin: 0 0 0.7rem; }
figure { margin: 1.5rem 0; }
img { display: block; max-width: 100%; height: auto; }
/* On a phone a picture is scrolled rather than shrunk until its words cannot be read. */
@media screen and (max-width: 36rem) { img:not(.data) { max-width: none; width: 36rem; } }
figcaption { color: var(--soft); }
pre { background: var(--shade); padding: 0.8rem; overflow-x: auto; font-size: 0.85rem; }
@media print { body { max-width: none; padding: 0; } figure, tr { break-inside: avoid; }
  pre { white-space: pre-wrap; } .wide { overflow: visible; } }
"""


def write(
    comparison: Comparison,
    path: str | os.PathLike[str],
    *,
    data: str | None = None,
    command: Sequence[str] | None = None,
) -> None:
    """Write a comparison as one self-contained HTML file.

    It holds the question, the set-up and versions, the summary, a verdict for each scheme, the
    pictures for light and dark screens, and the code that does it again. It needs matplotlib.

    Parameters
    ----------
    comparison : Comparison
        With at least one finished run.
    path : path-like
        Replaced as a whole or not at all.
    data : str, optional
        The Python that makes ``X, Y``, and with test data ``X_test, Y_test``; it may use ``np`` and
        ``fi``. Without it the code in the report tells the data by their digest.
    command : sequence of str, optional
        The command line that made the comparison, one argument each.

    Raises
    ------
    OSError
        If the file cannot be written; an older one is then left as it is.
    ValueError
        If no run is finished.

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
    replace_file(path, _page(comparison, data, command).encode())


def code(comparison: Comparison, data: str | None = None) -> str:
    """Return the Python code that makes the comparison again.

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
        learning_rate=0.01,
        iterations=10,
    )
    """
    loads = data or f"# X, Y: the arrays of SHA-256 {digest(comparison)}"
    test = ["test=(X_test, Y_test)"] if comparison.test is not None else []
    settings = [f"{name}={value!r}" for name, value in comparison.settings.items()]
    arguments = ["X", "Y", f"fi.{comparison.network!r}", repr(comparison.schemes), *test, *settings]
    return "\n".join(
        [
            "import numpy as np",
            "import fastinit as fi",
            "",
            loads,
            "result = fi.compare(",
            *(f"    {argument}," for argument in arguments),
            ")",
        ]
    )


def _page(comparison: Comparison, data: str | None, command: Sequence[str] | None) -> str:
    title = "What does the weight initialisation do?"
    sections = [
        f"<h1>{title}</h1>",
        f"<p>{_question(comparison)}</p>",
        "<h2>Verdicts</h2>",
        _verdicts(comparison),
        "<h2>Outcomes</h2>",
        _table(comparison.summary(), "Medians, quartiles and shares over the runs of each scheme"),
        "<h2>Pictures</h2>",
        *_pictures(comparison),
        "<h2>Set-up</h2>",
        _facts(comparison),
        "<h2>Do it again</h2>",
        *([f"<pre><code>{_text(shlex.join(command))}</code></pre>"] if command else []),
        f"<pre><code>{_text(code(comparison, data))}</code></pre>",
    ]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # An empty icon, so that the browser asks nobody for one.
            '<link rel="icon" href="data:,">',
            f"<title>{title}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            "<main>",
            *sections,
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _text(value: Any) -> str:
    """Return the value as text of the page: names and paths come from the user."""
    return html.escape(str(value))


def _question(comparison: Comparison) -> str:
    n, missing = len(comparison), len(comparison.cells) - len(comparison)
    runs = f"{n:,} run{'' if n == 1 else 's'}"
    left = f"; {missing:,} of the grid are missing, for it was interrupted" if missing else ""
    return _text(
        f"{runs} of up to {comparison.iterations:,} iterations on {comparison.X.shape[1]:,} "
        f"examples, from {', '.join(comparison.schemes)}{left}."
    )


def _verdicts(comparison: Comparison) -> str:
    rows = [
        f"<dt>{_text(scheme)}</dt><dd>{_text(comparison.verdict(scheme))}.</dd>"
        for scheme in comparison.schemes
        if comparison.of(scheme)
    ]
    return "\n".join(["<dl>", *rows, "</dl>"])


def _table(rows: Table, caption: str) -> str:
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in rows.columns)
    body = [
        f'<tr><th scope="row">{_text(first)}</th>'
        + "".join(f"<td>{_text(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows.cells(4)
    ]
    # To be scrolled by keyboard, a wide table must be able to have the focus.
    return "\n".join(
        [
            f'<div class="wide" role="region" aria-label="{_text(caption)}" tabindex="0">',
            f"<table><caption>{_text(caption)}</caption>",
            f"<thead><tr>{head}</tr></thead>",
            "<tbody>",
            *body,
            "</tbody></table></div>",
        ]
    )


def _facts(comparison: Comparison) -> str:
    cells, config = comparison.cells, show_config("dicts") or {}
    tested = "no" if comparison.test is None else f"{comparison.test[0].shape[1]:,}"
    n_features, n_examples = comparison.X.shape
    facts = {
        "network": comparison.network,
        **{
            name.replace("_", " "): _several([getattr(cell, name) for cell in cells])
            for name in dict.fromkeys(("seed", "learning_rate", *comparison.varying))
        },
        "data": f"{n_examples:,} examples of {n_features:,} features, {tested} test examples",
        "SHA-256 of the data": digest(comparison),
        "time of all trainings": f"{sum(trial.seconds for trial in comparison.trials):.3g} s",
        **{name: config[name] for name in ("fastinit", "kernels", "numpy", "python")},
    }
    rows = [
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(fact)}</td></tr>'
        for name, fact in facts.items()
    ]
    return "\n".join(['<table class="facts"><tbody>', *rows, "</tbody></table>"])


def _several(values: Sequence[Any]) -> str:
    """Return the different values in short: an axis may have thousands."""
    found = list(dict.fromkeys("NumPy's random state" if v is None else str(v) for v in values))
    return ", ".join(found if len(found) <= 8 else [*found[:3], "...", found[-1]])


def _pictures(comparison: Comparison) -> list[str]:
    """Return each picture twice, and let the browser choose: for light screens and for dark."""
    from fastinit.comparison import plots  # matplotlib takes a second, and not everybody has it

    light, dark = plots.images(comparison), plots.images(comparison, dark=True)
    pictures = []
    for name in light:
        caption, alternative = _words(comparison, name)
        pictures += [
            '<figure class="wide" tabindex="0"><picture>',
            f'<source srcset="{_url(dark[name])}" media="(prefers-color-scheme: dark)">',
            f'<img class="{name}" src="{_url(light[name])}" alt="{_text(alternative)}">',
            f"</picture><figcaption>{_text(caption)}</figcaption></figure>",
        ]
    return pictures


def _url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _words(comparison: Comparison, name: str) -> tuple[str, str]:
    """Return the caption of a picture, and what it tells to those who do not see it."""
    typical = [
        comparison.median_trial(scheme) for scheme in comparison.schemes if comparison.of(scheme)
    ]
    finals = ", ".join(f"{trial.cell.scheme} {trial.final_cost:.3g}" for trial in typical)
    accuracies = ", ".join(
        f"{t.cell.scheme} {t.train_accuracy:.0%}" for t in typical if t.train_accuracy is not None
    )
    axis = name.replace("_", " ")
    return {
        "data": (
            "The training data.",
            f"Scatter plot of {comparison.X.shape[1]:,} examples of two classes.",
        ),
        "costs": (
            "Cost over the iterations; of several runs the median, in a band of the quartiles.",
            f"Curves of the cost. They end at: {finals}.",
        ),
        "outcomes": (
            "How many runs ended at which cost.",
            f"Histogram of the final costs. The medians are: {finals}.",
        ),
        "boundaries": (
            "Where the trained network draws the line; of several runs the one of median cost.",
            f"Maps of the predicted classes. Training accuracies are: {accuracies}.",
        ),
    }.get(
        name,
        (
            f"Median final cost of each scheme by {axis}.",
            f"Heat map of the median final cost by initialisation and {axis}.",
        ),
    )
