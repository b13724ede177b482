import contextlib
import csv
import html
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fastinit as fi
from fastinit import cli
from fastinit.comparison.store import Store
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
    np.savez(path, X=X, Y=Y, X_test=X_test, Y_test=Y_test)
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
    assert "Figures: data.png, costs.png, boundaries.png in fastinit-compare" in result.stdout
    folder = tmp_path / "fastinit-compare"
    assert sorted(path.name for path in folder.iterdir()) == [
        "boundaries.png", "costs.png", "data.png",
    ]  # fmt: skip
    for path in folder.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert path.stat().st_size > 10_000


def test_json(tmp_path, data):
    result = run(
        "compare", "--json", "--data", str(data), "--schemes", "lesson.he,glorot_uniform",
        "--seed", "0",
        "--hidden", "8", "--learning-rate", "0.5", "--iterations", "1500", "--out", "pictures",
        cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document["sizes"] == [2, 8, 1]
    assert [run["scheme"] for run in document["runs"]] == ["lesson.he", "glorot_uniform"]
    net = fi.Network([2, 8, 1], loss="saturating_cross_entropy")
    theta = net.initialize("lesson.he", seed=0)
    with np.load(data) as arrays:
        expected = fi.train(
            net, theta, arrays["X"], arrays["Y"], learning_rate=0.5, iterations=1500
        )
    assert document["runs"][0]["final_cost"] == expected.final_cost
    assert document["runs"][0]["costs"]["1000"] == expected.costs[1000]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
        "boundaries.png", "costs.png", "data.png",
    ]  # fmt: skip


def test_json_names_what_json_cannot_hold(tmp_path):
    result = run(
        "compare", "--json", "--schemes", "lesson.random", "--iterations", "10", cwd=tmp_path
    )
    document = json.loads(result.stdout, parse_constant=pytest.fail)
    assert document["runs"][0]["costs"]["0"] == "inf"


@pytest.fixture
def bad_files(tmp_path):
    np.savez(tmp_path / "no_y.npz", X=np.zeros((2, 3)))
    np.savez(tmp_path / "half.npz", X=np.zeros((2, 3)), Y=np.zeros((1, 3)), X_test=np.zeros((2, 3)))
    np.savez(tmp_path / "transposed.npz", X=np.zeros((3, 2)), Y=np.zeros((3, 1)))
    np.savez(tmp_path / "rank.npz", X=np.zeros((2, 3)), Y=np.zeros(3))
    np.savez(tmp_path / "labels.npz", X=np.zeros((2, 3)), Y=np.full((1, 3), 7))
    np.savez(tmp_path / "nan.npz", X=np.full((2, 3), np.nan), Y=np.zeros((1, 3)))
    np.savez(tmp_path / "objects.npz", X=np.array([[{}]], dtype=object), Y=np.zeros((1, 1)))
    np.save(tmp_path / "one.npy", np.zeros((2, 3)))
    (tmp_path / "text.npz").write_text("not a zip file")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "file").write_text("in the way")


BAD_ARGUMENTS = {
    "scheme": (["--schemes", "zeros,xavier"], "scheme: expected one of constant, zeros"),
    "no scheme": (["--schemes", ","], "schemes: expected at least one name"),
    "twice": (["--schemes", "lesson.he,lesson.he"], "schemes: expected each name once"),
    "hidden": (["--hidden", "10,x"], "expected integers separated by commas"),
    "hidden 0": (["--hidden", "10,0"], "sizes: expected an integer from 1 to 2**31 - 1; got 0"),
    "rate": (["--learning-rate", "-1"], "learning_rate: expected finite and >= 0; got -1"),
    "rate nan": (["--learning-rate", "nan"], "learning_rate: expected finite and >= 0"),
    "rate word": (["--learning-rate", "fast"], "invalid float value: 'fast'"),
    "iterations": (
        ["--iterations", "-5"],
        "iterations: expected an integer from 0 to 2**48 - 1; got -5",
    ),
    "iterations 1.5": (["--iterations", "1.5"], "invalid int value: '1.5'"),
    "too many": (["--iterations", "9" * 15], "iterations: expected an integer from 0 to 2**48 - 1"),
    "seed": (["--seed", "-1", "--schemes", "he_normal"], "seed: expected 0 <= seed < 2**64"),
    "no file": (["--data", "absent.npz"], "absent.npz"),
    "no Y": (["--data", "no_y.npz"], "it has no array Y"),
    "half": (["--data", "half.npz"], "it has X_test but not its counterpart"),
    "transposed": (["--data", "transposed.npz"], "X, Y: expected shapes (n_features, m), (1, m)"),
    "rank": (["--data", "rank.npz"], "X, Y: expected shapes (n_features, m), (1, m)"),
    "labels": (["--data", "labels.npz"], "Y: expected labels 0 and 1; got 7"),
    "nan": (["--data", "nan.npz"], "X: expected finite float64 numbers"),
    "objects": (["--data", "objects.npz"], "--data: expected an .npz file"),
    "npy": (["--data", "one.npy"], "--data: expected an .npz file"),
    "text": (["--data", "text.npz"], "--data: expected an .npz file"),
    "empty": (["--data", "empty.npz"], "--data: expected an .npz file"),
    "out": (["--out", "file"], "--out: expected a folder to write to; got file"),
    "out below": (["--out", "file/deeper"], "--out: expected a folder to write to"),
    "seeds": (["--seeds", "0:x"], "expected integers or ranges separated by commas"),
    "no seeds": (["--seeds", "5:5"], "seed: expected at least one integer; got none"),
    "seed count": (["--seeds", "0:1000000000000"], "seed: expected a grid of at most 10,000,000"),
    "seed counts": (["--seeds", "5,0:1000000000000"], "expected ranges of at most 10,000,000"),
    "seeds twice": (["--seeds", "1,0:3"], "seed: expected each integer once; got 1, 0, 1, 2"),
    "seed and seeds": (
        ["--seeds", "1", "--seed", "1"],
        "argument --seed: not allowed with argument --seeds",
    ),
    "depth": (["--depths", "2"], "depth: expected width as well"),
    "width": (["--widths", "0"], "sizes: expected an integer from 1 to 2**31 - 1; got 0"),
    "rates": (["--learning-rates", "0.1,fast"], "expected numbers separated by commas"),
    "activations": (["--activations", "rleu"], "got 'rleu'"),
    "threads": (["--threads", "0"], "threads: expected an integer from 1 to "),
    "target": (["--target-accuracy", "2"], "target_accuracy: expected 0 < accuracy <= 1; got 2.0"),
    "store": (["--store", "text.npz"], "store: expected a fastinit store; got text.npz"),
    "no folder": (["--store", "absent/runs.sqlite"], "store: expected a file to write to"),
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--csv", "runs.sqlite"], "--csv: expected a file that may be replaced; got the SQLite"),
        (["--report", "link.sqlite"], "--report: expected a file that may be replaced; got the SQ"),
        (["--csv", "mine.npz"], "--csv: expected a file that may be replaced; got the .npz file"),
        (["--report", "one.npy"], "--report: expected a file that may be replaced; got the .npy"),
        (["--csv", "mine.npz", "--data", "mine.npz"], "--csv: expected another file than that of"),
        (["--report", "./mine.npz", "--data", "mine.npz"], "--report: expected another file"),
        (["--store", "mine.npz", "--data", "mine.npz"], "--store: expected another file than"),
        (["--csv", "runs.sqlite", "--store", "runs.sqlite"], "that of --store; got runs.sqlite"),
        (["--csv", "new.sqlite", "--store", "new.sqlite"], "that of --store; got new.sqlite"),
        (["--csv", "link.sqlite", "--store", "runs.sqlite"], "that of --store; got link.sqlite"),
        (["--csv", "hard.sqlite", "--store", "runs.sqlite"], "that of --store; got hard.sqlite"),
        (["--csv", "loose", "--store", "new.sqlite"], "that of --store; got loose"),
        (["--report", "folder/../new", "--store", "new"], "--report: expected another file than"),
        (["--csv", "out", "--report", "./out"], "--csv: expected another file than that of --rep"),
    ],
)
def test_no_file_of_data_is_replaced(tmp_path, monkeypatch, capsys, data, arguments, message):
    monkeypatch.chdir(tmp_path)
    Store("runs.sqlite").close()
    np.save("one.npy", np.zeros(3))
    (tmp_path / "folder").mkdir()
    try:
        (tmp_path / "link.sqlite").symlink_to("runs.sqlite")
        (tmp_path / "loose").symlink_to("new.sqlite")
        (tmp_path / "hard.sqlite").hardlink_to("runs.sqlite")
    except OSError:
        pytest.skip("requires links")

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

    def fails(self, path, **keywords):
        path.write_bytes(b"half")
        if path.name != "data.png":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fails)
    assert cli.main(arguments) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


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
    assert result.stdout.splitlines()[-1] == (
        "Figures: data.png, costs.png, outcomes.png, boundaries.png, depth.png, "
        "learning_rate.png in fastinit-compare"
    )
    table = (tmp_path / "runs.csv").read_text(encoding="utf-8")
    assert table.count("\n") == 33
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"<code>fastinit {' '.join(arguments)}</code>" in page
    assert "fi.lesson.load_dataset()" in page
    again = run(*arguments, cwd=tmp_path)
    assert again.stdout == result.stdout
    assert (tmp_path / "runs.csv").read_text(encoding="utf-8") == table, "including the seconds"


def test_grid_as_json(tmp_path):
    result = run(*GRID, "--json", "--activations", "relu", cwd=tmp_path)
    document = json.loads(result.stdout, parse_constant=pytest.fail)
    assert len(document["runs"]) == 32
    assert {row["seed"] for row in document["runs"]} == {0, 1, 2, 7}
    assert [row["runs"] for row in document["summary"]] == [16, 16]


def test_report_of_the_users_data(tmp_path, data):
    """The code of the report runs in the folder of the command and reproduces the runs."""
    arguments = ["--data", data.name, "--iterations", "30", "--report", "a.html", "--csv", "a.csv"]
    result = run("compare", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    code = html.unescape(page.split("<pre><code>")[2].split("</code>")[0])
    code += "\nresult.to_csv('again.csv')"
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=True)

    def rows(name):
        with open(tmp_path / name, encoding="utf-8", newline="") as file:
            return [row | {"seconds": None} for row in csv.DictReader(file)]

    assert rows("a.csv") == rows("again.csv")


@pytest.mark.skipif(sys.platform == "win32", reason="requires a pseudo-terminal")
def test_live_table(tmp_path):
    """On a terminal, running medians and the remaining time are shown."""
    import pty

    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "fastinit", *GRID, "--iterations", "6000"],
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
def test_interrupted_grid_shows_what_is_finished(tmp_path):
    """The finished runs are shown and are in the store."""
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
                with contextlib.suppress(OSError, ValueError), Store(tmp_path / "runs.sqlite") as s:
                    rows = len(s)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=120)
    assert child.returncode == 130
    finished = int(re.search(r"Results by initialisation, (\d+) of 32 runs", out)[1])
    assert err == f"interrupted: {finished} of 32 runs finished\n"
    assert (tmp_path / "runs.csv").read_text(encoding="utf-8").count("\n") == finished + 1
    with Store(tmp_path / "runs.sqlite") as store:
        assert rows <= finished == len(store) < 32


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
        assert f"\n {option}" in described


def test_no_command(tmp_path):
    result = run(cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "usage: fastinit [-h] [--version] {compare,info} ...\n"
        "fastinit: expected a command; try fastinit --help\n"
    )


@pytest.mark.parametrize("seeds", [["--seed", "3"], ["--seeds", "0:3"]], ids=["table", "summary"])
@pytest.mark.parametrize("width", [40, 80, 100, 160])
def test_no_word_is_broken(tmp_path, seeds, width):
    """The table fits into 80 columns, in the longest case: the longest name and both targets."""
    schemes = ["zeros", "lesson.random", "truncated_normal"]
    result = run(
        "compare", "--schemes", ",".join(schemes), *seeds, "--iterations", "20",
        "--target-cost", "0.5", "--target-accuracy", "0.9", cwd=tmp_path, COLUMNS=str(width),
    )  # fmt: skip
    table = result.stdout.split("Results by initialisation")[1]
    table, *verdicts = re.split(r"^(?=zeros: )", table, flags=re.MULTILINE)
    lines = table.splitlines()[1:]
    assert max(map(len, lines)) <= max(80, width)
    words = set(re.sub("[^a-z._]", " ", table).split()) - {"runs", "of"}
    assert words <= {
        *schemes, "scheme", "train", "test", "acc.", "final", "cost", "median", "iter.", "to",
        "conv.", "div.", "inf", ".",
    }  # fmt: skip
    assert {"train", "acc.", "cost", "iter.", *schemes} <= words
    assert [line.split(": ")[0] for line in verdicts[0].splitlines()[:3]] == schemes
    assert "symmetry unbroken" in verdicts[0]


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
    assert document["seed"] == [0, 1, 2]
    assert [each["seed"] for each in document["runs"]] == [0, 1, 2]
