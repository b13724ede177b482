"""Make which-initialisation.md: six initialisations on three data sets, by ``fastinit compare``.

Writes the data files, runs the commands that the page shows, and writes the page and its figures.
Requires scikit-learn. With the defaults it takes less than ten minutes on two cores.
"""

import argparse
import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sklearn import datasets

SCHEMES = ("he_normal", "glorot_uniform", "lecun_normal", "orthogonal", "torch_linear",
           "normal(std=0.1)")  # fmt: skip
DEPTHS = (2, 5, 10)


FIGURE = "scores.png"
ALTERNATIVE = "Test scores on {name}, a dot for each run, by scheme, optimiser and depth"


class Study(NamedTuple):
    """A data set, and how networks are trained on it."""

    name: str
    about: str
    load: Callable[[], tuple[Any, Any]]
    target: str
    rates: tuple[float, float]  # of SGD and Adam
    units: int
    epochs: int


STUDIES = (
    Study(
        "moons",
        "400 noisy points on two half circles, two classes (scikit-learn's `make_moons`)",
        lambda: datasets.make_moons(400, noise=0.2, random_state=0),
        "moon",
        (0.1, 0.01),
        16,
        50,
    ),
    Study(
        "digits",
        "1,797 images of 8 x 8 pixels, ten classes (scikit-learn's `load_digits`)",
        lambda: datasets.load_digits(return_X_y=True),
        "digit",
        (0.1, 0.003),
        32,
        15,
    ),
    Study(
        "friedman",
        "a regression: 500 rows of ten features, of which five matter, with noise "
        "(scikit-learn's `make_friedman1`)",
        lambda: datasets.make_friedman1(500, noise=1.0, random_state=0),
        "y",
        (0.05, 0.005),
        32,
        50,
    ),
)

INTRODUCTION = """\
# Which initialisation?

Six schemes, three depths, {seeds} and two optimisers on three data sets: {runs:,} networks. The
page and its figures are made by [which-initialisation.py](which-initialisation.py), which runs the
commands that are shown. All networks have ReLU units and batches of 32 examples. The learning
rates were not tuned and are the same for all schemes and depths. Other rates may give other
rankings: [a sample of rates](comparing.md#samples) compares the schemes over a range.
Intervals and p-values are over the seeds of the weights, on one split of each data set into
training and test rows. [How to read a ranking](comparing.md#rankings) explains the tables.

## In short

Each data set, optimiser and depth is a case, {cases} in all. The first column counts the cases in
which a scheme has the best median on the test data, the second those in which it has it or is not
shown to be worse than the scheme that has it: not distinguished from it, or better seed by seed. A
run *did not learn* if its training score is less than a tenth of the way from that of a constant
prediction to the perfect one.

| scheme | best | best, or not shown to be worse | runs that did not learn |
|---|--:|--:|--:|
"""

ANSWER = """
No scheme is shown to be best everywhere. If one is to be chosen for networks like these, it is
{most}: best, or not shown to be worse, in {n} of {cases} cases. Schemes that are not distinguished
are not shown to be equal: more seeds, or more test examples, may distinguish them.
"""

CASES = """
The best scheme of each case, with the median of its test accuracy or R2, and the schemes that
are not shown to be worse:

| data | optimiser | hidden layers | best | median | not shown to be worse |
|---|---|--:|---|--:|---|
"""


def write_data(study: Study, folder: Path) -> float:
    """Write the data as CSV; return the training score of a constant prediction."""
    X, y = study.load()
    with open(folder / f"{study.name}.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow([*(f"x{i}" for i in range(X.shape[1])), study.target])
        rows.writerows([*row, label] for row, label in zip(X.tolist(), y.tolist(), strict=True))
    labels = y.tolist()
    return 0.0 if y.dtype.kind == "f" else max(map(labels.count, set(labels))) / len(labels)


def command(study: Study, seeds: int, epochs: int) -> list[str]:
    """Return the command of a study."""
    sgd, adam = study.rates
    return [
        "fastinit", "compare", "--data", f"{study.name}.csv", "--target", study.target,
        "--hidden", f"{study.units},{study.units}", "--depths", ",".join(map(str, DEPTHS)),
        "--schemes", ",".join(SCHEMES), "--seeds", f"0:{seeds}",
        "--optimizers", f"sgd(learning_rate={sgd}),adam(learning_rate={adam})",
        "--batch-size", "32", "--epochs", str(epochs), "--by", "optimizer,depth",
        "--store", f"{study.name}.sqlite", "--out", study.name,
    ]  # fmt: skip


def run(words: list[str], folder: Path) -> str:
    """Run a command of fastinit in a folder and return what it prints."""
    result = subprocess.run(
        [sys.executable, "-P", "-m", *words],
        cwd=folder,
        env=os.environ | {"COLUMNS": "80", "MPLBACKEND": "Agg"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    return result.stdout


def broken(words: list[str]) -> str:
    """Return a command in lines of at most 100 characters."""
    lines = [""]
    for word in map(shlex.quote, words):
        if len(lines[-1]) + len(word) > 96 or word in ("--schemes", "--optimizers", "--by"):
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += f" {word}"
    return "\n".join(lines).strip()


def section(study: Study, words: list[str], printed: str) -> str:
    """Return the section of a data set: the command and the rankings that it prints."""
    first, last = printed.index("\nRanking, "), printed.index("\nFigures: ")
    rankings = "\n".join(
        wrapped
        for line in printed[first:last].strip().splitlines()
        for wrapped in textwrap.wrap(line, 100, break_on_hyphens=False) or [""]
    )
    about = f"{study.about[0].upper()}{study.about[1:]}"
    return f"""
## {study.name.capitalize()}

{about}.

```text
$ {broken(words)}
...
{rankings}
```
"""


def page(folder: Path, into: Path, seeds: int, epochs: int | None) -> str:
    """Run all studies and return the page."""
    best = dict.fromkeys(SCHEMES, 0)
    good = dict.fromkeys(SCHEMES, 0)
    lazy = dict.fromkeys(SCHEMES, 0)
    runs, cases, sections = 0, [], []
    for study in STUDIES:
        constant = write_data(study, folder)
        words = command(study, seeds, study.epochs if epochs is None else epochs)
        sections.append(section(study, words, run(words, folder)))
        # The runs are in the store: this trains nothing.
        document = json.loads(run([*words, "--json"], folder))
        runs += len(document["runs"])
        for record in document["runs"]:
            score = record.get("train_accuracy", record.get("train_r2"))
            lazy[record["scheme"]] += not (
                isinstance(score, float) and score >= constant + 0.1 * (1 - constant)
            )
        for ranking in document["rankings"]:
            first, *others = ranking["rows"]
            not_worse = [row["scheme"] for row in others if row["verdict"] != "worse"]
            best[first["scheme"]] += 1
            for scheme in (first["scheme"], *not_worse):
                good[scheme] += 1
            where = ranking["where"]
            cases.append(
                f"| {study.name} | {where['optimizer']} | {where['depth']} | {first['scheme']} | "
                f"{first['median']:.3f} | {', '.join(not_worse) or 'none'} |"
            )
        figure = f"which-{study.name}.png"
        shutil.copyfile(folder / study.name / FIGURE, into / figure)
        sections.append(f"![{ALTERNATIVE.format(name=study.name)}]({figure})\n")
    most = max(good.values())
    answer = ANSWER.format(
        most=" or ".join(name for name in SCHEMES if good[name] == most), n=most, cases=len(cases)
    )
    totals = [f"| {name} | {best[name]} | {good[name]} | {lazy[name]} |" for name in SCHEMES]
    return "\n".join(
        [
            INTRODUCTION.format(seeds=f"{seeds} seeds", runs=runs, cases=len(cases))
            + "\n".join(totals),
            answer.rstrip(),
            CASES + "\n".join(cases),
            *sections,
        ]
    )


def main() -> None:
    """Write the page and its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--epochs", type=int, help="instead of those of each data set")
    parser.add_argument("--into", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = page(Path(folder), arguments.into, arguments.seeds, arguments.epochs)
    (arguments.into / "which-initialisation.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
