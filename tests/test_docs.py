"""What the documents say is true: their examples run, their numbers come from the bench report."""

import doctest
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def plt():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    plt = pytest.importorskip("matplotlib.pyplot")
    yield plt
    plt.close("all")


def test_readme_examples_run():
    state = np.random.get_state()
    try:
        results = doctest.testfile(str(ROOT / "README.md"), module_relative=False, encoding="utf-8")
    finally:
        np.random.set_state(state)
    assert results.attempted >= 7
    assert results.failed == 0


def test_readme_example_of_the_lesson_runs():
    names = {}
    exec(re.search(r"```python\n(from fastinit.*?)```", README, re.DOTALL)[1], names)
    assert "model" in names


def test_readme_commands_are_those_of_ci():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ('pip install ".[cli]" && fastinit compare', 'pip install ".[test]" && pytest'):
        assert command in README
        assert command in script


def pictures(page):
    return re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))


def test_tutorial_runs_and_draws_its_pictures(plt, tmp_path, monkeypatch):
    page = ROOT / "docs" / "initialising-a-deep-network.md"
    monkeypatch.chdir(tmp_path)
    results = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert results.attempted >= 30
    assert results.failed == 0
    assert sorted(pictures(page)) == sorted(path.name for path in tmp_path.iterdir())


def test_lesson_as_a_script_runs(plt, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    runpy.run_path(str(ROOT / "docs" / "lesson.py"))
    assert len(shown) == 4
    printed = capsys.readouterr().out
    for start in ("zeros: symmetric", "lesson.random: exploding signal", "lesson.he: healthy"):
        assert start in printed
    assert re.search(
        r"^zeros           cost 0.6931  train 50.0%  test 50.0%$", printed, re.MULTILINE
    )
    assert re.search(
        r"^lesson.he       cost 0.0648  train 99.3%  test 96.0%$", printed, re.MULTILINE
    )
    # What README and command line print, and what public notebooks show; rounding moves both.
    random, seeded = (
        [float(number) for number in re.search(pattern, printed, re.MULTILINE).groups()]
        for pattern in (
            r"^lesson.random   cost ([\d.]+)  train ([\d.]+)%  test ([\d.]+)%$",
            r"^seed 3: cost ([\d.]+) at 1000, ([\d.]+) at 14000; train (\d+)%, test (\d+)%$",
        )
    )
    assert random == [pytest.approx(0.207, rel=0.1), *(pytest.approx(x, abs=1) for x in (88.3, 85))]
    assert seeded == [
        *(pytest.approx(x, rel=0.1) for x in (0.624, 0.383)),
        *(pytest.approx(x, abs=1.5) for x in (83, 86)),
    ]
    assert "Cost after iteration 10000: 0.150155562" in printed
    for start in ("L2: cost ", "dropout: cost ", "adam      cost "):
        assert start in printed
    assert "Your backward propagation works perfectly fine!" in printed
    assert "There is a mistake in the backward propagation!" in printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_exist(page):
    assert pictures(page)
    for path in pictures(page):
        assert (page.parent / path).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository(page):
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / path).exists(), path


def test_readme_marks_every_speed_that_was_missed():
    """The committed report, row by row: a target that was not reached says so."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in README.splitlines()
        if line.startswith("| one iteration of the lesson")
    ]
    with_target = [row for row in rows if row[-1]]
    assert len(with_target) == 5
    for *_, measured, target in with_target:
        missed = float(measured.strip("*")) < float(target.split()[0])
        assert missed == target.endswith("(missed)")
