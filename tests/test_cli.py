import json
import os
import subprocess
import sys

import numpy as np
import pytest

import fastinit as fi
from fastinit import cli

pytest.importorskip("matplotlib")
pytest.importorskip("rich")

LESSON = ["zeros", "random", "he"]


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
    assert "Pictures: data.png, costs.png, boundaries.png in fastinit-compare" in result.stdout
    folder = tmp_path / "fastinit-compare"
    assert sorted(path.name for path in folder.iterdir()) == [
        "boundaries.png", "costs.png", "data.png",
    ]  # fmt: skip
    for path in folder.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert path.stat().st_size > 10_000


def test_json(tmp_path, data):
    result = run(
        "compare", "--json", "--data", str(data), "--schemes", "he,glorot_uniform", "--seed", "0",
        "--hidden", "8", "--learning-rate", "0.5", "--iterations", "1500", "--out", "pictures",
        cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document["sizes"] == [2, 8, 1]
    assert [run["scheme"] for run in document["runs"]] == ["he", "glorot_uniform"]
    net = fi.Network([2, 8, 1], loss="saturating_cross_entropy")
    theta = net.initialize("he", seed=0)
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
    result = run("compare", "--json", "--schemes", "random", "--iterations", "10", cwd=tmp_path)
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
    "scheme": (["--schemes", "zeros,xavier"], "scheme: expected one of zeros"),
    "no scheme": (["--schemes", ","], "schemes: expected at least one name"),
    "twice": (["--schemes", "he,he"], "schemes: expected each name once"),
    "hidden": (["--hidden", "10,x"], "expected integers with commas between"),
    "hidden 0": (["--hidden", "10,0"], "sizes: expected each from 1 to 2**31 - 1; got 0"),
    "rate": (["--learning-rate", "-1"], "learning_rate: expected finite and >= 0; got -1"),
    "rate nan": (["--learning-rate", "nan"], "learning_rate: expected finite and >= 0"),
    "rate word": (["--learning-rate", "fast"], "invalid float value: 'fast'"),
    "iterations": (["--iterations", "-5"], "iterations: expected from 0 to 2**48 - 1; got -5"),
    "iterations 1.5": (["--iterations", "1.5"], "invalid int value: '1.5'"),
    "too many": (["--iterations", "9" * 15], ""),
    "seed": (["--seed", "-1", "--schemes", "he_normal"], "seed: expected 0 <= seed < 2**64"),
    "no file": (["--data", "absent.npz"], "absent.npz"),
    "no Y": (["--data", "no_y.npz"], "no array Y in it"),
    "half": (["--data", "half.npz"], "X_test without its partner"),
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


@pytest.mark.skipif(sys.platform == "win32", reason="no shell pipe to cut there")
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
    assert "he_normal" in result.stdout


def test_no_command(tmp_path):
    result = run(cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("absent", ["rich", "matplotlib"])
def test_without_the_extra(tmp_path, absent):
    """A stand-in for a missing package: the finder says that there is none."""
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
        f"fastinit compare: needs {absent}; install with: pip install 'fastinit-nn[cli]'\n"
    )


def test_info(tmp_path):
    result = run("info", cwd=tmp_path)
    assert result.returncode == 0
    config = fi.show_config("dicts")
    assert f"kernels      {config['kernels']}\n" in result.stdout
    assert config["numpy"] in result.stdout


def test_version(tmp_path):
    assert run("--version", cwd=tmp_path).stdout == f"fastinit {fi.__version__}\n"
