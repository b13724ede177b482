"""Whole networks: gradients, updates and the fused loop, with each strategy.

Which one a network and a batch take is said in ``fastinit/kernels/descent.pxi``.
"""

import _thread
import ctypes
import ctypes.util
import math
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from rounding import assert_within, draw, exact, labels, parameters, poisoned

from fastinit import Adam, AdamW, GradientDescent, Momentum, kernels, reference
from fastinit.training import optimizers as registered
from fastinit.training.network import ACTIVATIONS, LOSSES, Layout

OUTPUTS = tuple(loss for losses in LOSSES.values() for loss in losses)
# Adam divides by the root of the mean square: an epsilon above the rounding of a gradient keeps
# that from being magnified without bound.
OPTIMIZERS = {
    "gradient descent": GradientDescent(0.1, l2=0.1),
    "momentum": Momentum(0.02, 0.8),
    "nesterov": Momentum(0.02, 0.8, nesterov=True, l2=0.1),
    "Adam": Adam(0.01, epsilon=1e-3),
    "AdamW": AdamW(0.01, epsilon=1e-3, weight_decay=0.5),
}
KINDS = [kind for kind in registered.OPTIMIZERS if kind is not registered.LBFGS]
for kind in set(KINDS) - {type(optimizer) for optimizer in OPTIMIZERS.values()}:
    epsilon = {"epsilon": 1e-3} if "epsilon" in kind.__dataclass_fields__ else {}
    OPTIMIZERS[kind.__name__] = kind(0.01, **epsilon)


class Problem(NamedTuple):
    layout: Layout
    theta: np.ndarray
    X: np.ndarray
    Y: np.ndarray
    weights: np.ndarray | None

    def astype(self, dtype):
        return Problem(self.layout, *(None if x is None else x.astype(dtype) for x in self[1:]))


def problem(
    sizes, m, dtype, activation="relu", loss=OUTPUTS[0], weighted=False, bias=True
):  # fmt: skip
    layout = Layout(tuple(sizes), activation, 0.2, loss, bias)
    weights = np.abs(draw(4, m, dtype)) * (np.arange(m) % 5 < 4) if weighted else None
    return Problem(
        layout,
        parameters(1, sizes, dtype, bias),
        draw(2, (sizes[0], m), dtype),
        labels(3, (sizes[-1], m), loss, dtype),
        weights,
    )


# Name, sizes, examples: odd sizes, batches that are multiples of nothing.
SHAPES = {
    "no hidden layer": ([2, 2], 5),
    "the lesson's": ([2, 10, 5, 2], 300),
    "one of each": ([1, 1, 2], 1),
    "narrow": ([7, 8, 9, 2], 65),
    "many blocks": ([3, 7, 2], 2001),
    "wide": ([65, 63, 7], 100),
    "wide, in parts": ([12, 130, 2], 301),
    "wide, in parts, deep": ([9, 64, 100, 8, 3], 601),
    "wide, in parts, transposed weights": ([5, 30, 300, 3], 397),
    "wide, too large for parts": ([260, 270, 300, 3], 197),
    "wide, more than is held at once": ([260, 270, 300, 3], 701),
    "wide, split along the inputs": ([2500, 3, 2], 40),
    "wide, split, more than is held at once": ([2100, 20, 3], 661),
    "wide, split, X in place": ([2103, 7, 2], 661),
    "wide, split, few examples": ([2300, 70, 3], 33),
    "wide, split, one block more than whole rounds": ([2100, 40, 3], 541),
    "a few units after many inputs": ([1500, 3, 2], 200),
    "X in place": ([500, 9, 40, 2], 1027),
    "X in place, no hidden layer": ([300, 1], 2050),
    "wide, nine examples": ([100, 63, 2], 17),
    "thin, one example": ([100, 63, 2], 1),
    "thin, many inputs": ([3000, 1], 1),
    "thin, deep": ([33, 65, 70, 9, 2], 1),
    "thin, some examples": ([300, 65, 70, 9, 2], 3),
    "thin, no row of whole registers": ([85, 3, 21, 100], 3),
    "interleaved, one example": ([16, 16, 1], 1),
    "interleaved": ([5, 7, 3, 2], 4),
}


def one(
    dense, layout, rule, theta, state, step, X, Y, weights, order, batch_size, first, rates, costs,
    threads=1, descent=None,
):  # fmt: skip
    """Run one network; the entry takes stacks."""
    counts = np.empty(1, np.intp)
    dense.descend(
        layout, [rule], theta[None], state[None], step, X, Y, weights, order, batch_size, first,
        rates[None, :, None], costs[None], counts, np.arange(1), threads, descent,
    )  # fmt: skip
    return int(counts[0])


def gradient_of(dense, case, gradient, threads=1):
    """Overwrite the gradient, and return the cost."""
    layout, theta, *data = case
    [cost] = dense.loss_and_gradient(layout, theta[None], *data, gradient[None], threads)
    return cost


def outputs_of(dense, case, out, threads=1):
    layout, theta, *data = case
    [cost] = dense.forward(layout, theta[None], *data, out[None], threads)
    return cost


def check_gradient(dense, case, dtype):
    gradient = poisoned(case.theta.shape, dtype)
    cost = gradient_of(dense, case, gradient, 2)
    expected = exact(*case, dtype)
    assert_within(gradient, expected.gradient, expected.gradient_bound)
    assert abs(cost - expected.cost) <= expected.cost_bound
    out = poisoned(case.Y.shape, dtype)
    cost = outputs_of(dense, case, out, 2)
    assert_within(out, expected.outputs, expected.outputs_bound)
    assert abs(cost - expected.cost) <= expected.cost_bound
    out[...] = np.nan
    assert np.isnan(outputs_of(dense, case._replace(Y=None, weights=None), out))
    assert_within(out, expected.outputs, expected.outputs_bound)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_of_every_shape(dense, dtype, shape):
    for weighted in (False, True):
        check_gradient(dense, problem(*SHAPES[shape], dtype, "gelu", weighted=weighted), dtype)


@pytest.mark.parametrize("loss", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_of_every_kind(dense, dtype, activation, loss):
    check_gradient(dense, problem([5, 9, 8, 3], 41, dtype, activation, loss), dtype)
    check_gradient(dense, problem([64, 33, 7], 65, dtype, activation, loss, weighted=True), dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_without_biases(dense, dtype, shape):
    check_gradient(dense, problem(*SHAPES[shape], dtype, "tanh", bias=False), dtype)


@pytest.mark.parametrize("loss", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_of_every_kind_with_few_examples(dense, dtype, activation, loss):
    check_gradient(dense, problem([5, 9, 8, 3], 2, dtype, activation, loss, weighted=True), dtype)
    check_gradient(dense, problem([64, 33, 7], 1, dtype, activation, loss), dtype)


def test_gradient_of_a_large_network(dtype):
    """More parameters than a second-level cache holds. One level for all: it takes long enough."""
    case = problem([100, 1024, 930, 3], 1100, dtype, "silu", "softmax_cross_entropy", weighted=True)
    check_gradient(kernels.dense, case, dtype)


@pytest.mark.parametrize("loss", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_reference_gradient_is_the_derivative(activation, loss):
    """Central differences: h^2 of truncation, eps / h of rounding."""
    case = problem([3, 5, 4, 2], 7, np.dtype(np.float64), activation, loss, weighted=True)
    inputs, _ = reference._activations(case.layout._replace(activation="identity"), *case[1:3])
    assert min(np.abs(Z).min() for Z in inputs) > 1e-4, "none near a kink"
    gradient, scratch = np.empty_like(case.theta), np.empty_like(case.theta)
    gradient_of(reference, case, gradient)
    h = 1e-6
    for k in range(len(case.theta)):
        ends = []
        for sign in (1, -1):
            moved = case.theta.copy()
            moved[k] += sign * h
            ends.append(gradient_of(reference, case._replace(theta=moved), scratch))
        difference = (ends[0] - ends[1]) / (2 * h)
        assert difference == pytest.approx(gradient[k], abs=2e-8 * (1 + abs(gradient[k])))


# --- updates --------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("sizes", [[1, 1], [7, 8, 9, 2], [65, 63, 7]])
def test_update_parameters(dense, dtype, optimizer, sizes, by_layer):
    """Three updates in a row, so that every slot of state has been read."""
    rates = np.linspace(0, 0.2, 2 * (len(sizes) - 1)) if by_layer else np.array([0.1])
    rule = OPTIMIZERS[optimizer].rule
    layout = Layout(tuple(sizes), "relu", 0.0, OUTPUTS[0], True)
    theta = parameters(1, sizes, dtype)
    state = np.zeros((OPTIMIZERS[optimizer].slots, theta.size), dtype)
    exact_theta, exact_state = theta.astype(float), state.astype(float)
    for step in range(3):
        gradient = draw(step, theta.size, dtype)
        dense.update_parameters(layout, rule, theta, gradient, state, step, rates)
        reference.update_parameters(
            layout, rule, exact_theta, gradient.astype(float), exact_state, step, rates
        )
    # A dozen roundings each, of numbers below 10.
    eps = np.finfo(dtype).eps
    assert_within(state, exact_state, 12 * 3 * eps * (1 + np.abs(exact_state)))
    assert_within(theta, exact_theta, 12 * 3 * eps * (1 + np.abs(exact_theta)))


# --- the fused loop -------------------------------------------------------------------------------

STEPS = 50


def descend(
    dense, case, optimizer, *, steps=STEPS, batch_size=None, threads=1, start=0, state=None,
    descent=None,
):  # fmt: skip
    """Run a copy; return theta, costs and state."""
    theta = case.theta.copy()
    m = case.X.shape[1]
    order = None
    if batch_size is not None:
        generator = np.random.Generator(np.random.PCG64(7))
        order = np.array([generator.permutation(m) for _ in range(40)], np.intp)
    zeros = np.zeros((optimizer.slots, theta.size), theta.dtype)
    state = zeros if state is None else state.copy()
    costs = poisoned(steps, np.float64)
    whole = one(
        dense, case.layout, optimizer.rule, theta, state, start, case.X, case.Y, case.weights,
        order, batch_size or m, start, np.full(steps, optimizer.learning_rate), costs, threads,
        descent,
    )  # fmt: skip
    assert whole == steps
    return theta, costs, state


@cache
def course(sizes, m, activation, loss, optimizer, batch_size, weighted, dtype, steps):
    """The run of the reference in float64, and how far rounding to ``dtype`` may take it.

    How much this very run magnifies rounding errors is measured: the reference in float32 is so
    many eps away from that in float64. A kernel may be 16 times as many of its own eps away, for
    rounding errors are of either sign and their largest varies.
    """
    case = problem(sizes, m, np.dtype(np.float32), activation, loss, weighted)
    ends = [
        descend(
            reference, case.astype(kind), OPTIMIZERS[optimizer], steps=steps, batch_size=batch_size
        )[:2]
        for kind in (np.float64, np.float32)
    ]
    scale = np.finfo(dtype).eps / np.finfo(np.float32).eps
    bounds = [16 * scale * (np.abs(a - b).max() + 1e-7) for a, b in zip(*ends, strict=True)]
    return case.astype(dtype), ends[0], bounds


def check_run(dense, *settings, steps=STEPS):
    case, expected, bounds = course(*settings, steps)
    optimizer, batch_size = OPTIMIZERS[settings[4]], settings[5]
    found = descend(dense, case, optimizer, steps=steps, batch_size=batch_size)
    for ours, theirs, bound in zip(found[:2], expected, bounds, strict=True):
        assert_within(ours, theirs, bound)
        # The bound is a small part of what it bounds.
        assert bound < 1e-2 * np.abs(theirs).max()


@pytest.mark.parametrize("loss", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_run_of_every_kind(dense, dtype, activation, loss):
    """Fifty updates; every optimiser meets every loss and every activation."""
    number = ACTIVATIONS.index(activation) + OUTPUTS.index(loss)
    optimizer = list(OPTIMIZERS)[number % len(OPTIMIZERS)]
    batch_size = (None, 13)[number // 2 % 2]
    check_run(
        dense, (5, 9, 8, 3), 41, activation, loss, optimizer, batch_size, number % 3 == 0, dtype
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [None, 100])
def test_run_of_a_wide_network(dense, dtype, optimizer, batch_size):
    check_run(dense, (20, 63, 9, 3), 301, "tanh", OUTPUTS[2], optimizer, batch_size, True, dtype)


@pytest.mark.parametrize(
    ("sizes", "m", "batch_size"),
    [
        ((20, 60, 280, 3), 451, None),
        ((20, 60, 280, 3), 451, 450),
        ((12, 40, 30, 2), 5400, None),
        ((12, 40, 30, 2), 5401, 5400),
        ((55, 30, 2), 5400, None),
    ],
)
def test_run_of_a_wide_network_in_parts(dense, dtype, sizes, m, batch_size):
    """The last batch of an epoch may have one example, which leaves all parts but one empty.

    Of 5,400 examples, a part has more blocks than are held at once.
    """
    steps = 8 if m > 1000 else STEPS
    check_run(dense, sizes, m, "tanh", OUTPUTS[2], "Adam", batch_size, True, dtype, steps=steps)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("sizes", [(20, 63, 9, 3), (5, 7, 3)])
def test_run_with_few_examples(dense, dtype, optimizer, batch_size, sizes):
    """Thin and interleaved networks; 7 examples make a batch that is shorter."""
    check_run(dense, sizes, 7, "tanh", OUTPUTS[2], optimizer, batch_size, True, dtype, steps=30)


@pytest.mark.parametrize(("optimizer", "kind"), [("nesterov", "float32"), ("AdamW", "float64")])
def test_run_of_a_large_network(optimizer, kind):
    sizes, dtype = (100, 1024, 930, 3), np.dtype(kind)
    check_run(
        kernels.dense, sizes, 37, "tanh", OUTPUTS[2], optimizer, 15, True, dtype, steps=12
    )  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [None, 100])
def test_descend_is_its_parts(dense, dtype, optimizer, batch_size):
    """The fused loop is loss_and_gradient and update_parameters, again and again."""
    optimizer = OPTIMIZERS[optimizer]
    case = problem([2, 10, 5, 1], 300, dtype)
    theta, costs, state = descend(dense, case, optimizer, steps=7, batch_size=batch_size)
    by_hand, gradient, kept = case.theta.copy(), np.empty_like(case.theta), np.zeros_like(state)
    generator = np.random.Generator(np.random.PCG64(7))
    order = np.concatenate([generator.permutation(300) for _ in range(3)])
    for i in range(7):
        batch = slice(None) if batch_size is None else order[100 * i : 100 * (i + 1)]
        X, Y = (np.ascontiguousarray(data[:, batch]) for data in (case.X, case.Y))
        cost = gradient_of(dense, Problem(case.layout, by_hand, X, Y, None), gradient)
        rates = np.array([optimizer.learning_rate])
        dense.update_parameters(case.layout, optimizer.rule, by_hand, gradient, kept, i, rates)
        assert cost == costs[i]
    assert_array_equal(theta, by_hand)
    assert_array_equal(state, kept)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("sizes", [[2, 10, 5, 1], [20, 63, 9, 1]])
def test_descend_in_slices_is_the_same(dense, dtype, optimizer, sizes):
    """In the middle of an epoch, too: 300 examples make five batches."""
    optimizer = OPTIMIZERS[optimizer]
    case = problem(sizes, 300, dtype)
    theta, costs, state = descend(dense, case, optimizer, steps=20, batch_size=64)
    sliced, pieces, kept, done = case, [], None, 0
    for steps in (1, 7, 12):
        found = descend(
            dense, sliced, optimizer, steps=steps, batch_size=64, start=done, state=kept
        )
        sliced, kept, done = case._replace(theta=found[0]), found[2], done + steps
        pieces.append(found[1])
    assert_array_equal(sliced.theta, theta)
    assert_array_equal(np.concatenate(pieces), costs)
    assert_array_equal(kept, state)


def test_strides_of_X_do_not_matter_to_a_small_network(dense, dtype):
    case = problem([2, 10, 5, 1], 300, dtype)
    spread = np.zeros((4, 600), dtype)[::2, ::2]
    spread[...] = case.X
    expected = descend(dense, case, GradientDescent(0.1), batch_size=70)
    for X in (np.asfortranarray(case.X), spread):
        found = descend(dense, case._replace(X=X), GradientDescent(0.1), batch_size=70)
        assert_array_equal(found[0], expected[0])
        assert_array_equal(found[1], expected[1])


def test_every_rate_is_for_its_own_iteration(dense):
    case = problem([2, 5, 1], 30, np.dtype(np.float64))
    theta, costs = case.theta.copy(), np.empty(3)
    rule, state = GradientDescent().rule, np.empty((0, theta.size))
    rates = np.array([0.5, 0.0, 0.25])
    one(dense, case.layout, rule, theta, state, 0, *case[2:], None, 30, 0, rates, costs)
    by_hand, gradient = case.theta.copy(), np.empty_like(theta)
    for rate in rates:
        gradient_of(reference, case._replace(theta=by_hand), gradient)
        by_hand -= rate * gradient
    np.testing.assert_allclose(theta, by_hand, rtol=1e-12)
    assert costs[1] == costs[2], "nothing happened at a rate of zero"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("sizes", [[2, 10, 5, 1], [20, 63, 9, 1]])
def test_descend_stops_before_it_leaves_the_finite_numbers(dense, dtype, optimizer, sizes):
    case = problem(sizes, 300, dtype)
    theta, costs = case.theta.copy(), poisoned(1000, np.float64)
    rule, slots = OPTIMIZERS[optimizer].rule, OPTIMIZERS[optimizer].slots
    rates = np.full(1000, float(np.finfo(dtype).max) / 10)
    whole = one(
        dense, case.layout, rule, theta, np.zeros((slots, theta.size), dtype), 0, *case[2:], None,
        300, 0, rates, costs, 2,
    )  # fmt: skip
    assert whole < 1000
    assert np.isfinite(theta).all()
    assert np.isnan(costs[whole:]).all()
    assert not np.isnan(costs[:whole]).any()


def test_kernels_take_read_only_inputs(dense, dtype):
    case = problem([2, 10, 5, 1], 300, dtype, weighted=True)
    for array in case[2:]:
        array.flags.writeable = False
    descend(dense, case, GradientDescent(0.1), steps=2)


# --- scratch memory -------------------------------------------------------------------------------


@pytest.fixture
def reused_memory():
    """Let glibc take all memory from the heap and keep it: fresh pages would hold zeros."""
    libc, trim_threshold, most_mapped = ctypes.CDLL(None), -1, -4
    libc.mallopt(trim_threshold, 2**30)
    libc.mallopt(most_mapped, 0)
    yield
    libc.mallopt(trim_threshold, 128 * 1024)
    libc.mallopt(most_mapped, 65536)
    libc.malloc_trim(0)


@pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc",
    reason="the flag of subnormal operands is read from the MXCSR register through glibc",
)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_arithmetic_on_memory_that_nobody_wrote(compiled, dtype, shape, reused_memory):
    """Memory that was freed may hold subnormal numbers, which cost a hundred cycles each.

    Sums made of it may be unused: results do not show it.
    """
    sizes, m = SHAPES[shape]
    case = problem(sizes, m, dtype)._replace(X=1 + np.abs(draw(2, (sizes[0], m), dtype)))
    libm, environment = ctypes.CDLL(ctypes.util.find_library("m")), (ctypes.c_uint32 * 8)()
    # Pieces of freed memory, of all sizes.
    for size in (10, 100, 1000, 3000, 10_000, 15_000, 300_000, 1_000_000):
        for _ in range(3):
            rubbish = [np.full(size, np.finfo(dtype).tiny / 4, dtype) for _ in range(4)]
        del rubbish
    libm.fegetenv(environment)
    environment[7] &= ~0x3F
    libm.fesetenv(environment)
    descend(compiled, case, GradientDescent(1e-3), steps=2, batch_size=m)
    descend(compiled, case, GradientDescent(1e-3), steps=2)
    libm.fegetenv(environment)
    assert not environment[7] & 2, "an operand was subnormal"


# --- threads --------------------------------------------------------------------------------------

BIG = {  # enough work for threads to take part
    "narrow, in parts": ([2, 10, 5, 1], 12_000, None),
    "narrow mini-batches": ([2, 10, 5, 1], 18_001, 9000),
    "wide": ([65, 63, 100, 7], 601, None),
    "wide mini-batches": ([65, 63, 100, 7], 601, 129),
    "wide, in eight parts": ([12, 40, 30, 2], 4200, None),
    "wide, transposed weights": ([20, 60, 280, 3], 901, None),
    "wide, transposed weights, mini-batches": ([300, 300, 280, 3], 601, 300),
    "split along the inputs": ([3000, 5, 7], 300, None),
    "thin": ([9000, 130, 7], 1, None),
}


@pytest.mark.parametrize("name", BIG)
def test_same_bits_for_every_number_of_threads(compiled, dtype, name, started):
    sizes, m, batch_size = BIG[name]
    case = problem(sizes, m, dtype, "relu", weighted=True)
    expected = descend(compiled, case, Adam(0.01), steps=6, batch_size=batch_size)
    assert not started
    for threads in (2, 3, 5):
        found = descend(compiled, case, Adam(0.01), steps=6, batch_size=batch_size, threads=threads)
        assert started, "enough work for several threads"
        for ours, theirs in zip(found, expected, strict=True):
            assert_array_equal(ours, theirs)
    gradients = np.empty((2, case.theta.size), dtype)
    costs = [
        gradient_of(compiled, case, gradient, threads)
        for gradient, threads in zip(gradients, (1, 3), strict=True)
    ]
    assert costs[0] == costs[1]
    assert_array_equal(*gradients)


@pytest.mark.parametrize("name", [*BIG, "a first layer that reads X in place"])
def test_outputs_are_the_same_bits_for_every_layout_of_X(compiled, dtype, name):
    """Examples that are contiguous are transposed as they are read, others are copied or packed."""
    sizes, m, _ = BIG.get(name, ([20, 9, 300, 1], 1003, None))
    case = problem(sizes, m, dtype, weighted=True)
    expected = np.empty(case.Y.shape, dtype)
    cost = outputs_of(compiled, case, expected)
    assert cost == gradient_of(compiled, case, np.empty_like(case.theta))
    layouts = [case.X, np.asfortranarray(case.X), case.X[:, ::-1].copy()[:, ::-1]]
    layouts += [
        np.repeat(case.X, 2, axis=1)[:, ::2],
        np.asfortranarray(np.repeat(case.X, 2, 0))[::2],
    ]
    for X in layouts:
        for threads in (1, 2, 3):
            found = poisoned(case.Y.shape, dtype)
            assert outputs_of(compiled, case._replace(X=X), found, threads) == cost
            assert_array_equal(found, expected)


def test_threads_really_start(started):
    if kernels.level == "reference":
        pytest.skip("the reference runs on one thread")
    case = problem([65, 63, 100, 7], 601, np.dtype(np.float64))
    descend(kernels.dense, case, GradientDescent(0.1), steps=1, threads=3)
    assert len(started) == 2
    started.clear()
    descend(kernels.dense, problem([2, 3, 1], 9, case.X.dtype), GradientDescent(0.1), threads=3)
    assert not started, "small batches take one"


def test_threads_last_as_long_as_the_run(compiled, started):
    """The slices of a run share them; when the run is over, they end."""
    case = problem([65, 63, 100, 7], 601, np.dtype(np.float64))
    before, descent = _thread._count(), compiled.Descent()
    for _ in range(3):
        descend(compiled, case, GradientDescent(0.1), steps=2, threads=3, descent=descent)
    assert len(started) == 2
    del descent
    for _ in range(200):
        if _thread._count() <= before:  # others of earlier tests may have ended too
            return
        time.sleep(0.01)
    raise AssertionError("threads that nobody needs are still there")


def test_threads_beside_busy_processes(compiled):
    """A thread that waits sleeps, so that it gets its core back when there is work again.

    Two threads take as long as one; they took fifteen times as long when they yielded.
    """
    case = problem([64, 100, 10], 200, np.dtype(np.float64))

    def seconds(threads):
        start = time.perf_counter()
        descend(compiled, case, GradientDescent(0.1), steps=1000, threads=threads)
        return time.perf_counter() - start

    forever = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(forever) for _ in range(os.cpu_count() or 1)]
    try:
        alone, together = (sorted(seconds(n) for _ in range(3))[1] for n in (1, 2))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert together < 5 * alone


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_leaves_the_threads_behind(compiled):
    """A child that goes on with the run of its parent starts threads of its own."""
    case = problem([65, 63, 100, 7], 601, np.dtype(np.float64))
    settings = {"steps": 2, "threads": 2, "descent": compiled.Descent()}
    expected = descend(compiled, case, GradientDescent(0.1), **settings)[0]
    child = os.fork()
    if child == 0:
        found = descend(compiled, case, GradientDescent(0.1), **settings)[0]
        os._exit(0 if np.array_equal(found, expected) else 1)
    for _ in range(1000):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.01)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise AssertionError("the child waits for threads that it does not have")
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_descent_that_never_ran_has_nothing_to_crash(compiled):
    """Its memory is laid out by the first call: no method may rely on it."""
    names = [name for name in dir(compiled.Descent) if not name.startswith("_")]
    assert names == ["interrupt"]
    compiled.Descent().interrupt()


def test_many_callers_at_once(compiled):
    """Eight trainings in eight threads, with threads of their own: more than there are cores."""
    cases = [
        problem(sizes, m, np.dtype(np.float64), weighted=True)
        for sizes, m, _ in (BIG["narrow, in parts"], BIG["wide"]) * 4
    ]
    batch_sizes = [None, 300] * 4
    found = [None] * 8

    def call(i):
        found[i] = descend(
            compiled, cases[i], Adam(0.01), steps=5, batch_size=batch_sizes[i], threads=2
        )

    callers = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for case, batch_size, values in zip(cases, batch_sizes, found, strict=True):
        expected = descend(compiled, case, Adam(0.01), steps=5, batch_size=batch_size)
        for ours, theirs in zip(values, expected, strict=True):
            assert_array_equal(ours, theirs)


# --- stacks ---------------------------------------------------------------------------------------

STACKED = {  # sizes, examples, batch size
    "narrow": ([2, 10, 5, 1], 300, None),
    "narrow, more blocks than one": ([7, 20, 1], 1001, None),
    "narrow mini-batches": ([2, 10, 5, 1], 300, 64),
    "wide": ([65, 63, 7], 100, None),
    "wide, in parts": ([9, 64, 100, 3], 601, None),
    "wide, in parts, mini-batches": ([9, 64, 100, 3], 601, 300),
    "wide mini-batches": ([65, 63, 7], 100, 33),
    "thin": ([65, 63, 7], 1, None),
    "interleaved": ([4, 5, 3], 3, None),
    "interleaved mini-batches": ([4, 5, 3], 8, 3),
}
RULES = {
    "gradient descent": [GradientDescent(0.1, l2=0.1 * (k == 2)) for k in range(5)],
    "momentum": [Momentum(0.02, 0.1 * k, nesterov=k > 2) for k in range(5)],
    "Adam": [Adam(0.01, 0.9 - 0.1 * k, 0.99 - 0.1 * (k % 2), 1e-3, 0.1 * k) for k in range(5)],
    "AdamW": [AdamW(0.01, epsilon=1e-3, weight_decay=0.5 * (k % 2)) for k in range(5)],
    "of different kinds": [
        Momentum(0.02, l2=0.1), GradientDescent(0.1), GradientDescent(0.1), Adam(0.01), Adam(0.01),
    ],
}  # fmt: skip
for name, optimizer in OPTIMIZERS.items():
    RULES.setdefault(name, [optimizer] * 5)


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", STACKED)
def test_a_stack_is_its_networks_one_by_one(dense, dtype, name, rules, threads):
    """With a rule each; those that are not to run stay as they are, and one stops on its way."""
    sizes, m, batch_size = STACKED[name]
    case = problem(sizes, m, dtype, weighted=True)
    order = None
    if batch_size is not None:
        generator = np.random.Generator(np.random.PCG64(7))
        order = np.array([generator.permutation(m) for _ in range(4)], np.intp)
    optimizers, steps, networks = RULES[rules], 6, np.array([4, 0, 1, 2], np.intp)
    thetas = np.array([case.theta * (1 + k) for k in range(5)], dtype)
    slots = max(optimizer.slots for optimizer in optimizers)
    states = np.zeros((5, slots, case.theta.size), dtype)
    rates = np.array([[0.01 * (1 + k)] * steps for k in networks])
    rates[1, 3] = np.inf
    costs = poisoned((4, steps + 2), np.float64)
    before, own_states = thetas.copy(), states.copy()

    shared = 3, case.X, case.Y, case.weights, order, batch_size or m, 1
    chosen = [optimizers[k].rule._replace(penalty_in_cost=1.0) for k in networks]
    counts = np.full(4, -1)
    dense.descend(
        case.layout, chosen, thetas, states, *shared, rates[:, :, None], costs[:, 1:-1], counts,
        networks, threads,
    )  # fmt: skip
    for i, k in enumerate(networks):
        own_costs = poisoned(steps, np.float64)
        alone = one(
            dense, case.layout, chosen[i], before[k], own_states[k], *shared, rates[i], own_costs
        )
        assert counts[i] == alone
        assert_array_equal(costs[i, 1:-1], own_costs)
        assert_array_equal(states[k], own_states[k])
    assert counts.tolist() == [steps, 3, steps, steps]
    assert_array_equal(thetas, before)
    assert np.isnan(costs[:, [0, -1]]).all()


@pytest.mark.parametrize("name", STACKED)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_divergence_leaves_the_last_finite_parameters(dense, dtype, name, optimizer):
    """Those after as many iterations as are counted; some strategies update in place."""
    sizes, m, _ = STACKED[name]
    case, optimizer = problem(sizes, m, dtype), OPTIMIZERS[optimizer]
    found = []
    for rates in ([0.01, 0.02, 0.01, np.inf, 0.01], [0.01, 0.02, 0.01]):
        theta, state = case.theta.copy(), np.zeros((optimizer.slots, case.theta.size), dtype)
        count = one(
            dense, case.layout, optimizer.rule, theta, state, 0, *case[2:], None, m, 0,
            np.array(rates), np.empty(len(rates)),
        )  # fmt: skip
        assert count == 3
        found.append(theta)
    assert_array_equal(*found)
    assert (found[0] != case.theta).any()


@pytest.mark.parametrize("name", STACKED)
def test_an_infinite_loss_of_weight_zero_does_not_count(dense, dtype, name):
    sizes, m, _ = STACKED[name]
    if m == 1:
        pytest.skip("not all weights may be zero")
    case = problem(sizes, m, dtype, "identity", "saturating_cross_entropy")
    theta = case.theta * 1e4  # saturates every output
    weights = np.zeros(m, dtype)
    weights[-1] = 1
    outputs = poisoned(case.Y.shape, dtype)
    outputs_of(dense, case._replace(theta=theta), outputs)
    Y = (outputs < 0.5).astype(dtype)
    Y[:, -1] = outputs[:, -1] > 0.5
    case = case._replace(theta=theta, Y=Y, weights=weights)
    assert outputs_of(dense, case._replace(weights=None), outputs) == np.inf
    assert np.isfinite(outputs_of(dense, case, outputs))
    assert np.isfinite(gradient_of(dense, case, np.empty_like(theta)))


@pytest.mark.parametrize("name", STACKED)
def test_costs_with_the_penalty(dense, dtype, name):
    """Of the parameters before each update; the parameters do not change with it."""
    sizes, m, batch_size = STACKED[name]
    case = problem(sizes, m, dtype, weighted=True)
    order = None if batch_size is None else np.arange(m)[None]
    steps = 4 if batch_size is None else min(4, -(-m // batch_size))
    rule = Momentum(0.05, l2=0.7).rule
    data = case.X, case.Y, case.weights, order, batch_size or m
    thetas, costs = [case.theta.copy(), case.theta.copy()], poisoned((2, steps), np.float64)
    for theta, own_costs, penalty_in_cost in zip(thetas, costs, (False, True), strict=True):
        one(
            dense, case.layout, rule._replace(penalty_in_cost=penalty_in_cost), theta,
            np.zeros((1, theta.size), dtype), 0, *data, 0, np.full(steps, 0.05), own_costs,
        )  # fmt: skip
    assert_array_equal(*thetas)
    theta, state = case.theta.copy(), np.zeros((1, case.theta.size), dtype)
    for i in range(steps):
        end, squares = 0, []
        for n_in, n_out in pairwise(sizes):
            squares += [float(w) ** 2 for w in theta[end : end + n_out * n_in]]
            end += n_out * (n_in + 1)
        penalty = 0.35 * math.fsum(squares)
        # A sum of n squares in double precision, and its addition to the cost.
        bound = 2**-53 * ((len(squares) + 4) * penalty + costs[1, i])
        assert abs(costs[1, i] - costs[0, i] - penalty) <= bound
        one(dense, case.layout, rule, theta, state, i, *data, i, np.full(1, 0.05), np.empty(1))


@pytest.mark.parametrize("name", STACKED)
def test_a_stack_of_gradients_and_outputs(dense, dtype, name):
    sizes, m, _ = STACKED[name]
    case = problem(sizes, m, dtype, weighted=True)
    thetas = np.array([case.theta * (1 + k) for k in range(19)], dtype)
    gradients, outputs = poisoned(thetas.shape, dtype), poisoned((19, sizes[-1], m), dtype)
    costs = dense.loss_and_gradient(case.layout, thetas, *case[2:], gradients, 2)
    assert_array_equal(dense.forward(case.layout, thetas, *case[2:], outputs, 2), costs)
    for theta, cost, gradient, out in zip(thetas, costs, gradients, outputs, strict=True):
        own_gradient, own_out = poisoned(theta.shape, dtype), poisoned(out.shape, dtype)
        own = case._replace(theta=theta)
        assert gradient_of(dense, own, own_gradient) == cost
        assert outputs_of(dense, own, own_out) == cost
        assert_array_equal(own_gradient, gradient)
        assert_array_equal(own_out, out)


@pytest.mark.parametrize("name", STACKED)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_rate_of_zero_freezes_exactly(dense, dtype, name, optimizer):
    """Also negative zeros stay, and the other parameters do what they do without it."""
    sizes, m, _ = STACKED[name]
    case, optimizer = problem(sizes, m, dtype), OPTIMIZERS[optimizer]
    case.theta[:3] = -0.0
    n_layers, steps = len(sizes) - 1, 5
    rates = np.full((2, steps, 2 * n_layers), 0.01)
    rates[0, :, 0] = rates[0, :, 3] = 0
    thetas = np.array([case.theta, case.theta])
    states = np.zeros((2, optimizer.slots, case.theta.size), dtype)
    costs = poisoned((2, steps), np.float64)
    dense.descend(
        case.layout, [optimizer.rule] * 2, thetas, states, 0, *case[2:], None, m, 0, rates, costs,
        np.empty(2, np.intp), np.arange(2), 1,
    )  # fmt: skip
    W1 = sizes[0] * sizes[1]
    W2 = W1 + sizes[1]
    b2 = W2 + sizes[1] * sizes[2]
    for frozen in (slice(W1), slice(b2, b2 + sizes[2])):
        assert thetas[0, frozen].tobytes() == case.theta[frozen].tobytes()
        assert (thetas[1, frozen] != case.theta[frozen]).any()
    for moved in (slice(W1, W2), slice(W2, b2)):
        assert (thetas[0, moved] != case.theta[moved]).any()


@pytest.mark.parametrize("name", STACKED)
@pytest.mark.parametrize("kind", [GradientDescent, Momentum, Adam])
def test_a_rate_of_zero_ignores_an_infinite_gradient(dense, dtype, name, kind):
    """Of an overflowing penalty; zero times infinity is NaN."""
    sizes, m, _ = STACKED[name]
    case, rule = problem(sizes, m, dtype), kind(l2=float(np.finfo(dtype).max)).rule
    case = case._replace(theta=np.sign(case.theta) * 10)
    theta, state = case.theta.copy(), np.zeros((kind.slots, case.theta.size), dtype)
    with np.errstate(all="ignore"):
        count = one(
            dense, case.layout, rule, theta, state, 0, *case[2:], None, m, 0, np.zeros(3),
            np.empty(3),
        )  # fmt: skip
    assert count == 3
    assert_array_equal(theta, case.theta)


@pytest.mark.parametrize("name", STACKED)
def test_another_X_in_the_memory_of_a_descent(compiled, dtype, name):
    """What was packed or transposed of the X of an earlier call is not used again."""
    sizes, m, _ = STACKED[name]
    case, descent = problem(sizes, m, dtype), compiled.Descent()
    for X in (case.X, case.X + dtype.type(1)):
        expected, gradient = poisoned(case.theta.shape, dtype), poisoned(case.theta.shape, dtype)
        own = case._replace(X=X)
        cost = gradient_of(compiled, own, expected)
        [again] = compiled.loss_and_gradient(
            case.layout, case.theta[None], *own[2:], gradient[None], 1, descent
        )
        assert again == cost
        assert_array_equal(gradient, expected)


def test_threads_of_a_stack_last_as_long_as_the_run(compiled, started):
    case, descent = problem([2, 30, 1], 4_000, np.dtype(np.float64)), compiled.Descent()
    thetas, states = np.array([case.theta] * 5), np.empty((5, 0, case.theta.size))
    for _ in range(3):
        compiled.descend(
            case.layout, [GradientDescent().rule] * 5, thetas, states, 0, case.X, case.Y, None,
            None, 4_000, 0, np.full((5, 2, 1), 0.1), np.empty((5, 2)), np.empty(5, np.intp),
            np.arange(5), 3, descent,
        )  # fmt: skip
    assert len(started) == 2


def test_a_short_call_starts_no_thread(compiled, started):
    """Starting one takes longer than the work; a longer call has them, with the same bits."""
    case, descent = problem([65, 63, 10], 201, np.dtype(np.float64)), compiled.Descent()
    first = descend(compiled, case, GradientDescent(0.1), steps=2, threads=2, descent=descent)
    assert len(started) == 0
    descend(compiled, case, GradientDescent(0.1), steps=9, threads=2, descent=descent)
    assert len(started) == 1
    again = descend(compiled, case, GradientDescent(0.1), steps=2, threads=2, descent=descent)
    assert [a.tobytes() for a in first] == [a.tobytes() for a in again]


def test_what_does_not_fit_is_refused(compiled):
    """Nothing public hands it over; but attributes and arrays change in other hands."""
    case = problem([2, 3, 1], 9, np.dtype(np.float64))
    P = case.theta.size
    good = {
        "layout": case.layout, "rules": [Adam().rule], "thetas": case.theta[None].copy(),
        "states": np.zeros((1, 2, P)), "step": 0, "X": case.X, "Y": case.Y, "sample_weight": None,
        "order": None, "batch_size": 9, "first": 0, "rates": np.full((1, 2, 1), 0.1),
        "costs": np.empty((1, 2)), "counts": np.zeros(1, np.intp), "networks": np.arange(1),
        "threads": 1,
    }  # fmt: skip
    compiled.descend(*good.values())
    assert good["counts"] == [2]
    order = np.arange(9)[None]
    for name, value in {
        "thetas": np.zeros((1, P - 1)), "states": np.zeros((1, 1, P)), "X": case.X[:1],
        "Y": np.zeros((1, 8)), "sample_weight": np.ones(8), "rates": np.full((1, 3, 1), 0.1),
        "networks": np.array([1]), "counts": np.zeros(2, np.intp), "rules": [],
        "layout": case.layout._replace(sizes=(2, 4, 1)), "first": -1,
    }.items():  # fmt: skip
        settings = good | {name: value}
        if name == "first":
            settings["order"] = order
        with pytest.raises(ValueError, match="expected"):
            compiled.descend(*settings.values())
    for shape in [{"order": order, "batch_size": 0}, {"order": order[:, :8]},
                  {"order": order, "batch_size": 9, "first": 1}]:  # fmt: skip
        with pytest.raises(ValueError, match="expected"):
            compiled.descend(*(good | shape).values())


@pytest.mark.parametrize("name", STACKED)
def test_a_gradient_after_a_descent_is_only_a_gradient(compiled, dtype, name):
    """The memory of a descent keeps its jobs, and their optimisers, until the next call."""
    sizes, m, _ = STACKED[name]
    case, descent = problem(sizes, m, dtype), compiled.Descent()
    theta, P = case.theta.copy(), case.theta.size
    one(
        compiled, case.layout, Adam(l2=0.1).rule._replace(penalty_in_cost=True), theta,
        np.zeros((2, P), dtype), 0, case.X, case.Y, None, None, m, 0, np.full(2, 0.1), np.empty(2),
        1, descent,
    )  # fmt: skip
    expected, gradient = poisoned(P, dtype), poisoned(P, dtype)
    cost = gradient_of(compiled, case, expected)
    kept = case.theta.copy()
    [again] = compiled.loss_and_gradient(
        case.layout, case.theta[None], *case[2:], gradient[None], 1, descent
    )
    assert again == cost
    assert_array_equal(gradient, expected)
    assert_array_equal(case.theta, kept)
