"""Elementary functions, activations and losses, on every level: accuracy and the far ends.

Errors are counted in units in the last place of the exact result.
"""

from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from rounding import FUNCTION, assert_within, draw, labels, losses, poisoned

from fastinit import kernels, reference
from fastinit.training.network import ACTIVATIONS
from fastinit.training.network import LOSSES as LOSSES_OF

LOSSES = tuple(loss for losses in LOSSES_OF.values() for loss in losses)
# Where long double is no longer than double, the oracle itself is off by as much as a unit.
ORACLE = int(np.finfo(np.longdouble).eps == np.finfo(np.float64).eps)


@pytest.fixture
def allowed(level):
    """How many units a kernel may be off by; NumPy's own float32 functions take up to four."""
    return lambda of_kernel: (4 if level == "reference" else of_kernel) + ORACLE


def units(actual, exact, dtype):
    """The largest error in units in the last place; a NaN that nobody wrote fails."""
    assert not np.isnan(actual).any()
    nearest = exact.astype(dtype)
    return float((np.abs(actual.astype(np.longdouble) - exact) / np.spacing(np.abs(nearest))).max())


def applied(kernel, Z, *others):
    out = poisoned(Z.shape, Z.dtype)
    kernel(Z, *others, out)
    return out


def activated(dense, Z, activation, negative_slope=0.01):
    A, derivatives = poisoned(Z.shape, Z.dtype), poisoned(Z.shape, Z.dtype)
    dense.activate(Z, activation, negative_slope, A, derivatives)
    return A, derivatives


def spread(lowest, highest, dtype, n=20_011):
    return np.linspace(lowest, highest, n).astype(dtype).reshape(1, -1)


# --- elementary functions -------------------------------------------------------------------------


def test_exp_is_accurate(compiled, dtype):
    """Within two units wherever the result is a normal number."""
    ends = (-708, 709.78) if dtype == np.float64 else (-86.98, 88.72)
    for lowest, highest in (ends, (-1, 1), (-1e-3, 1e-3)):
        Z = spread(lowest, highest, dtype)
        exact = np.exp(Z.astype(np.longdouble))
        assert units(applied(compiled._exp, Z), exact, dtype) <= 2 + ORACLE


def test_exp_at_the_ends(compiled, dtype):
    largest = np.log(np.finfo(dtype).max.astype(np.longdouble))
    least = np.log(np.finfo(dtype).tiny.astype(np.longdouble))
    Z = np.array([[np.inf, 1e30, float(largest) * 1.001, 0, -0.0, np.nan]], dtype)
    assert_array_equal(applied(compiled._exp, Z), [[np.inf, np.inf, np.inf, 1, 1, np.nan]])
    Z = np.array([[-np.inf, -1e30, float(least) * 1.001, float(least) * 1.3]], dtype)
    out = applied(compiled._exp, Z)
    assert ((out >= 0) & (out < np.finfo(dtype).tiny)).all()
    assert_array_equal(out[0, :2], [0, 0])


def test_log_is_accurate(compiled, dtype):
    """Within one unit for every normal number: all exponents, and close around 1."""
    info = np.finfo(dtype)
    exponents = np.linspace(info.minexp + 0.01, info.maxexp - 0.01, 20_011)
    near = 1 + spread(-0.3, 0.42, np.float64)
    for Z in (np.exp2(exponents).reshape(1, -1), near, 1 + spread(-1e-4, 1e-4, np.float64)):
        Z = Z.astype(dtype)
        Z = Z[Z != 1].reshape(1, -1)  # log(1) is 0, which has no units
        exact = np.log(Z.astype(np.longdouble))
        assert units(applied(compiled._log, Z), exact, dtype) <= 1 + ORACLE
    Z = np.array([[1, np.inf, np.nan]], dtype)
    assert_array_equal(applied(compiled._log, Z), [[0, np.inf, np.nan]])


def test_log1p_is_accurate(compiled, dtype):
    """Within two units from 0 to 1: where 1 + x is halved to stay near 1, x - 1 is rounded."""
    for Z in (spread(1e-30, 1, dtype), spread(1e-30, 1e-5, dtype), spread(0.4, 0.43, dtype)):
        exact = np.log1p(Z.astype(np.longdouble))
        assert units(applied(compiled._log1p, Z), exact, dtype) <= 2 + ORACLE
    assert_array_equal(applied(compiled._log1p, np.zeros((1, 1), dtype)), [[0]])


def test_sigmoid_is_accurate(dense, dtype, allowed):
    """Within 4 units: two of the exponential, half a unit of the sum and half of the quotient, and
    a unit of the sum may be worth two of the quotient.
    """
    edge = 700 if dtype == np.float64 else 85
    Z = spread(-edge, edge, dtype)
    exact = 1 / (1 + np.exp(-Z.astype(np.longdouble)))
    assert units(applied(dense.sigmoid, Z), exact, dtype) <= allowed(4)


def test_sigmoid_saturates_as_numpy_does(dense, dtype):
    Z = np.array([[-np.inf, -1e4, -800, -100, 0, 40, 800, 1e4, np.inf, np.nan]], dtype)
    out, expected = applied(dense.sigmoid, Z), applied(reference.sigmoid, Z)
    assert_array_equal(out == 0, expected == 0)
    assert_array_equal(out == 1, expected == 1)
    assert_array_equal(np.isnan(out), np.isnan(expected))
    assert out[0, 4] == 0.5


def test_tanh_is_accurate(dense, dtype, allowed):
    """Within 4 units: two of exp(-2 |x|) - 1, half of the sum and half of the quotient, and a unit
    of the numerator may be worth two of the result.
    """
    for Z in (spread(-25, 25, dtype, 20_010), spread(-1e-3, 1e-3, dtype, 1000)):
        A, _ = activated(dense, Z, "tanh")
        assert units(A, np.tanh(Z.astype(np.longdouble)), dtype) <= allowed(4)
    tiny = np.finfo(dtype).tiny
    Z = np.array([[np.inf, -np.inf, 1e30, -1e30, 0, tiny, -tiny, np.nan]], dtype)
    A, derivatives = activated(dense, Z, "tanh")
    assert_array_equal(A, [[1, -1, 1, -1, 0, tiny, -tiny, np.nan]])
    assert_array_equal(derivatives, [[0, 0, 0, 0, 1, 1, 1, np.nan]])


@cache
def normal_mass(dtype):
    """Points, and the normal distribution's mass below them, to 30 digits."""
    mpmath = pytest.importorskip("mpmath")
    Z = np.concatenate([np.linspace(-37 if dtype == np.float64 else -13, 9, 700), [1e-4, -1e-4]])
    Z = Z.astype(dtype)
    with mpmath.workdps(30):
        mass = [mpmath.ncdf(mpmath.mpf(float(z))) for z in Z]
        return Z.reshape(1, -1), np.array([np.longdouble(mpmath.nstr(x, 25)) for x in mass])


def test_gelu_is_accurate(dense, dtype):
    """z Phi(z), far into the left tail, where an eps in z * z costs z^2 units."""
    Z, mass = normal_mass(dtype)
    A, derivatives = activated(dense, Z, "gelu")
    exact = Z.astype(np.longdouble) * mass
    error = np.abs(A - exact) / np.spacing(np.abs(exact.astype(dtype)))
    assert (error <= 6 + ORACLE + 1.5 * Z * Z).all()
    z = Z.astype(np.longdouble)
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.longdouble(np.pi))
    eps = np.finfo(dtype).eps
    # Mass and z times the density meet with opposite signs on the left: eps of each.
    bound = (6 + z * z) * eps * (mass + np.abs(z) * density)
    assert (np.abs(derivatives - (mass + z * density)) <= bound).all()


# --- activations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_and_derivative(dense, dtype, activation):
    """Against the reference in float64, over all that matters, broken registers included."""
    for m in (1, 7, 63, 2005):
        Z = np.concatenate([spread(-30, 30, dtype, m), spread(-1, 1, dtype, m)])
        A, derivatives = activated(dense, Z, activation, 0.2)
        expected = activated(reference, Z.astype(float), activation, float(dtype.type(0.2)))
        eps = np.finfo(dtype).eps
        for ours, theirs in zip((A, derivatives), expected, strict=True):
            # GELU's far tail is off by z^2 / 2 units of something tiny.
            assert_within(ours, theirs, FUNCTION * eps * (1 + np.abs(theirs)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_at_the_end_of_a_row(compiled, dtype, activation):
    """The last numbers, which may not fill a register: the same bits as in the middle."""
    Z = draw(4, (1, 70), dtype)
    whole = activated(compiled, Z, activation)
    for m in range(1, Z.size):
        for ours, theirs in zip(activated(compiled, Z[:, :m], activation), whole, strict=True):
            assert_array_equal(ours, theirs[:, :m])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_derivative_is_the_limit_of_differences(activation):
    Z = spread(-6, 6, np.float64, 1000)  # an even number: none at the kink
    _, derivatives = activated(reference, Z, activation, 0.2)
    h = 1e-6
    ends = [activated(reference, Z + sign * h, activation, 0.2)[0] for sign in (1, -1)]
    # h^2 of truncation and eps / h of rounding.
    assert_allclose((ends[0] - ends[1]) / (2 * h), derivatives, atol=1e-8)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_of_what_is_not_finite(dense, dtype, activation):
    Z = np.array([[np.inf, -np.inf, np.nan, 1e30, -1e30]], dtype)
    found = activated(dense, Z, activation, 0.2)
    expected = activated(reference, Z, activation, 0.2)
    for ours, theirs in zip(found, expected, strict=True):
        for test in (np.isnan, np.isposinf, np.isneginf):
            assert_array_equal(test(ours), test(theirs))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_is_torchs(activation):
    torch = pytest.importorskip("torch")
    function = getattr(torch.nn.functional, activation, None)
    if function is None:
        pytest.skip(f"no {activation} in torch.nn.functional")
    Z = spread(-20, 20, np.float64, 2000)
    z = torch.tensor(Z, requires_grad=True)
    a = function(z)
    a.sum().backward()
    A, derivatives = activated(kernels.dense, Z, activation)
    assert_allclose(A, a.detach().numpy(), rtol=1e-13, atol=1e-15)
    assert_allclose(derivatives, z.grad.numpy(), rtol=1e-13, atol=1e-15)


# --- losses ---------------------------------------------------------------------------------------


def problem(loss, n_out, m, dtype):
    Z = draw(1, (n_out, m), dtype) * dtype.type(2)
    return Z, labels(2, (n_out, m), loss, dtype)


def lossed(dense, Z, Y, sample_weight, loss):
    A, dZ = poisoned(Z.shape, Z.dtype), poisoned(Z.shape, Z.dtype)
    return dense.loss(Z, Y, sample_weight, loss, A, dZ), A, dZ


@pytest.mark.parametrize("m", [1, 7, 64, 65, 513, 1500])
@pytest.mark.parametrize("loss", LOSSES)
def test_loss(dense, dtype, loss, m):
    for n_out in (2, 3) if loss == "softmax_cross_entropy" else (1, 3):
        Z, Y = problem(loss, n_out, m, dtype)
        some = np.abs(draw(3, m, dtype))
        some[1::3] = 0
        for sample_weight in (None, some):
            A, dZ, expected, bounds = losses(loss, Z, Y, sample_weight, 0.0, dtype)
            cost, ours, gradient = lossed(dense, Z, Y, sample_weight, loss)
            assert_within(ours, A, bounds[0])
            assert_within(gradient, dZ, bounds[1])
            assert abs(cost - expected) <= bounds[2]


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_at_the_end_of_a_row(compiled, dtype, loss):
    """The last examples, which may not fill a register: the same bits as if they were the first."""
    for m in range(1, 70):
        Z, Y = problem(loss, 3, m, dtype)
        _, A, dZ = lossed(compiled, Z, Y, None, loss)
        backward = [np.ascontiguousarray(x[:, ::-1]) for x in (Z, Y)]
        _, again, gradient = lossed(compiled, *backward, None, loss)
        assert_array_equal(again[:, ::-1], A)
        assert_array_equal(gradient[:, ::-1], dZ)


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_of_equal_sample_weight_is_that_without(dense, dtype, loss):
    """A weight of 2 for all: the same outputs and gradients, bit for bit; the cost to rounding."""
    Z, Y = problem(loss, 3, 64, dtype)
    plain, A, dZ = lossed(dense, Z, Y, None, loss)
    cost, again, gradient = lossed(dense, Z, Y, np.full(64, 2, dtype), loss)
    assert_array_equal(again, A)
    assert_array_equal(gradient, dZ)
    assert cost == pytest.approx(plain, rel=1e-12 if dtype == np.float64 else 1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_of_no_weight_at_all(dense, dtype, loss):
    """A batch may hold nothing but examples that do not count."""
    Z, Y = problem(loss, 2, 9, dtype)
    cost, _, dZ = lossed(dense, Z, Y, np.zeros(9, dtype), loss)
    assert cost == 0
    assert not dZ.any()


def torch_loss(loss):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    known = {
        "sigmoid_cross_entropy": lambda z, y: functional.binary_cross_entropy_with_logits(
            z, y, reduction="none"
        ).sum(0),
        "saturating_cross_entropy": lambda z, y: functional.binary_cross_entropy(
            torch.sigmoid(z), y, reduction="none"
        ).sum(0),
        "softmax_cross_entropy": lambda z, y: functional.cross_entropy(
            z.T, y.argmax(0), reduction="none"
        ),
        "squared_error": lambda z, y: functional.mse_loss(z, y, reduction="none").sum(0) / 2,
        "poisson": lambda z, y: functional.poisson_nll_loss(
            z, y, log_input=True, full=False, reduction="none"
        ).sum(0),
    }
    if loss not in known:
        pytest.skip(f"not told what {loss} is in torch.nn.functional")
    return torch, known[loss]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_is_torchs(loss, weighted):
    """Value, and gradient by torch's own differentiation."""
    torch, function = torch_loss(loss)
    Z, Y = problem(loss, 3, 200, np.dtype(np.float64))
    sample_weight = np.abs(draw(3, 200, np.float64)) if weighted else None
    z = torch.tensor(Z, requires_grad=True)
    w = torch.tensor(np.ones(200) if sample_weight is None else sample_weight)
    expected = (function(z, torch.tensor(Y)) * w).sum() / w.sum()
    expected.backward()
    cost, _, dZ = lossed(kernels.dense, Z, Y, sample_weight, loss)
    assert cost == pytest.approx(expected.item(), rel=1e-13)
    assert_allclose(dZ, z.grad.numpy(), rtol=1e-11, atol=1e-16)


def test_loss_is_scipys():
    special = pytest.importorskip("scipy.special")
    Z, Y = problem("sigmoid_cross_entropy", 1, 500, np.dtype(np.float64))
    Z *= 50
    cost, A, _ = lossed(kernels.dense, Z, Y, None, "sigmoid_cross_entropy")
    assert_allclose(A, special.expit(Z), rtol=1e-15)
    assert cost == pytest.approx(-special.log_expit(np.where(Y > 0, Z, -Z)).mean(), rel=1e-14)
    Z, Y = problem("softmax_cross_entropy", 7, 500, np.dtype(np.float64))
    Z *= 50
    cost, A, _ = lossed(kernels.dense, Z, Y, None, "softmax_cross_entropy")
    assert_allclose(A, special.softmax(Z, axis=0), rtol=1e-13, atol=1e-300)
    expected = -(special.log_softmax(Z, axis=0) * Y).sum() / 500
    assert cost == pytest.approx(expected, rel=1e-14)


def test_cross_entropy_from_logits_stays_finite(dense, dtype):
    """On the wrong side it is |z|, on the right side exp(-|z|), however large z is."""
    Z = np.array([[1e4, -1e4, 50, -50, 1e30]], dtype)
    Y = np.array([[0, 1, 1, 0, 0]], dtype)
    for k, expected in enumerate([1e4, 1e4, np.exp(-50.0), np.exp(-50.0), float(Z[0, 4])]):
        one = slice(k, k + 1)
        case = Z[:, one].copy(), Y[:, one].copy(), None, "sigmoid_cross_entropy"
        cost, A, dZ = lossed(dense, *case)
        assert cost == pytest.approx(expected, rel=4 * float(np.finfo(dtype).eps))
        assert A[0, 0] == pytest.approx(float(Z[0, k] > 0), abs=1e-20)
        assert dZ[0, 0] == A[0, 0] - Y[0, k]


@pytest.mark.parametrize("loss", [each for each in LOSSES_OF["sigmoid"] if "clipped" not in each])
def test_infinite_pre_activations(dense, dtype, loss):
    """Infinite on the wrong side, nothing on the right one."""
    Z = np.array([[np.inf, -np.inf]], dtype)
    for Y, expected in (([[0, 0]], np.inf), ([[1, 0]], 0.0), ([[1, 1]], np.inf)):
        cost, A, dZ = lossed(dense, Z, np.array(Y, dtype), None, loss)
        assert cost == expected
        assert_array_equal(A, [[1, 0]])
        assert_array_equal(dZ, (A - Y) / 2)
    sample_weight = np.array([0, 1], dtype)
    cost, _, dZ = lossed(dense, Z, np.array([[0, 0]], dtype), sample_weight, loss)
    assert cost == 0, "where the weight is nothing even an infinite loss counts nothing"
    assert_array_equal(dZ, [[0, 0]])


def test_cost_is_the_lessons_where_the_sigmoid_saturates(dense, dtype):
    """Infinite on the wrong side, nothing on the right one, NaN counts nothing."""
    Y = np.array([[0, 1]], dtype)
    loss = "saturating_cross_entropy"
    cost, A, dZ = lossed(dense, np.array([[2000.0, 1]], dtype), Y, None, loss)
    assert cost == np.inf
    assert_array_equal(dZ, [[0.5, (A[0, 1] - 1) / 2]])
    for z in (-2000.0, np.nan):
        out = np.empty((2, 1, 2), dtype)
        cost = dense.loss(np.array([[z, 1]], dtype), Y, None, loss, *out)
        expected = np.log1p(np.exp(-1.0)) / 2
        assert cost == pytest.approx(expected, rel=8 * float(np.finfo(dtype).eps))


def test_subnormal_probabilities_have_a_logarithm(dense, dtype):
    """Between the smallest normal number and zero the cost is still finite and right."""
    z = -709.0 if dtype == np.float64 else -88.0
    Z, Y = np.array([[z]], dtype), np.ones((1, 1), dtype)
    cost, A, _ = lossed(dense, Z, Y, None, "saturating_cross_entropy")
    assert 0 < A[0, 0] < np.finfo(dtype).tiny
    # A subnormal number has few digits: its spacing is what the logarithm can be off by.
    assert cost == pytest.approx(-z, abs=float(np.spacing(A[0, 0])) / float(A[0, 0]))


@pytest.mark.parametrize("shift", [1e4, -1e4, 1e30])
def test_softmax_of_large_logits(dense, dtype, shift):
    """All logits moved alike change nothing but the logits' own rounding; none overflows."""
    Z = np.array([[3, -1, 0], [0, 2, 0]], dtype)
    Y = np.array([[1, 1, 0], [0, 0, 1]], dtype)
    plain, A, dZ = lossed(dense, Z, Y, None, "softmax_cross_entropy")
    moved = Z + dtype.type(shift)
    if abs(shift) > 1e5:  # the differences are lost in the logits themselves
        plain, A, dZ = lossed(dense, np.zeros_like(Z), Y, None, "softmax_cross_entropy")
    found = lossed(dense, moved, Y, None, "softmax_cross_entropy")
    for ours, theirs in zip(found, (plain, A, dZ), strict=True):
        # These logits are whole numbers below 2**24 units: shifting them rounds nothing.
        assert_array_equal(ours, theirs)


def test_softmax_of_one_certain_output(dense, dtype):
    """Logits 2e4 apart: the loss is the difference, and the outputs sum to one."""
    Z = np.array([[1e4, 1e4], [-1e4, -1e4]], dtype)
    Y = np.array([[1, 0], [0, 1]], dtype)
    cost, A, dZ = lossed(dense, Z, Y, None, "softmax_cross_entropy")
    assert cost == 1e4, "the mean of 0 and 2e4"
    assert_array_equal(A, [[1, 1], [0, 0]])
    assert_array_equal(dZ, [[0, 0.5], [0, -0.5]])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_loss_of_what_is_not_finite(dense, dtype, loss, value):
    """As the reference has it, in one cell or the other."""
    Z, Y = problem(loss, 2, 70, dtype)
    Z[0, 66] = value
    for label in (0, 1):
        Y[:, 66] = [label, 1 - label]
        found, expected = (lossed(module, Z, Y, None, loss) for module in (dense, reference))
        for ours, theirs in zip(found, expected, strict=True):
            for test in (np.isnan, np.isposinf, np.isneginf):
                assert_array_equal(test(ours), test(theirs))


def one_hot(columns):
    A = np.zeros((3, columns))
    A[np.arange(columns) % 3, np.arange(columns)] = 1
    return A


@pytest.mark.parametrize("columns", [1, 63, 64, 65, 5000])
def test_usable_content(dense, dtype, columns):
    """A single wrong number is found in every place."""
    good = one_hot(columns).astype(dtype)
    contents = ("any", "finite", "not_negative", "binary", "one_hot")

    def held(A):
        return [content for content in contents if dense.usable(A, dtype, (3, -1), content)]

    assert held(good) == list(contents)
    for row, column in ((0, 0), (1, columns // 2), (2, columns - 1)):
        for wrong, kept in (
            (np.nan, 1), (np.inf, 1), (-np.inf, 1), (-1.0, 2), (np.finfo(dtype).tiny, 3),
            (2.0, 3), (1.0 - good[row, column], 4),
        ):  # fmt: skip
            bad = good.copy()
            bad[row, column] = wrong
            assert held(bad) == list(contents[:kept]), (row, column, wrong)
    bad = good.copy()
    bad[:, -1] = good[:, -1][[1, 2, 0]]  # another class is no error
    assert held(bad) == list(contents)


def test_usable_layout(dense, dtype):
    class Own(np.ndarray):
        pass

    A = np.zeros((3, 4), dtype)
    read_only = A.copy()
    read_only.flags.writeable = False
    unaligned = np.zeros(3 * 4 * dtype.itemsize + 1, np.uint8)[1:].view(dtype).reshape(3, 4)
    other = np.dtype("float32" if dtype == np.float64 else "float64")
    for array, shape, expected in (
        (A, (3, 4), True), (A, (-1, 4), True), (A, (3, -1), True), (A[:2], (2, 4), True),
        (A, (4, 3), False), (A, (3,), False), (A, (3, 4, 1), False), (A[0], (4,), True),
        (A[:, :0], (3, -1), True), (A[:0], (-1, 4), True),
        (A.T, (4, 3), False), (A[:, :2], (3, 2), False), (unaligned, (3, 4), False),
        (A.astype(other), (3, 4), False), (A.astype(int), (3, 4), False),
        (A.astype(dtype.newbyteorder()), (3, 4), False), (A.view(Own), (3, 4), False),
        (np.ma.masked_array(A), (3, 4), False), (A.tolist(), (3, 4), False),
        (None, (3, 4), False), (A.astype(object), (3, 4), False),
    ):  # fmt: skip
        assert dense.usable(array, dtype, shape, "finite") is expected, (array, shape)
        assert dense.usable(array, dtype, shape, "any", True) is expected, (array, shape)
    assert dense.usable(read_only, dtype, (3, 4), "finite")
    assert not dense.usable(read_only, dtype, (3, 4), "finite", True)
