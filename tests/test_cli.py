import contextlib
import csv
import html
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial

import numpy as np
import pytest

import fastinit as fi
from fastinit import cli
from fastinit.comparison.data import read as from_file
from fastinit.comparison.grid import LogUniform, scheme_label, schemes_in
from fastinit.comparison.store import Store, open_comparison
from fastinit.training.network import ACTIVATIONS

pytest.importorskip("matplotlib")
pytest.importorskip("rich")

LESSON = ["zeros", "lesson.random", "lesson.he"]


def run(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "fastinit", *arguments],
        cwd=cwd,
        env=os.environ | {"MPLBACKEND": "Agg", "COLUMNS": "160"} | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture
def data(tmp_path, circles):
    path = tmp_path / "mine.npz"
    X, Y, X_test, Y_test = circles
    np.savez(path, X=X.T, y=Y.ravel(), X_test=X_test.T, y_test=Y_test.ravel())
    return path


def test_compare_is_the_lesson(tmp_path):
    result = run("compare", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for scheme in LESSON:
        assert f"{scheme}:\nCost after iteration 0: " in result.stdout
    assert result.stdout.count("Cost after iteration 14000: ") == 3
    assert "Cost after iteration 0: inf" in result.stdout
    he = result.stdout.split("he:\n")[1].splitlines()
    assert he[0].startswith("Cost after iteration 0: 0.8830537463")
    assert he[14].startswith("Cost after iteration 14000: 0.073578959")
    assert "0.993333" in result.stdout
    assert "0.96" in result.stdout
    answer, figures = result.stdout.splitlines()[-2:]
    assert answer.startswith("lesson.he has the best median test accuracy 0.96 (1 seed). 1 seed is")
    names, folder = figures.removeprefix("Figures: ").split(" in ")
    assert folder == "fastinit-compare"
    assert {"data.png", "costs.png", "boundaries.png"} <= set(names.split(", "))
    paths = sorted((tmp_path / folder).iterdir())
    assert [path.name for path in paths] == sorted(names.split(", "))
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert path.stat().st_size > 10_000


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_sentences_fit_into_a_terminal(tmp_path):
    arguments = ["compare", "--iterations", "50", "--seeds", "0:3", "--out", "figures"]
    piped = run(*arguments, cwd=tmp_path, COLUMNS="80").stdout
    assert any(len(line) > 100 for line in piped.splitlines()), "whole lines for programs"
    parent, child = os.openpty()
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-m", "fastinit", *arguments],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg", "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"},
        stdout=child,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(child)
        with suppress(OSError):  # at the end, on Linux
            while part := os.read(parent, 4096):
                shown += part
    os.close(parent)
    assert process.returncode == 0
    lines = shown.decode().replace("\r\n", "\n").splitlines()
    verdict = next(i for i, line in enumerate(lines) if line.startswith("lesson.he: "))
    assert lines[verdict + 1].startswith("  ")
    assert max(map(len, lines[verdict:-1])) <= 80
    # Nothing but white space is different.
    said = " ".join(" ".join(lines[verdict:]).split())
    assert " ".join(piped[piped.index("lesson.he: ") :].split()) == said


def test_json(tmp_path, data):
    result = run(
        "compare", "--json", "--data", str(data), "--schemes", "lesson.he,glorot_uniform",
        "--no-standardize", "--seed", "0", "--hidden", "8", "--learning-rate", "0.5",
        "--iterations", "1500", "--out", "pictures", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document["sizes"] == [2, 8, 1]
    assert document["settings"] == {"seed": 0, "learning_rate": 0.5, "iterations": 1500}
    assert any("2 classes" in note for note in document["notes"])
    assert [run["scheme"] for run in document["runs"]] == ["lesson.he", "glorot_uniform"]
    net = fi.Network([2, 8, 1])
    theta = net.initialize("lesson.he", seed=0)
    with np.load(data) as arrays:
        expected = fi.train(
            net, theta, arrays["X"].T, arrays["y"][None], learning_rate=0.5, iterations=1500
        )
        accuracy = net.accuracy(theta, arrays["X_test"].T, arrays["y_test"][None])
    assert document["runs"][0]["final_cost"] == expected.final_cost
    assert document["runs"][0]["costs"]["1000"] == expected.costs[1000]
    assert document["runs"][0]["test_accuracy"] == accuracy
    [ranking] = document["rankings"]
    assert (ranking["metric"], ranking["where"]) == ("test_accuracy", {})
    assert {row["scheme"]: row["median"] for row in ranking["rows"]}["lesson.he"] == accuracy
    assert ranking["answer"].count(". ") == 1
    pictures = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert {os.path.basename(path) for path in document["pictures"].values()} == pictures


def test_json_names_what_json_cannot_hold(tmp_path):
    result = run(
        "compare", "--json", "--schemes", "lesson.random", "--iterations", "10", cwd=tmp_path
    )
    document = json.loads(result.stdout, parse_constant=pytest.fail)
    assert document["runs"][0]["costs"]["0"] == "inf"


# --- options --------------------------------------------------------------------------------------


class SeenError(ValueError):
    """Ends a command after its training."""


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """Return a function that returns the arguments and the result of compare() for a command."""
    monkeypatch.chdir(tmp_path)

    def seen(*arguments):
        found = []

        def spied(*given, **keywords):
            found.append((given, keywords, fi.compare(*given, **keywords)))
            raise SeenError

        monkeypatch.setattr(cli, "compare", spied)
        short = [] if {"--iterations", "--epochs"} & set(arguments) else ["--iterations", "3"]
        assert cli.main(["compare", *arguments, *short]) == 2
        return found[0]

    return seen


OPTIONS = [
    (["--seed", "4"], {"seed": 4}),
    (["--seeds", "4"], {"seed": 4}),
    (["--seeds", "0:3"], {"seed": range(3)}),
    (["--seeds", "0:3", "--seed", "4"], {"seed": 4}),  # the last one counts
    (["--seeds", "1,5:7"], {"seed": [1, 5, 6]}),
    (["--hidden", "4,4", "--depth", "1"], {"depth": 1}),
    (["--hidden", "4,4", "--depths", "0:3"], {"depth": range(3)}),
    (["--widths", "3,4"], {"width": [3, 4]}),
    (["--depth", "3", "--width", "5"], {"depth": 3, "width": 5}),
    (["--activation", "tanh"], {"activation": ["tanh"]}),
    (["--activations", "tanh,relu"], {"activation": ["tanh", "relu"]}),
    (["--optimizer", "adam"], {"optimizer": [fi.Adam()]}),
    (
        ["--optimizers", "sgd,momentum(momentum=0.5),adam(l2=1e-3, beta1=0.8),lbfgs"],
        {
            "optimizer": [
                fi.GradientDescent(), fi.Momentum(momentum=0.5), fi.Adam(l2=0.001, beta1=0.8),
                fi.LBFGS(),
            ]
        },
    ),
    (
        ["--optimizers", "sgd(learning_rate=0.5),adamw(weight_decay=0)"],
        {"optimizer": [fi.GradientDescent(0.5), fi.AdamW(weight_decay=0)]},
    ),
    (["--learning-rate", "0.5"], {"learning_rate": 0.5}),
    (["--learning-rates", "0.5,1"], {"learning_rate": [0.5, 1.0]}),
    (["--batch-size", "32"], {"batch_size": 32}),
    (["--batch-sizes", "32,full"], {"batch_size": [32, None]}),
    (["--scale", "2"], {"scale": 2.0}),
    (["--scales", "0.5,1,2"], {"scale": [0.5, 1.0, 2.0]}),
    (
        ["--learning-rate", "0.1:10", "--scale", "0.5:2", "--n-samples", "7"],
        {
            "learning_rate": LogUniform(0.1, 10.0), "scale": LogUniform(0.5, 2.0),
            "n_samples": 7,
        },
    ),
    (["--seeds", "0:9", "--n-samples", "5"], {"seed": range(9), "n_samples": 5}),
    (["--epochs", "2"], {"epochs": 2, "iterations": None}),
    (["--class-weight", "balanced"], {"class_weight": "balanced"}),
    (["--tol", "0.1", "--n-iter-no-change", "2"], {"tol": 0.1, "n_iter_no_change": 2}),
    (["--target-cost", "0.5", "--target-accuracy", "0.9"],
     {"target_cost": 0.5, "target_accuracy": 0.9}),
    (["--store", "a.sqlite", "--shard", "2/3"], {"shard": (2, 3)}),
    (["--threads", "1"], {"threads": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "expected"), OPTIONS, ids=[" ".join(o) for o, _ in OPTIONS])
def test_options_are_keywords_of_compare(compared, arguments, expected):
    _, keywords, _ = compared(*arguments, "--schemes", "he_normal,zeros")
    assert {name: keywords[name] for name in expected} == expected
    defaults = inspect.signature(fi.compare).parameters
    for name in set(keywords) - set(expected) - {"test", "progress", "store", "iterations"}:
        assert keywords[name] == defaults[name].default, name


def test_ranges_are_log_uniform(compared):
    _, _, result = compared(
        "--learning-rate", "0.01:1", "--n-samples", "64", "--schemes", "zeros", "--seeds", "0:64"
    )
    rates = np.array([row["learning_rate"] for row in result.records()])
    assert ((rates >= 0.01) & (rates <= 1)).all()
    # Of an evenly spread sample, each of 4 parts has a quarter.
    counts, _ = np.histogram(np.log10(rates), 4, (-2, 0))
    assert counts.sum() == 64
    assert counts.min() >= 14


@pytest.mark.parametrize("shares", [0.0, 1.0, [0.25, 0.5]])
def test_log_uniform_is_that_of_scipy(shares):
    stats = pytest.importorskip("scipy.stats")
    for low in np.exp(np.random.default_rng(0).normal(0.0, 5.0, 500)):
        ends = LogUniform(low, 3 * low).ppf([0.0, 1.0])
        assert low <= ends[0] < ends[1] <= 3 * low, "rounding must not leave the range"
    ours, theirs = LogUniform(0.03, 70.0), stats.loguniform(0.03, 70.0)
    np.testing.assert_allclose(ours.ppf(shares), theirs.ppf(shares), rtol=1e-14)
    assert eval(repr(ours), {"fi": fi}) == ours, "reports have it as code"


def test_schemes_have_settings_and_layers(compared):
    (_, _, network, _), _, result = compared(
        "--schemes",
        "normal(std=0.5),variance_scaling(scale=3,mode=fan_avg),he_normal/zeros/ones",
    )
    expected = [
        partial(fi.normal, std=0.5),
        partial(fi.variance_scaling, scale=3, mode="fan_avg"),
        ["he_normal", "zeros", "ones"],
    ]
    for trial, scheme in zip(result.trials, expected, strict=True):
        np.testing.assert_array_equal(trial.start, network.initialize(scheme, seed=0))


def test_labels_of_schemes_can_be_typed():
    text = "he_normal, variance_scaling(scale=2.5, mode='fan_out'), he_normal/normal(std=0.1)"
    labels = [scheme_label(each) for each in schemes_in(text)]
    assert ", ".join(labels) == text
    assert [scheme_label(each) for each in schemes_in(",".join(labels))] == labels


@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "saturating_cross_entropy"])
def test_loss_and_dtype(compared, loss):
    (_, _, network, _), _, _ = compared("--loss", loss, "--dtype", "float32", "--hidden", "3")
    assert network == fi.Network([2, 3, 1], loss=loss, dtype=np.float32)


def test_no_hidden_layers(compared):
    (_, _, network, _), _, _ = compared("--hidden", "")
    assert network.sizes == (2, 1)


# --- data of one's own ----------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    """Write a table with a column of each kind; the rows are in no order."""
    pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 2))
    columns = {
        "height": x[:, 0], "width": x[:, 1], "colour": np.where(x[:, 0] > 0, "red", "blue"),
        "size": np.digitize(x.sum(axis=1), [-1, 1]), "price": x @ [1.0, 2.0],
        "visits": rng.poisson(np.exp(x[:, 0])),
    }  # fmt: skip
    for suffix, separator in ((".csv", ","), (".tsv", "\t")):
        lines = [separator.join(columns)]
        lines += [separator.join(map(str, row)) for row in zip(*columns.values(), strict=True)]
        (tmp_path / f"table{suffix}").write_text("\n".join(lines), encoding="utf-8")
    return columns


@pytest.mark.parametrize(
    ("arguments", "output", "n_outputs"),
    [
        (["--target", "colour"], "sigmoid", 1),
        (["--target", "size"], "softmax", 3),
        (["--target", "price"], "identity", 1),
        (["--target", "visits", "--kind", "counts"], "exponential", 1),
        (["--target", "visits", "--kind", "numbers"], "identity", 1),
    ],
)
@pytest.mark.usefixtures("table")
def test_output_follows_the_target(compared, arguments, output, n_outputs):
    (X, Y, network, _), keywords, _ = compared("--data", "table.csv", *arguments)
    assert (network.output, network.sizes[-1]) == (output, n_outputs)
    expected = from_file(
        "table.csv", **dict(zip(("target", "kind"), arguments[1::2], strict=False))
    )
    np.testing.assert_array_equal(X, expected.X)
    np.testing.assert_array_equal(Y, expected.Y)
    np.testing.assert_array_equal(keywords["test"][0], expected.test[0])


@pytest.mark.usefixtures("table")
def test_data_options(compared):
    base = ["--data", "table.tsv", "--target", "price"]
    (X, _, _, _), keywords, _ = compared(*base, "--test-size", "30", "--no-standardize")
    assert (X.shape[1], keywords["test"][0].shape[1]) == (50, 30)
    expected = from_file("table.tsv", "price", test_size=30, standardize=False)
    np.testing.assert_array_equal(X, expected.X)
    (X, _, _, _), keywords, _ = compared(*base, "--test-size", "0")
    assert (X.shape[1], keywords["test"]) == (80, None)


def test_parquet(tmp_path, compared, table):
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame(table).to_parquet(tmp_path / "table.parquet")
    (X, Y, _, _), _, _ = compared("--data", "table.parquet", "--target", "size")
    (X_csv, Y_csv, _, _), _, _ = compared("--data", "table.csv", "--target", "size")
    np.testing.assert_array_equal(Y, Y_csv)
    np.testing.assert_allclose(X, X_csv, rtol=1e-12)


@pytest.mark.parametrize("target", ["colour", "size", "price"])
@pytest.mark.usefixtures("table")
def test_validation_rows_are_training_rows(compared, target):
    base = ["--data", "table.csv", "--target", target, "--no-standardize"]
    (X_all, _, _, _), _, _ = compared(*base)
    (X, _, _, _), keywords, result = compared(
        *base, "--validation-size", "0.2", "--tol", "0.5", "--n-iter-no-change", "2",
        "--monitor", "score", "--epochs", "50", "--schemes", "he_normal",
    )  # fmt: skip
    X_validation, _ = keywords["validation"]
    assert (X.shape[1], X_validation.shape[1]) == (48, 12)
    together = np.concatenate([X, X_validation], axis=1).T.tolist()
    assert sorted(together) == sorted(X_all.T.tolist())
    assert result.columns()["iterations"].max() < 50, "stopped early"


@pytest.mark.usefixtures("table")
def test_split_seed(compared):
    base = ["--data", "table.csv", "--target", "size"]
    seeded = [
        compared(*base, "--validation-size", "9", "--split-seed", str(seed)) for seed in (0, 1)
    ]
    expected = from_file("table.csv", "size", validation_size=9, seed=1)
    np.testing.assert_array_equal(seeded[1][0][0], expected.X)
    np.testing.assert_array_equal(seeded[1][1]["test"][0], expected.test[0])
    assert (seeded[0][0][0] != expected.X).any()


@pytest.mark.parametrize("data", [[], ["--data", "table.csv", "--target", "price"]])
@pytest.mark.usefixtures("table")
def test_default_schemes(compared, data):
    """The lesson's are for the lesson: large random weights suit no other data."""
    (_, _, _, schemes), _, _ = compared(*data)
    others = ["he_normal", "glorot_uniform", "lecun_normal", "orthogonal", "torch_linear"]
    assert schemes == (others if data else LESSON)


def test_validation_rows_of_the_lesson(tmp_path):
    """The test rows stay those of the lesson, and the notes say how many were held out."""
    result = run(
        "compare", "--validation-size", "60", "--split-seed", "2", "--iterations", "5",
        "--json", cwd=tmp_path,
    )  # fmt: skip
    notes = json.loads(result.stdout)["notes"]
    assert "100 rows for testing, as given" in notes
    taken = "60 of 300 training rows held out for validation, stratified by class, seed 2"
    assert taken in notes


@pytest.mark.parametrize(
    ("length", "logged"),
    [
        (["--iterations", "3000"], ["0", "1000", "2000"]),
        (["--iterations", "20"], [str(i) for i in range(0, 20, 2)]),
        (["--epochs", "4", "--batch-size", "64"], ["4", "9", "14", "19"]),
    ],
)
def test_costs_that_are_logged(tmp_path, length, logged):
    result = run("compare", "--schemes", "he_normal", *length, cwd=tmp_path)
    assert re.findall(r"^Cost after iteration (\d+): ", result.stdout, re.MULTILINE) == logged


def test_file_that_does_not_exist(tmp_path):
    result = run("compare", "--data", "cancr.csv", "--target", "y", cwd=tmp_path)
    assert result.stderr == "fastinit compare: 'cancr.csv': No such file or directory\n"


@pytest.mark.usefixtures("table")
def test_what_was_decided_is_printed(tmp_path):
    arguments = ["--data", "table.csv", "--target", "size", "--iterations", "5"]
    result = run("compare", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    notes = result.stdout.split("\n\n")[0].splitlines()
    assert notes == list(from_file(tmp_path / "table.csv", "size").notes)
    assert any("3 classes" in note for note in notes)


# --- bad input ------------------------------------------------------------------------------------


@pytest.fixture
def bad_files(tmp_path):
    np.savez(tmp_path / "no_y.npz", X=np.zeros((3, 2)))
    np.savez(tmp_path / "half.npz", X=np.zeros((3, 2)), y=[0, 1, 1], X_test=np.zeros((3, 2)))
    np.savez(tmp_path / "transposed.npz", X=np.zeros((2, 3)), y=[0, 1, 1])
    np.savez(tmp_path / "nan.npz", X=np.full((4, 2), np.nan), y=[0, 1, 0, 1])
    np.savez(tmp_path / "objects.npz", X=np.array([[{}]], dtype=object), y=np.zeros(1))
    np.save(tmp_path / "one.npy", np.zeros((2, 3)))
    (tmp_path / "text.npz").write_text("not a zip file")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "table.csv").write_text("a,b\n1,x\n2,y\n3,x\n4,y\n")
    (tmp_path / "ragged.csv").write_text("a,b\n1,x\n2,y,3\n")
    (tmp_path / "binary.csv").write_bytes(b"\x00\xff\xfe" * 50)
    (tmp_path / "header.csv").write_text("a,b\n")
    (tmp_path / "one.csv").write_text("a,b\n1,x\n2,x\n")
    (tmp_path / "gap.csv").write_text("a,b\n1,x\n,y\n3,x\n")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 and nothing else")


CSV = ["--data", "table.csv", "--target", "b"]
BAD_ARGUMENTS = {
    "scheme": (["--schemes", "zeros,xavier"], "scheme: expected one of constant, zeros"),
    "near scheme": (["--schemes", "he_norml"], "(did you mean he_normal or "),
    "no scheme": (["--schemes", ","], "--schemes: expected names separated by commas"),
    "twice": (["--schemes", "lesson.he,lesson.he"], "schemes: expected each scheme once"),
    "setting": (
        ["--schemes", "normal(sd=1)"],
        "setting of normal: expected one of mean, std; got 'sd' (did you mean std?)",
    ),
    "no settings": (["--schemes", "zeros(std=1)"], "expected no settings of zeros; got 'std'"),
    "own setting": (["--schemes", "normal(seed=1)"], "setting of normal: expected one of mean,"),
    "value": (["--schemes", "normal(std=-1)"], "std: expected"),
    "word": (["--schemes", "variance_scaling(mode=fan_inn)"], "mode: expected one of"),
    "positional": (["--schemes", "normal(1)"], "with settings in parentheses"),
    "starred": (["--schemes", "normal(**x)"], "with settings in parentheses"),
    "code": (["--schemes", "normal(std=exit())"], "with settings in parentheses"),
    "operator": (["--schemes", "zeros+ones"], "with settings in parentheses"),
    "open": (["--schemes", "normal(std=1"], "with settings in parentheses"),
    "deep": (["--schemes", "(" * 5000], "with settings in parentheses"),
    "backslash": (["--schemes", "'\\d'"], "with settings in parentheses"),
    "null": (["--schemes", "zeros\0"], "with settings in parentheses"),
    "layers": (["--schemes", "zeros/ones"], "scheme: expected"),
    "hidden": (["--hidden", "10,x"], "expected integers separated by commas"),
    "hidden 0": (["--hidden", "10,0"], "sizes: expected an integer from 1 to 2**31 - 1; got 0"),
    "rate": (["--learning-rate", "-1"], "learning_rate: expected finite and >= 0; got -1"),
    "rate nan": (["--learning-rate", "nan"], "learning_rate: expected finite and >= 0"),
    "rate word": (["--learning-rate", "fast"], "expected numbers separated by commas"),
    "range alone": (["--learning-rate", "0.1:1"], "--learning-rate: expected --n-samples as well"),
    "range of 3": (["--scale", "1:2:3"], "or a range of positive numbers"),
    "range down": (["--scale", "2:1"], "or a range of positive numbers"),
    "range from 0": (["--scale", "0:1"], "or a range of positive numbers"),
    "range inf": (["--scale", "1:inf"], "or a range of positive numbers"),
    "scale": (["--scale", "-1"], "scale: expected finite numbers >= 0; got -1"),
    "samples": (["--n-samples", "0"], "n_samples: expected an integer from 1"),
    "many samples": (["--n-samples", "9"], "n_samples: expected at most the 3 cells; got 9"),
    "iterations": (
        ["--iterations", "-5"],
        "iterations: expected an integer from 0 to 2**48 - 1; got -5",
    ),
    "iterations 1.5": (["--iterations", "1.5"], "invalid int value: '1.5'"),
    "too many": (["--iterations", "9" * 15], "iterations: expected an integer from 0 to 2**48 - 1"),
    "both": (["--iterations", "1", "--epochs", "1"], "pass either epochs or iterations"),
    "batch": (["--batch-size", "0"], "batch_size: expected an integer"),
    "batch word": (["--batch-size", "all"], "expected integers or full"),
    "optimizer": (["--optimizer", "adm"], "optimizer: expected one of sgd,"),
    "optimizer setting": (
        ["--optimizer", "adam(beta=1)"],
        "setting of adam: expected one of learning_rate, beta1, beta2, epsilon, l2, l2_by_batch",
    ),
    "optimizer value": (["--optimizer", "adam(l2=-1)"], "l2: expected finite and >= 0"),
    "optimizer word": (["--optimizer", "adam(l2=much)"], "l2: expected a number"),
    "optimizer layers": (["--optimizer", "adam/sgd"], "expected one optimiser for all layers"),
    "lbfgs": (["--optimizer", "lbfgs", "--learning-rate", "1"], "expected none with LBFGS"),
    "seed": (["--seed", "-1", "--schemes", "he_normal"], "seed: expected 0 <= seed < 2**64"),
    "monitor": (["--monitor", "loss"], "invalid choice: 'loss'"),
    "metric": (["--metric", "test_acuracy"], "(did you mean test_accuracy"),
    "by": (["--by", "depht"], "--by: expected one of seed, depth"),
    "loss": (["--loss", "poisson"], "loss: expected"),
    "shard": (["--shard", "1/2"], "--shard: expected --store as well"),
    "shard 0": (["--shard", "0/2", "--store", "a"], "expected a part from 1/2 to 2/2"),
    "shard 3": (["--shard", "3/2", "--store", "a"], "expected a part from 1/2 to 2/2"),
    "shard word": (["--shard", "3", "--store", "a"], "number of a part and the number of parts"),
    "target alone": (["--target", "b"], "--target: expected --data as well"),
    "by a range": (
        ["--learning-rate", "0.1:1", "--n-samples", "6", "--by", "learning_rate"],
        "--by: expected axes whose values several runs share; got learning_rate, a range",
    ),
    "best of a range": (
        ["--scale", "0.1:1", "--n-samples", "6", "--best-of", "scale"],
        "--best-of: expected axes whose values several runs share; got scale, a range",
    ),
    "best of seeds": (["--best-of", "seed"], "--best-of: expected one of depth,"),
    "best of own rates": (
        ["--optimizers", "sgd,adam", "--best-of", "learning_rate"],
        "--best-of: expected optimizer, because each optimiser",
    ),
    "split seed alone": (["--split-seed", "1"], "--split-seed: expected --data as well"),
    "scaling alone": (["--no-standardize"], "--no-standardize: expected --data as well"),
    "kind alone": (["--kind", "counts"], "--kind: expected --data as well"),
    "test size alone": (["--test-size", "0.5"], "--test-size: expected --data as well"),
    "standard alone": (["--no-standardize"], "--no-standardize: expected --data as well"),
    "no file": (["--data", "absent.npz"], "absent.npz"),
    "no target": (["--data", "table.csv"], "expected one of the columns"),
    "column": (["--data", "table.csv", "--target", "c"], "got 'c'"),
    "kind": ([*CSV, "--kind", "count"], "invalid choice: 'count'"),
    "kind of text": ([*CSV, "--kind", "numbers"], "b"),
    "test size": ([*CSV, "--test-size", "1.5"], "test_size: expected a share in [0, 1)"),
    "test size word": ([*CSV, "--test-size", "half"], "expected a share like 0.25"),
    "all rows": ([*CSV, "--test-size", "4"], "test_size"),
    "ragged": (["--data", "ragged.csv", "--target", "b"], "ragged.csv"),
    "binary": (["--data", "binary.csv", "--target", "b"], "binary.csv"),
    "header": (["--data", "header.csv", "--target", "b"], "header.csv"),
    "one class": (["--data", "one.csv", "--target", "b"], "one.csv"),
    "gap": (["--data", "gap.csv", "--target", "b"], "line 3"),
    "parquet": (["--data", "damaged.parquet", "--target", "b"], "damaged.parquet"),
    "suffix": (["--data", "file", "--target", "b"], "expected a name in .csv"),
    "folder": (["--data", ".", "--target", "b"], "expected a name in .csv"),
    "no y": (["--data", "no_y.npz"], "no_y.npz"),
    "half": (["--data", "half.npz"], "half.npz"),
    "transposed": (["--data", "transposed.npz"], "transposed"),
    "nan": (["--data", "nan.npz"], "expected a finite number or text"),
    "objects": (["--data", "objects.npz"], "objects.npz"),
    "npy": (["--data", "one.npy"], "expected a name in .csv"),
    "text": (["--data", "text.npz"], "text.npz"),
    "empty": (["--data", "empty.npz"], "empty.npz"),
    "out": (["--out", "file"], "--out: expected a folder to write to; got 'file'"),
    "out below": (["--out", "file/deeper"], "--out: expected a folder to write to"),
    "seeds": (["--seeds", "0:x"], "expected integers or ranges separated by commas"),
    "no seeds": (["--seeds", "5:5"], "seed: expected at least one integer; got none"),
    "seed count": (["--seeds", "0:1000000000000"], "expected ranges of at most 10,000,000"),
    "huge": (["--seeds", "1:99999999999999999999"], "expected ranges of at most 10,000,000"),
    "huge sample": (
        ["--seeds", "1:99999999999999999999", "--n-samples", "5"],
        "expected ranges of at most 10,000,000",
    ),
    "seed counts": (["--seeds", "5,0:1000000000000"], "expected ranges of at most 10,000,000"),
    "cells": (["--seeds", "0:9999999"], "seed: expected a grid of at most 10,000,000 cells"),
    "seeds twice": (["--seeds", "1,0:3"], "seed: expected each integer once; got 1 twice"),
    "depth": (["--depths", "2"], "depth: expected width as well"),
    "width": (["--widths", "0"], "width: expected at least 1; got 0"),
    "rates": (["--learning-rates", "0.1,fast"], "expected numbers separated by commas"),
    "activations": (["--activations", "rleu"], "got 'rleu'"),
    "threads": (["--threads", "0"], "threads: expected an integer from 1 to "),
    "target": (["--target-accuracy", "2"], "target_accuracy: expected 0 < accuracy <= 1; got 2.0"),
    "store": (["--store", "text.npz"], "store: expected a fastinit store; got"),
    "no folder": (
        ["--store", "absent/runs.sqlite"],
        "store: expected a file to read and write; got",
    ),
    "report": (["--report", "absent/report.html"], "--report: expected a folder to write to"),
    "report is one": (["--report", "."], "--report: expected a file to write; got the folder"),
    "csv": (["--csv", "file/runs.csv"], "--csv: expected a folder to write to"),
    "unknown": (["--frobnicate"], "unrecognized arguments: --frobnicate"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
@pytest.mark.usefixtures("bad_files")
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, case):
    monkeypatch.chdir(tmp_path)
    arguments, message = BAD_ARGUMENTS[case]
    if any(word.endswith((".csv", ".tsv")) for word in arguments):
        pytest.importorskip("pandas")
    if any(word.endswith(".parquet") for word in arguments):
        pytest.importorskip("pyarrow")
    before = sorted(tmp_path.rglob("*"))
    try:
        code = cli.main(["compare", *arguments])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before, "nothing was written"


# --- files ----------------------------------------------------------------------------------------


DANGERS = [
    (["--csv", "runs.sqlite"], "--csv: expected a file that may be replaced; got the SQLite"),
    (["--csv", "mine.npz"], "--csv: expected a file that may be replaced; got the .npz file"),
    (["--report", "one.npy"], "--report: expected a file that may be replaced; got the .npy"),
    (["--report", "link.sqlite"], "--report: expected a file to write; got the symbolic link"),
    (["--csv", "loose"], "--csv: expected a file to write; got the symbolic link"),
    (["--csv", "link.csv"], "--csv: expected a file to write; got the symbolic link"),
    (["--csv", "/dev/null"], "--csv: expected a file to write; got the device"),
    (["--report", "pipe"], "--report: expected a file to write; got the named pipe"),
    (["--report", "folder"], "--report: expected a file to write; got the folder"),
    (["--report", "folder/"], "--report: expected a file to write; got the folder"),
    (["--data", "pipe.npz"], "pipe.npz"),
    (["--out", "linked"], "--out: expected a file to write; got the symbolic link"),
    (["--out", "piped"], "--out: expected a file to write; got the named pipe"),
    (["--out", "filled"], "--out: expected a file to write; got the folder"),
    (["--csv", "mine.npz", "--data", "mine.npz"], "--csv: expected another file than that of"),
    (["--report", "./mine.npz", "--data", "mine.npz"], "--report: expected another file"),
    (["--store", "mine.npz", "--data", "mine.npz"], "--store: expected another file than"),
    (["--csv", "runs.sqlite", "--store", "runs.sqlite"], "that of --store; got 'runs.sqlite'"),
    (["--csv", "new.sqlite", "--store", "new.sqlite"], "that of --store; got 'new.sqlite'"),
    (["--csv", "NEW.sqlite", "--store", "new.sqlite"], "that of --store; got 'NEW.sqlite'"),
    (["--csv", "link.sqlite", "--store", "runs.sqlite"], "that of --store; got 'link.sqlite'"),
    (["--csv", "hard.sqlite", "--store", "runs.sqlite"], "that of --store; got 'hard.sqlite'"),
    (["--csv", "loose", "--store", "new.sqlite"], "that of --store; got 'loose'"),
    (["--csv", "new-wal", "--store", "new"], "than that of the wal of --store; got 'new-wal'"),
    (["--report", "new-journal", "--store", "new"], "than that of the journal of --store; got"),
    (["--csv", "runs.sqlite-shm", "--store", "link.sqlite"], "than that of the shm of --store"),
    (["--report", "folder/../new", "--store", "new"], "--report: expected another file than"),
    (["--csv", "out", "--report", "./out"], "--csv: expected another file than that of --rep"),
    (["--csv", "pictures/costs.png", "--out", "pictures"], "expected another file than that of"),
]


@pytest.mark.skipif(sys.platform == "win32", reason="requires links and pipes")
@pytest.mark.parametrize(("arguments", "message"), DANGERS)
def test_no_file_of_data_is_replaced(tmp_path, monkeypatch, capsys, data, arguments, message):
    monkeypatch.chdir(tmp_path)
    Store("runs.sqlite").close()
    np.save("one.npy", np.zeros(3))
    (tmp_path / "a.csv").write_text("an earlier table")
    for name in ("folder", "linked", "piped", "filled"):
        (tmp_path / name).mkdir()
    (tmp_path / "filled" / "costs.png").mkdir()
    (tmp_path / "link.sqlite").symlink_to("runs.sqlite")
    (tmp_path / "link.csv").symlink_to("a.csv")
    (tmp_path / "linked" / "costs.png").symlink_to("../mine.npz")
    (tmp_path / "loose").symlink_to("new.sqlite")
    (tmp_path / "hard.sqlite").hardlink_to("runs.sqlite")
    for name in ("pipe", "pipe.npz", "piped/outcomes.png"):
        os.mkfifo(tmp_path / name)

    def contents():
        files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files}

    before = contents()
    code = cli.main(["compare", "--schemes", "zeros", "--iterations", "5", *arguments])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert contents() == before


def test_reports_and_tables_are_replaced(tmp_path, monkeypatch):
    """What an earlier command wrote is no data."""
    monkeypatch.chdir(tmp_path)
    arguments = ["--schemes", "zeros", "--iterations", "5", "--csv", "a.csv", "--report", "a.html"]
    for _ in range(2):
        assert cli.main(["compare", *arguments, "--store", "runs.sqlite"]) == 0


def test_a_failing_picture_leaves_the_old_ones(tmp_path, monkeypatch, capsys):
    from matplotlib.figure import Figure

    monkeypatch.chdir(tmp_path)
    arguments = ["compare", "--schemes", "zeros", "--iterations", "5"]
    assert cli.main(arguments) == 0
    folder = tmp_path / "fastinit-compare"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    drawn = []

    def fails(self, file, **keywords):
        file.write(b"half")
        drawn.append(file)
        if len(drawn) > 1:
            raise MemoryError("no memory left")

    monkeypatch.setattr(Figure, "savefig", fails)
    assert cli.main(arguments) == 2
    assert "no memory left" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# --- grids ----------------------------------------------------------------------------------------


GRID = [
    "compare", "--schemes", "he_normal,zeros", "--seeds", "0:3,7", "--hidden", "4,4",
    "--depths", "1,2", "--learning-rates", "0.1,0.5", "--iterations", "200",
]  # fmt: skip


def test_grid(tmp_path):
    """Table, figures, report and CSV; the second command reads all runs from the store."""
    arguments = [
        *GRID, "--store", "runs.sqlite", "--report", "report.html", "--csv", "runs.csv",
        "--target-cost", "0.6", "--threads", "2",
    ]  # fmt: skip
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "Results by initialisation, 32 of 32 runs" in result.stdout
    assert "zeros: symmetry unbroken in all runs; " in result.stdout
    assert "Cost after iteration" not in result.stdout
    names, folder = result.stdout.splitlines()[-1].removeprefix("Figures: ").split(" in ")
    assert {"data.png", "costs.png", "outcomes.png", "scores.png"} <= set(names.split(", "))
    assert sorted(os.listdir(tmp_path / folder)) == sorted(names.split(", "))
    table = (tmp_path / "runs.csv").read_text(encoding="utf-8")
    assert table.count("\n") == 33
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"<code>fastinit {' '.join(arguments)}</code>" in page
    assert "fi.lesson.load_dataset()" in page
    again = run(*arguments, cwd=tmp_path)
    assert again.stdout == result.stdout
    assert (tmp_path / "runs.csv").read_text(encoding="utf-8") == table, "including the seconds"


def test_best_of_an_axis(tmp_path):
    """Each scheme at its own rate, and the best scheme of each group before the rankings."""
    grid = [
        "compare", "--schemes", "he_normal,zeros", "--seeds", "0:6", "--learning-rates",
        "0.0001,0.1", "--depths", "1:6", "--widths", "5", "--iterations", "60",
    ]  # fmt: skip
    arguments = [*grid, "--by", "depth", "--best-of", "learning_rate", "--store", "a.sqlite"]
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.index("Best schemes") < result.stdout.index("Ranking, depth 1")
    assert result.stdout.count("Each scheme is ranked at its learning rate of lowest") == 5
    report = ["report", "a.sqlite", "--by", "depth", "--best-of", "learning_rate", "--json"]
    rankings = json.loads(run(*report, cwd=tmp_path).stdout)["rankings"]
    expected = open_comparison(tmp_path / "a.sqlite")
    for ranking in rankings:
        rows = expected.ranking(best_of="learning_rate", **ranking["where"])
        assert [row["learning_rate"] for row in ranking["rows"]] == [
            row["learning_rate"] for row in rows
        ]
    four = run(*grid, "--by", "learning_rate", "--store", "a.sqlite", cwd=tmp_path).stdout
    assert "Best schemes" not in four


def test_grid_as_json(tmp_path):
    result = run(*GRID, "--json", "--activations", "relu", cwd=tmp_path)
    document = json.loads(result.stdout, parse_constant=pytest.fail)
    assert len(document["runs"]) == 32
    assert {row["seed"] for row in document["runs"]} == {0, 1, 2, 7}
    assert [row["runs"] for row in document["summary"]] == [16, 16]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data", "mine.npz", "--schemes", "lesson.random,normal(std=0.5),zeros/he_normal/ones"],
        ["--data", "mine.npz", "--schemes", "he_normal,orthogonal"],
        ["--optimizers", "sgd,adam(l2=0.01)", "--batch-sizes", "32,full", "--scales", "0.5,1"],
        ["--learning-rate", "0.01:1", "--scale", "0.5:2", "--n-samples", "8", "--seeds", "0:9"],
    ],
    ids=["data", "data alone", "grid", "sample"],
)
@pytest.mark.usefixtures("data")
def test_report_has_code_that_runs(tmp_path, arguments):
    """The code of the report runs in the folder of the command and reproduces the runs."""
    arguments = [*arguments, "--iterations", "30", "--report", "a.html", "--csv", "a.csv"]
    result = run("compare", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    code = html.unescape(page.split("<pre><code>")[2].split("</code>")[0])
    # The lesson's data are loaded with others only for the random state of lesson.random.
    assert ("load_dataset" in code) == ("he_normal,orthogonal" not in arguments)
    code += "\nresult.to_csv('again.csv')"
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=True)

    def rows(name):
        with open(tmp_path / name, encoding="utf-8", newline="") as file:
            return [row | {"seconds": None} for row in csv.DictReader(file)]

    assert rows("a.csv") == rows("again.csv")


def test_full_batches_are_named_as_in_the_option(tmp_path):
    arguments = ["--batch-sizes", "32,full", "--seeds", "0:2", "--iterations", "30"]
    arguments += ["--schemes", "he_normal,zeros", "--by", "batch_size"]
    grouped = run("compare", *arguments, cwd=tmp_path).stdout
    assert "Ranking, batch size full" in grouped
    assert "\nbatch size full: " in grouped
    table = grouped.split("Results by initialisation")[1].split("\n\n")[1]
    words = [line.split() for line in table.splitlines()]
    assert [w[1] for w in words if w[0] in ("he_normal", "zeros")] == ["32", "32", "full", "full"]


@pytest.mark.skipif(sys.platform == "win32", reason="requires a pseudo-terminal")
def test_live_table(tmp_path):
    """On a terminal, running medians and the remaining time are shown."""
    import pty

    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "fastinit", *GRID, "--iterations", "30000"],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg", "TERM": "xterm", "COLUMNS": "120"},
        stdout=subprocess.DEVNULL,
        stderr=slave,
    ) as child:
        os.close(slave)
        shown = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            shown += piece
    os.close(master)
    assert child.returncode == 0
    text = shown.decode()
    assert "he_normal" in text
    assert "%" in text
    assert re.search(r"\d:\d\d:\d\d", text)


@pytest.mark.skipif(sys.platform == "win32", reason="requires POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_grid_shows_what_is_finished(tmp_path, number):
    """The finished runs are shown and are in the store; the same command continues."""
    arguments = [*GRID, "--iterations", "20000", "--store", "runs.sqlite", "--csv", "runs.csv"]
    with subprocess.Popen(
        [sys.executable, "-m", "fastinit", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        rows, deadline = 0, time.monotonic() + 60
        while not rows and time.monotonic() < deadline:
            time.sleep(0.1)
            if (tmp_path / "runs.sqlite").exists():
                with (
                    contextlib.suppress(OSError, ValueError),
                    Store(tmp_path / "runs.sqlite", writable=False) as store,
                ):
                    rows = len(store)
        child.send_signal(number)
        out, err = child.communicate(timeout=120)
    assert child.returncode == 128 + number
    finished = int(re.search(r"Results by initialisation, (\d+) of 32 runs", out)[1])
    assert err == (
        f"interrupted: {finished} of 32 runs finished\n"
        "the same command continues from runs.sqlite\n"
    )
    assert (tmp_path / "runs.csv").read_text(encoding="utf-8").count("\n") == finished + 1
    with Store(tmp_path / "runs.sqlite") as store:
        assert rows <= finished == len(store) < 32


@pytest.mark.skipif(sys.platform == "win32", reason="requires POSIX signals")
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_kills(tmp_path, first, second):
    script = """
import sys, time
from fastinit import cli
def endless(*_, **__):
    try:
        print("training", flush=True)
        time.sleep(60)
    finally:
        print("stopping", flush=True)
        time.sleep(60)
cli.compare = endless
sys.exit(cli.main(["compare"]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "training\n"
        child.send_signal(first)
        assert child.stdout.readline() == "stopping\n"
        child.send_signal(second)
        assert child.wait(timeout=30) == -second


@pytest.mark.parametrize("ignored", [True, False])
def test_signal_handlers_are_left_as_they_were(tmp_path, monkeypatch, ignored):
    """A shell ignores SIGINT for commands in the background."""
    monkeypatch.chdir(tmp_path)
    seen = []

    def spied(*_, **__):
        seen.append(signal.getsignal(signal.SIGINT))
        raise SeenError

    monkeypatch.setattr(cli, "compare", spied)
    mine = signal.SIG_IGN if ignored else signal.default_int_handler
    before = signal.signal(signal.SIGINT, mine)
    try:
        assert cli.main(["compare"]) == 2
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)
    assert (seen[0] is mine) == ignored


def test_in_another_thread(tmp_path, monkeypatch):
    """Signal handlers can only be set in the main thread."""
    monkeypatch.chdir(tmp_path)
    codes = []
    thread = threading.Thread(target=lambda: codes.append(cli.main(["info"])))
    thread.start()
    thread.join()
    assert codes == [0]


# --- stores ---------------------------------------------------------------------------------------


def table_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return [row | {"seconds": None} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Return a folder with the whole of a grid as a table, and its parts as stores."""
    folder = tmp_path_factory.mktemp("shards")
    for i in (1, 2, 3):
        result = run(*GRID, "--store", f"{i}.sqlite", "--shard", f"{i}/3", cwd=folder)
        assert result.returncode == 0, result.stderr
        assert re.search(r"Results by initialisation, 1[01] of 32 runs", result.stdout)
        for scheme in ("he_normal", "zeros"):
            assert f"\n{scheme}: " in result.stdout, "each part is a sample of the whole"
    result = run(*GRID, "--csv", "whole.csv", "--out", "whole", cwd=folder)
    (folder / "whole.txt").write_text(result.stdout, encoding="utf-8")
    merged = run("merge", "1.sqlite", "2.sqlite", "3.sqlite", "-o", "all.sqlite", cwd=folder)
    assert merged.stdout == "32 runs added to all.sqlite, which now has 32\n"
    return folder


def test_shards_are_the_whole(shards):
    again = run("merge", "1.sqlite", "3.sqlite", "-o", "all.sqlite", cwd=shards)
    assert again.stdout == "0 runs added to all.sqlite, which now has 32\n"
    result = run("report", "all.sqlite", "--csv", "all.csv", cwd=shards)
    assert result.returncode == 0, result.stderr
    assert table_of(shards / "all.csv") == table_of(shards / "whole.csv")
    whole = (shards / "whole.txt").read_text(encoding="utf-8")
    assert result.stdout == whole[: whole.index("Figures: ")]


def test_report_of_a_store(shards):
    arguments = ["-o", "a.html", "--by", "depth", "--metric", "final_cost", "--out", "figures"]
    result = run("report", "all.sqlite", *arguments, cwd=shards)
    assert result.returncode == 0, result.stderr
    assert "Ranking, depth 1\n" in result.stdout
    assert "depth 2: he_normal " in result.stdout
    assert "median final cost" in result.stdout
    page = (shards / "a.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert result.stdout.splitlines()[-1].endswith(" in figures")
    assert (shards / "figures" / "costs.png").exists()
    document = json.loads(run("report", "all.sqlite", "--json", cwd=shards).stdout)
    assert len(document["runs"]) == 32
    assert document["settings"]["depth"] == [1, 2]


def test_report_of_one_of_several_comparisons(tmp_path):
    for seeds in ("0:2", "0:3"):
        arguments = ["--schemes", "zeros", "--seeds", seeds, "--iterations", "5"]
        assert run("compare", *arguments, "--store", "a.sqlite", cwd=tmp_path).returncode == 0
    listed = run("report", "a.sqlite", "--list", cwd=tmp_path).stdout
    assert "Comparisons in a.sqlite" in listed
    assert re.findall(r"^ +(\d+)  20", listed, re.MULTILINE) == ["1", "2"]
    last = run("report", "a.sqlite", cwd=tmp_path).stdout
    assert "3 of 3 runs" in last
    assert last.startswith("The last of 2 comparisons in a.sqlite; --which N shows another,")
    first = run("report", "a.sqlite", "--which", "1", cwd=tmp_path).stdout
    assert "2 of 2 runs" in first
    assert "comparisons in a.sqlite" not in first
    result = run("report", "a.sqlite", "--which", "3", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "fastinit report: which: expected one of 1, 2; got 3\n"


def test_more_parts_than_runs(tmp_path):
    arguments = ["--schemes", "zeros", "--iterations", "5", "--store", "a.sqlite"]
    result = run("compare", *arguments, "--shard", "2/2", "--report", "a.html", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "0 of 1 runs" in result.stdout
    assert os.listdir(tmp_path) == ["a.sqlite"]


BAD_COMMANDS = {
    "merge nothing": (["merge", "-o", "a"], "the following arguments are required: STORE"),
    "merge nowhere": (["merge", "a.sqlite"], "required: -o/--output"),
    "merge absent": (["merge", "absent", "-o", "b"], "which is absent"),
    "merge itself": (["merge", "a.sqlite", "-o", "./a.sqlite"], "expected another file"),
    "merge hard": (["merge", "a.sqlite", "-o", "hard"], "expected another file"),
    "merge text": (["merge", "a.sqlite", "text", "-o", "b"], "expected a fastinit store"),
    "merge into text": (["merge", "a.sqlite", "-o", "text"], "expected a fastinit store"),
    "report absent": (["report", "absent"], "which is absent"),
    "report text": (["report", "text"], "expected a fastinit store"),
    "report empty": (["report", "empty"], "expected a fastinit store"),
    "report none": (["report", "none.sqlite"], "expected a comparison; got none"),
    "report pipe": (["report", "pipe"], "store"),
    "report journal": (
        ["report", "a.sqlite", "-o", "a.sqlite-wal"],
        "than that of the wal of STORE",
    ),
    "report itself": (["report", "a.sqlite", "-o", "hard"], "expected another file than that of"),
    "report link": (["report", "a.sqlite", "-o", "link"], "got the symbolic link"),
    "report device": (["report", "a.sqlite", "--csv", "/dev/null"], "got the device"),
    "report metric": (["report", "a.sqlite", "--metric", "acc"], "--metric: expected one of"),
    "report by": (["report", "a.sqlite", "--by", "x"], "--by: expected one of"),
    "report list": (["report", "a.sqlite", "--list", "--which", "1"], "not allowed with"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="requires links and pipes")
@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_bad_stores_are_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, case):
    monkeypatch.chdir(tmp_path)
    fi.compare([[0.0, 1.0]], [[0, 1]], fi.Network([1, 1]), "zeros", iterations=1, store="a.sqlite")
    Store("none.sqlite").close()
    (tmp_path / "text").write_text("no store")
    (tmp_path / "empty").touch()
    (tmp_path / "hard").hardlink_to("a.sqlite")
    (tmp_path / "link").symlink_to("elsewhere")
    os.mkfifo(tmp_path / "pipe")

    def contents():
        files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files}

    before = contents()
    arguments, message = BAD_COMMANDS[case]
    try:
        code = cli.main(arguments)
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert contents() == before


# --- a scheduler ----------------------------------------------------------------------------------


def test_scheduler(tmp_path, monkeypatch, capsys):
    distributed = pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    grid = ["compare", "--schemes", "he_normal,zeros", "--seeds", "0:4", "--iterations", "50"]
    assert cli.main([*grid, "--csv", "here.csv"]) == 0
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, protocol="tcp", dashboard_address=None
    ) as cluster:
        arguments = ["--csv", "there.csv", "--scheduler", cluster.scheduler_address]
        assert cli.main([*grid, *arguments]) == 0
    assert table_of("there.csv") == table_of("here.csv")
    assert "Results by initialisation, 8 of 8 runs" in capsys.readouterr().out


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "no address", "udp://127.0.0.1:9", ""])
def test_scheduler_that_does_not_answer(tmp_path, address):
    pytest.importorskip("distributed")
    result = run("compare", "--scheduler", address, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("fastinit compare: --scheduler: expected the address of a run")
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


# --- output ---------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="requires a POSIX shell")
def test_reader_that_leaves(tmp_path):
    command = f"{sys.executable} -m fastinit compare --iterations 5000 | head -1"
    result = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.stdout == "zeros:\n"
    assert result.stderr == ""


def test_help_has_examples(tmp_path):
    result = run("compare", "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert "examples:\n  fastinit compare\n" in result.stdout
    assert "exit codes:\n  0 " in result.stdout
    described, examples = result.stdout.split("\nexamples:")
    for name in (*fi.initializers.names(), *ACTIVATIONS):
        assert name in described
    for option in re.findall(r" --[a-z-]+", examples):
        assert re.search(rf"(\n |,){option}\b", described)


def test_no_command(tmp_path):
    result = run(cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "usage: fastinit [-h] [--version] {compare,merge,report,fill,info} ...\n"
        "fastinit: expected a command; try fastinit --help\n"
    )


@pytest.mark.parametrize("seeds", [["--seed", "3"], ["--seeds", "0:3"]], ids=["table", "summary"])
@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_table_is_too_wide(tmp_path, seeds, width):
    """In a long case: long names, both targets, and several groups."""
    schemes = ["zeros", "truncated_normal(std=0.5)", "he_normal/glorot_uniform/zeros"]
    result = run(
        "compare", "--schemes", ",".join(schemes), *seeds, "--iterations", "20",
        "--depths", "2", "--hidden", "5,5", "--optimizers", "sgd,adam", "--by", "optimizer,depth",
        "--target-cost", "0.5", "--target-accuracy", "0.9", cwd=tmp_path, COLUMNS=str(width),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    rules = [i for i, line in enumerate(lines) if re.fullmatch(r"-+(  -+)+", line)]
    assert len(rules) >= 3, "the results, and a ranking of each optimiser"
    for i in rules:
        for line in lines[i : lines.index("", i)]:
            assert len(line) <= width
    for scheme in schemes:
        assert scheme in re.sub(r"\s+", "", result.stdout), "no word is broken"


@pytest.mark.parametrize("absent", ["rich", "matplotlib"])
def test_without_the_extra(tmp_path, absent):
    """The finder is replaced by one that does not find the package."""
    script = f"""
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == {absent!r} else found(name, *rest)
from fastinit.cli import main
sys.exit(main(["compare"]))
"""
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr == (
        f"fastinit compare: requires {absent}; install with: pip install 'fastinit-nn[cli]'\n"
    )


def test_info(tmp_path):
    result = run("info", cwd=tmp_path)
    assert result.returncode == 0
    config = fi.show_config("dicts")
    assert f"kernels      {config['kernels']}\n" in result.stdout
    assert config["numpy"] in result.stdout


def test_version(tmp_path):
    assert run("--version", cwd=tmp_path).stdout == f"fastinit {fi.__version__}\n"


def test_json_of_a_range_of_seeds(tmp_path):
    options = ["--schemes", "zeros", "--seeds", "0:3", "--iterations", "2"]
    document = json.loads(run("compare", "--json", *options, cwd=tmp_path).stdout)
    assert document["settings"]["seed"] == [0, 1, 2]
    assert [each["seed"] for each in document["runs"]] == [0, 1, 2]
