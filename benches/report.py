"""Run the benches as ratios and print the tables that the README shows.

``python benches/report.py`` prints; ``--write`` also puts them into the README.
"""

import argparse
import datetime
import importlib
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
START, END = "<!-- report -->", "<!-- /report -->"
PEERS = ("numpy", "jax", "torch", "scikit-learn", "numba")


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


def table(rows: list[dict]) -> str:
    lines = ["| what | against | times as fast | at least |", "|---|---|--:|--:|"]
    for row in rows:
        if "skipped" in row:
            measured = f"skipped: {row['skipped']}"
        elif row.get("limit"):
            measured = f"{row['measured']:.0%}"
        else:
            measured = f"**{row['measured']:.1f}**"
        target = str(row.get("target") or "")
        if target and row.get("measured", 0) < row["target"]:
            target += " (missed)"
        lines.append(f"| {row['question']} | {row['peer']} | {measured} | {target} |")
    return "\n".join(lines)


def whole_table(rows: list[dict]) -> str:
    """Every column that any row fills, folded away in the README."""
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    lines = [columns, ["---"] * 2 + ["--:"] * (len(columns) - 2)]
    lines += [[row[name] for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into the README")
    write = parser.parse_args().write
    sys.path.insert(0, str(HERE))
    parts = [setting()]
    for path in sorted(HERE.glob("bench_*.py")):
        module = importlib.import_module(path.stem)
        question = (module.__doc__ or "").splitlines()[0]
        parts.append(f"**{question}**\n\n{table(module.ratios())}")
        if hasattr(module, "matrix"):
            rows = whole_table(module.matrix())
            parts.append(f"<details><summary>{module.MATRIX}</summary>\n\n{rows}\n\n</details>")
        print("\n\n".join(parts[1:]), flush=True)
    print(parts[0])
    if write:
        text = README.read_text(encoding="utf-8")
        before, rest = text.split(START)
        _, after = rest.split(END)
        body = "\n\n".join(parts)
        README.write_text(f"{before}{START}\n{body}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
