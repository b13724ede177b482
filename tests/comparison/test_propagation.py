"""Measurements agree with independent computations, and theory with measurements."""

import math
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastinit as fi
from fastinit.comparison import propagation
from fastinit.training.network import ACTIVATIONS
from fastinit.training.network import LOSSES as OUTPUTS

DEEP = [2, *[100] * 10, 1]


def data(net, m=40, seed=0):
    """Inputs, and labels that every output accepts: one 1 for each example."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((net.sizes[0], m))
    return X, np.eye(net.sizes[-1])[rng.integers(0, net.sizes[-1], m)].T


def start(net, seed=0):
    """Random weights and biases."""
    return np.random.default_rng(seed).normal(0, 0.5, net.n_parameters).astype(net.dtype)


# --- forward and backward ---------------------------------------------------------------------


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_those_of_training(activation, output):
    net = fi.Network([3, 8, 6, 2], activation=activation, output=output)
    theta = start(net)
    X, Y = data(net)
    _, gradient = net.loss_and_gradient(theta, X, Y)
    expected = list(net.unpack(gradient).values())
    measured = propagation.measure(net, theta, X, Y)
    for moments, arrays in ((measured.dw, expected[::2]), (measured.db, expected[1::2])):
        assert_allclose(moments.std, [array.std() for array in arrays], rtol=1e-11)
        assert_allclose(moments.mean, [array.mean() for array in arrays], rtol=1e-11, atol=1e-15)
        quantiles = [np.quantile(array, propagation.QUANTILES) for array in arrays]
        assert_allclose(moments.quantiles, quantiles, rtol=1e-11, atol=1e-15)
    weights = list(net.unpack(theta).values())[::2]
    ratios = [
        np.linalg.norm(dw) / np.linalg.norm(w) for dw, w in zip(expected[::2], weights, strict=True)
    ]
    assert_allclose(measured.gradient_to_parameter, ratios, rtol=1e-11)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_at_activations_by_central_differences(activation, output):
    """With one example, changing a bias changes one pre-activation."""
    net = fi.Network([3, 4, 3, 2], activation=activation, output=output)
    theta = start(net)
    X, Y = data(net, m=1)
    measured = propagation.measure(net, theta, X, Y)
    differences = {}
    for layer, name in enumerate(["b1", "b2", "b3"]):
        found = np.empty(net.sizes[layer + 1])
        for unit in range(len(found)):
            costs = []
            for h in (1e-6, -1e-6):
                moved = theta.copy()
                net.unpack(moved)[name][unit] += h
                costs.append(net.loss_and_gradient(moved, X, Y)[0])
            found[unit] = (costs[0] - costs[1]) / 2e-6
        differences[layer] = found
    assert_allclose(measured.dz.std, [d.std() for d in differences.values()], rtol=1e-7)
    assert_allclose(
        measured.dz.mean, [d.mean() for d in differences.values()], rtol=1e-7, atol=1e-9
    )
    W = net.unpack(theta)
    behind = [W[f"W{layer + 2}"].T @ differences[layer + 1] for layer in range(2)]
    assert_allclose(measured.da.std, [d.std() for d in behind], rtol=1e-7)


@pytest.mark.parametrize("sizes", [[3, 8, 6, 2], [3, 8, 6, 5, 2]])
def test_without_biases(sizes):
    """The same as with biases of zero, except for the gradient by biases, which is empty."""
    net, biased = fi.Network(sizes, bias=False), fi.Network(sizes)
    theta = start(net)
    X, Y = data(net)
    zeros = {f"b{i}": np.zeros((n, 1)) for i, n in enumerate(sizes[1:], start=1)}
    measured = propagation.measure(net, theta, X, Y)
    expected = propagation.measure(biased, biased.pack(net.unpack(theta) | zeros), X, Y)
    assert repr(measured) == repr(expected)
    assert_array_equal(measured.dw.quantiles, expected.dw.quantiles)
    assert measured.db.quantiles.shape == (0, 5)


def test_by_hand():
    """Two units and two examples, computed by hand."""
    net = fi.Network([1, 2, 1])
    theta = net.pack(
        {"W1": [[2], [-1]], "b1": [[0], [0]], "W2": [[1, 1]], "b2": [[0]]}
    )  # Z1 = [[2, 4], [-1, -2]], A1 = [[2, 4], [0, 0]], Z2 = [[2, 4]]
    measured = propagation.measure(net, theta, [[1, 2]], [[1, 0]])
    assert_allclose(measured.z.mean, [0.75, 3])
    assert_allclose(measured.z.std[1], 1)
    assert_allclose(measured.z.rms[0], math.sqrt((4 + 16 + 1 + 4) / 4))
    assert_allclose(measured.z.quantiles[0], np.quantile([2, 4, -1, -2], propagation.QUANTILES))
    assert_allclose(measured.a.mean[0], 1.5)
    assert_array_equal(measured.dead_units, [0.5, 0])
    assert_array_equal(measured.dead_activations, [0.5, 0])
    assert_array_equal(measured.saturation, [0.5, 0])
    assert_allclose(measured.effective_rank, [1, 1])
    dz = np.array([1 / (1 + math.exp(-2)) - 1, 1 / (1 + math.exp(-4))])
    assert_allclose(measured.dz.mean, [dz.sum() / 4, dz.mean()])
    assert_allclose(measured.dw.mean, [(dz @ [1, 2]) / 4, (dz @ [2, 4]) / 4])
    assert_allclose(measured.x_rms, math.sqrt(2.5))


def test_float32_is_measured_in_float64():
    net, single = fi.Network([3, 8, 1]), fi.Network([3, 8, 1], dtype="float32")
    theta = start(single)
    X, Y = data(net)
    X = X.astype(np.float32)
    first = propagation.measure(single, theta, X, Y)
    second = propagation.measure(net, theta.astype(np.float64), X, Y)
    assert_array_equal(first.dz.quantiles, second.dz.quantiles)


def test_number_of_examples_changes_no_size():
    """Repeated examples do not change gradients by activations, which are those of each example."""
    net = fi.Network([3, 8, 1])
    theta = start(net)
    X, Y = data(net)
    once = propagation.measure(net, theta, X, Y)
    twice = propagation.measure(net, theta, np.hstack([X, X]), np.hstack([Y, Y]))
    assert_allclose(once.dz.std, twice.dz.std)
    assert_allclose(once.dw.std, twice.dw.std)


def test_order_of_units_and_examples_does_not_matter():
    net = fi.Network([3, 8, 6, 2])
    theta = start(net)
    X, Y = data(net)
    rng = np.random.default_rng(1)
    units, examples = rng.permutation(8), rng.permutation(X.shape[1])
    shuffled = dict(net.unpack(theta.copy()))
    shuffled |= {"W1": shuffled["W1"][units], "b1": shuffled["b1"][units]}
    shuffled["W2"] = shuffled["W2"][:, units]
    first = propagation.measure(net, theta, X, Y)
    second = propagation.measure(net, net.pack(shuffled), X[:, examples], Y[:, examples])
    for row, same in zip(first.table(), second.table(), strict=True):
        assert_allclose(*(np.array([*each.values()], float) for each in (row, same)), rtol=1e-10)


def test_relu_is_homogeneous():
    """With weights c times as large and no biases, layer l grows c**l-fold; shares are equal."""
    net = fi.Network([3, 8, 6, 1])
    theta = net.initialize("he_normal", seed=0)
    X, Y = data(net)
    first, second = (propagation.measure(net, c * theta, X, Y) for c in (1, 3))
    assert_allclose(second.z.quantiles, first.z.quantiles * [[3], [9], [27]], rtol=1e-12)
    assert_allclose(second.effective_rank, first.effective_rank, rtol=1e-6)
    assert_array_equal(second.dead_activations, first.dead_activations)
    assert_allclose(second.theory.z_rms, first.theory.z_rms * [3, 9, 27])
    assert_allclose(second.theory.chi, 9 * first.theory.chi)


# --- units ------------------------------------------------------------------------------------


def test_distinct_units():
    """Identical units have the same incoming and outgoing weights."""
    net = fi.Network([2, 4, 1])
    same = {"W1": np.ones((4, 2)), "b1": np.zeros((4, 1)), "b2": [[0.0]]}
    X, Y = data(net)
    for behind, expected in (([[1, 1, 1, 1]], 1), ([[1, 1, 2, 2]], 2), ([[1, 2, 3, 4]], 4)):
        theta = net.pack(same | {"W2": behind})
        assert propagation.measure(net, theta, X, Y).distinct_units[0] == expected


@pytest.mark.parametrize("behind", [[1, 1, 1, 1], [1, 1, 2, 2]])
def test_copies_stay_copies(behind):
    net = fi.Network([2, 4, 1])
    theta = net.pack({"W1": np.ones((4, 2)), "b1": np.zeros((4, 1)), "W2": [behind], "b2": [[0.0]]})
    X, Y = data(net)
    before = propagation.measure(net, theta, X, Y).distinct_units[0]
    fi.train(net, theta, X, Y, learning_rate=0.1, iterations=100)
    assert propagation.measure(net, theta, X, Y).distinct_units[0] == before == len(set(behind))


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_effective_rank_of_equal_directions(rank):
    """Equal singular values have their number as rank; a matrix of zeros has rank 0.

    But for the rounding of squares, which leaves some 1e-8 in each of 30 directions.
    """
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((30, rank)))[0]
    assert_allclose(propagation._effective_rank(3 * Q @ Q.T), rank, atol=1e-5)
    assert propagation._effective_rank(np.zeros((3, 4))) == 0


def test_effective_rank_by_its_definition():
    A = np.random.default_rng(0).standard_normal((6, 9))
    entropy = pytest.importorskip("scipy.stats").entropy(np.linalg.svd(A, compute_uv=False))
    for matrix in (A, A.T, 1e-200 * A, 1e200 * A):
        assert_allclose(propagation._effective_rank(matrix), np.exp(entropy))


# --- theory -----------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [1e-6, 0.3, 1, 20, 1e8])
def test_gaussian_means_in_closed_form(q):
    std = math.sqrt(q)
    special = pytest.importorskip("scipy.special")
    assert_allclose(propagation.gaussian_mean(np.ones_like, std), 1, rtol=1e-14)
    assert_allclose(propagation.gaussian_mean(np.square, std), q, rtol=1e-14)
    assert_allclose(
        propagation.gaussian_mean(np.abs, std), std * math.sqrt(2 / math.pi), rtol=1e-14
    )
    assert_allclose(propagation.gaussian_mean(lambda z: np.maximum(z, 0) ** 2, std), q / 2)
    assert_allclose(
        propagation.gaussian_mean(lambda z: special.erf(z) ** 2, std),
        2 / math.pi * math.asin(2 * q / (1 + 2 * q)),
        rtol=1e-13,
    )
    # The slope of erf, squared: a peak far narrower than the normal where q is large.
    assert_allclose(
        propagation.gaussian_mean(lambda z: 4 / math.pi * np.exp(-2 * z**2), std),
        4 / math.pi / math.sqrt(1 + 4 * q),
        rtol=1e-13,
    )


@pytest.mark.parametrize("q", [0.01, 1.0, 400.0])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gaussian_means_by_adaptive_quadrature(activation, q):
    integrate = pytest.importorskip("scipy.integrate")
    net = fi.Network([2, 3, 1], activation=activation)
    for which in (0, 1):

        def square(z, which=which):
            return propagation._activate(net, np.atleast_1d(z))[which] ** 2

        def integrand(z, square=square):
            return square(math.sqrt(q) * z)[0] * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

        expected = sum(
            integrate.quad(integrand, *ends, epsabs=1e-13, epsrel=1e-12, limit=200)[0]
            for ends in ((-12, -1), (-1, 0), (0, 1), (1, 12))
        )
        assert_allclose(propagation.gaussian_mean(square, math.sqrt(q)), expected, rtol=1e-10)


def test_he_keeps_a_relu_network_at_the_edge():
    """He et al. 2015, equation 10, for any widths; Glorot halves the square in each layer."""
    net = fi.Network([7, 50, 200, 30, 4])
    fan_in = np.array(net.sizes[:-1])
    he = propagation.mean_field(net, 2 / fan_in, x_rms=3)
    assert_allclose(he.z_rms, 3 * math.sqrt(2))
    assert_allclose(he.a_rms, 3)
    assert_allclose(he.chi, 1)
    half = propagation.mean_field(fi.Network([10] * 6), 1 / 10)
    assert_allclose(half.chi, 0.5)
    assert_allclose(half.z_rms, 0.5 ** (np.arange(5) / 2))
    assert_allclose(half.dz_rms, 0.5 ** (np.arange(5)[::-1] / 2))


def test_biases_add_to_the_signal():
    theory = propagation.mean_field(fi.Network([10] * 4), 0.0, 0.25)
    assert_allclose(theory.z_rms, 0.5)
    assert_allclose(theory.dz_rms, [0, 0, 1])


@pytest.mark.parametrize(
    ("activation", "scheme"),
    [(activation, "he_normal") for activation in ACTIVATIONS]
    + [("tanh", scheme) for scheme in ("glorot_uniform", "torch_linear", "orthogonal")],
)
def test_wide_networks_do_what_theory_says(activation, scheme):
    """The mean of squares over eight networks of 300 units agrees to 10 %.

    Few outputs, for the theory takes the gradient there as independent of the weights before it;
    and so few that their own size is left to luck.
    """
    net = fi.Network([100, *[300] * 5, 10], activation=activation)
    X, Y = data(net, m=60)
    thetas = np.stack([net.initialize(scheme, seed=seed) for seed in range(8)])
    measured = propagation.measure_stack(net, thetas, X, Y)
    theory = measured[0].theory

    def size(take):
        return np.sqrt(np.mean([take(each) ** 2 for each in measured], axis=0))

    assert_allclose(size(lambda p: p.z.rms)[:-1], theory.z_rms[:-1], rtol=0.1)
    assert_allclose(size(lambda p: p.a.rms[:-1]), theory.a_rms, rtol=0.1)
    assert_allclose(size(lambda p: p.dz.rms), theory.dz_rms, rtol=0.1)
    assert_allclose(size(lambda p: p.da.rms), theory.da_rms, rtol=0.1)


# --- the verdict ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "findings"),
    [
        ("zeros", ["symmetric", "dead", "vanishing signal", "vanishing gradient"]),
        ("ones", ["symmetric", "collapsed", "exploding signal", "exploding gradient"]),
        ("lesson.random", ["exploding signal", "exploding gradient"]),
        ("lecun_normal", ["vanishing signal", "vanishing gradient"]),
        ("torch_linear", ["dead", "collapsed", "vanishing gradient"]),
        ("he_normal", ["healthy"]),
    ],
)
def test_findings_of_a_deep_relu_network(scheme, findings, circles):
    net = fi.Network(DEEP)
    theta = net.initialize(scheme, seed=0)
    assert list(propagation.measure(net, theta, *circles[:2]).findings) == findings


@pytest.mark.parametrize(
    ("activation", "scheme", "scale", "findings"),
    [
        ("tanh", "glorot_normal", 1, ["healthy"]),
        ("tanh", "glorot_normal", 5, ["saturated", "exploding gradient"]),
        ("tanh", "glorot_normal", 0.3, ["vanishing signal", "vanishing gradient"]),
        ("sigmoid", "glorot_normal", 1, ["collapsed", "vanishing gradient"]),
        ("selu", "lecun_normal", 1, ["healthy"]),
        ("leaky_relu", "he_normal", 1, ["healthy"]),
        ("identity", "orthogonal", 1, ["healthy"]),
    ],
)
def test_findings_of_other_activations(activation, scheme, scale, findings, circles):
    net = fi.Network(DEEP, activation=activation)
    theta = scale * net.initialize(scheme, seed=0)
    assert list(propagation.measure(net, theta, *circles[:2]).findings) == findings


@pytest.mark.parametrize(
    ("scale", "finding"), [(0.5, "vanishing"), (1, "healthy"), (2, "exploding")]
)
def test_scale_decides_between_vanishing_and_exploding(scale, finding, circles):
    net = fi.Network(DEEP)
    theta = net.initialize("he_normal", seed=0)
    theta *= scale
    found = propagation.measure(net, theta, *circles[:2]).findings
    assert all(finding in word for word in found)


def test_verdict_tells_by_how_much(circles):
    net = fi.Network(DEEP)
    theta = net.initialize("glorot_normal", seed=0)
    measured = propagation.measure(net, theta, *circles[:2])
    verdict = measured.findings["vanishing gradient"]
    fold, expected, chi = re.fullmatch(
        r"the gradient shrinks (.+)-fold from layer 10 back to layer 1 "
        r"\(theory: shrinks (.+)-fold, chi (.+) a layer\)",
        verdict,
    ).groups()
    assert float(fold) == pytest.approx(measured.dz.rms[9] / measured.dz.rms[0], abs=0.5)
    assert float(expected) == pytest.approx(2**4.5, rel=0.05)
    assert float(chi) == pytest.approx(0.5, rel=0.05)
    assert f"vanishing gradient: {verdict}" in measured.verdict


def test_overflow_is_a_finding(circles):
    net = fi.Network(DEEP)
    theta = net.initialize("he_normal", seed=0)
    theta *= 1e40
    measured = propagation.measure(net, theta, *circles[:2])
    assert "exploding signal" in measured.findings
    assert "leaves the finite numbers" in measured.verdict


def test_without_hidden_layers(circles):
    net = fi.Network([2, 1])
    measured = propagation.measure(net, net.initialize("he_normal", seed=0), *circles[:2])
    assert measured.verdict == "healthy: the network has no hidden layers"
    assert measured.da.quantiles.shape == (0, 5)


def test_data_of_one_direction_are_not_the_networks_fault():
    net = fi.Network([1, 20, 20, 1])
    X = np.linspace(1, 2, 50)[None]
    measured = propagation.measure(net, net.initialize("he_normal", seed=0), X, X > 1.5)
    assert measured.effective_rank[0] == pytest.approx(1, abs=1e-5)
    assert "collapsed" not in measured.findings


def test_prints_as_table_and_verdict(circles):
    net = fi.Network([2, 10, 5, 1])
    measured = propagation.measure(net, net.initialize("lesson.he", seed=3), *circles[:2])
    *rows, verdict = repr(measured).splitlines()
    # Tables that are wider than 80 columns print as several blocks of columns.
    assert max(map(len, rows)) <= 80
    assert [row.split()[0] for row in rows[-net.n_layers :]] == ["1", "2", "3"]
    assert verdict == measured.verdict
    assert measured.verdict.startswith("healthy: the signal grows 1.7-fold")
    assert measured._repr_html_().count("<tr>") == 1 + net.n_layers
    assert measured.table()[2]["chi"] is None


# --- along a training -------------------------------------------------------------------------


def test_along_changes_nothing_of_the_training(net, theta, circles):
    X, Y, _, _ = circles
    expected = fi.train(net, theta.copy(), X, Y, iterations=500)
    start = theta.copy()
    run, snapshots = propagation.along(net, theta, X, Y, at=[0, 1, 37, 200], iterations=500)
    assert_array_equal(run.theta, expected.theta)
    assert_array_equal(run.costs, expected.costs)
    assert run.theta is theta
    assert list(snapshots) == [0, 1, 37, 200]
    assert_array_equal(snapshots[0].z.std, propagation.measure(net, start, X, Y).z.std)
    fi.train(net, start, X, Y, iterations=37)
    assert_array_equal(snapshots[37].dw.std, propagation.measure(net, start, X, Y).dw.std)


@pytest.mark.parametrize("optimizer", [fi.Momentum(0.01), fi.Adam(0.01)])
def test_along_keeps_optimizer_and_batches(net, theta, circles, optimizer):
    """Optimiser state and the position in the shuffled epoch are kept when it measures."""
    keywords = {"optimizer": optimizer, "batch_size": 32, "seed": 3, "iterations": 60}
    expected = fi.train(net, theta.copy(), *circles[:2], **keywords)
    run, snapshots = propagation.along(net, theta, *circles[:2], at=[0, 7, 50], **keywords)
    assert_array_equal(run.theta, expected.theta)
    assert_array_equal(run.costs, expected.costs)
    assert list(snapshots) == [0, 7, 50]


@pytest.mark.parametrize(
    "keywords", [{"epochs": 3}, {"tol": 1e-3}, {"optimizer": fi.LBFGS()}], ids=str
)
def test_along_refuses_what_cannot_be_resumed(net, theta, circles, keywords):
    before = theta.copy()
    if "tol" in keywords:
        keywords = keywords | {"validation": circles[2:]}
    with pytest.raises((TypeError, ValueError), match=r"^(epochs|tol|optimizer): expected"):
        propagation.along(net, theta, *circles[:2], at=[0, 10], **keywords)
    assert_array_equal(theta, before)
    with pytest.raises(ValueError, match=r"theta: expected shape \(91,\); got \(2, 91\)"):
        propagation.along(net, np.stack([theta, theta]), *circles[:2], at=[0, 10])


def test_along_ends_at_the_last_mark(net, theta, circles):
    run, snapshots = propagation.along(net, theta, *circles[:2], at=[5, 10])
    assert run.iterations == 10
    assert list(snapshots) == [5, 10]


def test_along_ends_with_the_training(net, theta, circles):
    run, snapshots = propagation.along(
        net, theta, *circles[:2], at=[0, 10, 20], learning_rate=1e305
    )
    assert run.diverged_at is not None
    assert list(snapshots) == [0]
    calls = []
    run, snapshots = propagation.along(
        net,
        start(net),
        *circles[:2],
        at=[10**6, 2 * 10**6],
        callback=lambda run: calls.append(1) or len(calls) == 3,
    )
    assert len(calls) == 3
    assert snapshots == {}


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "error", "message"),
    [
        ([], ValueError, r"at: expected at least one iteration, ascending; got \[\]"),
        ([3, 3], ValueError, r"at: expected at least one iteration, ascending; got \[3, 3\]"),
        ([-1], ValueError, r"at: expected an integer from 0 to 2\*\*48 - 1; got -1"),
        ([0.5], TypeError, "at: expected an integer; got float"),
        (5, TypeError, "at: expected a sequence of integers; got 5"),
        ([0, 100], ValueError, "at: expected at most the 50 iterations; got 100"),
    ],
)
def test_along_refuses(net, theta, circles, at, error, message):
    before = theta.copy()
    with pytest.raises(error, match=message):
        propagation.along(net, theta, *circles[:2], at=at, iterations=50)
    assert_array_equal(theta, before)


def test_measure_refuses(net, theta, circles):
    X, Y, _, _ = circles
    with pytest.raises(TypeError, match="network: expected a Network; got str"):
        propagation.measure("net", theta, X, Y)
    with pytest.raises(ValueError, match=r"theta: expected shape \(91,\); got \(3,\)"):
        propagation.measure(net, theta[:3], X, Y)
    with pytest.raises(ValueError, match="theta: expected finite numbers; got NaN or infinity"):
        propagation.measure(net, np.full(91, np.nan), X, Y)
    with pytest.raises(ValueError, match=r"Y: expected shape \(300,\) or \(1, 300\)"):
        propagation.measure(net, theta, X, Y[:, :3])
    with pytest.raises(
        ValueError, match=r"thetas: expected shape \(k, n_parameters\); got \(91,\)"
    ):
        propagation.measure_stack(net, theta, X, Y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2],), r"weight_variances: expected one number or shape \(3,\); got \(2,\)"),
        ((-1,), r"weight_variances: expected none negative; got -1"),
        ((1, [0, np.nan, 0]), r"bias_variances: expected none negative; got nan"),
    ],
)
def test_mean_field_refuses(net, arguments, message):
    with pytest.raises(ValueError, match=message):
        propagation.mean_field(net, *arguments)
