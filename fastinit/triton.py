"""The random kernels in Triton: a CUDA device fills its own memory, with the bits of the CPU.

The functions do what those in ``fastinit/kernels/random.pyx`` do, in the same order. Contraction is
off, division and square root are rounded as IEEE 754 says, and there is no call of a mathematical
library, because the last bits of its functions differ between devices. The polynomials are those of
``fastinit/reference.py``.

:mod:`fastinit.torch` is the only caller. ``TRITON_INTERPRET=1`` in the environment lets Triton run
the same code on tensors in the CPU's memory.
"""

import itertools
import math
import struct
import warnings
from functools import lru_cache

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from fastinit import initializers, reference
from fastinit.initializers.target import Draw, Plan, merged_axes
from fastinit.validation import frames_inside

__all__ = ["agrees", "draw"]

# Counters of a program, at least the 64 of a group. A counter yields four floats or two doubles.
COUNTERS = 256
# Programs with fewer counters than that draw less that is outside of a short row.
GROUP = reference.BLOCKS
# No fused multiply-add. Integers wrap, which debug builds of kernels would report.
OPTIONS = {"enable_fp_fusion": False, "sanitize_overflow": False}
# A mass for which the quantile needs no logarithm; see kernels/random.pyx.
NEAR_MASS = 0.0215

_FLOAT, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_LOG_EVEN = tl.constexpr(reference._LOG[_FLOAT][::2])
_LOG_ODD = tl.constexpr(reference._LOG[_FLOAT][1::2])
_SINE = tl.constexpr(reference._SINE[_FLOAT])
_COSINE = tl.constexpr(reference._COSINE[_FLOAT])
_NEAR_NUM = tl.constexpr(reference._NEAR_NUM[_FLOAT])
_NEAR_DEN = tl.constexpr(reference._NEAR_DEN[_FLOAT])
_CENTRAL_NUM = tl.constexpr(reference._CENTRAL_NUM[_FLOAT])
_CENTRAL_DEN = tl.constexpr(reference._CENTRAL_DEN[_FLOAT])
_TAIL_NUM = tl.constexpr(reference._TAIL_NUM[_FLOAT])
_TAIL_DEN = tl.constexpr(reference._TAIL_DEN[_FLOAT])
_FAR_NUM = tl.constexpr(reference._FAR_NUM[_FLOAT])
_FAR_DEN = tl.constexpr(reference._FAR_DEN[_FLOAT])
_LOG_D = tl.constexpr(reference._LOG[_DOUBLE])
_SINE_D = tl.constexpr(reference._SINE[_DOUBLE])
_COSINE_D = tl.constexpr(reference._COSINE[_DOUBLE])
_CENTRAL_NUM_D = tl.constexpr(reference._CENTRAL_NUM[_DOUBLE])
_CENTRAL_DEN_D = tl.constexpr(reference._CENTRAL_DEN[_DOUBLE])
_TAIL_NUM_D = tl.constexpr(reference._TAIL_NUM[_DOUBLE])
_TAIL_DEN_D = tl.constexpr(reference._TAIL_DEN[_DOUBLE])
_FAR_NUM_D = tl.constexpr(reference._FAR_NUM[_DOUBLE])
_FAR_DEN_D = tl.constexpr(reference._FAR_DEN[_DOUBLE])


# --- what all distributions share -----------------------------------------------------------------


@triton.jit
def _philox(block, key, stream):
    """Return the four words of the counters (block, stream)."""
    x0, x1 = block.to(tl.uint32), (block >> 32).to(tl.uint32)
    x2 = tl.zeros_like(x0) + stream.to(tl.uint32)
    x3 = tl.zeros_like(x0) + (stream >> 32).to(tl.uint32)
    k0, k1 = key.to(tl.uint32), (key >> 32).to(tl.uint32)
    for _ in tl.static_range(10):
        high0, low0 = tl.umulhi(x0, 0xD2511F53), x0 * 0xD2511F53
        high1, low1 = tl.umulhi(x2, 0xCD9E8D57), x2 * 0xCD9E8D57
        x0, x1 = high1 ^ x1 ^ k0, low1
        x2, x3 = high0 ^ x3 ^ k1, low0
        k0 += 0x9E3779B9
        k1 += 0xBB67AE85
    return x0, x1, x2, x3


@triton.jit
def _horner(coefficients: tl.constexpr, x):
    """Return the polynomial with these coefficients, the highest first."""
    p = x * coefficients[0] + coefficients[1]
    for i in tl.static_range(2, len(coefficients.value)):
        p = p * x + coefficients[i]
    return p


@triton.jit
def _real(bits, double: tl.constexpr):
    """Return a parameter, the bits of a double, in the precision of the distribution."""
    value = bits.to(tl.uint64).to(tl.float64, bitcast=True)
    return value if double else value.to(tl.float32)


# Triton's own operators round as IEEE 754 says for doubles, but not for floats.
@triton.jit
def _divided(x, y):
    return x / y if x.dtype == tl.float64 else tl.div_rn(x, y)


@triton.jit
def _root(x):
    return tl.sqrt(x) if x.dtype == tl.float64 else tl.sqrt_rn(x)


@triton.jit
def _clip(x, lowest, largest):
    x = tl.where(x > lowest, x, lowest)
    return tl.where(x < largest, x, largest)


@triton.jit
def _log(x, exponent):
    """Return ``log(x * 2**exponent)`` of normal positive floats."""
    bits = x.to(tl.int32, bitcast=True) - 0x3F3504F3
    k = (bits >> 23).to(tl.float32) + exponent
    f = ((bits & 0x007FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True) - 1.0
    g = f * f
    polynomial = _horner(_LOG_ODD, g) * f + _horner(_LOG_EVEN, g)
    return k * 0.693147182464599609375 + (f + g * (polynomial * f - 0.5))


@triton.jit
def _log_d(x, exponent):
    """Return ``log(x * 2**exponent)`` of normal positive doubles."""
    bits = x.to(tl.uint64, bitcast=True) + (0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
    k = (bits >> 52).to(tl.int32).to(tl.float64) - 1023.0 + exponent
    f = ((bits & 0x000FFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD).to(tl.float64, bitcast=True) - 1.0
    s = _divided(f, 2.0 + f)
    z = s * s
    half_square = 0.5 * f * f
    low = s * (half_square + _horner(_LOG_D, z) * z) + k * 1.90821492927058770002e-10
    return k * 6.93147180369123816490e-01 - ((half_square - low) - f)


@triton.jit
def _sine_cosine(angle, double: tl.constexpr):
    """Return sine and cosine of angles in [-pi/4, pi/4]."""
    z = angle * angle
    if double:
        sine, cosine = _horner(_SINE_D, z), _horner(_COSINE_D, z)
    else:
        sine, cosine = _horner(_SINE, z), _horner(_COSINE, z)
    return angle + angle * z * sine, 1.0 - 0.5 * z + z * z * cosine


@triton.jit
def _joined(low, high):
    """Return words of 64 bits."""
    return low.to(tl.uint64) | high.to(tl.uint64) << 32


@triton.jit
def _mantissa(bits):
    """Return the top 52 bits as a number in [1, 2)."""
    return ((bits >> 12) | 0x3FF0000000000000).to(tl.float64, bitcast=True)


# --- the distributions: words in, values out ------------------------------------------------------


@triton.jit
def _uniform(bits, low, width, lowest, largest, double: tl.constexpr):
    if double:
        x = low + (_mantissa(bits) - 1.0) * width
    else:
        # Triton's constants are rounded to the dtype of the other operand, here exactly.
        x = low + (bits >> 8).to(tl.int32).to(tl.float32) * (width * 5.9604644775390625e-08)
    return _clip(x, lowest, largest)


@triton.jit
def _normal(for_radius, for_angle, mean, std, double: tl.constexpr):
    """Return two values, those of sine and cosine in the order of the elements."""
    if double:
        u = _mantissa(for_radius) - 0.99999999999999988898
        log = _log_d(u, 0.0)
        angle = (_mantissa(for_angle << 2) - 1.5) * 1.57079632679489661923
    else:
        u = ((for_radius >> 1).to(tl.int32).to(tl.float32) + 0.5) * 4.656612873077393e-10
        log = _log(u, 0.0)
        angle = (for_angle << 2).to(tl.int32, bitcast=True).to(tl.float32) * 3.6572966e-10
    last: tl.constexpr = 63 if double else 31
    radius = _root(log * -2.0) * std
    sine, cosine = _sine_cosine(angle, double)
    cosine = tl.where((for_angle >> (last - 1)) & 1 != 0, -cosine, cosine)
    swapped = (for_angle >> last) != 0
    first, second = tl.where(swapped, sine, cosine), tl.where(swapped, cosine, sine)
    return mean + radius * first, mean + radius * second


@triton.jit
def _truncated_normal(
    bits, mean, std, left, right, total, exponent, unit, lowest, largest,
    near: tl.constexpr, double: tl.constexpr,
):  # fmt: skip
    if double:
        v = _mantissa(bits) - 0.99999999999999988898
        rest = 1.0 - v
    else:
        k = (bits >> 1).to(tl.int32)
        v = (k.to(tl.float32) + 0.5) * 4.656612873077393e-10
        rest = ((0x7FFFFFFF - k).to(tl.float32) + 0.5) * 4.656612873077393e-10
    on_left = left + v * total
    on_right = right + rest * total
    q = tl.where(on_left < on_right, on_left, on_right)
    y = 0.5 - q * unit
    if near:
        r = 0.23 - y * y
        z = _divided(y * _horner(_NEAR_NUM, r), _horner(_NEAR_DEN, r))
    else:
        r = 0.180625 - y * y
        if double:
            root = _root(-_log_d(q, exponent))
            x, far = root - 1.6, root - 5.0
            central_num, central_den = _horner(_CENTRAL_NUM_D, r), _horner(_CENTRAL_DEN_D, r)
            tail_num, tail_den = _horner(_TAIL_NUM_D, x), _horner(_TAIL_DEN_D, x)
            far_num, far_den = _horner(_FAR_NUM_D, far), _horner(_FAR_DEN_D, far)
        else:
            root = _root(-_log(q, exponent))
            x, far = root - 1.6, root - 5.0
            central_num, central_den = _horner(_CENTRAL_NUM, r), _horner(_CENTRAL_DEN, r)
            tail_num, tail_den = _horner(_TAIL_NUM, x), _horner(_TAIL_DEN, x)
            far_num, far_den = _horner(_FAR_NUM, far), _horner(_FAR_DEN, far)
        numerator = tl.where(y <= 0.425, y * central_num, tail_num)
        denominator = tl.where(y <= 0.425, central_den, tail_den)
        numerator = tl.where(root > 5.0, far_num, numerator)
        denominator = tl.where(root > 5.0, far_den, denominator)
        z = _divided(numerator, denominator)
    return _clip(mean + std * tl.where(on_left < on_right, -z, z), lowest, largest)


# --- where the values go --------------------------------------------------------------------------


@triton.jit
def _store(out, column, columns, stride, x, brain: tl.constexpr):
    if brain:
        # Not Triton's conversion, which truncates on some devices.
        bits = x.to(tl.uint32, bitcast=True)
        x = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).to(tl.uint16).to(tl.int16, bitcast=True)
    inside = (column >= 0) & (column < columns)
    tl.store(out + column * stride, x.to(out.dtype.element_ty), mask=inside)


# Integers vary with every call; a specialisation for each kind of them would be compiled anew.
@triton.jit(do_not_specialize=list(range(1, 18)))
def _fill(
    out, columns: tl.int64, row_stride: tl.int64, stride: tl.int64,
    first: tl.uint64, step: tl.uint64, key: tl.uint64, stream: tl.uint64, tiles: tl.uint64,
    p0: tl.uint64, p1: tl.uint64, p2: tl.uint64, p3: tl.uint64, p4: tl.uint64,
    p5: tl.uint64, p6: tl.uint64, p7: tl.uint64, p8: tl.uint64,
    kernel: tl.constexpr, double: tl.constexpr, brain: tl.constexpr, near: tl.constexpr,
    counters: tl.constexpr, group: tl.constexpr,
):  # fmt: skip
    """Overwrite the part of ``out[r, c]`` that some groups of element ``first + r * step + c`` are.

    There are ``tiles`` programs for each row. The parameters are the bits of doubles.
    """
    size: tl.constexpr = 2 * group if double else 4 * group
    # The interpreter does not know the types in the signature.
    tiles, columns = tiles.to(tl.uint64), columns.to(tl.int64)
    program = tl.program_id(0).to(tl.uint64)
    row = program // tiles
    start = first.to(tl.uint64) + row * step.to(tl.uint64)
    offset = tl.arange(0, counters).to(tl.uint64)
    own = start // size + (program % tiles) * (counters // group) + offset // group
    place = offset % group
    w0, w1, w2, w3 = _philox(own * group + place, key.to(tl.uint64), stream.to(tl.uint64))
    column = (own * size + place - start).to(tl.int64)
    out += row.to(tl.int64) * row_stride
    a, b, c = _real(p0, double), _real(p1, double), _real(p2, double)
    d, e, f = _real(p3, double), _real(p4, double), _real(p5, double)
    g, h, i = _real(p6, double), _real(p7, double), _real(p8, double)
    words = (_joined(w0, w1), _joined(w2, w3)) if double else (w0, w1, w2, w3)
    if kernel == "normal":
        # A pair of values comes from two words, for doubles from all.
        for n in tl.static_range(0, len(words), 2):
            x, y = _normal(words[n], words[n + 1], a, b, double)
            _store(out, column + n * group, columns, stride, x, brain)
            _store(out, column + (n + 1) * group, columns, stride, y, brain)
    else:
        for n in tl.static_range(len(words)):
            if kernel == "uniform":
                x = _uniform(words[n], a, b, c, d, double)
            else:
                x = _truncated_normal(words[n], a, b, c, d, e, f, g, h, i, near, double)
            _store(out, column + n * group, columns, stride, x, brain)


def draw(out: Tensor, drawn: Draw, shape: tuple[int, ...], window: tuple[slice, ...]) -> None:
    """Fill a tensor on a device, with any strides, with a window of what an initialiser draws.

    Parameters
    ----------
    out : Tensor
        Floating-point or complex, of the shape of the window.
    drawn : Draw
        From a plan of the initialiser.
    shape : tuple of int
        Shape of the whole array.
    window : tuple of slice
        A slice with start and stop along each axis.
    """
    if out.is_complex():
        out, shape, window = torch.view_as_real(out), (*shape, 2), (*window, slice(0, 2))
    double, brain = out.dtype == torch.float64, out.dtype == torch.bfloat16
    cells = out.view(torch.int16) if brain else out
    parameters = [struct.unpack("<Q", struct.pack("<d", p))[0] for p in drawn.parameters]
    near = False
    if drawn.kernel == "truncated_normal" and not double:
        left, right, unit = (drawn.parameters[i] for i in (2, 3, 6))
        near = left * unit >= NEAR_MASS and right * unit >= NEAR_MASS
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    first = sum(part.start * step for part, step in zip(window, steps, strict=True))
    axes = merged_axes(cells.shape, steps, cells.stride(), 1)
    *outer, (rows, step, row_stride), (columns, _, stride) = axes
    size = 2 * GROUP if double else 4 * GROUP
    counters = COUNTERS if columns > size else GROUP
    # A row may start anywhere in a group.
    tiles = -(-(columns + size - 1) * GROUP // (size * counters))
    with torch.cuda.device_of(out):  # type: ignore[no-untyped-call]
        for place in itertools.product(*(range(n) for n, _, _ in outer)):
            index = sum(i * step for i, (_, step, _) in zip(place, outer, strict=True))
            memory = sum(i * stride for i, (_, _, stride) in zip(place, outer, strict=True))
            _fill[rows * tiles,](
                cells.as_strided((1,), (1,), cells.storage_offset() + memory),
                columns, row_stride, stride, first + index, step, drawn.key, drawn.stream, tiles,
                *parameters, *[0] * (9 - len(parameters)),
                kernel=drawn.kernel, double=double, brain=brain, near=near,
                counters=counters, group=GROUP, **OPTIONS,
            )  # fmt: skip


# Parameters that reach all branches of each kernel.
_TRIALS: dict[str, tuple[dict[str, float], ...]] = {
    "uniform": ({"low": -3.0, "high": 5.0},),
    "normal": ({"mean": 0.5, "std": 2.0},),
    "truncated_normal": ({}, {"lower": -1.0, "upper": 8.0}, {"lower": 20.0, "upper": 25.0}),
}


@lru_cache
def agrees(kernel: str, dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether a device draws what the CPU does, after a trial; warn if it does not.

    Compilers and devices are many, and the bits are promised for all of them.
    """
    initializer = initializers.get(kernel)
    shape, window = (3, 3000), (slice(0, 3), slice(5, 2900))
    problem = "its values differ from those of the CPU"
    try:
        for parameters in _TRIALS[kernel]:
            plan = Plan(str(dtype).removeprefix("torch."))
            initializer(shape, **parameters, out=plan, seed=2**63 + 1, stream=2**40)
            expected = torch.empty((3, 2895), dtype=dtype)
            initializer(
                shape, **parameters, out=expected, seed=2**63 + 1, stream=2**40, window=window
            )
            found = torch.empty((3, 2895), dtype=dtype, device=device)
            draw(found, plan.draws[0], shape, window)
            if not torch.equal(found.cpu().view(torch.uint8), expected.view(torch.uint8)):
                break
        else:
            return True
    except Exception as error:  # whatever compilers and drivers raise
        problem = f"{type(error).__name__}: {error}"
    warnings.warn(
        f"{device}: {kernel} of {dtype} is drawn on the CPU and copied, because the kernel of "
        f"Triton cannot be used: {problem}",
        RuntimeWarning,
        stacklevel=frames_inside(),
    )
    return False
