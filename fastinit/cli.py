"""The command line: ``fastinit compare`` runs the lesson, ``fastinit info`` names the kernels."""

import argparse
import importlib.util
import json
import math
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from fastinit import __version__, initializers
from fastinit.comparison import Comparison, compare
from fastinit.datasets import load_dataset
from fastinit.kernels import show_config
from fastinit.network import Network
from fastinit.training import Run

DESCRIPTION = "What does the weight initialisation do? Train one network from several, and compare."

EXAMPLES = """\
examples:
  fastinit compare
      the lesson: two noisy circles, layers 2-10-5-1, from zeros, large random and He weights
  fastinit compare --schemes he_normal,glorot_uniform --seed 0 --hidden 50,50
      other schemes and another network, from a seed
  fastinit compare --data mine.npz --learning-rate 0.1 --iterations 5000
      your own data: arrays X (n_features, m) and Y (1, m) of 0 and 1, perhaps X_test and Y_test
  fastinit compare --json > result.json
      for another program
"""


class _Parser(argparse.ArgumentParser):
    """Errors are one readable line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastinit", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"fastinit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{compare,info}")

    info = commands.add_parser("info", help="tell which kernels run on this machine, and why")
    info.set_defaults(run=_info)

    lesson = commands.add_parser(
        "compare",
        help="train from several initialisations and compare",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    lesson.set_defaults(run=_compare)
    lesson.add_argument(
        "--schemes",
        type=_names,
        default=["zeros", "random", "he"],
        metavar="A,B,...",
        help=f"of {', '.join(initializers.names())} (default: zeros,random,he)",
    )
    lesson.add_argument(
        "--hidden",
        type=_integers,
        default=[10, 5],
        metavar="N,N,...",
        help="units of the hidden layers (default: 10,5)",
    )
    lesson.add_argument(
        "--learning-rate", type=float, default=0.01, metavar="RATE", help="default: 0.01"
    )
    lesson.add_argument(
        "--iterations", type=int, default=15_000, metavar="N", help="default: 15000"
    )
    lesson.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="for every scheme (default: the lesson's own starting points)",
    )
    lesson.add_argument(
        "--data", type=Path, metavar="FILE", help=".npz file with X, Y and perhaps X_test, Y_test"
    )
    lesson.add_argument(
        "--out",
        type=Path,
        default=Path("fastinit-compare"),
        metavar="DIR",
        help="folder for the pictures (default: fastinit-compare)",
    )
    lesson.add_argument(
        "--json", action="store_true", help="print the result as JSON and nothing else"
    )
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected integers with commas between, like 10,5; got {text!r}"
        ) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone, as after "| head"; nothing is left to be said, not even
        # by the interpreter when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (MemoryError, OSError, TypeError, ValueError) as error:
        message = " ".join(str(error).split())
        print(f"fastinit {arguments.command}: {message}", file=sys.stderr)
        return 2
    return 0


def _info(arguments: argparse.Namespace) -> None:
    show_config()


def _compare(arguments: argparse.Namespace) -> None:
    absent = [name for name in ("rich", "matplotlib") if importlib.util.find_spec(name) is None]
    if absent:
        raise ValueError(
            f"needs {' and '.join(absent)}; install with: pip install 'fastinit-nn[cli]'"
        )
    data = load_dataset() if arguments.data is None else _load(arguments.data)
    X, Y = np.asarray(data[0]), np.asarray(data[1])
    if X.ndim != 2 or Y.ndim != 2 or X.shape[1] != Y.shape[1]:
        raise ValueError(f"X, Y: expected shapes (n_features, m), (1, m); got {X.shape}, {Y.shape}")
    network = Network([X.shape[0], *arguments.hidden, Y.shape[0]], loss="saturating_cross_entropy")
    _check_folder(arguments.out)

    def trained(callback: Callable[[str, Run], Any] | None) -> Comparison:
        return compare(
            X,
            Y,
            network,
            arguments.schemes,
            test=None if data[2] is None else (data[2], data[3]),
            learning_rate=arguments.learning_rate,
            iterations=arguments.iterations,
            seed=arguments.seed,
            callback=callback,
        )

    result = trained(None) if arguments.json else _watched(trained, arguments)
    pictures = _save_pictures(result, arguments.out)
    if arguments.json:
        print(json.dumps(_document(result, arguments, pictures), indent=2, allow_nan=False))
    else:
        _print_result(result, arguments.out, pictures)


def _load(path: Path) -> tuple[Any, Any, Any, Any]:
    """Return X, Y, X_test, Y_test of an .npz file, the last two None if it has none."""
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("one array, not several")
        with file:
            missing = {"X", "Y"} - set(file)
            if missing:
                raise ValueError(f"no array {' or '.join(sorted(missing))} in it")
            tests = {"X_test", "Y_test"} & set(file)
            if len(tests) == 1:
                raise ValueError(f"{tests.pop()} without its partner")
            test = (file["X_test"], file["Y_test"]) if tests else (None, None)
            return file["X"], file["Y"], *test
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"--data: expected an .npz file with arrays X and Y; got {path}: {error}"
        ) from None


def _check_folder(path: Path) -> None:
    """Fail before the training, not after it, where no picture could be written; write nothing."""
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ValueError(f"--out: expected a folder to write to; got {path}")


def _watched(
    trained: Callable[[Callable[[str, Run], Any]], Comparison], arguments: argparse.Namespace
) -> Comparison:
    """Train behind a progress bar, then print each scheme's log."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    tasks: dict[str, Any] = {}

    def advance(scheme: str, run: Run) -> None:
        progress.start()  # not before: bad input prints one line and nothing else
        if scheme not in tasks:
            tasks[scheme] = progress.add_task(scheme, total=arguments.iterations)
        progress.update(tasks[scheme], completed=run.iterations)

    try:
        result = trained(advance)
    finally:
        if tasks:
            progress.stop()
    for scheme, run in result.runs.items():
        print(f"{scheme}:")
        for i in range(0, run.iterations, 1000):
            print(f"Cost after iteration {i}: {run.costs[i]}")
        print()
    return result


def _save_pictures(result: Comparison, folder: Path) -> dict[str, Path]:
    """Write all pictures aside first, so that no half-written and no mixed set is ever seen."""
    from fastinit import plots

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as aside:
        written = {}
        for name, figure in plots.figures(result).items():
            written[name] = Path(aside, f"{name}.png")
            figure.savefig(written[name], dpi=144)
        return {name: path.replace(folder / path.name) for name, path in written.items()}


def _print_result(result: Comparison, folder: Path, pictures: dict[str, Path]) -> None:
    from rich.console import Console
    from rich.table import Table

    rows = result.table()
    table = Table(title="What the initialisation did")
    for name in rows.columns:
        table.add_column(name, justify="right" if name not in ("scheme", "verdict") else "left")
    for cells in rows.cells():
        table.add_row(*cells)
    Console().print(table)
    print(f"Pictures: {', '.join(path.name for path in pictures.values())} in {folder}")


def _document(
    result: Comparison, arguments: argparse.Namespace, pictures: dict[str, Path]
) -> dict[str, Any]:
    network = next(iter(result.runs.values())).network
    return {
        "fastinit": __version__,
        "kernels": (show_config("dicts") or {})["kernels"],
        "sizes": network.sizes,
        "learning_rate": arguments.learning_rate,
        "iterations": arguments.iterations,
        "seed": arguments.seed,
        "runs": [
            {name.replace(" ", "_"): _number(value) for name, value in row.items()}
            | {
                "diverged_at": result.runs[row["scheme"]].diverged_at,
                "seconds": result.runs[row["scheme"]].seconds,
                "costs": {
                    str(i): _number(float(result.runs[row["scheme"]].costs[i]))
                    for i in range(0, result.runs[row["scheme"]].iterations, 1000)
                },
            }
            for row in result.table()
        ],
        "pictures": {name: str(path) for name, path in pictures.items()},
    }


def _number(value: Any) -> Any:
    """Return what JSON can hold: it has no infinity and no NaN, so they go by name."""
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)
