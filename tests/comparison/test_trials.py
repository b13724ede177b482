"""Each run of a comparison against a plain loop over train, one network at a time."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastinit as fi
from fastinit.comparison import trials
from fastinit.comparison.grid import PRESETS
from fastinit.comparison.trials import Block, Data, Task, Training, run_task
from fastinit.training import loop

RNG = np.random.default_rng(0)
X, X_TEST = RNG.standard_normal((2, 3, 50))
LABELS = {
    "sigmoid": (X[:1] * X[1:2] > 0) * 1.0,
    "softmax": (X[0] > 0) + (X[1] > 0.5),
    "identity": X[:1] * X[1:2],
    "exponential": np.floor(np.exp(X[:1])),
}
OUTPUTS = {"sigmoid": 1, "softmax": 3, "identity": 1, "exponential": 1}
RATES = [0.5, 0.1, 1e200, 0.02, 3.0]  # some diverge


def network(output="sigmoid", **settings):
    return fi.Network([3, 4, 2, OUTPUTS[output]], output=output, **settings)


def starts_of(net, k=5):
    starts = [net.initialize("he_normal", seed=seed) for seed in range(k - 1)]
    return np.array([*starts, net.initialize("zeros")])


def block_of(net, optimizers, *, output="sigmoid", batch_size=None, targets=(None, None), test=None,
             **settings):  # fmt: skip
    training = Training(**{"iterations": 70} | settings)
    data = Data(net.check_X(X), net.check_Y(LABELS[output], X), test, training, *targets)
    return run_task(Task(net, tuple(optimizers), batch_size, starts_of(net)), data)


def epoch_means(costs, batch_size, iterations):
    """The mean of each epoch, weighted by the sizes of its batches; the last may be incomplete."""
    sizes, left = [], X.shape[1]
    while left:
        sizes.append(min(batch_size, left))
        left -= sizes[-1]
    full = np.full(iterations, np.nan)
    full[: len(costs)] = costs
    parts = [full[i : i + len(sizes)] for i in range(0, iterations, len(sizes))]
    means = [np.average(part, weights=sizes[: len(part)]) for part in parts]
    ends = [min(i + len(sizes), iterations) for i in range(0, iterations, len(sizes))]
    return np.array(means), np.array(ends)


SETTINGS = {
    "full batches": {},
    "mini-batches": {"batch_size": 16},
    "one batch": {"batch_size": 50},
    "large batch": {"batch_size": 10**6},
    "order of X": {"batch_size": 16, "shuffle": False},
    "order given": {"batch_size": 16, "shuffle": RNG.permutation(50)},
    "full batches in an order": {"shuffle": RNG.permutation(50)},
    "order called": {"batch_size": 7, "shuffle": lambda epoch: np.roll(np.arange(50), epoch)},
    "epochs": {"batch_size": 20, "epochs": 23, "iterations": None},
    "no iterations": {"iterations": 0},
    "no epochs": {"batch_size": 16, "epochs": 0, "iterations": None},
    "sample weights": {"sample_weight": RNG.random(50)},
    "tol": {"tol": 1e-2, "n_iter_no_change": 3},
    "tol of epochs": {"batch_size": 16, "tol": 0.1, "n_iter_no_change": 2},
    "validation": {"validation": (X_TEST, LABELS["sigmoid"][:, ::-1]), "n_iter_no_change": 4},
    "validation of scores": {
        "validation": (X_TEST, LABELS["sigmoid"][:, ::-1]), "n_iter_no_change": 2,
        "monitor": "score", "validate_every": 3, "batch_size": 16,
    },
    "validation without a stop": {"validation": (X_TEST, LABELS["sigmoid"])},
    "class weights": {"class_weight": {0: 3.0, 1: 0.5}},
    "balanced": {"class_weight": "balanced", "batch_size": 16},
    "more iterations than points": {"iterations": 1013},
    "more epochs than points": {"batch_size": 30, "iterations": 1105},
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_each_run_is_train(name):
    """Every column, the parameters and the curve of each run of a stack."""
    net, settings = network(), dict(SETTINGS[name])
    batch_size = settings.pop("batch_size", None)
    optimizers = [fi.GradientDescent(rate) for rate in RATES]
    targets = (0.66, 0.62)
    test = net.check_X(X_TEST), net.check_Y(LABELS["sigmoid"], X)
    block = block_of(net, optimizers, batch_size=batch_size, targets=targets, test=test, **settings)
    counts = {"iterations": 70} | settings
    keywords = {k: v for k, v in settings.items() if k not in ("iterations", "epochs")}
    keywords["batch_size"] = batch_size
    total = counts["iterations"]
    if total is None:
        total = counts["epochs"] * -(-50 // batch_size)
    step = trials.stride(total)
    for i, (start, optimizer) in enumerate(zip(starts_of(net), optimizers, strict=True)):
        theta = start.copy()
        seen = [(0, net.accuracy(start, X, LABELS["sigmoid"]))]
        run = fi.train(
            net, theta, X, LABELS["sigmoid"], optimizer=optimizer, iterations=total, **keywords,
            callback_every=1, callback=lambda run: seen.append(  # noqa: B023
                (run.iterations, net.accuracy(run.theta, X, LABELS["sigmoid"]))
            ) and None,
        )  # fmt: skip
        column = {key: value[i] for key, value in block.columns.items()}
        assert_array_equal(block.thetas[i], theta)
        assert_array_equal(block.starts[i], start)
        assert column["iterations"] == run.iterations
        assert column["diverged_at"] == (-1 if run.diverged_at is None else run.diverged_at)
        assert trials.STOPPED[column["stopped"]] == run.stopped_by
        assert_array_equal(column["final_cost"], run.final_cost)
        weights = run._data.sample_weight
        assert column["start_cost"] == net.cost(start, X, LABELS["sigmoid"], sample_weight=weights)
        assert column["train_score"] == net.accuracy(theta, X, LABELS["sigmoid"])
        assert column["test_score"] == net.accuracy(theta, *test)
        assert column["test_cost"] == net.cost(theta, *test)
        own = run.costs[: run.iterations]
        if batch_size is None or batch_size >= 50:
            curve, after = np.full(total, np.nan), np.arange(total)
            curve[: len(own)] = own
        else:
            curve, after = epoch_means(own, batch_size, total)
        kept = trials.kept_points(len(curve))
        assert_array_equal(block.costs[i], curve[kept])
        assert len(block.points) == len(kept)
        # The targets.
        at_end = run.iterations if run.best_iteration is None else run.best_iteration
        found = [n for n, cost in zip(after, curve, strict=True) if cost <= targets[0]]
        found += [at_end] if run.final_cost <= targets[0] else []
        assert column["iterations_to_cost"] == min(found, default=-1)
        found = [at_end] if column["train_score"] >= targets[1] else []
        found += [n for n, score in seen if n % step == 0 and score >= targets[1]]
        assert column["iterations_to_accuracy"] == min(found, default=-1)
    diverged = block.columns["diverged_at"] >= 0
    assert diverged.any() == (total > 0)
    assert not diverged.all()


def test_parameters_that_were_set_back_reached_the_targets_earlier():
    """The best parameters are at the end of an early epoch, whose mean cost is higher."""
    net = network()
    optimizers = [fi.GradientDescent(lambda i: 0.1 if i < 40 else 2.0)] * 5
    settings = {
        "batch_size": 16, "iterations": 1200, "validation": (X, LABELS["sigmoid"]),
        "validate_every": 1, "n_iter_no_change": 2000,
    }  # fmt: skip
    block = block_of(net, optimizers, **settings)
    for i, cost in enumerate(block.columns["final_cost"].tolist()):
        run = fi.train(
            net, starts_of(net)[i], X, LABELS["sigmoid"], optimizer=optimizers[i], **settings
        )
        if cost < np.nanmin(block.costs[i]):
            found = block_of(net, optimizers, targets=(cost, None), **settings).columns
            assert found["iterations_to_cost"][i] == run.best_iteration < run.iterations
            break
    else:
        pytest.fail("expected a run with such parameters")


def test_an_accuracy_that_was_seen_after_the_best_parameters():
    """It is checked at multiples of a stride, and at the end for the parameters that are kept."""
    net = network()
    data = Data(X, LABELS["sigmoid"], None, Training(iterations=2000), None, 0.8)
    task = Task(net, (fi.GradientDescent(),) * 4, None, starts_of(net)[:4])
    search = trials._Search(task, data, 2000, 1)
    search.found[:] = [10, 10, -1, 10]
    start_scores, scores = np.array([0.0, 0.0, 0.0, 0.9]), np.array([0.9, 0.7, 0.9, 0.9])
    found = search.ended(start_scores, scores, np.array([8, 8, 2000, 8]))
    assert found.tolist() == [8, 10, 2000, 0]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("output", LABELS)
@pytest.mark.parametrize("bias", [True, False])
def test_every_output_and_optimizer(output, name, dtype, bias):
    net = network(output, dtype=dtype, bias=bias)
    test = net.check_X(X_TEST), net.check_Y(LABELS[output], X)
    block = block_of(net, [PRESETS[name]] * 5, output=output, test=test, iterations=25)
    for i, start in enumerate(starts_of(net)):
        theta = start.copy()
        run = fi.train(net, theta, X, LABELS[output], optimizer=PRESETS[name], iterations=25)
        assert_array_equal(block.thetas[i], theta)
        assert_array_equal(block.columns["final_cost"][i], run.final_cost)
        assert block.columns["iterations"][i] == run.iterations
        assert_array_equal(block.costs[i, : run.iterations], run.costs)
        assert block.columns["train_score"][i] == net.score(theta, X, LABELS[output])
        assert block.columns["test_score"][i] == net.score(theta, *test)


@pytest.mark.parametrize("output", LABELS)
@pytest.mark.parametrize("factor", [1, 60])
def test_standard_errors_of_the_test_cost(output, factor):
    """Against the cost of each example alone, which Network.cost computes from logits."""
    minimize = pytest.importorskip("scipy.optimize").minimize
    net = network(output)
    test = net.check_X(X_TEST), net.check_Y(LABELS[output], X)
    starts = starts_of(net) * (factor if net.classifies else 1)
    data = Data(net.check_X(X), test[1], test, Training(iterations=0))
    found = run_task(Task(net, (fi.GradientDescent(),) * 5, None, starts), data)
    # The best biases without inputs.
    constant, nothing = fi.Network([1, net.sizes[-1]], output=output), np.zeros((1, 1))
    theta = minimize(
        lambda theta: constant.cost(theta, np.zeros((1, test[1].shape[1])), test[1]),
        np.zeros(constant.n_parameters),
        tol=1e-12,
    ).x
    best = np.array([constant.cost(theta, nothing, label[:, None]) for label in test[1].T])
    for i, theta in enumerate(starts):
        losses = [
            net.cost(theta, test[0][:, [j]], test[1][:, [j]]) for j in range(test[0].shape[1])
        ]
        assert_allclose(found.columns["test_cost"][i], np.mean(losses), rtol=1e-9)
        gains = best - np.array(losses)
        error = np.std(gains, ddof=1) / np.sqrt(len(gains))
        assert_allclose(found.columns["test_gain_error"][i], error, rtol=1e-4)  # of SciPy's minimum


def test_no_standard_error_of_one_example_or_an_infinite_cost():
    net = fi.Network([1, 1], loss="saturating_cross_entropy")
    Y = np.array([[0.0]])
    task = Task(net, (fi.GradientDescent(0.0),), None, np.array([[1e3, 0.0]]))
    for m in (1, 2):
        X_one, Y_one = np.ones((1, m)), np.tile(Y, (1, m))
        data = Data(X_one, Y_one, (X_one, Y_one), Training(iterations=1))
        columns = run_task(task, data).columns
        assert np.isinf(columns["test_cost"][0])
        assert np.isnan(columns["test_gain_error"][0])


@pytest.mark.parametrize("output", ["identity", "exponential"])
def test_losses_of_test_and_training_examples_are_compared_as_by_scipy(output):
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(5)
    net = fi.Network([2, 8, 2], output=output)
    X, Y = rng.normal(size=(2, 70)), np.floor(rng.exponential(3.0, (2, 70)))
    for n in (40, 60):
        parts = [np.ascontiguousarray(each) for each in (X[:, :n], Y[:, :n], X[:, n:], Y[:, n:])]
        data = Data(*parts[:2], tuple(parts[2:]), Training(iterations=20))
        found = run_task(Task(net, (fi.Adam(0.05),) * 3, None, starts_of(net)[:3]), data)
        for theta, p in zip(found.thetas, found.columns["losses_p_value"], strict=True):
            losses = np.array([net.cost(theta, X[:, [i]], Y[:, [i]]) for i in range(70)])
            expected = stats.mannwhitneyu(
                losses[n:], losses[:n], alternative="greater", method="asymptotic"
            ).pvalue
            assert_allclose(p, expected, rtol=1e-9)
    few = Data(X, Y, (X[:, :9].copy(), Y[:, :9].copy()), Training(iterations=1))
    task = Task(net, (fi.GradientDescent(),), None, starts_of(net)[:1])
    assert np.isnan(run_task(task, few).columns["losses_p_value"][0])


@pytest.mark.parametrize("name", ["full batches", "mini-batches", "tol", "validation of scores"])
def test_partition_threads_and_order_change_no_bit(name):
    net, settings = network(), dict(SETTINGS[name])
    batch_size = settings.pop("batch_size", None)
    training = Training(**{"iterations": 70} | settings)
    test = net.check_X(X_TEST), net.check_Y(LABELS["sigmoid"], X)
    data = Data(net.check_X(X), test[1], test, training, 0.66, 0.62)
    starts = np.array([net.initialize("he_normal", seed=seed) for seed in range(40)])
    optimizers = [fi.Adam(0.01 * (i % 7)) for i in range(40)]

    def blocks(parts, threads=1):
        for part in parts:
            task = Task(net, tuple(optimizers[i] for i in part), batch_size, starts[part])
            yield from zip(part, [run_task(task, data, threads)] * len(part), range(len(part)),
                           strict=True)  # fmt: skip

    order = np.random.default_rng(1).permutation(40)
    whole = {int(i): (block, row) for i, block, row in blocks([np.arange(40)], 2)}
    for parts in ([[i] for i in range(40)], [order[:13], order[13:]], [order]):
        for i, block, row in blocks(parts):
            other, own = whole[int(i)]
            assert_array_equal(block.thetas[row], other.thetas[own])
            assert_array_equal(block.costs[row], other.costs[own])
            for column in trials.COLUMNS:
                if column != "seconds":
                    assert_array_equal(
                        block.columns[column][row], other.columns[column][own], err_msg=column
                    )


def test_l2_and_rates_per_layer():
    net = network()
    optimizers = [
        fi.Momentum([0.1, (0.2, 0.05), fi.optimizers.Cosine(initial=0.3, iterations=50)], l2=0.1),
        fi.Momentum(0.1, nesterov=True),
        fi.Momentum(lambda i: 0.1 / (1 + i), momentum=0.5),
        fi.Momentum(0.2, l2=0.5),
        fi.Momentum([0.0, 0.0, 0.1]),
    ]
    block = block_of(net, optimizers)
    for i, start in enumerate(starts_of(net)):
        theta = start.copy()
        run = fi.train(net, theta, X, LABELS["sigmoid"], optimizer=optimizers[i], iterations=70)
        assert_array_equal(block.thetas[i], theta)
        _, gradient = net.loss_and_gradient(theta, X, LABELS["sigmoid"])
        l2 = optimizers[i].l2 * np.where(net._is_weight, theta, 0)
        assert_allclose(
            block.columns["gradient_norm"][i], np.linalg.norm(gradient + l2), rtol=1e-12
        )
        assert_array_equal(block.costs[i], run.costs)


def test_curves_of_runs_that_diverged_early(monkeypatch):
    """Training limits the number of NaN after a divergence: the curves have the same points."""
    monkeypatch.setattr(loop, "MOST_NAN", 10)
    block = block_of(network(), [fi.GradientDescent(rate) for rate in RATES], iterations=1500)
    assert block.costs.shape == (5, len(block.points))
    ends = np.where(block.columns["diverged_at"] < 0, 1500, block.columns["diverged_at"])
    assert_array_equal(np.isfinite(block.costs), block.points < ends[:, None])
    assert_array_equal(np.isnan(block.columns["final_cost"]), ends < 1500)


def test_callback_ends_the_stack():
    net = network()
    data = Data(net.check_X(X), LABELS["sigmoid"], None, Training(iterations=10**9), None, 1.0)
    calls = []

    def stop(stack):
        calls.append(max(stack.iterations))
        return True

    block = run_task(Task(net, (fi.GradientDescent(),) * 5, None, starts_of(net)), data, 1, stop)
    assert calls == [1000], "the search for a target does not delay the callback"
    assert not block.complete.any()
    assert_array_equal(block.columns["iterations"], 1000)


def test_pure_data():
    """Tasks, data and blocks pickle, and a round trip changes no result."""
    net = network()
    data = Data(net.check_X(X), LABELS["sigmoid"], None, Training(iterations=5))
    task = Task(net, (fi.Adam(),) * 5, 16, starts_of(net))
    block = run_task(task, data)
    again: Block = pickle.loads(pickle.dumps(run_task(*pickle.loads(pickle.dumps((task, data))))))
    assert_array_equal(block.thetas, again.thetas)
    assert_array_equal(block.costs, again.costs)
    for name, dtype in trials.COLUMNS.items():
        assert again.columns[name].dtype == dtype
        assert again.columns[name].shape == (5,)


def test_select():
    block = block_of(network(), [fi.Adam()] * 5)
    for rows in ([3, 1], [True, False, False, True, True], np.empty(0, int)):
        part = block.select(rows)
        chosen = np.arange(5)[rows]
        assert len(part) == len(chosen)
        assert_array_equal(part.thetas, block.thetas[chosen])
        assert_array_equal(part.columns["final_cost"], block.columns["final_cost"][chosen])


@pytest.mark.parametrize(
    ("n", "step", "length"),
    [(0, 1, 0), (1, 1, 1), (500, 1, 500), (501, 2, 251), (502, 2, 252), (15_000, 50, 301),
     (400_000, 1000, 401)],
)  # fmt: skip
def test_kept_points(n, step, length):
    """At most 501 points, with the first, the last and every thousandth iteration."""
    points = trials.kept_points(n)
    assert trials.stride(n) == step
    assert len(points) == length <= trials.POINTS + 1
    assert set(range(0, n, 1000)) <= set(points.tolist())
    assert n == 0 or (points[0] == 0 and points[-1] == n - 1)
