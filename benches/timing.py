"""How the benches measure: in turns, in one process, as ratios.

Machines are shared and their clocks drift, so an absolute time says little. Contenders take turns,
each turn long enough to time well, and what is quoted is the median over the turns of the ratio
within a turn.
"""

from collections.abc import Callable
from importlib.util import find_spec
from statistics import median
from time import perf_counter, sleep

import pytest


class Seconds(float):
    """The time of the work itself, from a contender that must set up something in each call."""


Contender = Callable[[int], object]  # does its work n times; may return Seconds
# Longer than any pool of threads waits for work at full speed: OpenBLAS's 2**28 ticks, some 0.1 s.
PAUSE = 0.15


def absent(package: str | None) -> str | None:
    """Return why a peer cannot take part, or None: peers are no requirement of the benches."""
    if package is None or find_spec(package) is not None:
        return None
    return f"{package} is not installed"


def needs(package: str | None) -> None:
    """Skip the calling bench, by name, where a peer is not installed."""
    if reason := absent(package):
        pytest.skip(reason)


def timed(contender: Contender, n: int) -> float:
    """Return the seconds of n pieces of work."""
    start = perf_counter()
    result = contender(n)
    spent = perf_counter() - start
    return result if isinstance(result, Seconds) else spent


def calibrated(contender: Contender, seconds: float) -> int:
    """Return how often the contender's work fits into a turn; this warms it up, too."""
    n = 1
    contender(1)
    while True:
        spent = timed(contender, n)
        if spent > seconds / 4:
            return max(1, round(n * seconds / spent))
        n *= 4


def in_turns(
    contenders: dict[str, Contender],
    *,
    turns: int = 15,
    seconds: float = 0.05,
    pause: float = 0.0,
) -> dict[str, list[float]]:
    """Return the seconds per piece of work of each contender, turn by turn.

    A pause lets the threads of the one before fall asleep; a piece of work untimed follows it.
    """
    counts = {}
    for name, contender in contenders.items():
        sleep(pause)
        counts[name] = calibrated(contender, seconds)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, contender in contenders.items():
            if pause:
                sleep(pause)
                contender(1)
            times[name].append(timed(contender, counts[name]) / counts[name])
    return times


def ratio(times: dict[str, list[float]], peer: str, ours: str) -> float:
    """Return how many times as long the peer takes: the median over the turns."""
    return median(theirs / own for theirs, own in zip(times[peer], times[ours], strict=True))
