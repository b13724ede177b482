"""Run all benches, and print their results as tables of ratios.

``python -P benches/report.py`` prints the tables. ``--write`` also writes them to
docs/benchmarks.md, and the rows of ``HEADLINES`` to README.md.
"""

import argparse
import datetime
import importlib
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
PAGE = HERE.parent / "docs" / "benchmarks.md"
START, END = "<!-- report -->", "<!-- /report -->"
PEERS = ("numpy", "jax", "torch", "scikit-learn", "numba")
# Question and peer of the rows in README.md. Rows that miss their target are included.
HEADLINES = (
    ("one iteration of the lesson", "the lesson's NumPy code"),
    ("one iteration of the lesson", "JAX, whole loop jitted"),
    (
        "a whole fit with scikit-learn's defaults: 20-100-1, 1,000 examples, 200 epochs",
        "scikit-learn MLPClassifier",
    ),
    ("one iteration of 256 networks of the lesson, 2 cores", "JAX `vmap`, whole loop jitted"),
    ("one step, geometric mean of 100 random shapes", "plain NumPy"),
    ("one step, the worst of 100 random shapes", "plain NumPy"),
    ("one step of 1024-1024-1024-10 softmax, 512 examples", "JAX, whole loop jitted"),
    ("`he_normal`, 67 million float32, 2 threads", "torch `kaiming_normal_`"),
)


@dataclass(frozen=True)
class Section:
    """The results of one bench: rows with targets, and optionally a large table."""

    question: str
    rows: list[dict]
    matrix_title: str = ""
    matrix: list[dict] | None = None

    def __str__(self) -> str:
        parts = [f"## {self.question}", table(self.rows)]
        if self.matrix:
            summary = f"<details><summary>{self.matrix_title}</summary>"
            parts += [summary, whole_table(self.matrix), "</details>"]
        return "\n\n".join(parts)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def setting() -> str:
    import fastinit

    config = fastinit.show_config("dicts")
    versions = []
    for peer in PEERS:
        try:
            versions.append(f"{peer} {version(peer)}")
        except PackageNotFoundError:
            versions.append(f"{peer} not installed")
    return (
        f"Measured {datetime.date.today()}: {processor()}, {config['cores']} cores, kernels "
        f"`{config['kernels']}`, Python {config['python']}, {', '.join(versions)}."
    )


def measured() -> Iterator[Section]:
    """Run each bench and yield its results."""
    sys.path.insert(0, str(HERE))
    for path in sorted(HERE.glob("bench_*.py")):
        module = importlib.import_module(path.stem)
        question = (module.__doc__ or "").splitlines()[0]
        rows = module.ratios()
        if hasattr(module, "matrix"):
            yield Section(question, rows, module.MATRIX, module.matrix())
        else:
            yield Section(question, rows)


def table(rows: list[dict]) -> str:
    lines = ["| what | compared with | times as fast | target |", "|---|---|--:|--:|"]
    for row in rows:
        if "skipped" in row:
            value = f"skipped: {row['skipped']}"
        elif row.get("limit"):
            value = f"{row['measured']:.0%}"
        else:
            value = f"**{row['measured']:.1f}**"
        target = str(row.get("target") or "")
        if target and row.get("measured", 0) < row["target"]:
            target += " (missed)"
        lines.append(f"| {row['question']} | {row['peer']} | {value} | {target} |")
    return "\n".join(lines)


def whole_table(rows: list[dict]) -> str:
    """Return a table of all columns that are not empty."""
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    lines = [columns, ["---"] * 2 + ["--:"] * (len(columns) - 2)]
    lines += [[row[name] for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def headlines(sections: list[Section]) -> list[dict]:
    """Return the rows of HEADLINES; raise KeyError if a bench does not have one."""
    rows = {(row["question"], row["peer"]): row for section in sections for row in section.rows}
    if unknown := [name for name in HEADLINES if name not in rows]:
        raise KeyError(f"HEADLINES: expected rows of the benches; got {unknown}")
    return [rows[name] for name in HEADLINES]


def put(page: Path, body: str) -> None:
    """Replace the text between the markers of a page."""
    before, rest = page.read_text(encoding="utf-8").split(START)
    _, after = rest.split(END)
    page.write_text(f"{before}{START}\n{body}\n{END}{after}", encoding="utf-8")


def write(where: str, sections: list[Section]) -> None:
    """Write the tables to both pages. If a row of HEADLINES is missing, neither is written."""
    short = f"{table(headlines(sections))}\n\n{where}"
    put(PAGE, "\n\n".join([where, *map(str, sections)]))
    put(README, short)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--write", action="store_true", help="write the tables to README.md and docs/benchmarks.md"
    )
    to_pages = parser.parse_args().write
    where, sections = setting(), []
    print(where)
    for section in measured():
        print(f"\n{section}", flush=True)
        sections.append(section)
    rows = headlines(sections)
    print(f"\n## Headlines\n\n{table(rows)}")
    if to_pages:
        write(where, sections)


if __name__ == "__main__":
    main()
