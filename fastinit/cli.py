"""The command line: ``compare`` runs the lesson or a grid, ``info`` names the kernels."""

import argparse
import importlib.util
import json
import math
import os
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from fastinit import __version__, initializers
from fastinit.comparison import Comparison, Interrupted, Trial, compare, report
from fastinit.comparison.tables import rich_table
from fastinit.kernels import show_config
from fastinit.lesson import load_dataset
from fastinit.training import Network

DESCRIPTION = "What does the weight initialisation do? Train one network from several, and compare."

EXAMPLES = """\
examples:
  fastinit compare
      the lesson: two noisy circles, layers 2-10-5-1, from zeros, large random and He weights
  fastinit compare --schemes he_normal,glorot_uniform --seed 0 --hidden 50,50
      other schemes and another network, from a seed
  fastinit compare --data mine.npz --learning-rate 0.1 --iterations 5000
      your own data: arrays X (n_features, m) and Y (1, m) of 0 and 1, perhaps X_test and Y_test
  fastinit compare --seeds 0:100 --store runs.sqlite --report report.html
      a hundred starts from each scheme; stop it and start it again, nothing is computed twice
  fastinit compare --schemes he_normal,glorot_uniform --depths 2,4,8 --widths 10,50 --seeds 0:20
      every combination
  fastinit compare --json > result.json
      for another program
"""


# The arguments of compare() that are options; some are given as one value or as an axis.
COMPARED = (
    "learning_rate", "iterations", "seed", "depth", "width", "activation", "target_cost",
    "target_accuracy", "store", "threads",
)  # fmt: skip


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
        default=["zeros", "lesson.random", "lesson.he"],
        metavar="A,B,...",
        help=f"of {', '.join(initializers.names())} (default: zeros,lesson.random,lesson.he)",
    )
    lesson.add_argument(
        "--hidden",
        type=_integers,
        default=[10, 5],
        metavar="N,N,...",
        help="units of the hidden layers (default: 10,5)",
    )
    rates = lesson.add_mutually_exclusive_group()
    rates.add_argument(
        "--learning-rate", type=float, default=0.01, metavar="RATE", help="default: 0.01"
    )
    lesson.add_argument(
        "--iterations", type=int, default=15_000, metavar="N", help="default: 15000"
    )
    seeds = lesson.add_mutually_exclusive_group()
    seeds.add_argument(
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

    grid = lesson.add_argument_group(
        "grid", "many runs for each scheme: every combination of what is given here"
    )
    seeds.add_argument(
        "--seeds",
        type=_ranges,
        dest="seed",
        metavar="N,A:B,...",
        help="an axis: A:B are those from A up to B - 1",
    )
    rates.add_argument(
        "--learning-rates",
        type=_numbers,
        dest="learning_rate",
        default=0.01,
        metavar="RATE,...",
        help="an axis",
    )
    grid.add_argument(
        "--depths", type=_ranges, dest="depth", metavar="N,...", help="numbers of hidden layers"
    )
    grid.add_argument(
        "--widths", type=_ranges, dest="width", metavar="N,...", help="units of each hidden layer"
    )
    grid.add_argument(
        "--activations",
        type=_names,
        dest="activation",
        metavar="A,B,...",
        help="of the hidden layers",
    )
    grid.add_argument(
        "--target-cost", type=float, metavar="COST", help="tell the iterations to reach it"
    )
    grid.add_argument(
        "--target-accuracy", type=float, metavar="SHARE", help="tell the iterations to reach it"
    )
    grid.add_argument(
        "--store",
        type=Path,
        metavar="FILE",
        help="SQLite file of finished runs: a second start goes on where the first ended",
    )
    grid.add_argument(
        "--threads", type=int, metavar="N", help="runs at a time (default: all usable cores)"
    )
    grid.add_argument(
        "--report", type=Path, metavar="FILE", help="write all of it as one HTML page"
    )
    grid.add_argument("--csv", type=Path, metavar="FILE", help="write a table, a row a run")
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


def _ranges(text: str) -> Sequence[int]:
    try:
        parts = [part.partition(":") for part in text.split(",")]
        found = [range(int(a), int(b) if colon else int(a) + 1) for a, colon, b in parts]
        # A single range stays one, to be read in the report.
        return found[0] if len(found) == 1 else [number for part in found for number in part]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected integers or ranges with commas between, like 1,2,10:20; got {text!r}"
        ) from None


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers with commas between, like 0.01,0.1; got {text!r}"
        ) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    parser = _parser()
    words = sys.argv[1:] if argv is None else argv
    arguments = parser.parse_args(words, argparse.Namespace(words=["fastinit", *words]))
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone, as after "| head"; nothing is left to be said, not even
        # by the interpreter when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as stop:
        print(f"interrupted: {stop}" if str(stop) else "interrupted", file=sys.stderr)
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
    # Always: it leaves NumPy's random state as the lesson does, where `lesson.random` starts.
    lesson = load_dataset()
    data = lesson if arguments.data is None else _load(arguments.data)
    X, Y = np.asarray(data[0]), np.asarray(data[1])
    if X.ndim != 2 or Y.ndim != 2 or X.shape[1] != Y.shape[1]:
        raise ValueError(f"X, Y: expected shapes (n_features, m), (1, m); got {X.shape}, {Y.shape}")
    network = Network([X.shape[0], *arguments.hidden, Y.shape[0]], loss="saturating_cross_entropy")
    _check_folder("--out", arguments.out)
    for option in ("report", "csv"):
        path = getattr(arguments, option)
        if path is not None:
            if path.is_dir():
                raise ValueError(f"--{option}: expected a file to write; got the folder {path}")
            _check_folder(f"--{option}", path.absolute().parent, must_exist=True)

    interrupted = None
    try:
        result = compare(
            X,
            Y,
            network,
            arguments.schemes,
            test=None if data[2] is None else (data[2], data[3]),
            progress=not arguments.json,
            **{name: getattr(arguments, name) for name in COMPARED},
        )
    except Interrupted as stop:
        if not len(stop.comparison):
            raise
        interrupted, result = stop, stop.comparison

    # What can be printed comes first: a disk may turn out to be full.
    if not arguments.json:
        _print_result(result)
    pictures = _save_pictures(result, arguments.out)
    if arguments.csv is not None:
        result.to_csv(arguments.csv)
    if arguments.report is not None:
        report.write(result, arguments.report, data=_loading(arguments), command=arguments.words)
    if arguments.json:
        print(json.dumps(_document(result, arguments, pictures), indent=2, allow_nan=False))
    else:
        names = ", ".join(path.name for path in pictures.values())
        print(f"Pictures: {names} in {arguments.out}")
    if interrupted is not None:
        raise interrupted


def _load(path: Path) -> tuple[Any, Any, Any, Any]:
    """Return X, Y, X_test, Y_test of an .npz file, the last two None if it has none."""
    try:
        # Explicit, because a pickle in a file of unknown origin could run any code.
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


def _check_folder(option: str, path: Path, *, must_exist: bool = False) -> None:
    """Fail before the training, not after it, where nothing could be written; write nothing."""
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    absent = must_exist and nearest != path
    if absent or not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ValueError(f"{option}: expected a folder to write to; got {path}")


def _loading(arguments: argparse.Namespace) -> str:
    """Return the Python that loads the data as this command did."""
    lesson = "X, Y, X_test, Y_test = fi.lesson.load_dataset()"
    if arguments.data is None:
        return lesson
    return "\n".join(
        [
            lesson + "  # for the random state that it leaves",
            f"arrays = np.load({str(arguments.data)!r})",
            'X, Y, X_test, Y_test = map(arrays.get, ("X", "Y", "X_test", "Y_test"))',
        ]
    )


def _save_pictures(result: Comparison, folder: Path) -> dict[str, Path]:
    """Write all pictures aside first, so that no half-written and no mixed set is ever seen."""
    from fastinit.comparison import plots

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as aside:
        written = {}
        for name, figure in plots.figures(result).items():
            written[name] = Path(aside, f"{name}.png")
            figure.savefig(written[name], dpi=144)
        return {name: path.replace(folder / path.name) for name, path in written.items()}


def _print_result(result: Comparison) -> None:
    """Print the lesson's logs and closing table; of a grid the medians, and what they mean."""
    from rich.console import Console

    console = Console()
    if len(result.cells) == len(result.schemes):
        for scheme, trial in result.runs.items():
            print(f"{scheme}:")
            for i, cost in _logged(trial):
                print(f"Cost after iteration {i}: {cost}")
            print()
        console.print(rich_table(result.table(), title="What the initialisation did"))
        return
    title = f"What the initialisation did, {len(result):,} of {len(result.cells):,} runs"
    console.print(rich_table(result.summary(), title=title, compact=True))
    for scheme in result.schemes:
        if result.of(scheme):
            print(f"{scheme}: {result.verdict(scheme)}")


def _logged(trial: Trial) -> list[tuple[int, float]]:
    """Return the cost of every thousandth iteration, as the lesson prints it."""
    costs = zip(trial.points.tolist(), trial.costs.tolist(), strict=True)
    return [(i, cost) for i, cost in costs if i % 1000 == 0 and i < trial.iterations]


def _document(
    result: Comparison, arguments: argparse.Namespace, pictures: dict[str, Path]
) -> dict[str, Any]:
    return {
        "fastinit": __version__,
        "kernels": (show_config("dicts") or {})["kernels"],
        "sizes": result.network.sizes,
        "learning_rate": arguments.learning_rate,
        "iterations": arguments.iterations,
        "seed": list(seed) if isinstance(seed := arguments.seed, range) else seed,
        "summary": [
            {name.replace(" ", "_"): _number(value) for name, value in row.items()}
            for row in result.summary()
        ],
        "runs": [
            {name: _number(value) for name, value in trial.record().items()}
            | {"costs": {str(i): _number(cost) for i, cost in _logged(trial)}}
            for trial in result.trials
        ],
        "pictures": {name: str(path) for name, path in pictures.items()},
    }


def _number(value: Any) -> Any:
    """Return what JSON can hold: it has no infinity and no NaN, so they go by name."""
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)
