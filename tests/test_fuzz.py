"""Run the cases of ``tests/fuzz.py`` in subprocesses, so that crashes are detected.

They take about a minute. ``FASTINIT_FUZZ_SECONDS`` sets the time for each of the four kinds.
"""

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fuzz.py")
SECONDS = float(os.environ.get("FASTINIT_FUZZ_SECONDS", "12"))
BATCH = {"fills": 400, "trainings": 60, "files": 200, "lessons": 300}
# A case takes milliseconds, and a batch a few seconds.
TIMEOUT = 120


def run(script: Path, kind: str, first: int, count: int) -> list[str]:
    """Run some cases; return the findings, with the numbers of their cases."""
    command = [sys.executable, "-P", str(script), kind, str(first), str(count)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        said, errors, code = result.stdout, result.stderr, result.returncode
    except subprocess.TimeoutExpired as error:
        said, errors, code = (error.stdout or b"").decode(), "", f"no end after {TIMEOUT} s"
    lines = said.splitlines()
    found = [f"case {before}: {line}" for before, line in pairwise(lines)
             if line.startswith("finding")]  # fmt: skip
    if not lines or lines[-1] != "end":
        found.append(f"case {lines[-1] if lines else '?'}: the process ended by {code}")
    return found + ([errors[-3000:]] if found else [])


@pytest.mark.parametrize("kind", BATCH)
def test_hostile_arguments(kind):
    """Repeat a case with ``python tests/fuzz.py KIND CASE 1``."""
    start, first = time.monotonic(), 0
    while first == 0 or time.monotonic() - start < SECONDS:
        found = run(SCRIPT, kind, first, BATCH[kind])
        assert not found, "\n".join(found)
        first += BATCH[kind]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import os; os.abort()", "case 3: the process ended by"),
        ("raise RuntimeError('no such thing')", "case 3: finding RuntimeError no such thing"),
        ("raise ValueError('unclear')", "case 3: finding ValueError unclear"),
    ],
)
def test_findings_are_noticed(tmp_path, line, expected):
    """Crashes and wrong or unclear errors are reported with the number of the case."""
    script = tmp_path / "fuzz.py"
    planted = f"def lessons(draw, n=[0]):\n    n[0] += 1\n    if n[0] == 4:\n        {line}\n"
    text = SCRIPT.read_text(encoding="utf-8")
    script.write_text(text.replace("KINDS = {", f"{planted}\n\nKINDS = {{", 1), encoding="utf-8")
    assert expected in "\n".join(run(script, "lessons", 0, 6))
