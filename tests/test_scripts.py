"""The scripts of the documentation: clusters, and the page on initialisations."""

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastinit as fi
from fastinit.comparison.store import open_comparison

pytest.importorskip("matplotlib")
pytest.importorskip("rich")

DOCS = Path(__file__).resolve().parent.parent / "docs"
CLUSTERS = DOCS / "clusters"
posix = pytest.mark.skipif(sys.platform == "win32", reason="requires a POSIX shell")


@pytest.fixture
def environment(tmp_path):
    """Return an environment in which ``fastinit`` and ``dask`` are those of this interpreter."""
    for name in ("fastinit", "dask"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m {name} "$@"\n')
        path.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "MPLBACKEND": "Agg", "TMPDIR": str(tmp_path)}


@pytest.fixture(scope="module")
def whole():
    """Return the comparison that the Python scripts make."""
    return compared()


@pytest.fixture(scope="module")
def whole_of_commands():
    """Return the comparison that the shell scripts make."""
    return compared(loss="saturating_cross_entropy")


def compared(**settings):
    X, Y, X_test, Y_test = fi.lesson.load_dataset()
    return fi.compare(
        X, Y, fi.Network([2, 10, 5, 1], **settings), ["he_normal", "glorot_uniform"],
        test=(X_test, Y_test), seed=range(12), learning_rate=0.1, iterations=500,
    )  # fmt: skip


def run(*words, cwd, environment):
    result = subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def check(path, whole):
    """The runs are those of one process, to the last bit."""
    found = open_comparison(path)
    assert len(found) == len(whole) == 24
    for ours, theirs in zip(found.trials, whole.trials, strict=True):
        assert (ours.cell.scheme, ours.cell.seed) == (theirs.cell.scheme, theirs.cell.seed)
        np.testing.assert_array_equal(ours.theta, theirs.theta)


def test_processes(tmp_path, environment, whole):
    out = run(sys.executable, CLUSTERS / "processes.py", cwd=tmp_path, environment=environment)
    assert out == f"{whole.ranking().answer}\n"
    check(tmp_path / "runs.sqlite", whole)


def test_local_cluster(tmp_path, environment, whole):
    pytest.importorskip("distributed")
    out = run(sys.executable, CLUSTERS / "local_cluster.py", cwd=tmp_path, environment=environment)
    assert out == f"{whole.ranking().answer}\n"
    check(tmp_path / "runs.sqlite", whole)


@posix
def test_scheduler(tmp_path, environment, whole_of_commands):
    pytest.importorskip("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        environment["PORT"] = str(free.getsockname()[1])
    out = run("sh", CLUSTERS / "scheduler.sh", cwd=tmp_path, environment=environment)
    assert "24 of 24 runs" in out
    assert (tmp_path / "report.html").exists()
    check(tmp_path / "runs.sqlite", whole_of_commands)


@posix
def test_slurm_array(tmp_path, environment, whole_of_commands):
    """Slurm is simulated by its variables. A part that is submitted again trains nothing."""
    if shutil.which("bash") is None:
        pytest.skip("requires bash")
    n = 3
    for i in (1, 2, 3, 2):
        task = environment | {
            "SLURM_ARRAY_TASK_ID": str(i), "SLURM_ARRAY_TASK_COUNT": str(n),
            "SLURM_CPUS_PER_TASK": "1",
        }  # fmt: skip
        out = run("bash", CLUSTERS / "array.sbatch", cwd=tmp_path, environment=task)
        assert "8 of 24 runs" in out
    out = run("sh", CLUSTERS / "merge.sh", cwd=tmp_path, environment=environment)
    assert out.startswith("24 runs added to runs.sqlite")
    assert whole_of_commands.ranking().answer in out
    assert (tmp_path / "report.html").exists()
    check(tmp_path / "runs.sqlite", whole_of_commands)
    assert sorted(os.listdir(tmp_path)) == ["bin", "parts", "report.html", "runs.sqlite"]


@posix
def test_loop(tmp_path, environment, whole_of_commands):
    out = run("sh", CLUSTERS / "loop.sh", "2", cwd=tmp_path, environment=environment)
    assert whole_of_commands.ranking().answer in out
    check(tmp_path / "runs.sqlite", whole_of_commands)


def test_page_on_clusters_has_the_scripts():
    text = (DOCS / "clusters.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```(bash|py)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    scripts = {path.read_text(encoding="utf-8") for path in CLUSTERS.iterdir() if path.is_file()}
    assert {content for _, content in shown} == scripts


# --- which initialisation -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study():
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location("study", DOCS / "which-initialisation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def structure(page, study):
    """Check a page and return the number of runs of each scheme that its summary counts."""
    headings = re.findall(r"^#+ .*$", page, re.MULTILINE)
    names = [each.name for each in study.STUDIES]
    assert headings == [
        "# Which initialisation?", "## In short", *(f"## {name.capitalize()}" for name in names)
    ]  # fmt: skip
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    summary, cases = [[r for r in rows if len(r) == n and r[1] not in ("best", "optimiser")]
                      for n in (4, 6)]  # fmt: skip
    assert [row[0] for row in summary] == list(study.SCHEMES)
    assert [row[:3] for row in cases] == [
        [name, optimizer, str(depth)]
        for name in names for optimizer in ("sgd", "adam") for depth in study.DEPTHS
    ]  # fmt: skip
    assert sum(int(row[1]) for row in summary) == len(cases) == 18
    untold = [scheme for row in cases for scheme in (row[3], *row[5].split(", "))]
    assert [int(row[2]) for row in summary] == [untold.count(row[0]) for row in summary]
    for name, section in zip(names, page.split("\n## ")[2:], strict=True):
        assert f"$ fastinit compare --data {name}.csv" in section
        rankings = re.findall(r"^Ranking, optimizer (\w+), depth (\d+)$", section, re.MULTILINE)
        assert rankings == [row[1:3] for row in map(tuple, cases) if row[0] == name]
        answers = re.sub(r"\s+", " ", section)
        for row in cases:
            if row[0] == name:
                assert f"optimizer {row[1]}, depth {row[2]}: {row[3]} " in answers
        assert f"(which-{name}.png)" in section
        assert max(map(len, section.split("```")[1].splitlines())) <= 100


def test_the_page_is_made_in_small(tmp_path, study, environment):
    script = DOCS / "which-initialisation.py"
    words = [sys.executable, script, "--seeds", "2", "--epochs", "1", "--into", tmp_path]
    run(*words, cwd=tmp_path, environment=environment)
    page = (tmp_path / "which-initialisation.md").read_text(encoding="utf-8")
    structure(page, study)
    assert "2 seeds and two optimisers on three data sets: 216 networks" in page
    for path in tmp_path.glob("which-*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_committed_page_is_whole(study):
    page = (DOCS / "which-initialisation.md").read_text(encoding="utf-8")
    structure(page, study)
    assert "50 seeds and two optimisers on three data sets: 5,400 networks" in page
    for each in study.STUDIES:
        assert study.broken(study.command(each, 50, each.epochs)) in page
