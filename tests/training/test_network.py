import copy
import pickle
import re
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit as fi


def test_repr_makes_it_again(net):
    assert eval(repr(net), {"Network": fi.Network}) == net
    assert hash(eval(repr(net), {"Network": fi.Network})) == hash(net)
    assert net != fi.Network([2, 10, 5, 1], dtype="float32")
    assert net != "net"


def test_layout(net):
    assert (net.n_layers, net.n_parameters) == (3, 91)
    theta = np.arange(91.0)
    parameters = net.unpack(theta)
    assert list(parameters) == ["W1", "b1", "W2", "b2", "W3", "b3"]
    assert [value.shape for value in parameters.values()] == [
        (10, 2), (10, 1), (5, 10), (5, 1), (1, 5), (1, 1),
    ]  # fmt: skip
    assert_array_equal(np.concatenate([value.ravel() for value in parameters.values()]), theta)
    parameters["b2"][0, 0] = -1
    assert theta[80] == -1, "views share memory"
    assert_array_equal(net.pack(parameters), theta)
    assert not np.shares_memory(net.pack(parameters), theta)


def test_pack_refuses_what_does_not_fit(net, theta):
    parameters = dict(net.unpack(theta))
    with pytest.raises(TypeError, match="parameters: expected a mapping; got list"):
        net.pack([theta])
    with pytest.raises(ValueError, match="parameters: expected the keys W1, b1"):
        net.pack({name: parameters[name] for name in ("W1", "b1")})
    with pytest.raises(
        ValueError, match=r"parameters\['b1'\]: expected shape \(10, 1\); got \(10,\)"
    ):
        net.pack(parameters | {"b1": np.zeros(10)})
    with pytest.raises(
        TypeError, match=r"parameters\['W1'\]: expected real numbers; got .*complex"
    ):
        net.pack(parameters | {"W1": np.zeros((10, 2), complex)})


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([], ValueError, "sizes: expected at least two"),
        ([2], ValueError, "sizes: expected at least two"),
        ([2, 0, 1], ValueError, "sizes: expected an integer from 1 to 2**31 - 1; got 0"),
        ([2, -3, 1], ValueError, "sizes: expected an integer from 1 to 2**31 - 1; got -3"),
        ([2, 3.0, 1], TypeError, "sizes: expected an integer; got float"),
        ([2, True, 1], TypeError, "sizes: expected an integer; got bool"),
        ("2,1", TypeError, "sizes: expected a sequence of integers; got '2,1'"),
        (3, TypeError, "sizes: expected a sequence of integers; got 3"),
        ({2, 3, 1}, TypeError, "sizes: expected a sequence of integers; got {1, 2, 3}"),
        ([2, 10**30, 1], ValueError, "sizes: expected an integer from 1 to 2**31 - 1; got 1000"),
    ],
)
def test_bad_sizes(sizes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        fi.Network(sizes)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"dtype": "int64"}, TypeError, "dtype: expected float32 or float64; got int64"),
        ({"dtype": "complex64"}, TypeError, "dtype: expected float32 or float64"),
        ({"activation": "cubic"}, ValueError, "activation: expected one of relu, leaky_relu, "),
        ({"activation": None}, TypeError, "activation: expected a string; got NoneType"),
        (
            {"negative_slope": -0.1},
            ValueError,
            "negative_slope: expected finite and >= 0; got -0.1",
        ),
        (
            {"negative_slope": np.inf},
            ValueError,
            "negative_slope: expected finite and >= 0; got inf",
        ),
        ({"negative_slope": "0.1"}, TypeError, "negative_slope: expected a number; got str"),
        ({"negative_slope": True}, TypeError, "negative_slope: expected a number; got bool"),
        ({"output": "linear"}, ValueError, "output: expected one of sigmoid, softmax, identity, "),
        ({"output": "softmax"}, ValueError, "sizes: expected at least two outputs for softmax"),
        ({"loss": "hinge"}, ValueError, "loss: expected sigmoid_cross_entropy or saturating_cross"),
        (
            {"output": "identity", "loss": "poisson"},
            ValueError,
            " with output 'identity'; got 'poisson'",
        ),
    ],
)
def test_bad_keywords(keywords, error, message):
    with pytest.raises(error, match=re.escape(message)):
        fi.Network([2, 1], **keywords)


def bad_inputs():
    X, Y = np.zeros((2, 300)), np.zeros((1, 300))
    holed = X.copy()
    holed[1, 7] = np.nan
    infinite = X.copy()
    infinite[0, 0] = np.inf
    return {
        "X of rank 1": (X[0], Y, ValueError, "X: expected shape (2, n_examples); got (300,)"),
        "X of rank 3": (X[None], Y, ValueError, "X: expected shape (2, n_examples); got (1, 2"),
        "X transposed": (X.T, Y, ValueError, "X: expected shape (2, n_examples); got (300, 2)"),
        "X empty": (X[:, :0], Y[:, :0], ValueError, "X: expected at least one example"),
        "X with NaN": (holed, Y, ValueError, "X: expected finite float64 numbers"),
        "X with infinity": (infinite, Y, ValueError, "X: expected finite float64 numbers"),
        "X of objects": (X.astype(object), Y, TypeError, "X: expected real numbers; got dtype obj"),
        "X complex": (X.astype(complex), Y, TypeError, "X: expected real numbers; got dtype comp"),
        "X masked": (np.ma.array(X), Y, TypeError, "X: expected every number; got a masked array"),
        "X of strings": (X.astype(str), Y, TypeError, "X: expected real numbers; got dtype <U"),
        "Y of rank 1": (X, Y[0, 1:], ValueError,
                        "Y: expected shape (300,) or (1, 300) to match X (2, 300); got (299,)"),
        "Y too short": (X, Y[:, :9], ValueError, "Y: expected shape (300,) or (1, 300) to match X"),
        "Y of 2": (X, Y + 2, ValueError, "Y: expected labels 0 and 1; got 2.0"),
        "Y of halves": (X, Y + 0.5, ValueError, "Y: expected labels 0 and 1; got 0.5"),
        "Y of NaN": (X, Y + np.nan, ValueError, "Y: expected labels 0 and 1; got nan"),
        "Y complex": (X, Y + 1j, TypeError, "Y: expected real numbers; got dtype complex128"),
        "Y of objects": (X, Y.astype(object), TypeError, "Y: expected real numbers; got dtype ob"),
    }  # fmt: skip


@pytest.mark.parametrize("case", bad_inputs())
@pytest.mark.parametrize("call", ["train", "loss_and_gradient", "accuracy", "compare"])
def test_bad_data(net, theta, case, call):
    X, Y, error, message = bad_inputs()[case]
    before = theta.copy()
    calls = {
        "train": lambda: fi.train(net, theta, X, Y),
        "compare": lambda: fi.compare(X, Y, net, ["lesson.he"], seed=3),
        "accuracy": lambda: net.accuracy(theta, X, Y),
        "loss_and_gradient": lambda: net.loss_and_gradient(theta, X, Y),
    }
    with pytest.raises(error, match=re.escape(message)):
        calls[call]()
    assert_array_equal(theta, before)


def bad_thetas():
    good = np.zeros(91)
    frozen = good.copy()
    frozen.flags.writeable = False
    unaligned = np.zeros(91 * 8 + 1, np.uint8)[1:].view(np.float64)
    return {
        "short": (good[:-1], ValueError, "theta: expected shape (91,); got (90,)"),
        "rank 3": (good[None, None], ValueError, "theta: expected shape (91,); got (1, 1, 91)"),
        "stack of none": (good[None][:0], ValueError, "theta: expected shape (k, 91); got (0, 91)"),
        "stack of short": (good[None, :-1], ValueError, "theta: expected shape (91,); got (90,)"),
        "strided stack": (
            np.zeros((3, 182))[:, ::2], ValueError, "theta: expected a contiguous array",
        ),
        "float32": (good.astype("f4"), TypeError, "theta: expected dtype float64; got float32"),
        "integers": (good.astype(int), TypeError, "theta: expected dtype float64; got int64"),
        "complex": (good.astype(complex), TypeError, "theta: expected dtype float64; got complex"),
        "objects": (good.astype(object), TypeError, "theta: expected dtype float64; got object"),
        "list": (good.tolist(), TypeError, "theta: expected a NumPy array; got list"),
        "read-only": (frozen, ValueError, "theta: expected a writable array"),
        "strided": (np.zeros(182)[::2], ValueError, "theta: expected a contiguous array"),
        "unaligned": (unaligned, ValueError, "theta: expected an aligned array"),
        "NaN": (good + np.nan, ValueError, "theta: expected finite numbers"),
    }  # fmt: skip


@pytest.mark.parametrize("case", bad_thetas())
def test_bad_theta(net, circles, case):
    theta, error, message = bad_thetas()[case]
    with pytest.raises(error, match=re.escape(message)):
        fi.train(net, theta, circles[0], circles[1])


def test_inputs_that_are_only_read(net, theta, circles):
    """Read-only, strided, Fortran-ordered, integer: all are accepted where nothing is written."""
    X, Y, _, _ = circles
    cost, gradient = net.loss_and_gradient(theta, X, Y)
    wide = np.zeros((2, 600))
    wide[:, ::2] = X
    frozen = theta.copy()
    frozen.flags.writeable = False
    spread = np.zeros(182)
    spread[::2] = theta
    for other_theta, other_X, other_Y in (
        (frozen, np.asfortranarray(X), Y.astype(bool)),
        (spread[::2], wide[:, ::2], Y.astype(np.uint8).tolist()),
        (theta, X.astype(">f8"), Y.astype(">i2")),
        (theta, X.tolist(), Y.astype(np.float32)),
    ):
        again, gradient_again = net.loss_and_gradient(other_theta, other_X, other_Y)
        assert again == cost
        assert_array_equal(gradient_again, gradient)
        assert_array_equal(net.predict(other_theta, other_X), net.predict(theta, X))


def test_loss_and_gradient_out(net, theta, circles):
    X, Y, _, _ = circles
    cost, gradient = net.loss_and_gradient(theta, X, Y)
    out = np.full(91, np.nan)
    again, same = net.loss_and_gradient(theta, X, Y, out=out)
    assert same is out
    assert again == cost
    assert_array_equal(out, gradient)
    with pytest.raises(
        ValueError, match="out: expected memory of its own; got an overlap with theta"
    ):
        net.loss_and_gradient(theta, X, Y, out=theta)
    with pytest.raises(ValueError, match="out: expected memory of its own; got an overlap with X"):
        net.loss_and_gradient(theta, X, Y, out=X.reshape(-1)[:91])
    with pytest.raises(ValueError, match=r"out: expected shape \(91,\); got \(90,\)"):
        net.loss_and_gradient(theta, X, Y, out=np.empty(90))


def test_scipy_minimises_it(net, theta, circles):
    X, Y, _, _ = circles
    minimize = pytest.importorskip("scipy.optimize").minimize
    result = minimize(net.loss_and_gradient, theta, jac=True, args=(X, Y), method="L-BFGS-B")
    assert result.fun < 0.05
    assert net.accuracy(result.x, X, Y) > 0.98


def test_gradient_is_that_of_the_loss(net, circles):
    X, Y, _, _ = circles
    theta = net.initialize("he_normal", seed=1)
    check_grad = pytest.importorskip("scipy.optimize").check_grad
    error = check_grad(
        lambda t: net.loss_and_gradient(t, X, Y)[0],
        lambda t: net.loss_and_gradient(t, X, Y)[1],
        theta,
    )
    assert error < 1e-5


def test_predictions(net, theta, circles):
    X, Y, _, _ = circles
    p = net.predict_proba(theta, X)
    assert p.shape == (1, 300)
    assert ((p > 0) & (p < 1)).all()
    assert_array_equal(net.predict(theta, X), p > 0.5)
    assert net.accuracy(theta, X, Y) == np.mean((p > 0.5) == Y)
    assert net.predict(theta, X[:, :0]).shape == (1, 0)
    assert not net.predict(np.zeros(91), X).any(), "one half is not above one half"


def test_many_outputs(circles):
    X, Y, _, _ = circles
    net = fi.Network([2, 8, 3], dtype="float32")
    theta = net.initialize("he_normal", seed=0)
    labels = np.vstack([Y, 1 - Y, Y])
    run = fi.train(net, theta, X, labels, learning_rate=0.5, iterations=2000)
    assert run.costs[-1] < run.costs[0] / 2
    assert net.predict(theta, X).shape == (3, 300)


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity"])
def test_stacks_are_their_networks(circles, output):
    """Whatever takes one theta takes many, and says of each what it says of it alone."""
    X, Y, _, _ = circles
    net = fi.Network([2, 8, 2], activation="tanh", output=output)
    labels = np.vstack([Y, 1 - Y])
    thetas = net.initialize("he_normal", seed=0, n=5)[::-1]  # strided: it is only read
    weights = np.linspace(0, 1, 300)
    methods = [
        lambda theta: net.predict(theta, X),
        lambda theta: net.cost(theta, X, labels, sample_weight=weights),
        lambda theta: net.loss_and_gradient(theta, X, labels, sample_weight=weights)[0],
        lambda theta: net.loss_and_gradient(theta, X, labels, sample_weight=weights)[1],
    ]
    if net.classifies:
        methods += [
            lambda theta: net.predict_proba(theta, X),
            lambda theta: net.accuracy(theta, X, labels),
        ]
    for method in methods:
        assert_array_equal(method(thetas), [method(theta) for theta in thetas])
    assert len({float(cost) for cost in net.cost(thetas, X, labels)}) == 5
    out = np.full(thetas.shape, np.nan)
    costs, gradients = net.loss_and_gradient(thetas, X, labels, out=out)
    assert gradients is out
    assert np.isfinite(out).all()
    assert costs.shape == (5,)


def test_bad_stacks(net, theta, circles):
    X, Y, _, _ = circles
    thetas = np.stack([theta] * 3)
    for bad, error, message in (
        (thetas[:0], ValueError, "theta: expected shape (k, 91); got (0, 91)"),
        (thetas[:, :-1], ValueError, "theta: expected shape (91,); got (90,)"),
        (thetas.astype("f4"), TypeError, "theta: expected dtype float64; got float32"),
        (thetas[None], ValueError, "theta: expected shape (91,); got (1, 3, 91)"),
    ):
        for call in (net.accuracy, net.cost, net.loss_and_gradient):
            with pytest.raises(error, match=re.escape(message)):
                call(bad, X, Y)
    for bad, error, message in (
        (np.empty(91), ValueError, "out: expected shape (3, 91); got (91,)"),
        (np.empty((3, 91), "f4"), TypeError, "out: expected dtype float64; got float32"),
        (np.empty((91, 3)).T, ValueError, "out: expected a contiguous array"),
        (np.empty((3, 91)).tolist(), TypeError, "out: expected a NumPy array; got list"),
        (thetas, ValueError, "out: expected memory of its own; got an overlap with theta"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            net.loss_and_gradient(thetas, X, Y, out=bad)


def test_lesson_schemes(net):
    state = np.random.RandomState(3)
    views = net.unpack(net.initialize("lesson.random", seed=3))
    for layer in (1, 2, 3):
        assert_array_equal(views[f"W{layer}"], state.randn(*views[f"W{layer}"].shape) * 10)
        assert (views[f"b{layer}"] == 0).all()
    saved = np.random.get_state()
    try:
        np.random.seed(11)
        from_global = net.initialize("lesson.he")
        assert_array_equal(from_global, net.initialize("lesson.he", seed=11))
    finally:
        np.random.set_state(saved)
    assert not net.initialize("zeros").any()


def test_lesson_schemes_take_every_kind_of_seed(net):
    sequence = np.random.SeedSequence(3)
    first = net.initialize("lesson.he", seed=sequence)
    assert_array_equal(first, net.initialize("lesson.he", seed=np.random.SeedSequence(3)))
    generator = np.random.default_rng(3)
    assert (
        net.initialize("lesson.he", seed=generator) != net.initialize("lesson.he", seed=generator)
    ).any()
    for theta in (first, net.initialize("lesson.random", seed=np.random.default_rng(0))):
        assert len(np.unique(theta)) == 20 + 50 + 5 + 1, "no two layers share draws"


@pytest.mark.parametrize("scheme", ["zeros", "lesson.he", "lesson.random", "he_normal"])
@pytest.mark.parametrize(
    ("seed", "error"),
    [
        (True, TypeError), (1.5, TypeError), ("12", TypeError), (-1, ValueError),
        ([1, True], TypeError), ([1, -1], ValueError), ([0, 2**64], ValueError),
        ([[1, 2]], TypeError), (np.eye(2, dtype=int), TypeError), (np.ones(2), TypeError),
        ({1, 2}, TypeError), ([], ValueError), (range(0), ValueError),
    ],
)  # fmt: skip
def test_bad_seeds(net, scheme, seed, error):
    with pytest.raises(error, match="seed: expected"):
        net.initialize(scheme, seed=seed)


@pytest.mark.parametrize("scheme", ["he_normal", "lesson.he"])
def test_all_seeds_are_checked_before_a_generator_advances(net, scheme):
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match="seed: expected 0 <= seed"):
        net.initialize(scheme, seed=[generator, -1])
    assert generator.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_initialize(net):
    first = net.initialize("he_normal", seed=0)
    assert_array_equal(first, net.initialize("he_normal", seed=0))
    assert (first != net.initialize("he_normal", seed=1)).any()
    assert (net.initialize("he_normal") != net.initialize("he_normal")).any()
    views = net.unpack(first)
    assert (views["b1"] == 0).all()
    assert len(np.unique(first)) == 20 + 50 + 5 + 1, "no two layers share draws"
    assert net.unpack(first)["W2"].std() == pytest.approx(np.sqrt(2 / 10), rel=0.5)


def test_initialize_many(net):
    """Network i of a stack is the network of stream i; no two tensors share a stream."""
    for scheme in ("he_normal", "torch_linear", "orthogonal"):
        thetas = net.initialize(scheme, seed=5, n=4)
        assert thetas.shape == (4, net.n_parameters)
        for i, theta in enumerate(thetas):
            assert_array_equal(theta, net.initialize(scheme, seed=5, stream=i))
        assert_array_equal(thetas[0], net.initialize(scheme, seed=5))
        assert_array_equal(net.initialize(scheme, seed=5, stream=2, n=2), thetas[2:], strict=True)
    draws = np.concatenate([theta[theta != 0] for theta in net.initialize("normal", seed=5, n=50)])
    assert len(np.unique(draws)) == len(draws)
    assert not net.initialize("zeros", n=3).any()


def twice_normal(*, out, seed, stream):
    """A scheme of the user's own: it fills one array at a time."""
    out[...] = 2 * fi.normal(out.shape, seed=seed, stream=stream, dtype=out.dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "scheme",
    [
        *fi.initializers.names(),
        twice_normal,
        partial(fi.truncated_normal, std=0.1, a=-0.05),
        partial(fi.constant, value=[[1.0, 2.0]]),
        ["he_normal", twice_normal, "lesson.he"],
        ["orthogonal", "sparse", "flax_dense"],
    ],
)
def test_several_seeds(scheme, dtype, bias):
    """Row i is the network of seed i alone, bit for bit."""
    net = fi.Network([2, 30, 2, 2], dtype=dtype, bias=bias)
    kernels_only = ("dirac", "delta_orthogonal")
    if scheme in kernels_only or getattr(scheme, "func", None) is fi.constant:
        net = fi.Network([2, 1], dtype=dtype, bias=bias)
    seeds = [3, 0, np.int64(3), np.random.SeedSequence(7), 2**32 - 1]
    if scheme in kernels_only:
        with pytest.raises(ValueError, match="shape: expected 3 to 5 axes"):
            net.initialize(scheme, seed=seeds)
        return
    thetas = net.initialize(scheme, seed=seeds)
    expected = [net.initialize(scheme, seed=seed) for seed in seeds]
    assert_array_equal(thetas, expected, strict=True)
    for few in ([5], range(5, 6), np.array([5], np.uint8), (5,)):
        assert_array_equal(net.initialize(scheme, seed=few), [net.initialize(scheme, seed=5)])


@pytest.mark.parametrize("scheme", ["he_normal", "lesson.he", ["he_normal", "zeros", "lesson.he"]])
@pytest.mark.parametrize("create", [np.random.default_rng, np.random.RandomState])
def test_several_seeds_that_are_one_generator(net, scheme, create):
    """It advances as in calls one after another."""
    shared, again = create(0), create(0)
    thetas = net.initialize(scheme, seed=[shared, shared, 5, shared])
    expected = [net.initialize(scheme, seed=seed) for seed in (again, again, 5, again)]
    assert_array_equal(thetas, expected)
    assert len(np.unique(thetas[[0, 1, 3], 0])) == 3


def test_several_seeds_and_streams(net):
    thetas = net.initialize("torch_linear", seed=[2**64 - 1, 4], stream=9)
    for theta, seed in zip(thetas, (2**64 - 1, 4), strict=True):
        assert_array_equal(theta, net.initialize("torch_linear", seed=seed, stream=9))
    fresh = net.initialize("he_normal", seed=[None, None])
    assert (fresh[0] != fresh[1]).any()
    with pytest.raises(TypeError, match=r"seed, n: expected at most one of .* got both"):
        net.initialize("he_normal", seed=[1, 2], n=2)
    with pytest.raises(ValueError, match="scheme: expected schemes with streams"):
        net.initialize("lesson.he", seed=[1, 2], stream=1)


def test_stacks_of_many_threads():
    """Slices cut a stack between its networks, and large networks inside."""
    for sizes, n in (([2, 8, 1], 5_000), ([700, 700, 1], 5)):
        net = fi.Network(sizes, dtype=np.float32)
        thetas = net.initialize("keras_dense", seed=range(n))
        for i in (0, n // 2, n - 1):
            assert_array_equal(thetas[i], net.initialize("keras_dense", seed=i))


def test_streams_of_a_network_are_those_of_its_tensors(net):
    views = net.unpack(net.initialize("torch_linear", seed=5, stream=7))
    expected = fi.torch_linear((5, 10), seed=5, stream=7 * 6 + 2)
    assert_array_equal(views["W2"], expected)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"stream": -1}, ValueError, r"stream: expected an integer from 0 to .*; got -1"),
        ({"stream": 1.0}, TypeError, "stream: expected an integer; got float"),
        ({"n": 0}, ValueError, r"n: expected an integer from 1 to .*; got 0"),
        ({"n": True}, TypeError, "n: expected an integer; got bool"),
    ],
)
def test_initialize_bad_streams(net, keywords, error, message):
    with pytest.raises(error, match=message):
        net.initialize("he_normal", seed=0, **keywords)


@pytest.mark.parametrize("keywords", [{"stream": 1}, {"n": 2}, {"n": 1}])
@pytest.mark.parametrize(
    "scheme", ["lesson.he", "lesson.random", ["he_normal", "lesson.he", "zeros"]]
)
def test_lessons_draws_have_no_streams(net, scheme, keywords):
    with pytest.raises(
        ValueError,
        match="scheme: expected schemes with streams if stream= or n= is given; got lesson",
    ):
        net.initialize(scheme, seed=3, **keywords)


def test_initialize_unknown(net):
    with pytest.raises(ValueError, match=r"got 'he' \(did you mean he_normal or .*lesson.he"):
        net.initialize("he")


def test_unpack_takes_a_stack(net):
    thetas = net.initialize("he_normal", seed=0, n=3)
    views = net.unpack(thetas)
    for k, theta in enumerate(thetas):
        for name, view in net.unpack(theta).items():
            assert_array_equal(views[name][k], view, strict=True)
    views["W2"][1] = 7
    assert (net.unpack(thetas[1])["W2"] == 7).all()
    with pytest.raises(ValueError, match="theta: expected shape"):
        net.unpack(thetas[:, :-1])
    with pytest.raises(ValueError, match="theta: expected shape"):
        net.unpack(thetas[None])


def test_labels_of_one_output_may_be_a_vector(net, theta, circles):
    X, Y, _, _ = circles
    run = fi.train(net, theta.copy(), X, Y[0], iterations=3)
    assert_array_equal(run.costs, fi.train(net, theta.copy(), X, Y, iterations=3).costs)
    assert net.accuracy(theta, X, Y[0]) == net.accuracy(theta, X, Y)


@pytest.mark.parametrize("name", ["n_parameters", "sizes", "layout", "dtype", "anything"])
def test_networks_stay_as_they_are(net, name):
    with pytest.raises(AttributeError, match=name):
        setattr(net, name, 10)
    with pytest.raises(AttributeError):
        delattr(net, "sizes")
    assert not hasattr(net, "__dict__")


def test_networks_are_copied_and_pickled(net):
    for other in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other == net
        assert hash(other) == hash(net)
    assert fi.Network([2, 3, 1], bias=False) != fi.Network([2, 3, 1])


def test_networks_without_biases(X, Y, tmp_path):
    net = fi.Network([2, 10, 5, 1], activation="tanh", bias=False)
    assert net.n_parameters == 2 * 10 + 10 * 5 + 5
    assert "bias=False" in repr(net)
    theta = net.initialize("glorot_normal", seed=0)
    assert list(net.unpack(theta)) == ["W1", "W2", "W3"]
    assert_array_equal(net.pack(net.unpack(theta)), theta)
    W1, W2, W3 = net.unpack(theta).values()
    outputs = 1 / (1 + np.exp(-(W3 @ np.tanh(W2 @ np.tanh(W1 @ X)))))
    np.testing.assert_allclose(net.predict_proba(theta, X), outputs, rtol=1e-12)
    run = fi.train(net, theta, X, Y, optimizer=fi.Adam(0.01), iterations=500)
    assert run.costs[-1] < run.costs[0]
    net.save(tmp_path / "net.npz", theta)
    loaded, values = fi.load(tmp_path / "net.npz")
    assert loaded == net
    assert_array_equal(values, theta)
    with pytest.raises(TypeError, match="bias: expected True or False"):
        fi.Network([2, 1], bias=1)
