import re
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit as fi
from fastinit import kernels, reference
from fastinit.training import loop


def test_trains_in_place(net, theta, circles):
    start = theta.copy()
    run = fi.train(net, theta, *circles[:2], iterations=100)
    assert run.theta is theta
    assert (theta != start).any()
    assert (run.iterations, len(run.costs), run.diverged_at) == (100, 100, None)
    assert run.final_cost == net.cost(theta, *circles[:2]) != run.costs[-1]
    assert np.shares_memory(run.parameters["W1"], theta)


def test_is_the_reference(net, theta, circles):
    X, Y, _, _ = circles
    expected, costs = theta.copy(), np.empty(500)
    reference.descend(
        net.layout, [fi.GradientDescent().rule], expected[None], np.empty((1, 0, 91)), 0, X,
        Y.astype(float), None, None, 300, 0, np.full((1, 500, 1), 0.01), costs[None],
        np.empty(1, np.intp), np.arange(1), 1,
    )  # fmt: skip
    run = fi.train(net, theta, X, Y, iterations=500)
    np.testing.assert_allclose(run.costs, costs, rtol=1e-12)
    np.testing.assert_allclose(theta, expected, rtol=1e-10)


def test_same_bits_every_time(net, theta, circles):
    again = theta.copy()
    first = fi.train(net, theta, *circles[:2], iterations=3000)
    second = fi.train(net, again, *circles[:2], iterations=3000, callback=lambda run: None)
    assert_array_equal(theta, again)
    assert_array_equal(first.costs, second.costs)


def test_no_iterations_is_a_no_op(net, theta, circles):
    start = theta.copy()
    run = fi.train(net, theta, *circles[:2], iterations=0)
    assert_array_equal(theta, start)
    assert (run.iterations, run.costs.shape, run.diverged_at) == (0, (0,), None)
    assert run.final_cost == net.cost(theta, *circles[:2])
    assert "iterations   0" in repr(run)


def test_learning_rate_zero_stays(net, theta, circles):
    start = theta.copy()
    run = fi.train(net, theta, *circles[:2], learning_rate=0, iterations=3)
    assert_array_equal(theta, start)
    assert len(set(run.costs)) == 1


def test_callback_sees_the_run_and_stops_it(net, theta, circles):
    seen = []

    def callback(run):
        seen.append(run.iterations)
        assert len(run.costs) == run.iterations
        assert not np.isnan(run.costs).any()
        return run.iterations >= 1000

    run = fi.train(net, theta, *circles[:2], iterations=10**7, callback=callback)
    assert seen == sorted(set(seen))
    assert run.iterations == seen[-1] < 10**7
    expected = net.initialize("lesson.he", seed=3)
    fi.train(net, expected, *circles[:2], iterations=run.iterations)
    assert_array_equal(theta, expected)


def test_anything_true_stops(net, theta, circles):
    run = fi.train(net, theta, *circles[:2], iterations=10**6, callback=lambda run: np.True_)
    assert run.iterations == 1


def test_slow_callback_slows_nothing_else(net, theta, circles):
    """Its time is not taken for the kernel's: the slices still grow to 20 ms of training."""
    seen = []

    def callback(run):
        seen.append(run.iterations)
        time.sleep(0.03)
        return len(seen) == 8

    fi.train(net, theta, *circles[:2], iterations=10**7, callback=callback, callback_every=None)
    assert seen[-1] - seen[-2] > 100


def test_callback_hears_of_the_divergence(net, theta, circles):
    seen = []
    run = fi.train(
        net, theta, *circles[:2], learning_rate=1e200, iterations=1000,
        callback=lambda run: seen.append(run.diverged_at),
    )  # fmt: skip
    assert seen[-1] == run.diverged_at is not None


def test_theta_of_a_subclass_is_the_same_object(net, theta, circles, tmp_path):
    mapped = np.memmap(tmp_path / "theta", dtype=np.float64, shape=(91,), mode="w+")
    mapped[:] = theta
    run = fi.train(net, mapped, *circles[:2], iterations=10)
    assert run.theta is mapped
    fi.train(net, theta, *circles[:2], iterations=10)
    assert_array_equal(np.asarray(mapped), theta)


def test_callback_that_raises_loses_nothing(net, theta, circles):
    seen = []

    def callback(run):
        seen.append(run.iterations)
        if len(seen) == 3:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fi.train(net, theta, *circles[:2], iterations=10**6, callback=callback)
    expected = net.initialize("lesson.he", seed=3)
    fi.train(net, expected, *circles[:2], iterations=seen[-1])
    assert_array_equal(theta, expected)


def test_divergence_is_reported(net, theta, circles):
    run = fi.train(net, theta, *circles[:2], learning_rate=1e200, iterations=1000)
    assert run.diverged_at is not None
    assert run.iterations == run.diverged_at < 1000
    assert len(run.costs) == 1000
    assert np.isnan(run.costs[run.diverged_at :]).all()
    assert not np.isnan(run.costs[: run.diverged_at]).any()
    assert np.isfinite(theta).all()
    assert np.isnan(run.final_cost)
    assert f"diverged at  iteration {run.diverged_at}" in repr(run)


def test_infinite_cost_is_no_divergence(lesson_net, circles):
    theta = lesson_net.initialize("lesson.random", seed=3)
    run = fi.train(lesson_net, theta, *circles[:2], iterations=100)
    assert run.costs[0] == np.inf
    assert run.diverged_at is None
    assert np.isfinite(run.final_cost)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"learning_rate": -0.1}, ValueError, "learning_rate: expected finite and >= 0; got -0.1"),
        ({"learning_rate": np.nan}, ValueError, "learning_rate: expected finite and >= 0; got nan"),
        ({"learning_rate": np.inf}, ValueError, "learning_rate: expected finite and >= 0; got inf"),
        ({"learning_rate": "0.1"}, TypeError, "learning_rate: expected a number; got str"),
        (
            {"learning_rate": 10**400},
            ValueError,
            "learning_rate: expected finite and >= 0; got inf",
        ),
        (
            {"learning_rate": np.array([0.1])},
            ValueError,
            "expected one for each of 3 layers; got 1",
        ),
        ({"learning_rate": {0.1}}, TypeError, "learning_rate: expected a number; got set"),
        ({"learning_rate": []}, ValueError, "learning_rate: expected one for each layer; got none"),
        ({"learning_rate": [0.1, [0.1], 0.1]}, ValueError, "rate of layer 2: expected one"),
        ({"learning_rate": [0.1, 0.1, -1]}, ValueError, "rate of layer 3: expected finite"),
        ({"learning_rate": [0.1, (0.1, "x"), 1]}, TypeError, "rate of layer 2: expected a num"),
        ({"cost_every": 0}, ValueError, "cost_every: expected an integer from 1"),
        (
            {"iterations": 10**30},
            ValueError,
            "iterations: expected an integer from 0 to 2**48 - 1; got 1000",
        ),
        ({"learning_rate": 1j}, TypeError, "learning_rate: expected a number; got complex"),
        (
            {"iterations": -1},
            ValueError,
            "iterations: expected an integer from 0 to 2**48 - 1; got -1",
        ),
        ({"iterations": 10.0}, TypeError, "iterations: expected an integer; got float"),
        ({"iterations": True}, TypeError, "iterations: expected an integer; got bool"),
        ({"optimizer": "adam"}, TypeError, "AdamW, LBFGS; got 'adam'"),
        ({"optimizer": fi.Adam}, TypeError, "LBFGS; got the class Adam"),
        (
            {"optimizer": fi.LBFGS(), "learning_rate": 0.1},
            TypeError,
            "learning_rate: expected none with LBFGS; got 0.1",
        ),
        (
            {"optimizer": fi.GradientDescent(), "learning_rate": 1.0},
            TypeError,
            "learning_rate: pass it either directly or in the optimizer, not both",
        ),
        (
            {"batch_size": 0},
            ValueError,
            "batch_size: expected an integer from 1",
        ),
        ({"shuffle": 1}, ValueError, "shuffle: expected shape (300,); got ()"),
        ({"callback_every": 5}, ValueError, "callback_every: expected a callback as well; got 5"),
        (
            {"callback_every": 0, "callback": print},
            ValueError,
            "callback_every: expected an integer from 1",
        ),
        (
            {"callback_every": "day", "callback": print},
            ValueError,
            "callback_every: expected one of epoch; got 'day'",
        ),
        ({"batch_size": 10.0}, TypeError, "batch_size: expected an integer; got float"),
        ({"seed": -1}, ValueError, "seed: expected"),
        ({"seed": "0"}, TypeError, "seed: expected"),
        (
            {"epochs": 1, "iterations": 1},
            TypeError,
            "epochs: pass either epochs or iterations, not both",
        ),
        ({"epochs": -1}, ValueError, "epochs: expected an integer from 0"),
        (
            {"sample_weight": np.ones(299)},
            ValueError,
            "sample_weight: expected shape (300,) to match X",
        ),
        (
            {"sample_weight": np.ones((1, 300))},
            ValueError,
            "sample_weight: expected shape (300,) to match X",
        ),
        (
            {"sample_weight": np.zeros(300)},
            ValueError,
            "sample_weight: expected at least one above 0; got",
        ),
        (
            {"sample_weight": -np.ones(300)},
            ValueError,
            "sample_weight: expected finite and >= 0; got -1.0",
        ),
        (
            {"sample_weight": np.full(300, np.nan)},
            ValueError,
            "sample_weight: expected finite and >= 0; got n",
        ),
        (
            {"sample_weight": np.full(300, np.inf)},
            ValueError,
            "sample_weight: expected finite and >= 0; got i",
        ),
        (
            {"sample_weight": np.ones(300, object)},
            TypeError,
            "sample_weight: expected real numbers; got dtype",
        ),
        ({"class_weight": "even"}, ValueError, "class_weight: expected a dict or 'balanced'; got"),
        (
            {"class_weight": 2.0},
            TypeError,
            "class_weight: expected a dict or 'balanced'; got float",
        ),
        ({"class_weight": {2: 1}}, ValueError, "class_weight: expected classes 0 to 1; got 2"),
        ({"class_weight": {1: -1}}, ValueError, "class_weight[1]: expected finite and >= 0; got"),
        (
            {"class_weight": {0: 0, 1: 0}},
            ValueError,
            "sample_weight: expected at least one above 0",
        ),
        ({"validation": np.ones((2, 9))}, TypeError, "validation: expected a pair (X, Y); got nd"),
        (
            {"validation": (np.ones((3, 9)), np.ones((1, 9)))},
            ValueError,
            "X of validation: expected shape (2, n_examples); got (3, 9)",
        ),
        (
            {"validation": (np.ones((2, 9)), np.ones((1, 8)))},
            ValueError,
            "Y of validation: expected shape (9,) or (1, 9) to match X of validation (2, 9); "
            "got (1, 8)",
        ),
        (
            {"validation": (np.ones((2, 9)), np.full((1, 9), 2))},
            ValueError,
            "Y of validation: expected labels 0 and 1; got 2",
        ),
        ({"validate_every": 0}, ValueError, "validate_every: expected an integer from 1"),
        ({"validate_every": 2}, ValueError, "validate_every: expected validation data as well"),
        ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change: expected an integer from 1"),
        ({"n_iter_no_change": 2.0}, TypeError, "n_iter_no_change: expected an integer; got float"),
        ({"tol": -1}, ValueError, "tol: expected finite and >= 0; got -1"),
        ({"tol": "1"}, TypeError, "tol: expected a number; got str"),
        ({"monitor": "loss"}, ValueError, "monitor: expected one of cost, score; got 'loss'"),
        ({"monitor": "score", "tol": 0}, ValueError, "monitor: expected validation data with"),
        (
            {"monitor": "score", "validation": (np.ones((2, 9)), np.ones((1, 9)))},
            ValueError,
            "monitor: expected tol or n_iter_no_change with 'score'; got none",
        ),
        ({"penalty_in_cost": 1}, TypeError, "penalty_in_cost: expected True or False; got 1"),
        ({"progress": "bar"}, TypeError, "progress: expected True or False; got 'bar'"),
        ({"callback": 3}, TypeError, "callback: expected a callable; got int"),
        ({"shuffle": "no"}, TypeError, "shuffle: expected True, False, integers or a callable"),
        ({"shuffle": np.arange(299)}, ValueError, "shuffle: expected shape (300,); got (299,)"),
        ({"shuffle": np.arange(300.0)}, TypeError, "shuffle: expected True, False, integers or"),
        ({"shuffle": np.arange(1, 301)}, ValueError, "shuffle: expected indices from 0 to 299; go"),
        ({"shuffle": [[0], [1, 2]]}, ValueError, "shuffle: expected shape (300,); got a ragged"),
        (
            {"shuffle": lambda epoch: np.arange(1, 301)},
            ValueError,
            "shuffle at epoch 0: expected indices from 0 to 299; got 300",
        ),
        ({"threads": 0}, ValueError, "threads: expected an integer from 1"),
        ({"resume": "run"}, TypeError, "resume: expected a Run or a Stack; got str"),
        ({"optimizer": [fi.Adam()]}, TypeError, "optimizer: expected an instance of one of Grad"),
        (
            {"optimizer": fi.LBFGS(), "batch_size": 9},
            ValueError,
            "optimizer: expected another than",
        ),
        (
            {"learning_rate": lambda i: -1.0},
            ValueError,
            "learning_rate at iteration 0: expected fi",
        ),
        (
            {"learning_rate": lambda i: "1"},
            TypeError,
            "learning_rate at iteration 0: expected a nu",
        ),
    ],
)
def test_bad_settings(net, theta, circles, keywords, error, message):
    start = theta.copy()
    with pytest.raises(error, match=re.escape(message)):
        fi.train(net, theta, *circles[:2], **keywords)
    assert_array_equal(theta, start)


@pytest.mark.parametrize(
    ("sizes", "output", "Y", "message"),
    [
        ([2, 3], "softmax", [0, 1, 3], "Y: expected integers from 0 to 2; got 3"),
        ([2, 3], "softmax", [0, 1, -1], "Y: expected integers from 0 to 2; got -1"),
        ([2, 3], "softmax", [0, 1, 0.5], "Y: expected integers from 0 to 2; got 0.5"),
        ([2, 3], "softmax", [0, 1, np.nan], "Y: expected integers from 0 to 2; got nan"),
        ([2, 3], "softmax", [0, 1], "Y: expected shape (3,) or (3, 3) to match X (2, 3); got (2,)"),
        (
            [2, 3],
            "softmax",
            np.ones((2, 3)),
            "expected shape (3,) or (3, 3) to match X (2, 3); got",
        ),
        ([2, 3], "softmax", np.ones((3, 3)), "Y: expected one 1 for each example; got 3 for exam"),
        ([2, 3], "softmax", np.eye(3) * 2, "Y: expected labels 0 and 1; got 2.0"),
        ([2, 3], "sigmoid", [0, 1, 2], "got (3,)"),
        ([2, 3], "sigmoid", [0, 1, 2], "(class numbers require output='softmax')"),
        ([2, 1], "exponential", [[0, 1, -2]], "Y: expected finite float32 numbers >= 0; got -2"),
        ([2, 1], "identity", [[0, 1, np.inf]], "Y: expected finite float32 numbers; got inf"),
        ([2, 1], "identity", [[0, 1, 1e39]], "Y: expected finite float32 numbers; got 1e+39"),
    ],
)
def test_labels_that_do_not_fit_the_output(sizes, output, Y, message):
    network = fi.Network(sizes, output=output, dtype="float32")
    theta = np.zeros(network.n_parameters, np.float32)
    with pytest.raises(ValueError, match=re.escape(message)):
        fi.train(network, theta, np.ones((2, 3)), Y)
    assert not theta.any()


def test_float16_data_is_converted(circles):
    X, Y, _, _ = circles
    half = X.astype(np.float16)
    net = fi.Network([2, 10, 5, 1], dtype="float32")
    theta, again = (net.initialize("he_normal", seed=0) for _ in range(2))
    fi.train(net, theta, half, Y.astype(np.float16), iterations=20)
    fi.train(net, again, half.astype(np.float32), Y, iterations=20)
    assert_array_equal(theta, again)


@pytest.mark.parametrize("bad", [np.nan, -1.0, np.inf])
def test_schedule_that_goes_wrong_leaves_whole_iterations(net, theta, circles, bad):
    replay = theta.copy()
    with pytest.raises(ValueError, match="learning_rate at iteration 30: expected finite and >= 0"):
        fi.train(
            net, theta, *circles[:2], iterations=100,
            optimizer=fi.Adam(lambda i: bad if i == 30 else 0.01),
        )  # fmt: skip
    for iterations in range(31):
        there = replay.copy()
        fi.train(net, there, *circles[:2], optimizer=fi.Adam(0.01), iterations=iterations)
        if (there == theta).all():
            return
    pytest.fail("theta is at no whole iteration")


def test_schedules(net, theta, circles):
    """One rate for each iteration, counted from 0: three short runs do the same."""
    rates = [0.5, 0.25, 0.0, 0.1]
    by_hand = theta.copy()
    fi.train(net, theta, *circles[:2], learning_rate=lambda i: rates[i], iterations=4)
    for rate in rates:
        fi.train(net, by_hand, *circles[:2], learning_rate=rate, iterations=1)
    assert_array_equal(theta, by_hand)
    assert fi.InverseScaling(initial=0.1, power=0.5)(24) == pytest.approx(0.02)
    cosine = fi.Cosine(initial=1.0, iterations=10, final=0.1)
    assert [cosine(0), cosine(10), cosine(11)] == [1.0, 0.1, 0.1]
    assert all(cosine(i) > cosine(i + 1) for i in range(10))


def test_progress(net, theta, circles):
    pytest.importorskip("rich")
    again = theta.copy()
    shown = fi.train(net, theta, *circles[:2], iterations=100, progress=True)
    plain = fi.train(net, again, *circles[:2], iterations=100)
    assert_array_equal(shown.costs, plain.costs)


# --- mini-batches ---------------------------------------------------------------------------------


def batches_of(m, batch_size, epochs, key):
    """The batches that training promises: consecutive pieces of each epoch's permutation."""
    for epoch in range(epochs):
        order = np.empty(m, np.intp)
        kernels.random.permutation(order, key, 2**63 + epoch)
        yield from np.split(order, range(batch_size, m, batch_size))


@pytest.mark.parametrize("batch_size", [1, 64, 100, 299])
def test_batches(net, theta, circles, batch_size):
    """At a rate of zero the costs tell which examples each batch held, the short last one too."""
    X, Y, _, _ = circles
    run = fi.train(net, theta, X, Y, learning_rate=0, epochs=3, batch_size=batch_size, seed=11)
    batches = list(batches_of(300, batch_size, 3, 11))
    expected = [net.cost(theta, X[:, batch], Y[:, batch]) for batch in batches]
    np.testing.assert_allclose(run.costs, expected, rtol=1e-12)
    assert run.iterations == len(batches) == 3 * -(-300 // batch_size)
    once = np.sort(np.concatenate(batches[: len(batches) // 3]))
    assert_array_equal(once, np.arange(300))
    assert len(batches[len(batches) // 3 - 1]) == (300 % batch_size or batch_size)


def test_one_batch_of_all_is_a_full_batch(net, theta, circles):
    again = theta.copy()
    run = fi.train(net, theta, *circles[:2], iterations=20, batch_size=300)
    full = fi.train(net, again, *circles[:2], iterations=20)
    assert run.batch_size is None
    assert_array_equal(run.costs, full.costs)


def test_seeds_of_the_shuffling(net, theta, circles):
    def costs(seed):
        return fi.train(
            net, theta.copy(), *circles[:2], iterations=9, batch_size=50, seed=seed
        ).costs

    first = costs(0)
    assert_array_equal(costs(0), first)
    assert (costs(1) != first).any()
    assert (costs(None) != costs(None)).any()
    sequence = np.random.SeedSequence(3)
    assert_array_equal(costs(sequence), costs(np.random.SeedSequence(3)))
    state = np.random.get_state()[1].copy()
    costs(None)
    assert_array_equal(np.random.get_state()[1], state, "the global state is left alone")


def test_epochs_drawn_in_parts_are_the_same(net, theta, circles, monkeypatch):
    """How many epochs' orders are drawn at once shows nowhere."""
    again = theta.copy()
    fi.train(net, theta, *circles[:2], epochs=40, batch_size=70)
    monkeypatch.setattr(fi.training.loop, "MOST_ORDERED", 1)
    fi.train(net, again, *circles[:2], epochs=40, batch_size=70)
    assert_array_equal(theta, again)


# --- weights --------------------------------------------------------------------------------------


def test_weight_nothing_is_absence(net, theta, circles):
    X, Y, _, _ = circles
    weights = (np.arange(300) % 3 > 0).astype(float)
    again = theta.copy()
    run = fi.train(net, theta, X, Y, iterations=50, sample_weight=weights)
    part = fi.train(net, again, X[:, weights > 0], Y[:, weights > 0], iterations=50)
    np.testing.assert_allclose(run.costs, part.costs, rtol=1e-12)
    np.testing.assert_allclose(theta, again, rtol=1e-11)


def test_weight_two_is_twice(net, theta, circles):
    X, Y, _, _ = circles
    weights = 1 + np.arange(300) % 3
    again = theta.copy()
    run = fi.train(net, theta, X, Y, iterations=50, sample_weight=weights)
    repeated = fi.train(
        net, again, np.repeat(X, weights, axis=1), np.repeat(Y, weights, axis=1), iterations=50
    )
    np.testing.assert_allclose(run.costs, repeated.costs, rtol=1e-12)
    np.testing.assert_allclose(theta, again, rtol=1e-11)
    assert net.cost(theta, X, Y, sample_weight=weights) == pytest.approx(
        net.cost(theta, np.repeat(X, weights, axis=1), np.repeat(Y, weights, axis=1)), rel=1e-12
    )


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_class_weight(circles, output):
    X, _, _, _ = circles
    compute = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    classes = (X[0] > 0.3).astype(int)
    Y = classes[None] if output == "sigmoid" else classes
    net = fi.Network([2, 8, 1 if output == "sigmoid" else 2], output=output)
    start = net.initialize("he_normal", seed=0)
    balanced = compute("balanced", classes=np.array([0, 1]), y=classes)
    some = np.linspace(0, 2, 300)
    runs = [
        fi.train(net, start.copy(), X, Y, iterations=30, **keywords)
        for keywords in (
            {"class_weight": "balanced", "sample_weight": some},
            {"class_weight": dict(enumerate(balanced)), "sample_weight": some},
            {"class_weight": {1.0: balanced[1], 0.0: balanced[0]}, "sample_weight": some},
            {"sample_weight": balanced[classes] * some},
        )
    ]
    for run in runs[1:]:
        np.testing.assert_allclose(run.costs, runs[0].costs, rtol=1e-12)
    one = fi.train(net, start.copy(), X, Y, iterations=5, class_weight={1: 3.0})
    same = fi.train(net, start.copy(), X, Y, iterations=5, sample_weight=1 + 2.0 * classes)
    assert_array_equal(one.costs, same.costs)


@pytest.mark.parametrize(("sizes", "output"), [([2, 1], "identity"), ([2, 2], "sigmoid")])
def test_class_weight_without_classes(circles, sizes, output):
    net = fi.Network(sizes, output=output)
    Y = np.zeros((sizes[-1], 300))
    with pytest.raises(ValueError, match="class_weight: expected a network with one class for eac"):
        fi.train(net, np.zeros(net.n_parameters), circles[0], Y, class_weight="balanced")


# --- validation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 64])
def test_validation(net, theta, circles, batch_size):
    """What was seen is cost and accuracy at those moments; nothing else changes."""
    X, Y, *test = circles
    start = theta.copy()
    settings = {"learning_rate": 0.3, "batch_size": batch_size}
    run = fi.train(
        net, theta, X, Y, iterations=23, validation=tuple(test), validate_every=7, **settings
    )
    assert_array_equal(run.validation_iterations, [7, 14, 21])
    for at, cost, accuracy in zip(
        run.validation_iterations, run.validation_costs, run.validation_scores, strict=True
    ):
        then = start.copy()
        fi.train(net, then, X, Y, iterations=int(at), **settings)
        assert cost == net.cost(then, *test)
        assert accuracy == net.accuracy(then, *test)
    fi.train(net, start, X, Y, iterations=23, **settings)
    assert_array_equal(theta, start)
    assert "validation   cost" in repr(run)


def test_validation_is_once_an_epoch_by_default(net, theta, circles):
    run = fi.train(net, theta, *circles[:2], epochs=4, batch_size=64, validation=circles[2:])
    assert_array_equal(run.validation_iterations, [5, 10, 15, 20])


def test_early_stopping_goes_back_to_the_best(net, theta, circles):
    X, Y, *test = circles
    start = theta.copy()
    settings = {"learning_rate": 3.0, "batch_size": 30, "seed": 4}
    run = fi.train(
        net, theta, X, Y, iterations=10_000, validation=tuple(test), tol=0, n_iter_no_change=5,
        **settings,
    )  # fmt: skip
    assert run.stopped_by == "tol"
    best = int(np.argmin(run.validation_costs))
    assert run.best_iteration == run.validation_iterations[best]
    assert len(run.validation_costs) == best + 1 + 5
    assert len(run.costs) == run.iterations == run.validation_iterations[-1]
    assert net.cost(theta, *test) == run.validation_costs[best]
    fi.train(net, start, X, Y, iterations=run.best_iteration, **settings)
    assert_array_equal(theta, start)
    assert "best after" in repr(run)
    with pytest.raises(ValueError, match=r"resume: expected a run whose theta is the latest; got"):
        fi.train(net, theta, X, Y, resume=run)


def test_improvements_below_tol_do_not_count(net, theta, circles):
    """As in scikit-learn, the best value is the lowest nevertheless."""
    run = fi.train(
        net, theta, *circles[:2], iterations=100, validation=circles[2:], n_iter_no_change=4,
        tol=10.0,
    )  # fmt: skip
    assert (run.iterations, run.best_iteration) == (5, 1 + np.argmin(run.validation_costs))


@pytest.mark.parametrize("output", ["sigmoid", "identity"])
def test_early_stopping_by_score(circles, output):
    """Accuracy, or R2 as scikit-learn computes it."""
    X, Y, *test = circles
    net = fi.Network([2, 10, 1], output=output)
    theta = net.initialize("he_normal", seed=0)
    run = fi.train(
        net, theta, X, Y, learning_rate=0.3, iterations=5_000, validation=tuple(test),
        monitor="score", tol=0.0, n_iter_no_change=30,
    )  # fmt: skip
    assert run.stopped_by == "tol"
    best = int(np.argmax(run.validation_scores))
    assert run.best_iteration == best + 1 == run.iterations - 30
    assert net.score(theta, *test) == run.validation_scores[best]


def test_r2_is_scikit_learns():
    r2_score = pytest.importorskip("sklearn.metrics").r2_score
    net = fi.Network([3, 4, 2], output="identity")
    thetas = net.initialize("glorot_normal", seed=0, n=3)
    X, Y = fi.normal((3, 50), seed=1), fi.normal((2, 50), seed=2)
    for labels in (Y, np.array([Y[0], np.full(50, 2.0)])):
        expected = [r2_score(labels.T, net.predict(theta, X).T) for theta in thetas]
        np.testing.assert_allclose(net.score(thetas, X, labels), expected, rtol=1e-12)


# --- stopping on the training cost ----------------------------------------------------------------


@pytest.mark.parametrize("slice_seconds", [1e-9, 0.02])
@pytest.mark.parametrize("batch_size", [None, 64])
@pytest.mark.parametrize("optimizer", [fi.Momentum(0.5), fi.Adam(0.1)], ids=str)
def test_tol(net, theta, circles, monkeypatch, optimizer, batch_size, slice_seconds):
    """It stops where the rule says, whatever slices the training is cut into."""
    monkeypatch.setattr("fastinit.training.loop.SLICE_SECONDS", slice_seconds)
    settings = {"optimizer": optimizer, "batch_size": batch_size, "seed": 1}
    X, Y, _, _ = circles
    full = fi.train(net, theta.copy(), X, Y, epochs=600, **settings)
    sizes = np.array([300] if batch_size is None else [64] * 4 + [44])
    epochs = full.costs.reshape(-1, len(sizes)) @ sizes / 300
    best, since, count = np.inf, 0, 0
    while since < 7:
        since = 0 if epochs[count] < best - 1e-3 else since + 1
        best = min(best, epochs[count])
        count += 1
    run = fi.train(net, theta.copy(), X, Y, epochs=600, tol=1e-3, n_iter_no_change=7, **settings)
    expected = fi.train(net, theta, X, Y, epochs=count, **settings)
    assert (run.stopped_by, run.iterations) == ("tol", expected.iterations)
    assert count < 600
    assert_array_equal(run.theta, theta)
    assert_array_equal(run.costs, expected.costs)
    assert_array_equal(run._state, expected._state)
    assert run.best_iteration is None
    # It can be trained further, and the state is that of the iteration at which it stopped.
    more = [fi.train(net, each.theta, X, Y, resume=each, iterations=9) for each in (run, expected)]
    assert_array_equal(more[0].theta, more[1].theta)


def test_tol_of_each_network_of_a_stack(net, circles):
    X, Y, _, _ = circles
    thetas = net.initialize("he_normal", seed=0, n=5)
    rates = [1.0, 0.0, 1e200, 0.3, 0.01]
    settings = {"iterations": 2000, "tol": 1e-4, "n_iter_no_change": 5}
    start = thetas.copy()
    stack = fi.train(net, thetas, X, Y, learning_rate=rates, **settings)
    for run, rate, theta in zip(stack, rates, start, strict=True):
        alone = fi.train(net, theta, X, Y, learning_rate=rate, **settings)
        assert (run.stopped_by, run.iterations) == (alone.stopped_by, alone.iterations)
        assert_array_equal(run.theta, theta)
        assert_array_equal(run.costs, alone.costs)
    assert {run.stopped_by for run in stack} == {"tol", "divergence"}


@pytest.mark.parametrize("keywords", [{"tol": 1e-4}, {"n_iter_no_change": 10}])
def test_either_of_tol_and_n_iter_no_change_has_a_default(net, theta, circles, keywords):
    expected = fi.train(
        net, theta.copy(), *circles[:2], learning_rate=0, tol=1e-4, n_iter_no_change=10
    )
    run = fi.train(net, theta, *circles[:2], learning_rate=0, **keywords)
    # The first epoch is the best so far.
    assert run.iterations == expected.iterations == 11


def test_lbfgs_stops_by_tol(net, theta, circles):
    pytest.importorskip("scipy")
    X, Y, _, _ = circles
    full = fi.train(net, theta.copy(), X, Y, optimizer=fi.LBFGS(), iterations=400)
    run = fi.train(
        net, theta, X, Y, optimizer=fi.LBFGS(), iterations=400, tol=1e-2, n_iter_no_change=3
    )
    assert run.stopped_by == "tol"
    assert run.iterations < full.iterations
    assert_array_equal(run.costs, full.costs[: run.iterations])


# --- penalties ------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [fi.Momentum(0.1, l2=0.3), fi.LBFGS(l2=0.3)], ids=str)
def test_costs_with_the_penalty(net, theta, circles, optimizer):
    if isinstance(optimizer, fi.LBFGS):
        pytest.importorskip("scipy")
    X, Y, _, _ = circles
    settings = {"optimizer": optimizer, "iterations": 12}
    without = fi.train(net, theta.copy(), X, Y, **settings)
    path = [theta.copy()]
    fi.train(
        net, theta.copy(), X, Y, callback=lambda run: path.append(run.theta.copy()),
        callback_every=1, **settings,
    )  # fmt: skip
    penalties = [
        0.15 * sum(np.square(W).sum() for name, W in net.unpack(each).items() if name[0] == "W")
        for each in path[:-1]
    ]
    run = fi.train(net, theta, X, Y, penalty_in_cost=True, **settings)
    np.testing.assert_allclose(run.costs, without.costs + penalties, rtol=1e-12)
    assert_array_equal(run.theta, without.theta)
    assert run.final_cost == without.final_cost == net.cost(theta, X, Y)


# --- resume ---------------------------------------------------------------------------------------

OPTIMIZERS = [
    fi.GradientDescent(0.1, l2=0.01),
    fi.Momentum(0.05),
    fi.Momentum(0.05, nesterov=True),
    fi.Adam(fi.InverseScaling(initial=0.05)),
    fi.AdamW(0.01),
]


@pytest.mark.parametrize("batch_size", [None, 64])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resume(net, theta, circles, optimizer, batch_size):
    """Bit for bit, in the middle of an epoch, with the records of both."""
    X, Y, *test = circles
    whole = theta.copy()
    settings = {"validation": tuple(test), "validate_every": 8}
    expected = fi.train(
        net, whole, X, Y, optimizer=optimizer, batch_size=batch_size, seed=5, iterations=100,
        **settings,
    )  # fmt: skip
    run = fi.train(
        net, theta, X, Y, optimizer=optimizer, batch_size=batch_size, seed=5, iterations=37,
        **settings,
    )  # fmt: skip
    first = run.costs.copy()
    for iterations in (1, 62):
        run = fi.train(net, theta, X, Y, resume=run, iterations=iterations, **settings)
    assert_array_equal(theta, whole)
    assert_array_equal(run.costs, expected.costs)
    assert_array_equal(run.costs[:37], first)
    assert_array_equal(run.validation_iterations, expected.validation_iterations)
    assert_array_equal(run.validation_costs, expected.validation_costs)
    assert (run.optimizer, run.batch_size) == (optimizer, batch_size)


def test_resume_leaves_the_first_run_as_it_was(net, theta, circles):
    first = fi.train(net, theta, *circles[:2], optimizer=fi.Adam(), iterations=10)
    copies = [
        fi.train(net, theta.copy(), *circles[:2], resume=first, iterations=5) for _ in range(2)
    ]
    assert_array_equal(copies[0].theta, copies[1].theta)
    assert (first.iterations, first.stopped_by) == (10, "iterations")


def test_resume_with_other_settings_of_the_same_kind(net, theta, circles):
    first = fi.train(net, theta, *circles[:2], optimizer=fi.Momentum(0.1), iterations=10)
    run = fi.train(
        net, theta, *circles[:2], optimizer=fi.Momentum(0.0, 0.0), resume=first, iterations=5
    )
    assert len(set(run.costs[10:])) == 1, "at a rate of zero it stays where it is"


def test_bad_resume(net, theta, circles):
    X, Y, _, _ = circles
    run = fi.train(net, theta, X, Y, optimizer=fi.Adam(), iterations=1)
    start = theta.copy()
    other = fi.Network([2, 10, 5, 1], activation="tanh")
    for network, keywords, message in (
        (other, {"resume": run}, "resume: expected a run of Network"),
        (net, {"resume": run, "optimizer": fi.AdamW()}, "optimizer: expected Adam, as in the run"),
        (net, {"resume": run, "learning_rate": 0.1}, r"learning_rate: expected in optimizer=Adam"),
        (net, {"resume": run, "batch_size": 20}, "batch_size: expected None, as in the run to res"),
        (net, {"resume": run, "shuffle": False}, "shuffle: expected none with resume, which keeps"),
        (net, {"resume": run, "seed": 3}, "seed: expected none with resume, which keeps that of"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            fi.train(network, theta, X, Y, **keywords)
    assert_array_equal(theta, start)


@pytest.mark.parametrize("after", [fi.Momentum(1e-4), fi.Adam(1e-4), fi.GradientDescent(1e-4)])
def test_going_on_after_a_divergence(net, theta, circles, after):
    """From the last finite parameters, with a state that is as new as that of a new training."""
    X, Y = circles[0] * 1e3, circles[1]  # gradients above 1
    schedule = type(after)(lambda i: 1e-3 if i < 20 else 1.7e308)
    run = fi.train(net, theta, X, Y, optimizer=schedule, iterations=100)
    assert run.stopped_by == "divergence"
    n, middle, costs = run.iterations, theta.copy(), run.costs[: run.iterations].copy()
    more = fi.train(net, theta, X, Y, optimizer=after, resume=run, iterations=50)
    expected = fi.train(net, middle, X, Y, optimizer=after, iterations=50)
    assert (more.iterations, more.diverged_at, more.stopped_by) == (n + 50, None, "iterations")
    assert_array_equal(theta, middle)
    assert_array_equal(more.costs, np.append(costs, expected.costs))
    assert_array_equal(
        fi.train(net, theta, X, Y, resume=more, iterations=5).theta,
        fi.train(net, middle, X, Y, resume=expected, iterations=5).theta,
    )


# --- L-BFGS ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_lbfgs_is_scipys(net, theta, circles, l2):
    """The same minimum by the same steps; costs are those before each step, without the penalty."""
    minimize = pytest.importorskip("scipy.optimize").minimize
    X, Y, _, _ = circles
    start = theta.copy()
    mask = net.pack({
        name: np.full_like(value, name[0] == "W") for name, value in net.unpack(theta).items()
    })  # fmt: skip
    path = [start.copy()]

    def objective(x):
        cost, gradient = net.loss_and_gradient(x, X, Y)
        return cost + l2 / 2 * np.sum(mask * x * x), gradient + l2 * mask * x

    options = {"maxiter": 30, "gtol": 1e-5, "ftol": 0.0}
    minimize(
        objective, start, jac=True, method="L-BFGS-B", options=options,
        callback=lambda x: path.append(x.copy()),
    )  # fmt: skip
    run = fi.train(net, theta, X, Y, optimizer=fi.LBFGS(l2=l2), iterations=30)
    np.testing.assert_allclose(theta, path[-1], rtol=1e-6, atol=1e-8)
    costs = [net.cost(x, X, Y) for x in path[:-1]]
    np.testing.assert_allclose(run.costs, costs, rtol=1e-7)
    assert run.costs[0] == pytest.approx(net.cost(start, X, Y), rel=1e-14)
    assert net.cost(theta, X, Y) < run.costs[0]


def test_lbfgs_converges(circles):
    """A convex problem ends by itself, where the gradient vanishes."""
    pytest.importorskip("scipy")
    X, Y, *test = circles
    net = fi.Network([2, 1])
    theta = np.zeros(3)
    run = fi.train(
        net, theta, X, Y, optimizer=fi.LBFGS(tol=1e-6), iterations=500,
        validation=tuple(test),
    )  # fmt: skip
    assert run.stopped_by == "convergence"
    assert len(run.costs) == run.iterations < 500
    assert np.abs(net.loss_and_gradient(theta, X, Y)[1]).max() <= 1e-6
    assert_array_equal(run.validation_iterations, np.arange(1, run.iterations + 1))
    assert run.validation_costs[-1] == net.cost(theta, *test)


def test_lbfgs_is_limited_by_max_fun(net, theta, circles):
    pytest.importorskip("scipy")
    run = fi.train(net, theta, *circles[:2], optimizer=fi.LBFGS(max_fun=9), iterations=100)
    assert run.stopped_by == "max_fun"
    assert 0 < run.iterations <= 9


def test_lbfgs_resumes(net, theta, circles):
    """It starts again from theta; the record is continued."""
    pytest.importorskip("scipy")
    X, Y, _, _ = circles
    run = fi.train(net, theta, X, Y, optimizer=fi.LBFGS(), iterations=10)
    middle = theta.copy()
    more = fi.train(net, theta, X, Y, resume=run, iterations=15)
    expected = fi.train(net, middle, X, Y, optimizer=fi.LBFGS(), iterations=15)
    assert_array_equal(theta, middle)
    assert_array_equal(more.costs, np.append(run.costs, expected.costs))
    assert (more.iterations, run.iterations) == (25, 10)


def test_lbfgs_stops_for_a_callback(net, theta, circles):
    pytest.importorskip("scipy")
    run = fi.train(
        net, theta, *circles[:2], optimizer=fi.LBFGS(), iterations=100,
        callback=lambda run: run.iterations == 4,
    )  # fmt: skip
    assert (run.iterations, run.stopped_by) == (4, "callback")


def test_not_a_network(theta, circles):
    with pytest.raises(TypeError, match="network: expected a Network; got list"):
        fi.train([2, 10, 5, 1], theta, *circles[:2])


def test_theta_that_overlaps_the_data(net):
    memory = np.zeros((2, 300))
    theta = memory.reshape(-1)[:91]
    with pytest.raises(
        ValueError, match="theta: expected memory of its own; got an overlap with X"
    ):
        fi.train(net, theta, memory, np.zeros((1, 300)))


def test_run_prints(net, theta, circles):
    run = fi.train(net, theta, *circles[:2], iterations=10)
    assert repr(run).splitlines()[0] == "Run"
    assert "Network([2, 10, 5, 1]" in repr(run)
    page = run._repr_html_()
    assert page.startswith("<table>")
    assert "&#x27;relu&#x27;" in page, "escaped"


def test_without_shuffling_batches_come_in_order(net, theta, circles):
    X, Y, _, _ = circles
    expected = theta.copy()
    for _ in range(2):
        for start in range(0, 300, 128):
            batch = slice(start, start + 128)
            fi.train(net, expected, X[:, batch], Y[:, batch], iterations=1)
    run = fi.train(net, theta, X, Y, batch_size=128, shuffle=False, epochs=1)
    run = fi.train(net, theta, X, Y, epochs=1, resume=run)
    np.testing.assert_allclose(theta, expected, rtol=1e-12, atol=1e-15)
    assert run.iterations == 6


@pytest.mark.parametrize("batch_size", [None, 128])
def test_ones_own_order_of_the_examples(net, theta, circles, batch_size):
    """An array, or a callable of the epoch; an example may occur more than once."""
    X, Y, _, _ = circles
    rng = np.random.default_rng(0)
    orders = rng.integers(0, 300, (3, 300))
    asked = []

    def order(epoch):
        asked.append(epoch)
        return orders[epoch]

    expected = theta.copy()
    for each in orders:
        for start in range(0, 300, batch_size or 300):
            batch = each[start : start + (batch_size or 300)]
            fi.train(net, expected, X[:, batch], Y[:, batch], iterations=1)
    run = fi.train(net, theta, X, Y, batch_size=batch_size, shuffle=order, epochs=1)
    run = fi.train(net, theta, X, Y, epochs=2, resume=run)
    np.testing.assert_allclose(theta, expected, rtol=1e-12, atol=1e-15)
    assert asked == [0, 1, 2], "once each, however the epochs are cut"

    first, again = expected.copy(), expected.copy()
    own = orders[0].copy()
    run = fi.train(net, first, X, Y, batch_size=batch_size, shuffle=own, epochs=2)
    fi.train(net, again, X, Y, batch_size=batch_size, shuffle=lambda _: orders[0], epochs=4)
    own[:] = 0
    fi.train(net, first, X, Y, epochs=2, resume=run)
    assert_array_equal(first, again)


def test_a_batch_size_above_the_number_of_examples_is_clipped(net, theta, circles):
    full = fi.train(net, theta.copy(), *circles[:2], iterations=5)
    assert_array_equal(
        fi.train(net, theta, *circles[:2], iterations=5, batch_size=301).costs, full.costs
    )


@pytest.mark.parametrize("optimizer", [fi.GradientDescent(0.1), fi.LBFGS()], ids=str)
def test_callback_every_so_many_iterations(net, theta, circles, optimizer):
    seen = []
    keywords = {"optimizer": optimizer, "iterations": 25, "callback_every": 10}
    fi.train(net, theta, *circles[:2], callback=lambda run: seen.append(run.iterations), **keywords)
    assert seen == [10, 20, 25]


def test_callback_at_the_end_of_convergence(net, theta, circles):
    seen = []
    run = fi.train(
        net, theta, *circles[:2], optimizer=fi.LBFGS(tol=0.05), iterations=10_000,
        callback=lambda run: seen.append(run.iterations), callback_every=1000,
    )  # fmt: skip
    assert run.stopped_by == "convergence"
    assert seen == [run.iterations]


def test_a_callback_is_called_every_epoch(net, theta, circles):
    seen = []
    fi.train(
        net, theta, *circles[:2], batch_size=100, iterations=8,
        callback=lambda run: seen.append(run.iterations),
    )  # fmt: skip
    assert seen == [3, 6, 8], "after each epoch, and at the end"


def test_callback_every_epoch(net, theta, circles):
    seen = []
    run = fi.train(
        net, theta, *circles[:2], batch_size=100, epochs=9, callback_every="epoch",
        callback=lambda run: seen.append(run.iterations) or len(seen) == 4,
    )  # fmt: skip
    assert seen == [3, 6, 9, 12]
    assert run.stopped_by == "callback"


def test_without_a_callback_the_kernel_is_not_called_for_every_epoch(
    net, theta, circles, monkeypatch
):
    calls = []
    descend = loop.dense.descend
    monkeypatch.setattr(
        loop.dense, "descend", lambda *given: (calls.append(None), descend(*given))[1]
    )
    monkeypatch.setattr(loop, "SLICE_SECONDS", 1000.0)  # whatever the machine is doing
    fi.train(net, theta, *circles[:2], iterations=2000)
    assert len(calls) <= 3


@pytest.mark.parametrize("before", [fi.GradientDescent(), fi.Momentum(), fi.Adam()])
@pytest.mark.parametrize("after", [fi.Momentum(), fi.Adam(), fi.AdamW(), "adam", None])
def test_an_optimizer_set_in_a_callback_has_no_effect(net, theta, X, Y, before, after):
    expected = theta.copy()
    fi.train(net, expected, X, Y, optimizer=before, iterations=40)

    def callback(run):
        run.optimizer = after
        run._state = np.empty((0, 0))
        run.costs = None
        run.theta = None
        run.diverged_at = 3

    run = fi.train(net, theta, X, Y, optimizer=before, iterations=40, callback=callback)
    assert_array_equal(theta, expected)
    assert len(run.costs) == 40


@pytest.mark.parametrize("after", [fi.Momentum(), fi.Adam(), fi.AdamW()])
def test_resume_with_an_optimizer_that_the_state_does_not_fit(net, theta, X, Y, after):
    run = fi.train(net, theta, X, Y, iterations=3)
    run.optimizer = after
    start = theta.copy()
    with pytest.raises(ValueError, match="resume: expected the state of"):
        fi.train(net, theta, X, Y, iterations=3, resume=run)
    assert_array_equal(theta, start)


@pytest.mark.parametrize("costs", [True, None, [1.0], np.ones((2, 2)), np.ones(3, np.float32)])
def test_resume_of_costs_that_are_no_vector(net, theta, X, Y, costs):
    """Also of a run that counts its iterations by its costs."""
    run = fi.train(net, theta, X, Y, iterations=3)
    run.costs, run._iterations = costs, None
    with pytest.raises(ValueError, match=r"resume: .* costs that are not a vector"):
        fi.train(net, theta, X, Y, iterations=3, resume=run)


def test_resume_names_the_type_of_a_state(net, theta, X, Y):
    run = fi.train(net, theta, X, Y, iterations=3, optimizer=fi.Adam())
    run._state = run._state.astype(np.int64)
    with pytest.raises(ValueError, match=r"float64; got \(2, 91\), int64"):
        fi.train(net, theta, X, Y, iterations=3, resume=run)


def test_resume_of_a_run_made_by_hand(net, theta, X, Y):
    run = fi.Run(net, theta, fi.Adam(), np.empty(0))
    with pytest.raises(ValueError, match="resume: expected the state of Adam"):
        fi.train(net, theta, X, Y, iterations=1, resume=run)
    run = fi.Run(net, theta, fi.GradientDescent(), np.empty(0))
    assert fi.train(net, theta, X, Y, iterations=2, resume=run).iterations == 2


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("costs", None, ValueError),
        ("costs", np.empty((2, 2)), ValueError),
        ("costs", np.empty(1), ValueError),
        ("batch_size", 0, ValueError),
        ("batch_size", 301, ValueError),
        ("batch_size", "10", TypeError),
        ("cost_every", 0, ValueError),
        ("_iterations", -1, ValueError),
        ("_iterations", 10**30, ValueError),
        ("_order", "key", TypeError),
        ("_order", 2**64, ValueError),
        ("_order", np.arange(299), ValueError),
        ("_state_start", 6, ValueError),
        ("_state", np.zeros((1, 90)), ValueError),
        ("_state", np.zeros((1, 91), np.float32), ValueError),
        ("_state", [[0.0] * 91], ValueError),
        ("_validations", 3, ValueError),
        ("_best", 3, ValueError),
        ("seconds", "long", TypeError),
        ("seconds", 10**400, ValueError),
        ("optimizer", "momentum", TypeError),
        ("optimizer", None, TypeError),
    ],
)
def test_resume_of_a_run_whose_attributes_were_set(net, theta, X, Y, name, value, error):
    run = fi.train(net, theta, X, Y, optimizer=fi.Momentum(), iterations=5, batch_size=60)
    setattr(run, name, value)
    start = theta.copy()
    with pytest.raises(error, match=r"^(resume|optimizer)"):
        fi.train(net, theta, X, Y, iterations=1, resume=run)
    assert_array_equal(theta, start)


def test_what_trains_must_fit_at_every_slice(net, theta, circles):
    """A network whose layout was forced: refused by the kernel, before anything is written."""
    other = fi.Network([2, 10, 5, 2], output="identity")
    object.__setattr__(net, "layout", other.layout)
    start = theta.copy()
    with pytest.raises(ValueError, match="expected shape"):
        fi.train(net, theta, *circles[:2], iterations=3)
    assert_array_equal(theta, start)


def test_stop_iteration_in_a_callback_of_lbfgs(net, theta, X, Y):
    pytest.importorskip("scipy")

    def callback(run):
        raise StopIteration("from the callback")

    with pytest.raises(StopIteration, match="from the callback"):
        fi.train(net, theta, X, Y, optimizer=fi.LBFGS(), iterations=50, callback=callback)


@pytest.mark.parametrize("history", [0, 1001, 10**400])
def test_a_history_that_nobody_can_keep(history):
    with pytest.raises(ValueError, match="history: expected"):
        fi.LBFGS(history=history)


def test_costs_are_recorded_as_they_come(net, theta, X, Y):
    """A billion iterations asked for: 8 GB of costs, if they were reserved."""
    run = fi.train(net, theta, X, Y, iterations=10**9, callback=lambda run: run.iterations > 3000)
    assert run.iterations > 3000
    assert len(run.costs) == run.iterations
    expected = net.initialize("lesson.he", seed=3)
    whole = fi.train(net, expected, X, Y, iterations=run.iterations)
    assert_array_equal(whole.costs, run.costs)
    assert_array_equal(expected, theta)


def test_a_divergence_of_many_iterations(net, theta, X, Y):
    run = fi.train(net, theta, X, Y, learning_rate=1e200, iterations=10**9)
    assert run.stopped_by == "divergence"
    assert np.isnan(run.costs[run.diverged_at :]).all()


@pytest.mark.parametrize("every", [1, 2, 7, 100])
def test_costs_of_every_so_many_iterations(net, X, Y, every):
    thetas = net.initialize("he_normal", seed=0, n=3)
    start = thetas.copy()
    rates = [0.1, 0.2, 1e200]
    stack = fi.train(net, thetas, X, Y, learning_rate=rates, iterations=30, cost_every=every)
    whole = fi.train(net, start, X, Y, learning_rate=rates, iterations=30)
    assert_array_equal(stack.costs, whole.costs[:, ::every])
    assert [run.iterations for run in stack] == [run.iterations for run in whole]
    assert stack.costs.shape == (3, -(-30 // every))
    more = fi.train(net, thetas, X, Y, resume=stack, iterations=25)
    for run, expected in zip(
        more, fi.train(net, start, X, Y, resume=whole, iterations=25), strict=True
    ):
        assert_array_equal(run.costs, expected.costs[::every])
    with pytest.raises(ValueError, match="cost_every: expected"):
        fi.train(net, thetas, X, Y, resume=stack, iterations=1, cost_every=every + 1)


def test_learning_rates_of_layers(net, theta, X, Y):
    """Against plain updates by the gradient; a rate of 0 freezes."""
    rates = [0.1, (0.0, 0.3), fi.InverseScaling(initial=0.2)]
    by_hand = theta.copy()
    run = fi.train(net, theta, X, Y, learning_rate=rates, iterations=20)
    views = net.unpack(by_hand)
    for i in range(20):
        gradient = net.unpack(net.loss_and_gradient(by_hand, X, Y)[1])
        third = rates[2](i)
        for name, rate in zip(views, [0.1, 0.1, 0.0, 0.3, third, third], strict=True):
            views[name] -= rate * gradient[name]
    np.testing.assert_allclose(theta, by_hand, rtol=1e-12)
    assert_array_equal(
        net.unpack(theta)["W2"], net.unpack(net.initialize("lesson.he", seed=3))["W2"]
    )
    assert run.optimizer.learning_rate == (0.1, (0.0, 0.3), rates[2])


def test_learning_rates_of_layers_in_a_stack(net, X, Y):
    thetas = net.initialize("he_normal", seed=0, n=3)
    start = thetas.copy()
    rates = [0.1, [0.1, 0.0, 0.2], [(0.1, 0.0), 0.2, 0.3]]
    fi.train(net, thetas, X, Y, learning_rate=rates, iterations=30)
    for theta, rate, found in zip(start, rates, thetas, strict=True):
        fi.train(net, theta, X, Y, learning_rate=rate, iterations=30)
        assert_array_equal(theta, found)


def test_training_without_threads(monkeypatch, X):
    import _thread

    def refuse(*_):
        raise RuntimeError("can't start new thread")

    net = fi.Network([2, 300, 300, 1])
    Y = (X[:1] > 0).astype(float)
    theta, expected = net.initialize("he_normal", seed=0), net.initialize("he_normal", seed=0)
    fi.train(net, expected, X, Y, iterations=3, threads=2)
    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    fi.train(net, theta, X, Y, iterations=3, threads=2)
    assert_array_equal(theta, expected)


def test_lbfgs_without_scipy(net, theta, X, Y, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    start = theta.copy()
    with pytest.raises(
        ImportError, match="optimizer: LBFGS requires SciPy, which is not installed"
    ):
        fi.train(net, theta, X, Y, optimizer=fi.LBFGS())
    assert_array_equal(theta, start)
