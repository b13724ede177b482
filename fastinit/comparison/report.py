"""Report: a comparison as one self-contained HTML file."""

import base64
import html
import os
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastinit.comparison.grid import as_code
from fastinit.comparison.results import Comparison
from fastinit.kernels import show_config
from fastinit.markup import html_table
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
/* On a phone a figure is scrolled, because its text would be too small to read. */
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

    The report contains the verdict of each scheme, the summary, the figures for light and dark
    screens, settings and versions, and the code that reproduces the comparison. It requires
    matplotlib.

    Parameters
    ----------
    comparison : Comparison
        With at least one finished run.
    path : path-like
        An existing file is replaced as a whole or not at all.
    data : str, optional
        Python code that defines ``X, Y``, and with test data ``X_test, Y_test``; it may use ``np``
        and ``fi``. By default the code in the report identifies the data by their SHA-256.
    command : sequence of str, optional
        The arguments of the command line that made the comparison.

    Raises
    ------
    OSError
        If the file cannot be written; an existing one is kept.
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
        learning_rate=0.01,
        iterations=10,
    )
    """
    loads = data or f"# X, Y: the arrays of SHA-256 {comparison.digest()}"
    test = ["test=(X_test, Y_test)"] if comparison.test is not None else []
    settings = [f"{name}={as_code(value)}" for name, value in comparison.settings.items()]
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
        _summary(comparison),
        "<h2>Figures</h2>",
        *_figures(comparison),
        "<h2>Settings</h2>",
        _facts(comparison),
        "<h2>Reproduce</h2>",
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
            # An empty icon, so that the browser does not request one.
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
    """Return the value as escaped text: names and paths come from the user."""
    return html.escape(str(value))


def _question(comparison: Comparison) -> str:
    n, missing = len(comparison), len(comparison.cells) - len(comparison)
    runs = f"{n:,} run{'' if n == 1 else 's'}"
    left = f"; {missing:,} more were not finished" if missing else ""
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


def _summary(comparison: Comparison) -> str:
    caption = "Medians, quartiles and shares over the runs of each scheme"
    rows = comparison.summary()
    return "\n".join(
        [
            # A wide table must be focusable to be scrolled by keyboard.
            f'<div class="wide" role="region" aria-label="{_text(caption)}" tabindex="0">',
            html_table(rows.cells(4), columns=rows.columns, caption=caption),
            "</div>",
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
        "SHA-256 of the data": comparison.digest(),
        "time of all runs": f"{sum(trial.seconds for trial in comparison.trials):.3g} s",
        **{name: config[name] for name in ("fastinit", "kernels", "numpy", "python")},
    }
    table = html_table([name, str(fact)] for name, fact in facts.items())
    return f'<div class="facts">\n{table}\n</div>'


def _several(values: Sequence[Any]) -> str:
    """Return the distinct values, shortened: an axis may have thousands."""
    found = list(dict.fromkeys(_setting(v) for v in values))
    return ", ".join(found if len(found) <= 8 else [*found[:3], "...", found[-1]])


def _setting(value: Any) -> str:
    if value is None:
        return "NumPy's global random state"
    return as_code(value) if isinstance(value, np.random.SeedSequence) else str(value)


def _figures(comparison: Comparison) -> list[str]:
    """Return each figure in two versions, between which the browser chooses: light and dark."""
    from fastinit.comparison import plots  # optional, and slow to import

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
    """Return the caption of a figure and its description for readers who cannot see it."""
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
            f"Scatter plot of {comparison.X.shape[1]:,} examples by class.",
        ),
        "costs": (
            "Cost over the iterations; for several runs the median, in a band of the quartiles.",
            f"Curves of the cost. Final cost of the median run: {finals}.",
        ),
        "outcomes": (
            "Distribution of the final costs.",
            f"Histogram of the final costs. Final cost of the median run: {finals}.",
        ),
        "boundaries": (
            "Regions of the predicted classes; for several runs those of the run of median cost.",
            f"Maps of the predicted classes. Training accuracies: {accuracies}.",
        ),
    }.get(
        name,
        (
            f"Median final cost of each scheme by {axis}.",
            f"Heat map of the median final cost by initialisation and {axis}.",
        ),
    )
