"""Fuzz test with random invalid arguments: ``python tests/fuzz.py KIND FIRST COUNT``.

The number of each case is printed before it runs, so that the parent process can tell which case
crashed. A case must succeed, or raise a TypeError or ValueError that names an argument. Anything
else is reported as a finding, including a write outside of the array that was passed.
"""

import inspect
import io
import json
import math
import os
import re
import sys
import tempfile
import traceback
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np

import fastinit as fi
from fastinit import gc_utils, init_utils, opt_utils, reg_utils
from fastinit.training.network import ACTIVATIONS, LOSSES

GUARD = 64  # number of guard elements before and after an array

INVALID = [
    None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**63, 2**64, -(2**63), 10**400, -(10**400), 0.0,
    -0.0, 0.5, 1.0, -1.5, 1e308, 5e-324, math.inf, -math.inf, math.nan, 1j, "", "x", ",", "he",
    "float32", b"", b"x", (), (1,), [], [1, 2], [[]], {}, {"a": 1}, set(), object(), int,
    lambda *a, **k: 1, np.float16(1), np.float32("nan"), np.int8(3), np.bool_(True), np.array(1.0),
    np.array([]), np.array([0.1, 0.2]), np.ones((2, 2)), np.array(["a"]), np.array([None]),
    np.ma.masked_array([1.0], [True]), Decimal("0.1"), Fraction(1, 3), np.longdouble(1), range(3),
    slice(None), Ellipsis, np.random.default_rng(0), np.random.RandomState(0),
    np.random.SeedSequence(1), memoryview(b"abcd"), np.datetime64("2020"), "\udc80", "a" * 10_000,
]  # fmt: skip


class Draw:
    """The random draws of one case."""

    def __init__(self, kind: str, number: int) -> None:
        self.rng = np.random.default_rng([number, *kind.encode()])

    def one_of(self, values):
        return values[int(self.rng.integers(len(values)))]

    def maybe(self, valid, probability=0.12):
        """Return the valid value or, with the given probability, an invalid one."""
        return self.one_of(INVALID) if self.rng.random() < probability else valid

    def size(self, most=12):
        return int(self.rng.integers(0, most + 1))

    def guarded(self, shape, dtype):
        """Return (memory, array): an array of NaN, and the memory around it with guard elements."""
        n = math.prod(shape)
        memory = np.full(n + 2 * GUARD, np.nan, dtype)
        return memory, memory[GUARD : GUARD + n].reshape(shape)

    def disturbed(self, array):
        """Return the array with another layout, dtype or shape, or with an invalid number."""
        way = self.rng.integers(10)
        if way == 0:
            return np.asfortranarray(array)
        if way == 1 and array.ndim:
            return np.repeat(array, 2, axis=-1)[..., ::2]
        if way == 2:
            return array.astype(self.one_of(["f2", "f4", "f8", "i4", "g", "c16", "O", ">f8", "?"]))
        if way == 3 and array.size:
            array = array.astype(float)
            array.flat[int(self.rng.integers(array.size))] = self.one_of([np.nan, np.inf, 1e300, 2])
            return array
        if way == 4:
            return array.T
        if way == 5 and array.ndim:
            return array[:-1]
        if way == 6:
            return array.tolist()
        return array


def check_guards(memory):
    if not (np.isnan(memory[:GUARD]).all() and np.isnan(memory[-GUARD:]).all()):
        raise AssertionError("memory outside the array was written")


def fills(draw):
    """Fill with any scheme and any keywords, and compute fans of any axes."""
    name = draw.one_of(fi.initializers.names())
    shape = tuple(draw.size(7) for _ in range(draw.rng.integers(0, 5)))
    keywords = {"seed": draw.maybe(draw.size())}
    values = draw.rng.standard_normal(shape[int(draw.rng.integers(len(shape) + 1)) :])
    for key, valid in (
        ("stream", 3), ("dtype", draw.one_of(["f4", "f2", "c8", "c16"])), ("threads", 2),
        ("window", (slice(0, 1),)), ("in_axis", draw.one_of([-1, (1, 2)])), ("out_axis", 0),
        ("batch_axis", draw.one_of([2, [-2], ()])), ("mean", 0.5), ("std", 2.0), ("low", -1.0),
        ("high", 1.0), ("a", 0.1), ("b", 0.7), ("gain", 2.0), ("scale", 2.0), ("mode", "fan_in"),
        ("value", draw.one_of([3.0, draw.disturbed(values)])), ("distribution", "normal"),
        ("nonlinearity", "relu"), ("sparsity", 0.5), ("lower", -1.0), ("upper", 1.0), ("groups", 1),
    ):  # fmt: skip
        # Keywords of other initialisers are rare, because they raise immediately.
        likely = key in inspect.signature(fi.initializers.get(name).fill).parameters
        if draw.rng.random() < (0.2 if likely else 0.005):
            keywords[key] = draw.maybe(valid, 0.5)
    axes = {key: value for key, value in keywords.items() if key.endswith("_axis")}
    try:
        fi.initializers.fans(draw.maybe(shape), **axes)
    except (TypeError, ValueError) as error:
        if ": expected" not in str(error):
            raise AssertionError(f"unclear: {error}") from error
    memory = None
    if draw.rng.random() < 0.5:
        memory, out = draw.guarded(shape, draw.one_of(["f4", "f8", "f2", "c8", "c16"]))
        if draw.rng.random() < 0.2:
            out = draw.one_of([out.T, *([out[::-1], out[..., :1]] if shape else []), *INVALID])
        keywords["out"] = out
    whole = draw.maybe(shape)
    if type(whole) is int and whole == 2**31:
        whole = 3  # 2**31 would allocate 16 GB
    try:
        fi.initializers.get(name)(whole, **keywords)
    finally:
        if memory is not None:
            check_guards(memory)


def network_of(draw):
    sizes = [max(draw.size(), 1) for _ in range(draw.rng.integers(2, 5))]
    return fi.Network(
        draw.maybe(sizes, 0.03),
        activation=draw.maybe(draw.one_of(ACTIVATIONS), 0.03),
        output=draw.maybe(draw.one_of(list(LOSSES)), 0.03),
        negative_slope=draw.maybe(0.1, 0.03),
        dtype=draw.maybe(draw.one_of(["float32", "float64"]), 0.03),
        bias=draw.maybe(bool(draw.rng.integers(2)), 0.03),
    )


def data_of(draw, net):
    m = int(draw.one_of([0, 1, 2, 3, 5, 17, 40, 300]))
    X = draw.rng.standard_normal((net.sizes[0], m)).astype(net.dtype)
    if net.output == "softmax":
        Y = draw.rng.integers(net.sizes[-1], size=m)
    elif net.output == "sigmoid":
        Y = draw.rng.integers(2, size=(net.sizes[-1], m)).astype(float)
    else:
        Y = np.abs(draw.rng.standard_normal((net.sizes[-1], m)))
    return draw.maybe(draw.disturbed(X), 0.05), draw.maybe(draw.disturbed(Y), 0.05)


def optimizer_of(draw, net):
    rate = draw.one_of([0.1, 0.0, 1e30, [0.1] * net.n_layers, [(0.1, 0.0)] * net.n_layers, [0.1]])
    make = draw.one_of([fi.GradientDescent, fi.Momentum, fi.Adam, fi.AdamW])
    return make(draw.maybe(rate, 0.05))


def tamper(draw, run):
    """Assign random values to attributes of a run, or of each run of a stack."""
    for each in [run] if isinstance(run, fi.Run) else list(run):
        name = draw.one_of([
            "optimizer", "theta", "costs", "_state", "_iterations", "batch_size", "network",
            "diverged_at", "stopped_by", "_order", "_state_start", "_data", "cost_every",
            "_validations", "_best", "best_iteration", "seconds",
        ])  # fmt: skip
        value = draw.one_of([*INVALID, fi.Adam(), fi.Momentum(), np.zeros((2, 3)), np.empty(0)])
        setattr(each, name, value)


def trainings(draw):
    """Train and resume, and call the methods of a network."""
    net = network_of(draw)
    X, Y = data_of(draw, net)
    k = int(draw.one_of([1, 1, 2, 9]))
    memory, thetas = draw.guarded((k, net.n_parameters), net.dtype)
    thetas[...] = draw.rng.standard_normal(thetas.shape)
    theta = thetas if k > 1 else thetas[0]
    keywords = {"iterations": draw.maybe(draw.size(8), 0.05), "optimizer": optimizer_of(draw, net)}
    for key, valid in (
        ("batch_size", 2), ("seed", 1), ("sample_weight", None), ("class_weight", "balanced"),
        ("validation", (X, Y)), ("validate_every", 2), ("n_iter_no_change", 2), ("tol", 0.0),
        ("monitor", "score"), ("penalty_in_cost", True), ("shuffle", lambda epoch: [0, 0, 1]),
        ("threads", 3), ("cost_every", 2),
    ):  # fmt: skip
        if draw.rng.random() < 0.15:
            keywords[key] = draw.maybe(valid, 0.4)
    if draw.rng.random() < 0.3:
        keywords["callback"] = lambda run: tamper(draw, run)
    argument = draw.maybe(draw.disturbed(theta) if draw.rng.random() < 0.1 else theta, 0.05)
    try:
        run = fi.train(net, argument, X, Y, **keywords)
        if draw.rng.random() < 0.5:
            tamper(draw, run)
        keywords.pop("optimizer")
        fi.train(net, argument, X, Y, **keywords | {"resume": run, "callback": None})
    finally:
        check_guards(memory)
    method = draw.one_of(["predict", "cost", "accuracy", "loss_and_gradient", "unpack", "pack"])
    if method in ("predict", "unpack", "pack"):
        getattr(net, method)(*((argument, X) if method == "predict" else (argument,)))
    else:
        getattr(net, method)(argument, X, Y)


def files(draw):
    """Load truncated, modified and malicious files."""
    net = fi.Network([2, 3, 1])
    suffix = draw.one_of([".npz", ".safetensors"])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net" + suffix)
        net.save(path, net.initialize("he_normal", seed=0))
        with open(path, "rb") as file:
            data = bytearray(file.read())
        way = draw.rng.integers(4)
        if way == 0:
            data = data[: int(draw.rng.integers(len(data)))]
        elif way == 1:
            for _ in range(int(draw.rng.integers(1, 5))):
                data[int(draw.rng.integers(len(data)))] = int(draw.rng.integers(256))
        elif way == 2:
            text = data.decode("latin-1")
            old, new = draw.one_of([
                ("0.01", "1e999"), ("[2, 3, 1]", "[2,1e400]"), ("relu", "rel\x00"),
                ("float64", '",",,,'), ('"negative_slope"', '"sizes"'), ("[2, 3, 1]", "[[[[[[[[["),
                ("sigmoid", "softmax"), ("F64", "F32"), ("<f8", "|O8"), ("W1", "W2"),
            ])  # fmt: skip
            data = bytearray(text.replace(old, new).encode("latin-1"))
        else:
            deep = "[" * 100_000
            header = draw.one_of([deep, json.dumps({"__metadata__": {"architecture": deep}}), "{}"])
            data = bytearray(len(header).to_bytes(8, "little") + header.encode())
            if suffix == ".npz":
                file = io.BytesIO()
                np.savez(file, architecture=np.array(header), W1=np.array(draw.one_of([1.0, "x"])))
                data = bytearray(file.getvalue())
        with open(path, "wb") as file:
            file.write(data)
        fi.load(draw.maybe(path, 0.05))


def lessons(draw):
    """Call the functions of the lessons with dictionaries and arrays that do not match."""
    X = draw.rng.standard_normal((2, 5))
    Y = (X[:1] > 0).astype(float)
    parameters = {
        "W1": np.ones((3, 2)), "b1": np.zeros((3, 1)), "W2": np.ones((2, 3)),
        "b2": np.zeros((2, 1)), "W3": np.ones((1, 2)), "b3": np.zeros((1, 1)),
    }  # fmt: skip
    for name in list(parameters):
        if draw.rng.random() < 0.1:
            parameters[name] = draw.maybe(draw.disturbed(parameters[name]), 0.3)
        if draw.rng.random() < 0.03:
            del parameters[name]
    X, Y = draw.maybe(draw.disturbed(X), 0.1), draw.maybe(draw.disturbed(Y), 0.1)
    which = draw.rng.integers(10)
    if which == 0:
        _, cache = init_utils.forward_propagation(X, parameters)
        gradients = init_utils.backward_propagation(X, Y, draw.maybe(cache))
        init_utils.update_parameters(parameters, gradients, draw.maybe(0.01))
    elif which == 1:
        init_utils.sigmoid(draw.maybe(X))
        init_utils.relu(draw.maybe(X))
    elif which == 2:
        init_utils.predict(X, Y, parameters)
    elif which == 3:
        init_utils.compute_loss(draw.maybe(Y), Y)
    elif which == 4:
        init_utils.predict_dec(parameters, X)
    elif which == 5:
        A3, cache = reg_utils.forward_propagation(X, parameters)
        lambd = draw.maybe(0.1)
        reg_utils.compute_cost_with_regularization(draw.maybe(A3), Y, parameters, lambd)
        reg_utils.backward_propagation_with_regularization(X, Y, draw.maybe(cache), lambd)
    elif which == 6:
        _, cache = reg_utils.forward_propagation_with_dropout(X, parameters, draw.maybe(0.5))
        cache = [draw.maybe(draw.disturbed(np.asarray(x)), 0.05) for x in cache]
        reg_utils.backward_propagation_with_dropout(X, Y, cache, draw.maybe(0.5))
    elif which == 7:
        gc_utils.gradient_check_n(
            parameters, {f"d{key}": value for key, value in parameters.items()}, X, Y,
            draw.maybe(1e-7),
        )  # fmt: skip
        gc_utils.vector_to_dictionary(draw.maybe(np.ones(47)), draw.maybe((4, 5, 3, 1)))
        reg_utils.initialize_parameters(draw.maybe([2, 1]))
    elif which == 8:
        opt_utils.random_mini_batches(X, Y, draw.maybe(2), draw.maybe(3))
        v, s = opt_utils.initialize_adam(parameters)
        grads = {f"d{key}": value for key, value in parameters.items()}
        opt_utils.update_parameters_with_momentum(
            parameters, draw.maybe(grads), draw.maybe(v), draw.maybe(0.9), 0.1
        )
        opt_utils.update_parameters_with_adam(
            parameters, grads, v, draw.maybe(s), draw.maybe(1), draw.maybe(0.1)
        )
    else:
        fi.propagation.measure(draw.maybe(fi.Network([2, 3, 1])), draw.maybe(np.ones(13)), X, Y)


KINDS = {"fills": fills, "trainings": trainings, "files": files, "lessons": lessons}


def main(kind: str, first: int, count: int) -> None:
    for number in range(first, first + count):
        print(number, flush=True)
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                KINDS[kind](Draw(kind, number))
        except (TypeError, ValueError) as error:
            # Errors must name the argument and what was expected. Python raises those for unknown
            # keywords.
            text = str(error)
            if not re.match("[^:]+: (expected|pass) ", text) and "argument" not in text:
                print("finding", type(error).__name__, text, flush=True)
                traceback.print_exc()
        except Exception as error:
            print("finding", type(error).__name__, error, flush=True)
            traceback.print_exc()
    print("end", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
