"""The axes of a comparison, samples of a grid, and shards."""

import itertools
import re
from collections import Counter
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit as fi
from fastinit.comparison import grid as grids
from fastinit.comparison.grid import AXES, Grid, as_code, grid_of, labelled, shuffled
from fastinit.comparison.runner import _places

NET = fi.Network([2, 4, 1])
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((2, 20)), RNG.integers(0, 2, (1, 20))


def cells_of(network=NET, schemes="zeros", **axes):
    return grid_of(network, labelled(schemes), **axes)


def compared(schemes="he_normal", network=NET, **keywords):
    return fi.compare(X, Y, network, schemes, **{"iterations": 3} | keywords)


# --- axes -----------------------------------------------------------------------------------------


def test_every_combination_of_all_axes_once():
    axes = {
        "seed": [3, 1], "depth": [1, 2], "width": [2, 3], "activation": ["relu", "tanh"],
        "optimizer": ["sgd", fi.Adam()], "learning_rate": [0.1, 0.2], "batch_size": [None, 5],
        "scale": [0.5, 1, 2],
    }  # fmt: skip
    schemes = ["zeros", "he_normal"]
    found = cells_of(schemes=schemes, **axes)
    assert isinstance(found, Grid)
    assert list(found.values) == ["scheme", *AXES]
    seen = Counter(
        (c.scheme, c.seed, c.depth, c.width, c.activation, type(c.optimizer).__name__,
         c.learning_rate, c.batch_size, c.scale)
        for c in found
    )  # fmt: skip
    expected = itertools.product(
        schemes, [3, 1], [1, 2], [2, 3], ["relu", "tanh"], ["GradientDescent", "Adam"],
        [0.1, 0.2], [None, 5], [0.5, 1.0, 2.0],
    )  # fmt: skip
    assert seen == Counter(expected)
    assert [found[i] for i in range(len(found))] == list(found)
    assert list(found[5:9]) == [found[i] for i in range(5, 9)]
    assert found[-1] == found[len(found) - 1]
    with pytest.raises(IndexError):
        found[len(found)]


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_an_axis_is_any_sequence(kind):
    found = cells_of(
        seed=kind([1, 2]), depth=kind([1, 2]), learning_rate=kind([0.5, 1.0]), batch_size=kind([3]),
        scale=kind([2.0, 1.0]), activation=list(kind(["tanh", "relu"])),
    )  # fmt: skip
    assert len(found) == 32
    assert type(found[0].seed) is int
    assert type(found[0].scale) is type(found[0].learning_rate) is float
    assert type(found[0].batch_size) is int


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ("sgd", "sgd"),
        ("nesterov", "nesterov"),
        (fi.Adam(0.3), "adam"),
        (fi.Momentum(nesterov=True), "nesterov"),
        (fi.Adam(beta1=0.5), "Adam(beta1=0.5)"),
        (fi.GradientDescent(l2=0.1), "GradientDescent(l2=0.1)"),
        ("lbfgs", "lbfgs"),
    ],
)
def test_labels_of_optimizers(given, label):
    assert cells_of(optimizer=given).labels("optimizer") == [label]


def test_labels():
    schedule = fi.optimizers.Cosine(initial=0.1, iterations=5)
    found = cells_of(optimizer=["sgd", "adam"], learning_rate=[0.1, schedule], batch_size=[None, 4])
    assert found.labels("learning_rate") == [0.1, repr(schedule)]
    assert found.labels("batch_size") == [None, 4]
    assert cells_of().labels("learning_rate") == [0.01]
    assert cells_of(optimizer=["sgd", "adam"]).labels("learning_rate") == [None]
    assert cells_of(optimizer=fi.Adam(schedule)).labels("learning_rate") == [repr(schedule)]
    assert cells_of(seed=np.random.SeedSequence(5)).labels("seed") == ["np.random.SeedSequence(5)"]


def test_rates_replace_those_of_the_optimizers():
    found = cells_of(optimizer=[fi.Adam(9, beta1=0.5), "momentum"], learning_rate=[0.1, 0.2])
    assert [cell.optimizer for cell in found] == [
        fi.Adam(0.1, beta1=0.5), fi.Adam(0.2, beta1=0.5), fi.Momentum(0.1), fi.Momentum(0.2),
    ]  # fmt: skip
    assert found[1].optimizer is found[1].optimizer


def test_rates_per_layer_in_an_optimizer():
    optimizer = fi.GradientDescent([0.1, (0.2, 0.3)])
    [trial] = compared(seed=0, optimizer=optimizer).trials
    theta = NET.initialize("he_normal", seed=0)
    fi.train(NET, theta, X, Y, optimizer=optimizer, iterations=3)
    assert_array_equal(trial.theta, theta)


def test_seeds_of_a_sequence_of_seed_sequences():
    seeds = np.random.SeedSequence(5).spawn(3)
    result = compared(seed=seeds)
    for seed, trial in zip(seeds, result.trials, strict=True):
        assert_array_equal(trial.start, NET.initialize("he_normal", seed=seed))
    assert result.cells.labels("seed")[1] == "np.random.SeedSequence(5, spawn_key=(1,))"
    assert as_code(seeds[:2]) == (
        "[np.random.SeedSequence(5, spawn_key=(0,)), np.random.SeedSequence(5, spawn_key=(1,))]"
    )


def test_depth_zero():
    found = cells_of(depth=[0, 2], activation=["relu", "tanh"])
    assert [cell.network.sizes for cell in found] == [(2, 1)] * 2 + [(2, 4, 4, 1)] * 2
    assert [cell.width for cell in found] == [None, None, 4, 4]
    assert len(compared(depth=[0, 2])) == 2


def test_settings_of_the_network_hold_for_the_grid():
    net = fi.Network([2, 3, 1], activation="leaky_relu", negative_slope=0.2, dtype="float32",
                     loss="saturating_cross_entropy", bias=False)  # fmt: skip
    found = cells_of(net, activation=["leaky_relu", "tanh"], width=[3, 4])
    assert found[0].network == net
    for cell in found:
        assert (cell.network.loss, cell.network.bias) == (net.loss, False)
        assert cell.network.dtype == np.float32


# --- schemes --------------------------------------------------------------------------------------


def fill(*, out, seed=None, stream=0):
    out[...] = 0.25
    return out


def test_schemes_of_every_kind():
    schemes = {
        "name": "he_normal",
        "partial": partial(fi.normal, std=0.1),
        "callable": fill,
        "per layer": ["glorot_normal", fill],
    }
    result = compared(schemes, seed=[0, 1])
    assert result.schemes == list(schemes)
    for trial in result.trials:
        start = NET.initialize(schemes[trial.cell.scheme], seed=trial.cell.seed)
        assert_array_equal(trial.start, start)
    assert list(labelled(list(schemes.values()))) == [
        "he_normal", "normal(std=0.1)", "fill", "glorot_normal/fill",
    ]  # fmt: skip
    assert list(labelled("zeros")) == ["zeros"]


@pytest.mark.parametrize(
    ("schemes", "error", "message"),
    [
        (3, TypeError, "scheme"),
        ([], ValueError, "schemes: expected at least one scheme; got none"),
        ({}, ValueError, "schemes: expected at least one scheme; got none"),
        ({3: "zeros"}, TypeError, "schemes: expected labels that are strings; got 3"),
        ({"a\udc80": "zeros"}, ValueError, "schemes: expected labels that are valid Unicode; got"),
        (["zeros", "zeros"], ValueError, "schemes: expected each scheme once; got two labelled"),
        ([fill, fill], ValueError, "(pass a mapping of labels to schemes)"),
        (["zeros", "xavier"], ValueError, "got 'xavier'"),
        ([["zeros", "xavier"]], ValueError, "got 'xavier'"),
        ([["zeros"]], ValueError, "scheme"),
        ([[]], ValueError, "scheme"),
    ],
)
def test_bad_schemes(schemes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        compared(schemes)


# --- scale ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_scale_multiplies_the_weights(dtype):
    net = fi.Network([2, 4, 1], dtype=dtype)
    result = compared("torch_linear", net, seed=[0, 1], scale=[1, 0.1, 0, 3], iterations=0)
    for trial in result.trials:
        start = net.initialize("torch_linear", seed=trial.cell.seed)
        expected = net.unpack(start)
        for name, array in net.unpack(trial.start).items():
            factor = np.dtype(dtype).type(trial.cell.scale if name[0] == "W" else 1)
            assert_array_equal(array, expected[name] * factor, strict=True)
        if trial.cell.scale == 1:
            assert trial.start.tobytes() == start.tobytes()


# --- samples --------------------------------------------------------------------------------------

SIZES = {"seed": range(5), "depth": [1, 2], "learning_rate": [0.1, 0.2, 0.3], "scale": [1, 2, 3]}
SCHEMES = ["he_normal", "zeros", "glorot_normal"]


def as_rows(cells):
    return [tuple(row) for row in cells.codes.tolist()]


@pytest.mark.parametrize("n", [1, 2, 3, 10, 100, 200, 269, 270])
def test_a_sample_has_no_cell_twice_and_does_not_depend_on_its_size(n):
    everything = as_rows(cells_of(schemes=SCHEMES, **SIZES))
    sample = as_rows(cells_of(schemes=SCHEMES, n_samples=n, **SIZES))
    assert len(sample) == len(set(sample)) == n
    assert set(sample) <= set(everything)
    assert sample == as_rows(cells_of(schemes=SCHEMES, n_samples=270, **SIZES))[:n]
    # The schemes are paired: each combination is run with every scheme before the next one.
    for i in range(0, n - 2, 3):
        assert [row[0] for row in sample[i : i + 3]] == [0, 1, 2]
        assert len({row[1:] for row in sample[i : i + 3]}) == 1


def test_a_sample_is_spread_evenly():
    """Each value of an axis has its share of a sample, up to a few cells."""
    sample = cells_of(seed=range(100), width=range(2, 12), scale=[1, 2, 3], n_samples=300)
    for axis, values in (("width", 10), ("scale", 3)):
        counts = np.bincount(sample.code(axis), minlength=values)
        assert abs(counts - 300 / values).max() <= 6, axis
    assert len(np.unique(sample.code("seed"))) >= 95


def test_a_sample_of_a_huge_grid():
    sample = cells_of(
        seed=range(10**6), width=range(1, 1001), scale=np.linspace(0.1, 2, 1000).tolist(),
        batch_size=range(1, 1001), n_samples=500,
    )  # fmt: skip
    assert len(set(as_rows(sample))) == 500


class Discrete:
    def ppf(self, shares):
        return np.floor(np.asarray(shares) * 3) + 1


def test_distributions():
    stats = pytest.importorskip("scipy.stats")
    rate = stats.loguniform(0.01, 1)
    first = cells_of(schemes=SCHEMES[:2], seed=range(3), learning_rate=rate, n_samples=100)
    rates = [cell.learning_rate for cell in first]
    assert rates[::2] == rates[1::2], "the schemes are paired"
    assert len(set(rates)) == 50
    more = cells_of(schemes=SCHEMES[:2], seed=range(3), learning_rate=rate, n_samples=1001)
    assert list(more)[:100] == list(first)
    # A quasi-random sequence is closer to the distribution than random numbers are.
    rates = [cell.learning_rate for cell in more][:1000:2]
    assert stats.kstest(rates, rate.cdf).statistic < 0.015
    both = cells_of(scale=Discrete(), learning_rate=rate, optimizer=["sgd", "adam"], n_samples=60)
    assert Counter(cell.scale for cell in both) == pytest.approx({1.0: 20, 2.0: 20, 3.0: 20}, abs=3)
    assert {type(cell.optimizer) for cell in both} == {fi.GradientDescent, fi.Adam}
    result = compared(seed=[0], learning_rate=stats.loguniform(0.01, b=1), n_samples=4)
    assert as_code(result.settings["learning_rate"]) == "scipy.stats.loguniform(0.01, b=1)"


@pytest.mark.parametrize("n", [0, 1, 2, 10, 1000, 1001])
def test_shuffled_is_a_permutation(n):
    assert_array_equal(np.sort(shuffled(n)), np.arange(n))


# --- shards ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_cells", [1, 2, 7, 100, 1000])
@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_shards_are_disjoint_complete_and_balanced(n_cells, n):
    shards = [_places(n_cells, (i, n)) for i in range(1, n + 1)]
    assert_array_equal(np.sort(np.concatenate(shards)), np.arange(n_cells))
    sizes = [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1
    for i, shard in enumerate(shards, start=1):
        assert_array_equal(shard, _places(n_cells, [i, np.int64(n)]))


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_every_shard_has_a_fair_share_of_each_value(n):
    cells = cells_of(schemes=SCHEMES, seed=range(20), width=[2, 4, 8, 16], scale=[1, 2])
    for i in range(1, n + 1):
        places = _places(len(cells), (i, n))
        for axis in ("scheme", "width", "scale", "seed"):
            counts = np.bincount(cells.code(axis)[places])
            share = len(places) / len(cells.values[axis])
            assert len(counts) == len(cells.values[axis])
            # Four standard deviations of the counts in a random sample of the cells.
            m = len(cells.values[axis])
            assert abs(counts - share).max() <= 4 * np.sqrt(share * (1 - 1 / m) * (1 - 1 / n)), axis


def test_shards_of_a_comparison():
    settings = {"schemes": SCHEMES, "seed": range(5), "width": [2, 3]}
    whole = compared(**settings)
    seen = []
    for i in (1, 2, 3):
        part = compared(**settings, shard=(i, 3))
        places = part.columns()["place"]
        assert_array_equal(part.columns()["final_cost"], whole.columns()["final_cost"][places])
        seen += places.tolist()
    assert sorted(seen) == list(range(30))


# --- errors ---------------------------------------------------------------------------------------

BAD = [
    ({"seed": []}, ValueError, "seed: expected at least one integer; got none"),
    ({"seed": [1, 1]}, ValueError, "seed: expected each integer once; got 1 twice"),
    ({"seed": np.array([2, 2])}, ValueError, "seed: expected each integer once; got 2 twice"),
    ({"seed": "5"}, TypeError, "seed: expected int, SeedSequence"),
    ({"seed": 0.5}, TypeError, "seed: expected int, SeedSequence"),
    ({"seed": [0.5]}, TypeError, "seed: expected an integer or a sequence of integers; got 0.5"),
    ({"seed": True}, TypeError, "seed: expected an integer or a sequence of integers; got True"),
    ({"seed": [True]}, TypeError, "seed: expected an integer or a sequence of integers; got True"),
    ({"seed": [[1]]}, TypeError, "seed: expected an integer or a sequence of integers; got [1]"),
    ({"seed": [np.random.SeedSequence(0), 1]}, TypeError, "seed: expected only SeedSequence"),
    (
        {"seed": [np.random.SeedSequence(0)] * 2},
        ValueError,
        "seed: expected each SeedSequence once",
    ),
    ({"seed": 2**64}, ValueError, "seed: expected 0 <= seed < 2**64"),
    ({"seed": [5, -1, 3]}, ValueError, "seed: expected 0 <= seed"),
    ({"depth": []}, ValueError, "depth: expected at least one integer; got none"),
    ({"depth": [-1], "width": [2]}, ValueError, "depth: expected at least 0; got -1"),
    ({"depth": 2**63, "width": 2}, ValueError, "depth: expected at most 10,000; got 92"),
    ({"depth": 1.0}, TypeError, "depth: expected an integer or a sequence of integers; got 1.0"),
    ({"width": [0]}, ValueError, "width: expected at least 1; got 0"),
    ({"width": [8, 8]}, ValueError, "width: expected each integer once; got 8 twice"),
    ({"width": [2, 3], "depth": [0]}, ValueError, "width: expected one value for depth 0"),
    ({"activation": []}, ValueError, "activation: expected at least one name; got none"),
    ({"activation": ["rleu"]}, ValueError, "got 'rleu'"),
    ({"activation": 3}, TypeError, "activation: expected a name or a sequence of names; got 3"),
    ({"optimizer": []}, ValueError, "optimizer: expected at least one optimizer; got none"),
    ({"optimizer": "adm"}, ValueError, "optimizer: expected one of sgd, momentum"),
    ({"optimizer": 3}, TypeError, "optimizer: expected a name or an Optimizer; got 3"),
    ({"optimizer": fi.optimizers.Adam}, TypeError, "optimizer: expected a name or an Optimizer"),
    ({"optimizer": ["sgd", "sgd"]}, ValueError, "optimizer: expected each optimizer once"),
    (
        {"optimizer": [fi.Adam(0.1), fi.Adam(0.2)], "learning_rate": 0.3},
        ValueError,
        "optimizer: expected optimisers that differ in more than the learning rate",
    ),
    ({"optimizer": fi.GradientDescent([0.1] * 3)}, ValueError, "learning_rate: expected one for e"),
    ({"optimizer": "lbfgs", "learning_rate": 0.1}, ValueError, "learning_rate: expected none with"),
    ({"optimizer": "lbfgs", "batch_size": 4}, ValueError, "optimizer: expected another than LBFGS"),
    (
        {"optimizer": "lbfgs", "learning_rate": Discrete(), "n_samples": 2},
        ValueError,
        "learning_rate: expected none with LBFGS",
    ),
    ({"learning_rate": []}, ValueError, "learning_rate: expected at least one number; got none"),
    (
        {"learning_rate": [0.1, 0.1]},
        ValueError,
        "learning_rate: expected each number once; got 0.1",
    ),
    ({"learning_rate": 10**400}, ValueError, "learning_rate: expected finite and >= 0; got inf"),
    ({"learning_rate": [-1]}, ValueError, "learning_rate: expected finite and >= 0; got -1"),
    ({"learning_rate": "fast"}, TypeError, "learning_rate: expected a number or a sequence of n"),
    ({"learning_rate": [[0.1, 0.2]]}, TypeError, "learning_rate: expected numbers or callables"),
    ({"learning_rate": Discrete()}, ValueError, "learning_rate: expected n_samples as well"),
    ({"batch_size": []}, ValueError, "batch_size: expected at least one integer; got none"),
    ({"batch_size": [0]}, ValueError, "batch_size: expected an integer from 1"),
    ({"batch_size": 1.5}, TypeError, "batch_size: expected an integer; got float"),
    ({"batch_size": [None, None]}, ValueError, "batch_size: expected each integer once; got None"),
    ({"scale": []}, ValueError, "scale: expected at least one number; got none"),
    ({"scale": -1}, ValueError, "scale: expected finite numbers >= 0; got -1"),
    ({"scale": [np.nan]}, ValueError, "scale: expected finite numbers >= 0; got nan"),
    ({"scale": "big"}, TypeError, "scale: expected a number or a sequence of numbers; got 'big'"),
    ({"scale": 1.7e308}, ValueError, "scale: expected finite float64 weights; got 1.7e+308 times"),
    (
        {"scale": [1.7e308, 1]},
        ValueError,
        "scale: expected finite float64 weights; got 1.7e+308 times",
    ),
    ({"n_samples": 0}, ValueError, "n_samples: expected an integer from 1"),
    ({"n_samples": 2}, ValueError, "n_samples: expected at most the 1 cells; got 2"),
    ({"n_samples": 1.5}, TypeError, "n_samples: expected an integer; got float"),
    (
        {"seed": range(10**12)},
        ValueError,
        "seed: expected a grid of at most 10,000,000 cells; got 1,000,000,000,000",
    ),
    (
        {"seed": range(10**12), "n_samples": 10},
        ValueError,
        "seed: expected a grid of at most 10,000,000 cells; got 1,000,000,000,000",
    ),
    (
        {"seed": range(10**30, 0, -(10**7)), "learning_rate": []},
        ValueError,
        f"seed: expected a grid of at most 10,000,000 cells; got {10**23:,}",
    ),
    (
        {"seed": range(10_000), "width": range(1, 1002)},
        ValueError,
        "seed: expected a grid of at most 10,000,000 cells; got 10,010,000",
    ),
    ({"shard": 3}, TypeError, "shard: expected a pair of integers (i, n); got 3"),
    ({"shard": (1, 2, 3)}, ValueError, "shard: expected a pair of integers (i, n); got 3 entries"),
    ({"shard": (0, 2)}, ValueError, "shard: expected an integer from 1 to 2; got 0"),
    ({"shard": (3, 2)}, ValueError, "shard: expected an integer from 1 to 2; got 3"),
    ({"shard": (1.0, 2)}, TypeError, "shard: expected an integer; got float"),
]


@pytest.mark.parametrize(("keywords", "error", "message"), BAD)
def test_bad_axes(keywords, error, message):
    seen = []
    with pytest.raises(error, match="^" * ("got '" not in message) + re.escape(message)):
        compared(callback=lambda scheme, run: seen.append(scheme), **keywords)
    assert not seen, "nothing is trained"


@pytest.mark.parametrize(
    ("sizes", "keywords", "message"),
    [
        ([2, 1], {"width": 3}, "width: expected depth as well, because the network has no hidden"),
        ([2, 1], {"depth": 2}, "depth: expected width as well, because the network has no hidden"),
        ([2, 3, 4, 1], {"depth": 2}, "depth: expected width as well, because the hidden layers d"),
    ],
)
def test_width_and_depth_that_need_each_other(sizes, keywords, message):
    with pytest.raises(ValueError, match=message):
        compared(network=fi.Network(sizes), **keywords)


def test_a_distribution_of_the_wrong_shape():
    class Wrong:
        def ppf(self, shares):
            return np.zeros(3)

    with pytest.raises(ValueError, match=r"scale: expected ppf to return shape \(5,\); got \(3,\)"):
        cells_of(scale=Wrong(), n_samples=5)


def test_ten_million_cells():
    """The largest grid: nothing is created for each cell but its codes."""
    found = cells_of(seed=range(10**7))
    assert len(found) == grids.MOST_CELLS
    assert found[10**7 - 1].seed == 10**7 - 1
