"""What the documents say is true: their examples run, their numbers come from the bench report."""

import doctest
import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


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


def test_pictures_exist():
    for path in re.findall(r"!\[[^]]+\]\(([^)]+)\)", README):
        assert (ROOT / path).read_bytes().startswith(b"\x89PNG")


def test_links_within_the_repository():
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / path).exists(), path


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
