"""The interface of the random kernels, the same for every CPU level and ``fastinit.reference``.

``out[i, r, c]`` is element ``first + r * step + c`` of the whole array of key ``sources[i, 0]`` and
stream ``sources[i, 1] + stream``; ``words`` fills one matrix. If ``out`` has dtype uint16, it holds
the bits of bfloat16 numbers if ``brain`` is true, and of float16 numbers otherwise.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython adds one to every module

def permutation(out: NDArray[np.intp], key: int, stream: int) -> None: ...
def words(out: NDArray[np.uint32], first: int, step: int, key: int, stream: int) -> None: ...
def uniform(
    out: NDArray[Any],
    first: int,
    step: int,
    sources: NDArray[np.uint64],
    stream: int,
    low: float,
    width: float,
    lowest: float,
    largest: float,
    brain: bool,
) -> None: ...
def normal(
    out: NDArray[Any],
    first: int,
    step: int,
    sources: NDArray[np.uint64],
    stream: int,
    mean: float,
    std: float,
    brain: bool,
) -> None: ...
def truncated_normal(
    out: NDArray[Any],
    first: int,
    step: int,
    sources: NDArray[np.uint64],
    stream: int,
    mean: float,
    std: float,
    left: float,
    right: float,
    total: float,
    exponent: float,
    unit: float,
    lowest: float,
    largest: float,
    brain: bool,
) -> None: ...
def shuffles(
    generator: np.random.BitGenerator, sample: NDArray[np.intp], out: NDArray[np.intp]
) -> None: ...

# For the tests alone.
def _counters(out: NDArray[np.uint32], first: int, key: int, stream: int) -> None: ...
