"""Whole networks: gradients, updates and the fused loop, each way that the kernel takes.

Small networks are *narrow*, from 1536 parameters on they are *wide*, and from 2**20 on their
products are BLAS's; ``dense.pyx`` says what that means.
"""

import _thread
import os
import signal
import threading
import time
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from rounding import STEEPEST, assert_within, draw, exact, labels, parameters, poisoned

from fastinit import Adam, AdamW, GradientDescent, Momentum, kernels, reference
from fastinit.network import LOSSES, Layout

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


class Problem(NamedTuple):
    layout: Layout
    theta: np.ndarray
    X: np.ndarray
    Y: np.ndarray
    weights: np.ndarray | None

    def astype(self, dtype):
        return Problem(self.layout, *(None if x is None else x.astype(dtype) for x in self[1:]))


def problem(sizes, m, dtype, hidden="relu", loss=OUTPUTS[0], weighted=False):
    layout = Layout(np.array(sizes, np.intp), hidden, 0.2, loss)
    weights = np.abs(draw(4, m, dtype)) * (np.arange(m) % 5 < 4) if weighted else None
    return Problem(
        layout,
        parameters(1, sizes, dtype),
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
    "wide, more than is held at once": ([9, 64, 100, 8, 3], 601),
    "wide, one example": ([100, 63, 2], 1),
}


def check_gradient(dense, case, dtype):
    gradient = poisoned(case.theta.shape, dtype)
    cost = dense.loss_and_gradient(*case, gradient, 1)
    expected = exact(*case, dtype)
    assert_within(gradient, expected.gradient, expected.gradient_bound)
    assert abs(cost - expected.cost) <= expected.cost_bound
    out = poisoned(case.Y.shape, dtype)
    cost = dense.forward(*case, out)
    assert_within(out, expected.outputs, expected.outputs_bound)
    assert abs(cost - expected.cost) <= expected.cost_bound
    assert np.isnan(dense.forward(*case[:3], None, None, out))
    assert_within(out, expected.outputs, expected.outputs_bound)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_of_every_shape(dense, dtype, shape):
    for weighted in (False, True):
        check_gradient(dense, problem(*SHAPES[shape], dtype, "gelu", weighted=weighted), dtype)


@pytest.mark.parametrize("loss", OUTPUTS)
@pytest.mark.parametrize("hidden", STEEPEST)
def test_gradient_of_every_kind(dense, dtype, hidden, loss):
    check_gradient(dense, problem([5, 9, 8, 3], 41, dtype, hidden, loss), dtype)
    check_gradient(dense, problem([64, 33, 7], 65, dtype, hidden, loss, weighted=True), dtype)


@pytest.mark.parametrize("hidden", ["relu", "silu"])
def test_gradient_by_blas(dtype, hidden):
    """More examples than are taken at a time. One level for all: the products are NumPy's."""
    case = problem([100, 1024, 930, 3], 1100, dtype, hidden, "softmax_cross_entropy", weighted=True)
    assert case.theta.size >= 2**20
    check_gradient(kernels.dense, case, dtype)


@pytest.mark.parametrize("loss", OUTPUTS)
@pytest.mark.parametrize("hidden", STEEPEST)
def test_reference_gradient_is_the_derivative(hidden, loss):
    """Central differences: h^2 of truncation, eps / h of rounding."""
    case = problem([3, 5, 4, 2], 7, np.dtype(np.float64), hidden, loss, weighted=True)
    inputs, _ = reference._activations(case.layout._replace(hidden="identity"), *case[1:3])
    assert min(np.abs(Z).min() for Z in inputs) > 1e-4, "none near a kink"
    gradient, scratch = np.empty_like(case.theta), np.empty_like(case.theta)
    reference.loss_and_gradient(*case, gradient, 1)
    h = 1e-6
    for k in range(len(case.theta)):
        ends = []
        for sign in (1, -1):
            moved = case.theta.copy()
            moved[k] += sign * h
            ends.append(reference.loss_and_gradient(*case._replace(theta=moved), scratch, 1))
        difference = (ends[0] - ends[1]) / (2 * h)
        assert difference == pytest.approx(gradient[k], abs=2e-8 * (1 + abs(gradient[k])))


# --- updates --------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("sizes", [[1, 1], [7, 8, 9, 2], [65, 63, 7]])
def test_update_parameters(dense, dtype, optimizer, sizes):
    """Three updates in a row, so that every slot of state has been read."""
    rule = OPTIMIZERS[optimizer].rule
    layout = Layout(np.array(sizes, np.intp), "relu", 0.0, OUTPUTS[0])
    theta = parameters(1, sizes, dtype)
    state = np.zeros((OPTIMIZERS[optimizer].slots, theta.size), dtype)
    exact_theta, exact_state = theta.astype(float), state.astype(float)
    for step in range(3):
        gradient = draw(step, theta.size, dtype)
        dense.update_parameters(layout, rule, theta, gradient, state, step, 0.1)
        reference.update_parameters(
            layout, rule, exact_theta, gradient.astype(float), exact_state, step, 0.1
        )
    # A dozen roundings each, of numbers below 10.
    eps = np.finfo(dtype).eps
    assert_within(state, exact_state, 12 * 3 * eps * (1 + np.abs(exact_state)))
    assert_within(theta, exact_theta, 12 * 3 * eps * (1 + np.abs(exact_theta)))


# --- the fused loop -------------------------------------------------------------------------------

STEPS = 50


def descend(
    dense, case, optimizer, *, steps=STEPS, batch_size=None, threads=1, start=0, state=None,
    scratch=None,
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
    whole = dense.descend(
        case.layout, optimizer.rule, theta, state, start, case.X, case.Y, case.weights, order,
        batch_size or m, start, np.full(steps, optimizer.learning_rate), costs, threads,
        scratch,
    )  # fmt: skip
    assert whole == steps
    return theta, costs, state


@cache
def course(sizes, m, hidden, loss, optimizer, batch_size, weighted, dtype, steps):
    """The run of the reference in float64, and how far rounding to ``dtype`` may take it.

    How much this very run magnifies rounding errors is measured: the reference in float32 is so
    many eps away from that in float64. A kernel may be 16 times as many of its own eps away, for
    rounding errors are of either sign and their largest varies.
    """
    case = problem(sizes, m, np.dtype(np.float32), hidden, loss, weighted)
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
@pytest.mark.parametrize("hidden", STEEPEST)
def test_run_of_every_kind(dense, dtype, hidden, loss):
    """Fifty updates; every optimiser meets every loss and every activation."""
    number = list(STEEPEST).index(hidden) + OUTPUTS.index(loss)
    optimizer = list(OPTIMIZERS)[number % len(OPTIMIZERS)]
    batch_size = (None, 13)[number // 2 % 2]
    check_run(dense, (5, 9, 8, 3), 41, hidden, loss, optimizer, batch_size, number % 3 == 0, dtype)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [None, 100])
def test_run_of_a_wide_network(dense, dtype, optimizer, batch_size):
    check_run(dense, (20, 63, 9, 3), 301, "tanh", OUTPUTS[2], optimizer, batch_size, True, dtype)


@pytest.mark.parametrize(("optimizer", "kind"), [("nesterov", "float32"), ("AdamW", "float64")])
def test_run_by_blas(optimizer, kind):
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
        cost = dense.loss_and_gradient(case.layout, by_hand, X, Y, None, gradient, 1)
        dense.update_parameters(
            case.layout, optimizer.rule, by_hand, gradient, kept, i, optimizer.learning_rate
        )
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


def test_strides_of_X_do_not_matter(dense, dtype):
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
    dense.descend(case.layout, rule, theta, state, 0, *case[2:], None, 30, 0, rates, costs, 1)
    by_hand, gradient = case.theta.copy(), np.empty_like(theta)
    for rate in rates:
        reference.loss_and_gradient(*case._replace(theta=by_hand), gradient, 1)
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
    whole = dense.descend(
        case.layout, rule, theta, np.zeros((slots, theta.size), dtype), 0, *case[2:], None, 300, 0,
        rates, costs, 2,
    )  # fmt: skip
    assert whole < 1000
    assert np.isfinite(theta).all()
    assert np.isnan(costs[whole:]).all()
    assert not np.isnan(costs[:whole]).any()


def test_kernels_take_read_only_inputs(dense, dtype):
    case = problem([2, 10, 5, 1], 300, dtype, weighted=True)
    for array in (case.layout.sizes, *case[2:]):
        array.flags.writeable = False
    descend(dense, case, GradientDescent(0.1), steps=2)


# --- threads --------------------------------------------------------------------------------------


@pytest.fixture
def compiled(dense, level):
    if level == "reference":
        pytest.skip("the reference runs on one thread")
    return dense


BIG = {  # enough work for threads to take part
    "narrow, in parts": ([2, 10, 5, 1], 5000, None),
    "narrow mini-batches": ([2, 10, 5, 1], 9001, 4500),
    "wide": ([65, 63, 100, 7], 601, None),
    "wide mini-batches": ([65, 63, 100, 7], 601, 129),
}


@pytest.mark.parametrize("name", BIG)
def test_same_bits_for_every_number_of_threads(compiled, dtype, name):
    sizes, m, batch_size = BIG[name]
    case = problem(sizes, m, dtype, "relu", weighted=True)
    assert 3 * (batch_size or m) * case.theta.size > 2**20
    expected = descend(compiled, case, Adam(0.01), steps=6, batch_size=batch_size)
    for threads in (2, 3, 5):
        found = descend(compiled, case, Adam(0.01), steps=6, batch_size=batch_size, threads=threads)
        for ours, theirs in zip(found, expected, strict=True):
            assert_array_equal(ours, theirs)
    gradients = np.empty((2, case.theta.size), dtype)
    costs = [
        compiled.loss_and_gradient(*case, gradient, threads)
        for gradient, threads in zip(gradients, (1, 3), strict=True)
    ]
    assert costs[0] == costs[1]
    assert_array_equal(*gradients)


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
    before, scratch = _thread._count(), {}
    for _ in range(3):
        descend(compiled, case, GradientDescent(0.1), steps=2, threads=3, scratch=scratch)
    assert len(started) == 2
    del scratch
    for _ in range(200):
        if _thread._count() == before:
            return
        time.sleep(0.01)
    raise AssertionError("threads that nobody needs are still there")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_leaves_the_threads_behind(compiled):
    """A child that goes on with the run of its parent starts threads of its own."""
    case = problem([65, 63, 100, 7], 601, np.dtype(np.float64))
    scratch = {}
    settings = {"steps": 2, "threads": 2, "scratch": scratch}
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


def test_many_callers_at_once(compiled):
    """Eight trainings in eight threads, with threads of their own: more than there are cores."""
    cases = [
        problem(sizes, m, np.dtype(np.float64), weighted=True)
        for sizes, m, _ in list(BIG.values())[::2] * 4
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
    "wide, more than is held at once": ([9, 64, 100, 3], 601, None),
    "wide mini-batches": ([65, 63, 7], 100, 33),
}
RULES = {
    "gradient descent": [GradientDescent(0.1, l2=0.1 * (k == 2)) for k in range(5)],
    "momentum": [Momentum(0.02, 0.1 * k, nesterov=k > 2) for k in range(5)],
    "AdamW": [AdamW(0.01, epsilon=1e-3, weight_decay=0.5 * (k % 2)) for k in range(5)],
}


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
    states = [np.zeros((optimizers[k].slots, case.theta.size), dtype) for k in networks]
    rates = np.array([[0.01 * (1 + k)] * steps for k in networks])
    rates[1, 3] = np.inf
    costs = poisoned((5, steps + 2), np.float64)
    before, own_states = thetas.copy(), [state.copy() for state in states]

    shared = 3, case.X, case.Y, case.weights, order, batch_size or m, 1
    chosen = [optimizers[k].rule for k in networks]
    whole = dense.descend_stack(
        case.layout, chosen, thetas, states, *shared, rates, costs[:, 1:-1], networks, threads
    )
    for i, k in enumerate(networks):
        own_costs = poisoned(steps, np.float64)
        alone = dense.descend(
            case.layout, chosen[i], before[k], own_states[i], *shared, rates[i], own_costs, 1
        )
        assert whole[i] == alone
        assert_array_equal(costs[k, 1:-1], own_costs)
        assert_array_equal(states[i], own_states[i])
    assert whole == [steps, 3, steps, steps]
    assert_array_equal(thetas, before)
    assert np.isnan(costs[:, [0, -1]]).all()
    assert np.isnan(costs[3]).all(), "this one was not to run"


def test_a_stack_around_the_blas(dtype):
    case = problem([100, 1024, 930, 3], 50, dtype)
    thetas, states = np.stack([case.theta, case.theta / 2]), [np.empty((0, case.theta.size), dtype)]
    expected, costs = thetas.copy(), poisoned((2, 2), np.float64)
    rule, rates = GradientDescent().rule, np.full((2, 2), 0.1)
    shared = 0, case.X, case.Y, None, None, 50, 0
    networks = np.arange(2)
    kernels.dense.descend_stack(
        case.layout, [rule] * 2, thetas, states * 2, *shared, rates, costs, networks, 2
    )
    for theta, found in zip(expected, costs, strict=True):
        own = poisoned(2, np.float64)
        kernels.dense.descend(case.layout, rule, theta, states[0], *shared, rates[0], own, 2)
        assert_array_equal(found, own)
    assert_array_equal(thetas, expected)


def test_threads_of_a_stack_last_as_long_as_the_run(compiled, started):
    case, scratch = problem([2, 3, 1], 9, np.dtype(np.float64)), {}
    thetas, states = np.array([case.theta] * 5), [np.empty((0, case.theta.size))] * 5
    for _ in range(3):
        compiled.descend_stack(
            case.layout, [GradientDescent().rule] * 5, thetas, states, 0, case.X, case.Y, None,
            None, 9, 0, np.full((5, 2), 0.1), np.empty((5, 2)), np.arange(5), 3, scratch,
        )  # fmt: skip
    assert len(started) == 2
