"""The command line: ``compare`` runs the lesson or a grid, ``info`` shows the kernels."""

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
from fastinit.comparison import Comparison, Trial, compare, report
from fastinit.comparison.grid import MOST_CELLS, plain
from fastinit.comparison.tables import Table, rich_table
from fastinit.kernels import show_config
from fastinit.lesson import load_dataset
from fastinit.training import Interrupted, Network
from fastinit.training.network import ACTIVATIONS

DESCRIPTION = """\
Train a network from several weight initialisations and compare the results.

Without options this is the lesson: two noisy circles and layers of 2, 10, 5 and 1 units, trained
from zeros, from large random weights and from He weights. The command prints the costs and a table
and writes figures.
"""

EXAMPLES = """\
examples:
  fastinit compare
      the lesson
  fastinit compare --schemes he_normal,glorot_uniform --seed 0 --hidden 50,50
      two other schemes, a larger network and a seed
  fastinit compare --data mine.npz --learning-rate 0.1 --iterations 5000
      other data
  fastinit compare --seeds 0:100 --store runs.sqlite --report report.html
      100 runs of each scheme; if it is interrupted, the same command continues
  fastinit compare --schemes he_normal,glorot_uniform --depths 2,4,8 --widths 10,50 --seeds 0:20
      every combination
  fastinit compare --json > result.json
      output for other programs

exit codes:
  0    success
  1    the reader of the output closed it, as in "| head"
  2    invalid arguments or data, a file that cannot be read or written, or too little memory
  130  interrupted by Ctrl-C; runs that were finished are shown
"""

# The parameters of compare() that are options of the same meaning. An option and its plural, such
# as --seed and --seeds, set the same parameter.
COMPARED = (
    "learning_rate", "iterations", "seed", "depth", "width", "activation", "target_cost",
    "target_accuracy", "store", "threads",
)  # fmt: skip


# The first bytes of files that are never replaced by a report or a table: stores and data.
DATA_FILES = {
    b"SQLite format 3\0": "the SQLite file",
    b"PK\x03\x04": "the .npz file",
    b"\x93NUMPY": "the .npy file",
}


class _Parser(argparse.ArgumentParser):
    """Errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastinit",
        description="Train small networks from several weight initialisations and compare them.",
        epilog="See also: fastinit compare --help",
    )
    parser.add_argument("--version", action="version", version=f"fastinit {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="{compare,info}")
    info = commands.add_parser(
        "info",
        help="show versions and the kernels that are used on this machine",
        description="Show versions and the kernels that are used on this machine, and why.",
    )
    info.set_defaults(run=_info)
    compare_parser = commands.add_parser(
        "compare",
        help="train from several initialisations and compare the results",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare_parser.set_defaults(run=_compare)
    _add_options(compare_parser)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    setting = parser.add_argument_group("network and training")
    setting.add_argument(
        "--schemes",
        type=_names,
        default=["zeros", "lesson.random", "lesson.he"],
        metavar="A,B,...",
        help="initialisations (default: zeros,lesson.random,lesson.he). "
        f"Available: {', '.join(initializers.names())}",
    )
    setting.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="an .npz file with arrays X of shape (n_features, n_examples) and Y of shape "
        "(1, n_examples), each 0 or 1, and optionally X_test and Y_test (default: the lesson's)",
    )
    setting.add_argument(
        "--hidden",
        type=_integers,
        default=[10, 5],
        metavar="N,N,...",
        help="numbers of units of the hidden layers (default: 10,5)",
    )
    setting.add_argument(
        "--iterations",
        type=int,
        default=15_000,
        metavar="N",
        help="number of updates of each run (default: 15000)",
    )
    rates = setting.add_mutually_exclusive_group()
    rates.add_argument(
        "--learning-rate",
        type=float,
        default=0.01,
        metavar="RATE",
        help="learning rate of gradient descent (default: 0.01)",
    )
    rates.add_argument(
        "--learning-rates",
        type=_numbers,
        dest="learning_rate",
        default=0.01,
        metavar="RATE,...",
        help="several learning rates, in place of one",
    )
    seeds = setting.add_mutually_exclusive_group()
    seeds.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="seed of every scheme (default: 3 for lesson.he as in the lesson, NumPy's global "
        "random state for lesson.random, 0 for all others)",
    )
    seeds.add_argument(
        "--seeds",
        type=_ranges,
        dest="seed",
        metavar="N,A:B,...",
        help="several seeds, in place of one; A:B means A to B - 1",
    )

    grid = parser.add_argument_group(
        "grid", "Every combination of these values, of --seeds and of --learning-rates is run."
    )
    grid.add_argument(
        "--depths",
        type=_ranges,
        dest="depth",
        metavar="N,A:B,...",
        help="numbers of hidden layers; requires --widths unless all --hidden layers have the "
        "same width",
    )
    grid.add_argument(
        "--widths",
        type=_ranges,
        dest="width",
        metavar="N,A:B,...",
        help="numbers of units of every hidden layer",
    )
    grid.add_argument(
        "--activations",
        type=_names,
        dest="activation",
        metavar="A,B,...",
        help=f"activations of the hidden layers (default: relu). Available: "
        f"{', '.join(ACTIVATIONS)}",
    )

    results = parser.add_argument_group("results")
    results.add_argument(
        "--target-cost",
        type=float,
        metavar="COST",
        help="also show the number of iterations until the cost is at most COST",
    )
    results.add_argument(
        "--target-accuracy",
        type=float,
        metavar="SHARE",
        help="also show the number of iterations until the training accuracy is at least SHARE",
    )
    results.add_argument(
        "--out",
        type=Path,
        default=Path("fastinit-compare"),
        metavar="DIR",
        help="folder for the figures (default: fastinit-compare)",
    )
    results.add_argument(
        "--report", type=Path, metavar="FILE", help="write a self-contained HTML page"
    )
    results.add_argument(
        "--csv", type=Path, metavar="FILE", help="write a table with one row for each run"
    )
    results.add_argument(
        "--json", action="store_true", help="print the result as JSON instead of text"
    )

    execution = parser.add_argument_group("execution")
    execution.add_argument(
        "--store",
        type=Path,
        metavar="FILE",
        help="an SQLite file for finished runs; runs that it contains are not trained again",
    )
    execution.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="maximum number of threads; the results do not depend on it (default: all usable "
        "cores)",
    )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected integers separated by commas, like 10,5; got {text!r}"
        ) from None


def _ranges(text: str) -> Sequence[int]:
    try:
        parts = [part.partition(":") for part in text.split(",")]
        found = [range(int(a), int(b) if colon else int(a) + 1) for a, colon, b in parts]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected integers or ranges separated by commas, like 1,2,10:20; got {text!r}"
        ) from None
    # A single range is kept, because it is easier to read in the report.
    if len(found) == 1:
        return found[0]
    for part in found:
        if len(part[: MOST_CELLS + 1]) > MOST_CELLS:
            raise argparse.ArgumentTypeError(
                f"expected ranges of at most {MOST_CELLS:,} integers; got {text!r}"
            )
    return [number for part in found for number in part]


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers separated by commas, like 0.01,0.1; got {text!r}"
        ) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the name of the program; those of the process by default.

    Returns
    -------
    int
        The exit code: 0 for success; 1 if the reader of the output closed it; 2 for invalid
        arguments or data, files that cannot be read or written, and too little memory; 130 after
        Ctrl-C.

    Raises
    ------
    SystemExit
        From argparse: with code 2 for arguments that it cannot parse, and with code 0 after
        ``--help`` and ``--version``.
    """
    parser = _parser()
    words = sys.argv[1:] if argv is None else argv
    arguments = parser.parse_args(words, argparse.Namespace(words=["fastinit", *words]))
    if arguments.command is None:
        parser.print_usage(sys.stderr)
        print("fastinit: expected a command; try fastinit --help", file=sys.stderr)
        return 2
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe, as in "| head". The interpreter flushes stdout at exit and
        # would report the same error again.
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
            f"requires {' and '.join(absent)}; install with: pip install 'fastinit-nn[cli]'"
        )
    # Also with other data: it leaves NumPy's random state from which `lesson.random` draws.
    lesson = load_dataset()
    data = lesson if arguments.data is None else _load(arguments.data)
    X, Y = np.asarray(data[0]), np.asarray(data[1])
    if X.ndim != 2 or Y.ndim != 2 or X.shape[1] != Y.shape[1]:
        raise ValueError(f"X, Y: expected shapes (n_features, m), (1, m); got {X.shape}, {Y.shape}")
    network = Network([X.shape[0], *arguments.hidden, Y.shape[0]], loss="saturating_cross_entropy")
    _check_folder("--out", arguments.out)
    _check_files(arguments)

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
        if not len(stop.result):
            raise
        interrupted, result = stop, stop.result

    # Printed before anything is written, because the disk may be full.
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
        print(f"Figures: {names} in {arguments.out}")
    if interrupted is not None:
        raise interrupted


def _load(path: Path) -> tuple[Any, Any, Any, Any]:
    """Return X, Y, X_test and Y_test of an .npz file; the last two may be None."""
    try:
        # A pickle in a file of unknown origin could run any code.
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it contains a single array")
        with file:
            missing = {"X", "Y"} - set(file)
            if missing:
                raise ValueError(f"it has no array {' and no '.join(sorted(missing))}")
            tests = {"X_test", "Y_test"} & set(file)
            if len(tests) == 1:
                [given] = tests
                raise ValueError(f"it has {given} but not its counterpart")
            test = (file["X_test"], file["Y_test"]) if tests else (None, None)
            return file["X"], file["Y"], *test
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"--data: expected an .npz file with arrays X and Y; got {path}: {error}"
        ) from None


def _check_folder(option: str, path: Path, *, must_exist: bool = False) -> None:
    """Raise, before the training, if the folder cannot be written to."""
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    absent = must_exist and nearest != path
    if absent or not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ValueError(f"{option}: expected a folder to write to; got {path}")


def _check_files(arguments: argparse.Namespace) -> None:
    """Raise, before the training, if a file cannot be written or would replace data."""
    given = {name: getattr(arguments, name) for name in ("data", "store", "report", "csv")}
    options: dict[str, str] = {}
    for name, path in given.items():
        if path is None:
            continue
        # The file that the path leads to, on file systems that ignore case as well.
        real = os.path.normcase(os.path.realpath(path))
        same = [
            other
            for other, others_real in options.items()
            if real == others_real or _is_same_file(real, others_real)
        ]
        if same:
            raise ValueError(
                f"--{name}: expected another file than that of --{same[0]}; got {path}"
            )
        options[name] = real
    for name in ("report", "csv"):
        path = given[name]
        if path is None:
            continue
        if path.is_dir():
            raise ValueError(f"--{name}: expected a file to write; got the folder {path}")
        _check_folder(f"--{name}", path.absolute().parent, must_exist=True)
        kind = _kind_of_data(path)
        if kind is not None:
            raise ValueError(f"--{name}: expected a file that may be replaced; got {kind} {path}")


def _is_same_file(one: str, two: str) -> bool:
    """Return whether two existing files are one, also through hard links."""
    return os.path.exists(one) and os.path.exists(two) and os.path.samefile(one, two)


def _kind_of_data(path: Path) -> str | None:
    """Return what a file holds if it must not be replaced by a report or a table."""
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        start = file.read(max(map(len, DATA_FILES)))
    return next((kind for magic, kind in DATA_FILES.items() if start.startswith(magic)), None)


def _loading(arguments: argparse.Namespace) -> str:
    """Return Python code that loads the same data."""
    lesson = "X, Y, X_test, Y_test = fi.lesson.load_dataset()"
    if arguments.data is None:
        return lesson
    return "\n".join(
        [
            lesson + "  # sets the random state from which lesson.random draws",
            f"arrays = np.load({str(arguments.data)!r})",
            'X, Y, X_test, Y_test = map(arrays.get, ("X", "Y", "X_test", "Y_test"))',
        ]
    )


def _save_pictures(result: Comparison, folder: Path) -> dict[str, Path]:
    """Write the figures to a temporary folder first, so that those in ``folder`` are complete."""
    from fastinit.comparison import plots

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as aside:
        written = {}
        for name, figure in plots.figures(result).items():
            written[name] = Path(aside, f"{name}.png")
            figure.savefig(written[name], dpi=144)
        return {name: path.replace(folder / path.name) for name, path in written.items()}


def _print_result(result: Comparison) -> None:
    """Print a table and the verdicts; above them the costs, if there is one run of each scheme."""
    from rich.console import Console
    from rich.measure import Measurement

    if len(result.cells) == len(result.schemes):
        for scheme, trial in result.runs.items():
            print(f"{scheme}:")
            for i, cost in _logged(trial):
                print(f"Cost after iteration {i}: {cost}")
            print()
        # Verdicts are too long for a column.
        rows = [{name: row[name] for name in row if name != "verdict"} for row in result.table()]
        table = rich_table(Table(rows), title="Results by initialisation")
    else:
        title = f"Results by initialisation, {len(result):,} of {len(result.cells):,} runs"
        table = rich_table(result.summary(), title=title, compact=True)
    console = Console()
    least = Measurement.get(console, console.options.update(max_width=10_000), table).minimum
    console.width = max(console.width, least)  # otherwise rich would break words
    console.print(table)
    for scheme in result.schemes:
        if result.of(scheme):
            print(f"{scheme}: {result.verdict(scheme)}")


def _logged(trial: Trial) -> list[tuple[int, float]]:
    """Return the costs of every thousandth iteration, which the lesson prints."""
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
        "seed": plain(arguments.seed),
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
    """Return a value for JSON, which has no infinities and no NaN: these become strings."""
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)
