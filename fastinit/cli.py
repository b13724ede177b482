"""The command line: compare, also in parts that are merged, report from a store, and fill."""

import argparse
import importlib.util
import json
import math
import os
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from fastinit import __version__, initializers
from fastinit.comparison import Comparison, Trial, compare, report
from fastinit.comparison.data import KINDS, from_table, read
from fastinit.comparison.grid import (
    AXES,
    MOST_CELLS,
    PRESETS,
    LogUniform,
    labelled,
    optimizers_in,
    plain,
    schemes_in,
)
from fastinit.comparison.results import RankingTable
from fastinit.comparison.tables import Table, axis_value, rich_table, with_axis_values
from fastinit.initializers.target import REAL
from fastinit.kernels import show_config
from fastinit.lesson import load_dataset
from fastinit.training import Interrupted, Network
from fastinit.training.files import check_distinct, check_folder, check_output, replace_file
from fastinit.training.network import ACTIVATIONS, LOSSES
from fastinit.validation import check_name

DESCRIPTION = """\
Train a network from several weight initialisations and compare the results.

Without options this is the lesson: two noisy circles and layers of 2, 10, 5 and 1 units, trained
from zeros, from large random weights and from He weights. The command prints the costs, a table,
the verdicts and the ranking, and writes figures.
"""

EXAMPLES = """\
examples:
  fastinit compare
      the lesson
  fastinit compare --data houses.csv --target price --hidden 50,50 --optimizer adam --epochs 50
      data of one's own: a column of numbers, text or classes is predicted from the others
  fastinit compare --schemes "he_normal,normal(std=0.1),he_normal/zeros" --seeds 0:20
      settings in parentheses; one scheme for each layer, separated by slashes
  fastinit compare --optimizers "sgd,adam(l2=0.001)" --learning-rates 0.01,0.1 --by optimizer
      every combination, one table row for each optimiser
  fastinit compare --learning-rate 0.001:1 --scale 0.5:2 --n-samples 200
      200 runs with settings from these ranges, evenly spread on a logarithmic scale
  fastinit compare --seeds 0:100 --store runs.sqlite --report report.html
      100 runs of each scheme; if it is interrupted, the same command continues
  fastinit compare --seeds 0:100 --store part3.sqlite --shard 3/20
      the third of 20 parts, which fastinit merge joins
  fastinit compare --json > result.json
      output for other programs
"""

MERGE_EXAMPLES = """\
examples:
  fastinit merge part1.sqlite part2.sqlite -o all.sqlite
"""

REPORT_EXAMPLES = """\
examples:
  fastinit report all.sqlite -o report.html
  fastinit report all.sqlite --by depth --metric final_cost --csv runs.csv
"""

FILL_DESCRIPTION = """\
Write the initial weights of a model to disk as they are computed: a seed checkpoint.

MODEL is a folder with the config.json of a model of transformers, or a JSON file with an object for
each tensor: {"name": {"shape": [10, 20], "dtype": "float32", "scheme": "normal(std=0.02)"}}. The
values depend only on the seed and on the name, shape, dtype and scheme of each tensor. They are
those of fastinit.torch.initialize. The memory does not depend on the model.
"""

FILL_EXAMPLES = """\
examples:
  fastinit fill llama -o seed-0
      as transformers initialises the model of llama/config.json; seed-0 then has its weights
  fastinit fill llama -o seed-0 --check
      compute the weights again, and compare every byte
  fastinit fill llama -o seed-1 --seed 1 --dtype bfloat16 --rule "*norm.weight=1"
      another seed and dtype, and a scheme for tensors whose names match a pattern
  fastinit fill tensors.json -o seed-0 --rule "*.bias=0" --rule "*=he_normal"
      names and shapes from a file; the first rule that matches counts
  fastinit fill llama -o seed-0-dcp --format dcp
      for torch.distributed.checkpoint

If it is interrupted, also by kill -9, the same command continues.

exit codes:
  0    success
  2    invalid arguments, files that cannot be read or written, or files that differ (--check)
  130  interrupted by Ctrl-C
  143  interrupted by SIGTERM
"""

EXIT_CODES = """
exit codes:
  0    success
  1    the reader of the output closed it, as in "| head"
  2    invalid arguments or data, a file that cannot be read or written, or too little memory
  130  interrupted by Ctrl-C; runs that were finished are shown
  143  the same, by SIGTERM
"""

# The parameters of compare() that are options of the same meaning.
COMPARED = (
    *AXES, "n_samples", "iterations", "epochs", "class_weight", "monitor", "tol",
    "n_iter_no_change", "target_cost", "target_accuracy", "store", "shard", "threads",
)  # fmt: skip
# The figures that a comparison may have, and the largest number of axes with panels of their own.
PICTURES = ("data", "costs", "outcomes", "scores", "boundaries", *AXES)
MOST_FACETS = 2
# The files that SQLite has beside a store that is open, by the ends of their names.
SQLITE_FILES = ("wal", "shm", "journal")
# With more groups than these, a table of the best scheme of each comes before their rankings.
MOST_GROUPS = 4
# The default schemes for the lesson's data, and for data of one's own.
LESSON_SCHEMES = ["zeros", "lesson.random", "lesson.he"]
DATA_SCHEMES = ["he_normal", "glorot_uniform", "lecun_normal", "orthogonal", "torch_linear"]


class _Parser(argparse.ArgumentParser):
    """Errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastinit",
        description="Train small networks from several weight initialisations and compare them; "
        "write initial weights to disk.",
        epilog="See also: fastinit compare --help, fastinit fill --help",
    )
    parser.add_argument("--version", action="version", version=f"fastinit {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="{compare,merge,report,fill,info}")
    compare_parser = commands.add_parser(
        "compare",
        help="train from several initialisations and compare the results",
        description=DESCRIPTION,
        epilog=EXAMPLES + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare_parser.set_defaults(run=_compare)
    for add in (_add_data, _add_network, _add_grid, _add_training):
        add(compare_parser)
    _add_targets_and_files(_add_results(compare_parser))
    _add_execution(compare_parser)
    merge_parser = commands.add_parser(
        "merge",
        help="join stores, such as those of --shard",
        description="Copy the runs of several stores into one; equal runs once.",
        epilog=MERGE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    merge_parser.add_argument(
        "stores", nargs="+", type=Path, metavar="STORE", help="an SQLite file of --store"
    )
    merge_parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE",
        help="the store to write; runs that it already contains are kept",
    )  # fmt: skip
    merge_parser.set_defaults(run=_merge)
    report_parser = commands.add_parser(
        "report",
        help="show the comparison in a store, without training anything",
        description="Show the comparison in a store, as far as it is finished.",
        epilog=REPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    report_parser.add_argument(
        "store", type=Path, metavar="STORE", help="an SQLite file of --store"
    )
    report_parser.add_argument(
        "-o", "--output", type=Path, dest="report", metavar="FILE",
        help="write a self-contained HTML page",
    )  # fmt: skip
    which = report_parser.add_mutually_exclusive_group()
    which.add_argument(
        "--which",
        type=int,
        metavar="N",
        help="the number of the comparison, if the store has several (default: the last one)",
    )
    which.add_argument("--list", action="store_true", help="list the comparisons in the store")
    _add_results(report_parser)
    report_parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write the figures to this folder"
    )
    report_parser.set_defaults(run=_report)
    fill = commands.add_parser(
        "fill",
        help="write the initial weights of a model to disk, or compare them with such files",
        description=FILL_DESCRIPTION,
        epilog=FILL_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_fill(fill)
    fill.set_defaults(run=_fill)
    info = commands.add_parser(
        "info",
        help="show versions and the kernels that are used on this machine",
        description="Show versions and the kernels that are used on this machine, and why.",
    )
    info.set_defaults(run=_info)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="a .csv, .tsv or .parquet file with the names of the columns, or an .npz file with "
        "arrays X of shape (n_examples, n_features) and y of shape (n_examples,), optionally "
        "X_test and y_test (default: the lesson's). No value may be missing. All but .npz requires "
        "the extra data: pip install 'fastinit-nn[data]'",
    )
    data.add_argument(
        "--target",
        metavar="COLUMN",
        help="the column to predict; of an .npz file, the name of the array (default: y)",
    )
    data.add_argument(
        "--kind",
        choices=KINDS,
        help="what the target holds (default: decided by its values; counts must be asked for). "
        "The output layer follows: sigmoid for two classes, softmax for more, identity for "
        "numbers, exponential for counts",
    )
    data.add_argument(
        "--test-size",
        type=_size,
        metavar="SIZE",
        help="share or number of the rows to hold out for testing (default: 0.25); 0 for none",
    )
    data.add_argument(
        "--validation-size",
        type=_size,
        metavar="SIZE",
        help="share or number of the training rows to hold out for early stopping (default: none)",
    )
    data.add_argument(
        "--split-seed",
        type=int,
        metavar="N",
        help="selects the rows of --test-size and --validation-size (default: 0). Intervals and "
        "p-values are over --seeds, on this one split",
    )
    data.add_argument(
        "--no-standardize",
        action="store_true",
        help="leave features and numeric targets as they are",
    )


def _add_network(parser: argparse.ArgumentParser) -> None:
    network = parser.add_argument_group("network")
    network.add_argument(
        "--hidden",
        type=_integers,
        default=[10, 5],
        metavar="N,N,...",
        help="numbers of units of the hidden layers (default: 10,5)",
    )
    network.add_argument(
        "--loss",
        choices=[loss for losses in LOSSES.values() for loss in losses],
        help="loss (default: saturating_cross_entropy for the lesson's data, otherwise that of "
        "the output layer)",
    )
    network.add_argument(
        "--dtype",
        choices=("float64", "float32"),
        default="float64",
        help="type of the parameters and of the arithmetic (default: float64)",
    )


def _add_grid(parser: argparse.ArgumentParser) -> None:
    grid = parser.add_argument_group(
        "grid", "Each takes one value or several; every combination is run."
    )
    grid.add_argument(
        "--schemes",
        type=_explained(schemes_in),
        metavar="A,B,...",
        help=f"initialisations (default: {', '.join(LESSON_SCHEMES)}; with --data "
        f"{', '.join(DATA_SCHEMES)}), with settings as in normal(std=0.1), and one for each layer "
        "as in he_normal/zeros. Available: "
        f"{', '.join(initializers.names())}",
    )
    grid.add_argument(
        "--seed", "--seeds",
        type=_ranges,
        metavar="N,A:B,...",
        help="seeds of every scheme: 0:50 are 50 seeds, 0 to 49; 5 is the seed 5 (default: 3 for "
        "lesson.he as in the lesson, NumPy's global random state for lesson.random, 0 for all "
        "others)",
    )  # fmt: skip
    grid.add_argument(
        "--depth", "--depths",
        type=_ranges,
        metavar="N,A:B,...",
        help="numbers of hidden layers; requires --width unless all --hidden layers have the "
        "same width",
    )  # fmt: skip
    grid.add_argument(
        "--width", "--widths",
        type=_ranges,
        metavar="N,A:B,...",
        help="numbers of units of every hidden layer",
    )  # fmt: skip
    grid.add_argument(
        "--activation", "--activations",
        type=_names,
        metavar="A,B,...",
        help=f"activations of the hidden layers (default: relu). Available: "
        f"{', '.join(ACTIVATIONS)}",
    )  # fmt: skip
    grid.add_argument(
        "--optimizer", "--optimizers",
        type=_explained(optimizers_in),
        metavar="A,B,...",
        help="optimisers (default: sgd), with settings as in adam(l2=0.001). Available: "
        f"{', '.join(PRESETS)}",
    )  # fmt: skip
    grid.add_argument(
        "--learning-rate", "--learning-rates",
        type=_numbers,
        metavar="RATE,...",
        help="learning rates (default: those of the optimisers, 0.01 for sgd); A:B is a range for "
        "--n-samples",
    )  # fmt: skip
    grid.add_argument(
        "--batch-size", "--batch-sizes",
        type=_batch_sizes,
        metavar="N,...",
        help="examples per update; full for all of them (default: full)",
    )  # fmt: skip
    grid.add_argument(
        "--scale", "--scales",
        type=_numbers,
        default=1.0,
        metavar="FACTOR,...",
        help="factors by which the initial weights are multiplied (default: 1); A:B is a range "
        "for --n-samples",
    )  # fmt: skip
    grid.add_argument(
        "--n-samples",
        type=int,
        metavar="N",
        help="train N runs only, evenly spread over the combinations, and over ranges of "
        "--learning-rate and --scale on a logarithmic scale",
    )


def _add_training(parser: argparse.ArgumentParser) -> None:
    training = parser.add_argument_group("training")
    training.add_argument(
        "--iterations",
        type=int,
        metavar="N",
        help="number of updates of each run (default: 15000)",
    )
    training.add_argument(
        "--epochs", type=int, metavar="N", help="number of passes over the data, instead"
    )
    training.add_argument(
        "--class-weight",
        choices=("balanced",),
        help="weight the classes inversely to their frequency",
    )
    training.add_argument(
        "--tol",
        type=float,
        metavar="CHANGE",
        help="stop early: smallest change that counts as an improvement (default with "
        "--n-iter-no-change: 1e-4)",
    )
    training.add_argument(
        "--n-iter-no-change",
        type=int,
        metavar="N",
        help="stop early: after N epochs without improvement (default with --tol: 10)",
    )
    training.add_argument(
        "--monitor",
        choices=("cost", "score"),
        default="cost",
        help="what early stopping monitors on the rows of --validation-size (default: cost)",
    )


def _add_targets_and_files(results: argparse._ArgumentGroup) -> None:
    """Add the options of a result that is about to be computed."""
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
        help="folder for the figures (default: fastinit-compare); files that are already there "
        "stay, unless a figure has the same name",
    )
    results.add_argument(
        "--report", type=Path, metavar="FILE", help="write a self-contained HTML page"
    )


def _add_execution(parser: argparse.ArgumentParser) -> None:
    execution = parser.add_argument_group("execution")
    execution.add_argument(
        "--store",
        type=Path,
        metavar="FILE",
        help="an SQLite file for finished runs; runs that it contains are not trained again",
    )
    execution.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="run only the I-th of N parts, into --store; see fastinit merge",
    )
    execution.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="train on the workers of a Dask scheduler, such as tcp://127.0.0.1:8786; requires the "
        "extra cluster: pip install 'fastinit-nn[cluster]'",
    )
    execution.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="maximum number of threads, with --scheduler those of each task; the results do not "
        "depend on it (default: all usable cores, with --scheduler 1)",
    )


def _add_fill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL")
    # Text, because Path("") is the current folder.
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR",
        help="folder for the files; created if it does not exist",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed (default: 0)")
    parser.add_argument(
        "--rule",
        type=_rule,
        action="append",
        default=[],
        metavar="PATTERN=SCHEME",
        help="fill tensors whose names match the pattern by this scheme or number, such as "
        "*.bias=0 or *=normal(std=0.02); may be given several times. All others are filled by "
        "the model's own function, or by their scheme in the JSON file, which comes before rules",
    )
    parser.add_argument(
        "--dtype",
        choices=REAL,
        help="dtype instead of that of config.json, or of tensors without one in a JSON file "
        "(default there: float32)",
    )
    parser.add_argument(
        "--max-shard-size",
        default="5GB",
        metavar="SIZE",
        help="bytes of tensors in a file, with a unit: KB, MB, GB, KiB, MiB, GiB (default: 5GB)",
    )
    parser.add_argument(
        "--format",
        choices=("safetensors", "dcp"),
        default="safetensors",
        help="safetensors files with the names of Hugging Face, or a folder of "
        "torch.distributed.checkpoint (default: safetensors)",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--check", action="store_true", help="compare the files in DIR instead of writing them"
    )
    mode.add_argument(
        "--overwrite",
        action="store_true",
        help="replace weights in DIR, and discard an interrupted run of other arguments",
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="write a table with one row for each tensor"
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="maximum number of threads (default: all usable cores)",
    )


def _add_results(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options of how a result is shown."""
    results = parser.add_argument_group("results")
    results.add_argument(
        "--metric",
        metavar="NAME",
        help="rank by this metric, such as test_accuracy or final_cost (default: the test score, "
        "or final_cost if there are no test data)",
    )
    results.add_argument(
        "--by",
        type=_names,
        default=[],
        metavar="AXIS,...",
        help=f"group the tables by these axes, and the figures by the first two: {', '.join(AXES)}",
    )
    results.add_argument(
        "--best-of",
        type=_names,
        default=[],
        metavar="AXIS,...",
        help="rank each scheme at its own best values of these axes, such as learning_rate: those "
        "of the lowest median training cost",
    )
    results.add_argument(
        "--csv", type=Path, metavar="FILE", help="write a table with one row for each run"
    )
    results.add_argument(
        "--json", action="store_true", help="print the result as JSON instead of text"
    )
    return results


# --- values of options ----------------------------------------------------------------------------


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected integers separated by commas, like 10,5; got {text!r}"
        ) from None


def _size(text: str) -> int | float:
    try:
        return int(text) if text.strip().isdecimal() else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a share like 0.25, or a number of rows; got {text!r}"
        ) from None


def _ranges(text: str) -> int | Sequence[int]:
    try:
        parts = [part.partition(":") for part in text.split(",")]
        found = [range(int(a), int(b) if colon else int(a) + 1) for a, colon, b in parts]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected integers or ranges separated by commas, like 1,2,10:20; got {text!r}"
        ) from None
    for part in found:
        if len(part[: MOST_CELLS + 1]) > MOST_CELLS:
            raise argparse.ArgumentTypeError(
                f"expected ranges of at most {MOST_CELLS:,} integers; got {text!r}"
            )
    if len(found) > 1:
        return [number for part in found for number in part]
    # A single range is kept, because it is easier to read in the report.
    return found[0] if ":" in text else found[0].start


def _numbers(text: str) -> float | list[float] | LogUniform:
    try:
        if ":" in text:
            low, high = map(float, text.split(":"))
            return LogUniform(low, high)
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            "expected numbers separated by commas, like 0.01,0.1, or a range of positive numbers, "
            f"like 0.01:1; got {text!r}"
        ) from None
    return found if len(found) > 1 else found[0]


def _rule(text: str) -> tuple[str, str]:
    pattern, equals, scheme = text.partition("=")
    if not (pattern and equals and scheme):
        raise argparse.ArgumentTypeError(
            f"expected a pattern and a scheme, like *.bias=0; got {text!r}"
        )
    return pattern.strip(), scheme.strip()


def _batch_sizes(text: str) -> int | list[int | None] | None:
    try:
        found = [None if part.strip() == "full" else int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected integers or full, separated by commas, like 32,full; got {text!r}"
        ) from None
    return found if len(found) > 1 else found[0]


def _shard(text: str) -> tuple[int, int]:
    try:
        i, n = map(int, text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected the number of a part and the number of parts, like 3/20; got {text!r}"
        ) from None
    if not 1 <= i <= n:
        raise argparse.ArgumentTypeError(f"expected a part from 1/{n} to {n}/{n}; got {text!r}")
    return i, n


def _explained(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a parser of an option whose ValueErrors and TypeErrors are shown by argparse."""

    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


# --- main -----------------------------------------------------------------------------------------


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
        Ctrl-C; 143 after SIGTERM.

    Raises
    ------
    SystemExit
        From argparse: with code 2 for arguments that it cannot parse, and with code 0 after
        ``--help`` and ``--version``.
    """
    parser = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser.parse_args(words, argparse.Namespace(words=["fastinit", *words]))
    if arguments.command is None:
        parser.print_usage(sys.stderr)
        print("fastinit: expected a command; try fastinit --help", file=sys.stderr)
        return 2
    with _signals() as received:
        try:
            arguments.run(arguments)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader has closed the pipe, as in "| head". The interpreter flushes stdout at exit
            # and would report the same error again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except KeyboardInterrupt as stop:
            print(f"interrupted: {stop}" if str(stop) else "interrupted", file=sys.stderr)
            if isinstance(stop, Interrupted) and arguments.store is not None:
                print(f"the same command continues from {arguments.store}", file=sys.stderr)
            return 128 + (received or [signal.SIGINT])[0]
        except (ImportError, MemoryError, OSError, TypeError, ValueError) as error:
            message = " ".join(_text_of(error).split()) or type(error).__name__
            print(f"fastinit {arguments.command}: {message}", file=sys.stderr)
            return 2
    return 0


def _text_of(error: Exception) -> str:
    # The text of an OSError begins with a number.
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.filename!r}: {error.strerror}"
    return str(error)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Make the first SIGINT or SIGTERM a KeyboardInterrupt, and let the second one kill.

    Yields
    ------
    list of int
        The signal that was received.
    """
    received: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def interrupt(number: int, frame: Any) -> NoReturn:
        received.append(number)
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGINT, signal.SIGTERM):
            # A shell ignores SIGINT for commands that it runs in the background.
            if signal.getsignal(each) not in (signal.SIG_IGN, None):
                before[each] = signal.signal(each, interrupt)
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _info(arguments: argparse.Namespace) -> None:
    show_config()


def _require(*packages: str, extra: str) -> None:
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    if absent:
        raise ValueError(
            f"requires {' and '.join(absent)}; install with: pip install 'fastinit-nn[{extra}]'"
        )


# --- compare --------------------------------------------------------------------------------------


def _compare(arguments: argparse.Namespace) -> None:
    _require("rich", "matplotlib", extra="cli")
    if arguments.shard is not None and arguments.store is None:
        raise ValueError("--shard: expected --store as well; got none")
    for name in ("learning_rate", "scale"):
        if isinstance(getattr(arguments, name), LogUniform) and arguments.n_samples is None:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option}: expected --n-samples as well for a range; got none")
        for option, axes in (("--by", arguments.by), ("--best-of", arguments.best_of)):
            if name in axes and isinstance(getattr(arguments, name), LogUniform):
                raise ValueError(
                    f"{option}: expected axes whose values several runs share; got {name}, a range"
                )
    own_rates = arguments.learning_rate is None and len(arguments.optimizer or ()) > 1
    if "learning_rate" in arguments.best_of and own_rates:
        raise ValueError(
            "--best-of: expected optimizer, because each optimiser has its own learning rate; got "
            "learning_rate"
        )
    _check_outputs(arguments, {"--data": arguments.data, "--store": arguments.store})
    problem = _problem(arguments)
    if arguments.metric is not None:
        check_name("--metric", arguments.metric, problem.metrics)
    interrupted = None
    with ExitStack() as contexts:
        executor = None
        if arguments.scheduler is not None:
            executor = contexts.enter_context(_client(arguments.scheduler))
        try:
            result = compare(
                problem.X,
                problem.Y,
                problem.network,
                arguments.schemes or (LESSON_SCHEMES if arguments.data is None else DATA_SCHEMES),
                test=problem.test,
                validation=problem.validation,
                executor=executor,
                progress=not arguments.json,
                **{name: getattr(arguments, name) for name in COMPARED},
            )
        except Interrupted as stop:
            interrupted, result = stop, stop.result
    if len(result) or interrupted is None:
        _present(result, arguments, problem.notes, problem.code)
    if interrupted is not None:
        raise interrupted


def _client(address: str) -> Any:
    """Return a client of a Dask scheduler."""
    _require("distributed", extra="cluster")
    distributed: Any = importlib.import_module("distributed")
    try:
        # Raises for what is no address; after such an error, a Client would close after 20 s.
        distributed.comm.get_address_host_port(address)
        return distributed.Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--scheduler: expected the address of a running Dask scheduler; got {address!r}: "
            f"{error}"
        ) from None


class _Problem(NamedTuple):
    """What is trained, and on what."""

    X: Any
    Y: Any
    test: tuple[Any, Any] | None
    validation: tuple[Any, Any] | None
    network: Network
    notes: tuple[str, ...]
    code: str  # Python code that defines the same data

    @property
    def metrics(self) -> list[str]:
        from fastinit.comparison.trials import metrics_of

        Y = self.network.check_Y(self.Y, self.network.check_X(self.X))
        return [each.name for each in metrics_of(self.network, Y, self.test)]


def _problem(arguments: argparse.Namespace) -> _Problem:
    given = {
        "target": arguments.target,
        "kind": arguments.kind,
        "test_size": arguments.test_size,
        "validation_size": arguments.validation_size,
        "seed": arguments.split_seed,
        "standardize": False if arguments.no_standardize else None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.data is None:
        # The lesson's data have test rows, but none for validation.
        usable = ("validation_size", "seed") if "validation_size" in given else ()
        for name in given:
            if name not in usable:
                option = {"seed": "split-seed", "standardize": "no-standardize"}.get(name, name)
                raise ValueError(f"--{option.replace('_', '-')}: expected --data as well; got none")
    # Also with other data: it leaves NumPy's random state from which `lesson.random` draws.
    X, Y, X_test, Y_test = load_dataset()
    lesson = "X, Y, X_test, Y_test = fi.lesson.load_dataset()"
    keywords = [f"{name}={value!r}" for name, value in given.items()]
    if arguments.data is not None:
        data = read(arguments.data, **given)
        network = data.network(arguments.hidden, loss=arguments.loss, dtype=arguments.dtype)
        code = ["from fastinit.comparison import read", ""]
        if any("lesson.random" in label for label in labelled(arguments.schemes or DATA_SCHEMES)):
            code += [f"{lesson}  # sets the random state from which lesson.random draws"]
        code += [f"data = read({', '.join([repr(str(arguments.data)), *keywords])})"]
    else:
        network = Network(
            [2, *arguments.hidden, 1],
            loss=arguments.loss or "saturating_cross_entropy",
            dtype=arguments.dtype,
        )
        if not given:
            test = X_test, Y_test
            return _Problem(X, Y, test, None, network, (), lesson)
        test = X_test.T, Y_test[0]
        data = from_table(X.T, Y[0], test=test, standardize=False, **given)
        words = ["X.T", "Y[0]", "test=(X_test.T, Y_test[0])", "standardize=False", *keywords]
        code = [
            "from fastinit.comparison import from_table",
            "",
            lesson,
            f"data = from_table({', '.join(words)})",
        ]
    code += ["X, Y = data.X, data.Y"]
    code += ["X_test, Y_test = data.test"] if data.test is not None else []
    code += ["validation = data.validation"] if data.validation is not None else []
    return _Problem(
        data.X,
        data.Y,
        data.test,
        data.validation,
        network,
        data.notes,
        "\n".join(code),
    )


# --- merge and report -----------------------------------------------------------------------------


def _merge(arguments: argparse.Namespace) -> None:
    # Imported here, because not every build of Python has SQLite.
    from fastinit.comparison.store import Store, merge

    added = merge(arguments.stores, arguments.output)
    with Store(arguments.output, writable=False) as store:
        print(f"{added:,} runs added to {arguments.output}, which now has {len(store):,}")


def _report(arguments: argparse.Namespace) -> None:
    from fastinit.comparison.store import comparisons, open_comparison

    _require("rich", "matplotlib", extra="cli")
    _check_outputs(arguments, {"STORE": arguments.store})
    if arguments.list:
        _print_table(comparisons(arguments.store), f"Comparisons in {arguments.store}")
        return
    listed = comparisons(arguments.store)
    result = open_comparison(arguments.store, arguments.which)
    notes = []
    if arguments.which is None and len(listed) > 1:
        notes = [
            f"The last of {len(listed):,} comparisons in {arguments.store}; --which N shows "
            "another, --list their numbers"
        ]
    if arguments.metric is not None:
        check_name("--metric", arguments.metric, result.metrics)
    _present(result, arguments, notes)


# --- fill -----------------------------------------------------------------------------------------


def _fill(arguments: argparse.Namespace) -> None:
    # Imported here, because other commands do not need it.
    from fastinit import checkpoint

    if arguments.csv is not None:
        check_output("--csv", arguments.csv)
    rules = dict(arguments.rule)
    if len(rules) < len(arguments.rule):
        patterns = [pattern for pattern, _ in arguments.rule]
        odd = next(each for each in patterns if patterns.count(each) > 1)
        raise ValueError(f"--rule: expected each pattern once; got {odd!r} several times")
    settings: dict[str, Any] = {
        "rules": rules or None,
        "seed": arguments.seed,
        "dtype": arguments.dtype,
        "max_shard_size": arguments.max_shard_size,
        "format": arguments.format,
        "threads": arguments.threads,
        "progress": importlib.util.find_spec("rich") is not None,
    }
    if arguments.check:
        table = checkpoint.check(arguments.model, arguments.output, **settings)
    else:
        try:
            table = checkpoint.write(
                arguments.model, arguments.output, overwrite=arguments.overwrite, **settings
            )
        except KeyboardInterrupt:
            if arguments.format == "safetensors":
                raise KeyboardInterrupt("the same command continues") from None
            raise
    if arguments.csv is not None:
        table.to_csv(arguments.csv)
    n = sum(math.prod(row["shape"]) for row in table)
    done = "have the values of" if arguments.check else "were written to"
    where = f"seed {arguments.seed} in" if arguments.check else ""
    words = [f"{len(table):,} tensors with {n:,} elements", done, where, arguments.output]
    print(" ".join(word for word in words if word))


# --- files ----------------------------------------------------------------------------------------


def _check_outputs(arguments: argparse.Namespace, inputs: dict[str, Path | None]) -> None:
    """Raise, before anything is trained or opened, if a file cannot or must not be written."""
    for name in arguments.by:
        check_name("--by", name, AXES)
    for name in arguments.best_of:
        check_name("--best-of", name, AXES[1:])
    option = "--report" if arguments.command == "compare" else "--output"
    # SQLite reads and deletes files of these names beside a store.
    for name in ("--store", "STORE"):
        if (store := inputs.get(name)) is not None:
            real = os.path.realpath(store)
            inputs |= {f"the {end} of {name}": Path(f"{real}-{end}") for end in SQLITE_FILES}
    outputs = {option: arguments.report, "--csv": arguments.csv}
    pictures = [] if arguments.out is None else [arguments.out / f"{n}.png" for n in PICTURES]
    for picture in pictures or [None]:
        check_distinct({**inputs, **outputs, "--out": picture})
    for name, path in outputs.items():
        if path is not None:
            check_output(name, path)
    if arguments.out is not None:
        check_folder("--out", arguments.out)
    for picture in pictures:
        if os.path.lexists(picture):
            check_output("--out", picture)


def _present(
    result: Comparison,
    arguments: argparse.Namespace,
    notes: Sequence[str] = (),
    code: str | None = None,
) -> None:
    """Print a result, and write the figures and the files."""
    rankings = _rankings(result, arguments.metric, arguments.by, arguments.best_of)
    # Printed before anything is written, because the disk may be full.
    if not arguments.json:
        _print_result(result, arguments.by, notes)
        if len(rankings) > MOST_GROUPS:
            best = result.best(*arguments.by, metric=arguments.metric, best_of=arguments.best_of)
            print()
            _print_table(with_axis_values(best), "Best schemes", compact=True)
        _print_rankings(rankings, tables=len(result.cells) > len(result.schemes))
    pictures = {}
    # A part of a comparison may have no runs.
    if arguments.out is not None and len(result):
        pictures = _save_pictures(result, arguments)
    if arguments.csv is not None:
        result.to_csv(arguments.csv)
    if arguments.report is not None and len(result):
        report.write(
            result, arguments.report, data=code, command=arguments.words, by=arguments.by or None,
            metric=arguments.metric, best_of=arguments.best_of,
        )  # fmt: skip
    if arguments.json:
        print(json.dumps(_document(result, rankings, notes, pictures), indent=2, allow_nan=False))
    elif pictures:
        names = ", ".join(path.name for path in pictures.values())
        print(f"Figures: {names} in {arguments.out}")


def _save_pictures(result: Comparison, arguments: argparse.Namespace) -> dict[str, Path]:
    """Draw all figures before any of them is written."""
    from fastinit.comparison import plots

    images = plots.images(
        result, arguments.by[:MOST_FACETS] or None, metric=arguments.metric,
        best_of=arguments.best_of,
    )  # fmt: skip
    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    written = {name: folder / f"{name}.png" for name in images}
    for name, path in written.items():
        replace_file(path, images[name])
    return written


# --- what is printed ------------------------------------------------------------------------------


def _print_result(result: Comparison, by: Sequence[str], notes: Sequence[str]) -> None:
    """Print a table and the verdicts; above them the costs, if there is one run of each scheme."""
    for note in notes:
        _say(note)
    if notes:
        print()
    title = "Results by initialisation"
    if len(result) < len(result.cells) or len(result) > len(result.schemes):
        title += f", {len(result):,} of {len(result.cells):,} runs"
    if len(result.cells) == len(result.schemes):
        for scheme, trial in result.runs.items():
            print(f"{scheme}:")
            for i, cost in _logged(trial):
                print(f"Cost after iteration {i}: {cost}")
            print()
        # Verdicts are too long for a column.
        rows = [{name: row[name] for name in row if name != "verdict"} for row in result.table()]
        _print_table(Table(rows), title)
    else:
        _print_table(with_axis_values(result.summary(*by)), title, compact=True)
    for scheme in result.schemes:
        if result.of(scheme):
            _say(f"{scheme}: {result.verdict(scheme)}")
    if missing := result.missing():
        print()
        _say(missing)


def _say(text: str) -> None:
    """Print text, on a terminal in lines that fit into it; programs read whole lines."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        text = textwrap.fill(
            text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    print(text)


def _print_table(rows: Table, title: str, *, compact: bool = False) -> None:
    from rich.console import Console

    Console().print(rich_table(rows, title=title, compact=compact))
    print()


def _logged(trial: Trial) -> list[tuple[int, float]]:
    """Return the costs of every thousandth iteration, which the lesson prints, or of about ten.

    The latter where these are not known, as with mini-batches, or are the first one alone.
    """
    costs = list(zip(trial.points.tolist(), trial.costs.tolist(), strict=True))
    costs = [(i, cost) for i, cost in costs if i < trial.iterations]
    thousandths = [(i, cost) for i, cost in costs if i % 1000 == 0]
    if len(thousandths) > 1 and 1000 * len(thousandths) >= trial.iterations:
        return thousandths
    return costs[:: -(-len(costs) // 10) or 1]


class _Group(NamedTuple):
    """The ranking of the runs that share the values of the axes of --by."""

    where: dict[str, Any]
    ranking: RankingTable


def _rankings(
    result: Comparison, metric: str | None, by: Sequence[str], best_of: Sequence[str]
) -> list[_Group]:
    keys = [{name: key[name] for name in by} for key, _ in result.groups(*by)]
    distinct = [key for i, key in enumerate(keys) if key not in keys[:i]]
    return [_Group(key, result.ranking(metric, best_of=best_of, **key)) for key in distinct]


def _print_rankings(groups: Sequence[_Group], *, tables: bool) -> None:
    for group in groups:
        ranking = group.ranking
        where = "".join(
            f", {name.replace('_', ' ')} {axis_value(name, value)}"
            for name, value in group.where.items()
        )
        print()
        if tables and len(ranking) > 1:
            _print_table(_shown(ranking), f"Ranking{where}", compact=True)
        _say(f"{where.removeprefix(', ')}: {ranking.answer}" if where else ranking.answer)


def _shown(ranking: RankingTable) -> Table:
    """Return the columns of a ranking that fit into 80 columns."""
    rows = []
    for row in ranking:
        best, known = row is ranking[0], row["seeds"] > 1
        rows.append(
            {
                "scheme": row["scheme"],
                **{
                    name.replace("_", " "): axis_value(name, value)
                    for name, value in ranking.best_of.get(row["scheme"], {}).items()
                },
                ranking.metric.label: row["median"],
                "interval from": row["low"] if known else None,
                "to": row["high"] if known else None,
                # Rounding errors of a difference are no digits of it.
                "difference": None if best else round(row["difference"], 12),
                "p": None if best else row["p_value"],
                "failed": row["failed"],
                "verdict": row["verdict"],
            }
        )
    return Table(rows)


def _document(
    result: Comparison,
    groups: Sequence[_Group],
    notes: Sequence[str],
    pictures: dict[str, Path],
) -> dict[str, Any]:
    return {
        "fastinit": __version__,
        "kernels": (show_config("dicts") or {})["kernels"],
        "sizes": result.network.sizes,
        "output": result.network.output,
        "notes": list(notes),
        "settings": {name: _json(plain(value)) for name, value in result.settings.items()},
        "summary": [
            {name.replace(" ", "_"): _json(value) for name, value in row.items()}
            for row in result.summary()
        ],
        "rankings": [
            {
                "where": _json(where),
                "metric": ranking.metric.name,
                "answer": ranking.answer,
                "rows": [_json(row) for row in ranking],
            }
            for where, ranking in groups
        ],
        "runs": [
            _json(record) | {"costs": {str(i): _json(cost) for i, cost in _logged(trial)}}
            for record, trial in zip(result.records(), result.trials, strict=True)
        ],
        "pictures": {name: str(path) for name, path in pictures.items()},
    }


def _json(value: Any) -> Any:
    """Return a value for JSON: numbers that it does not have, and other objects, become strings."""
    if isinstance(value, dict):
        return {str(name): _json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, (bool, int, str)) else repr(value)
