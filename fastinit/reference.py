"""All kernels in plain NumPy: the reference that the compiled ones are tested against.

The functions have the names, arguments and meaning of those in ``fastinit.kernels.dense`` and
``.random``. Tests compare each pair: the random kernels bit for bit, the others within rounding
errors. ``FASTINIT_KERNELS=reference`` runs the whole package on this module.

``ACTIVATIONS``, ``LOSSES`` and ``OPTIMIZERS`` hold what can be chosen by name.
"""

import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastinit.validation import as_doubles

Array = NDArray[Any]  # float32 or float64, the same for all arguments of a call
Layout = Any  # fastinit.training.network.Layout: sizes, activation, negative_slope, loss, bias
Rule = Any  # fastinit.training.optimizers.Rule

# As in the kernels, infinities and NaN are results and not worth a warning.
_quiet = np.errstate(all="ignore")

ACTIVATIONS: dict[str, Callable[[Array, Any], tuple[Array, Array]]] = {}
LOSSES: dict[str, Callable[[Array, Array], tuple[Array, Array, Array]]] = {}
OPTIMIZERS: dict[str, Callable[[Rule, Array, Array, Array, int], Array]] = {}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _named(table: dict[str, Any], name: str) -> Callable[[_Function], _Function]:
    """Return a decorator that adds a function to a table under this name."""

    def add(function: _Function) -> _Function:
        if name in table:
            raise ValueError(f"expected each name once; got another {name!r}")
        table[name] = function
        return function

    return add


def _get(table: dict[str, Any], what: str, name: str) -> Any:
    if name not in table:
        raise ValueError(f"{what}: expected one of {', '.join(table)}; got {name!r}")
    return table[name]


def all_finite(A: Array) -> bool:
    """Return whether all numbers are finite."""
    return bool(np.isfinite(A).all())


def _all_binary(A: Array) -> bool:
    return bool(((A == 0) | (A == 1)).all())


_CONTENTS: dict[str, Callable[[Array], bool]] = {
    "any": lambda A: True,
    "finite": all_finite,
    "not_negative": lambda A: all_finite(A) and bool((A >= 0).all()),
    "binary": _all_binary,
    "one_hot": lambda A: _all_binary(A) and bool((A.sum(axis=0) == 1).all()),
}


def usable(
    array: Any, dtype: np.dtype[Any], shape: tuple[int, ...], content: str, written: bool = False
) -> bool:
    """Return whether the kernels can take an array as it is, so that it needs no other check."""
    if type(array) is not np.ndarray or array.dtype is not dtype or array.ndim != len(shape):
        return False
    flags = array.flags
    return (
        all(n in (-1, own) for n, own in zip(shape, array.shape, strict=True))
        and (flags.c_contiguous and flags.aligned and (flags.writeable or not written))
        and _CONTENTS[content](array)
    )


@_quiet
def linear(W: Array, b: Array, A: Array, out: Array) -> None:
    """Overwrite ``out`` with ``W @ A + b``."""
    np.matmul(W, A, out=out)
    out += b


@_quiet
def linear_relu(W: Array, b: Array, A: Array, out: Array) -> None:
    """Overwrite ``out`` with ``max(W @ A + b, 0)``; NaN stays NaN."""
    linear(W, b, A, out)
    np.maximum(out, 0, out=out)


@_quiet
def sigmoid(Z: Array, out: Array) -> None:
    """Overwrite ``out`` with ``1 / (1 + exp(-Z))``."""
    out[...] = 1 / (1 + np.exp(-Z))


# --- activations: Z and the negative slope in, A and its derivative out ---------------------------

_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_ALPHA = 1.6732632423543772848170429916717
_erfc: Callable[..., Array] = np.frompyfunc(math.erfc, 1, 1)


@_named(ACTIVATIONS, "relu")
def _relu(Z: Array, negative_slope: Any) -> tuple[Array, Array]:
    return np.maximum(Z, 0), Z > 0


@_named(ACTIVATIONS, "leaky_relu")
def _leaky_relu(Z: Array, negative_slope: Any) -> tuple[Array, Array]:
    return np.where(Z > 0, Z, Z * negative_slope), np.where(Z > 0, 1, negative_slope)


@_named(ACTIVATIONS, "tanh")
def _tanh(Z: Array, negative_slope: Any) -> tuple[Array, Array]:
    A = np.tanh(Z)
    return A, (1 - A) * (1 + A)


@_named(ACTIVATIONS, "sigmoid")
def _sigmoid(Z: Array, negative_slope: Any) -> tuple[Array, Array]:
    A = 1 / (1 + np.exp(-Z))
    return A, A * (1 - A)


@_named(ACTIVATIONS, "identity")
def _identity(Z: Array, negative_slope: Any) -> tuple[Array, Array]:
    return Z, np.ones_like(Z)


@_named(ACTIVATIONS, "gelu")
def _gelu(Z: Array, negative_slope: Any) -> tuple[Array, Array]:
    mass = _erfc(Z * -math.sqrt(0.5)).astype(Z.dtype) / 2
    density = np.exp(-Z * Z / 2) * (1 / math.sqrt(2 * math.pi))
    return Z * mass, mass + Z * density


@_named(ACTIVATIONS, "silu")
def _silu(Z: Array, negative_slope: Any) -> tuple[Array, Array]:
    share = 1 / (1 + np.exp(-Z))
    return Z * share, share + Z * share * (1 - share)


@_named(ACTIVATIONS, "selu")
def _selu(Z: Array, negative_slope: Any) -> tuple[Array, Array]:
    limit = _SELU_SCALE * _SELU_ALPHA
    negative = limit * np.expm1(np.minimum(Z, 0))
    A = np.where(Z > 0, _SELU_SCALE * Z, negative)
    return A, np.where(Z > 0, Z.dtype.type(_SELU_SCALE), negative + limit)


@_quiet
def activate(
    Z: Array, activation: str, negative_slope: float, A: Array, derivatives: Array
) -> None:
    """Overwrite ``A`` with the activation of ``Z``, and ``derivatives`` with its derivative."""
    function = _get(ACTIVATIONS, "activation", activation)
    A[...], derivatives[...] = function(Z, Z.dtype.type(negative_slope))


# --- losses: Z and labels in; outputs, losses and derivatives of the losses by Z out --------------
#
# The losses have the shape of Z, or (m,) if the outputs depend on each other.


@_named(LOSSES, "sigmoid_cross_entropy")
def _sigmoid_cross_entropy(Z: Array, Y: Array) -> tuple[Array, Array, Array]:
    A, _ = _sigmoid(Z, None)
    # By label, 0 or 1: the difference of z and y z could be that of two infinities.
    losses = np.maximum(np.where(Y > 0, -Z, Z), 0) + np.log1p(np.exp(-np.abs(Z)))
    return A, losses, A - Y


def _clipped(P: Array) -> Array:
    epsilon = np.finfo(P.dtype).eps
    return np.clip(P, epsilon, 1 - epsilon)


@_named(LOSSES, "clipped_sigmoid_cross_entropy")
def _clipped_sigmoid_cross_entropy(Z: Array, Y: Array) -> tuple[Array, Array, Array]:
    A, _ = _sigmoid(Z, None)
    P = _clipped(A)
    return A, -np.log(np.where(Y > 0, P, 1 - P)), A - Y


@_named(LOSSES, "clipped_softmax_cross_entropy")
def _clipped_softmax_cross_entropy(Z: Array, Y: Array) -> tuple[Array, Array, Array]:
    A, _, dZ = _softmax_cross_entropy(Z, Y)
    return A, -np.log(_clipped(np.where(Y > 0, A, 0).sum(axis=0))), dZ


@_named(LOSSES, "saturating_cross_entropy")
def _saturating_cross_entropy(Z: Array, Y: Array) -> tuple[Array, Array, Array]:
    A, _ = _sigmoid(Z, None)
    losses = np.nan_to_num(
        -np.log(A) * Y - np.log(1 - A) * (1 - Y), nan=0.0, posinf=np.inf, neginf=-np.inf
    )
    return A, losses, A - Y


@_named(LOSSES, "softmax_cross_entropy")
def _softmax_cross_entropy(Z: Array, Y: Array) -> tuple[Array, Array, Array]:
    shifted = Z - Z.max(axis=0, initial=-np.inf)
    A = np.exp(shifted)
    sums = A.sum(axis=0)
    A /= sums
    return A, np.log(sums) - np.where(Y > 0, shifted, 0).sum(axis=0), A - Y


@_named(LOSSES, "squared_error")
def _squared_error(Z: Array, Y: Array) -> tuple[Array, Array, Array]:
    return Z, np.square(Z - Y) / 2, Z - Y


@_named(LOSSES, "poisson")
def _poisson(Z: Array, Y: Array) -> tuple[Array, Array, Array]:
    A = np.exp(Z)
    return A, A - Y * Z, A - Y


@_quiet
def loss(Z: Array, Y: Array, sample_weight: Array | None, loss: str, A: Array, dZ: Array) -> float:
    """Overwrite ``A`` with the outputs and ``dZ`` with the gradient of the cost; return the cost.

    The cost is the mean loss of the examples, weighted by ``sample_weight``. It is zero, and so is
    ``dZ``, if all weights are zero.
    """
    m = Z.shape[1]
    w = np.ones(m) if sample_weight is None else sample_weight.astype(np.float64)
    total = w.sum()
    if m and not total > 0:
        w, total = np.zeros(m), np.float64(1)
    A[...], losses, dZ[...] = _get(LOSSES, "loss", loss)(Z, Y)
    dZ *= (w / total).astype(Z.dtype)
    # An example of weight 0 does not count, even if its loss is infinite.
    weighted = np.multiply(losses, w, where=w != 0, out=np.zeros(losses.shape))
    return float(weighted.sum() / total)


@_quiet
def backward(
    W: Array,
    A: Array,
    dZ: Array,
    dW: Array,
    db: Array,
    dA: Array | None,
) -> None:
    """Accumulate ``dW += dZ @ A.T`` and ``db += sum(dZ)``; overwrite ``dA`` unless it is None."""
    dW += dZ @ A.T
    db += dZ.sum(axis=1, keepdims=True)
    if dA is not None:
        np.multiply(W.T @ dZ, A > 0, out=dA)


# --- optimisers -----------------------------------------------------------------------------------
#
# Each returns what is subtracted from the parameters, and updates ``state`` in place: its rows, of
# the shape of theta. ``rate`` is the learning rate of each parameter in double precision, ``step``
# the number of updates before this one.


@_named(OPTIMIZERS, "gradient_descent")
def _gradient_descent(rule: Rule, gradient: Array, state: Array, rate: Array, step: int) -> Array:
    return rate.astype(gradient.dtype) * gradient


@_named(OPTIMIZERS, "momentum")
def _momentum(rule: Rule, gradient: Array, state: Array, rate: Array, step: int) -> Array:
    beta1, v = gradient.dtype.type(rule.beta1), state[0]
    rate = rate.astype(gradient.dtype)
    if rule.rate_in_velocity:
        gradient, rate = rate * gradient, np.ones_like(rate)
    v *= beta1
    v += gradient
    along: Array = gradient + beta1 * v if rule.nesterov else v
    return rate * along


@_named(OPTIMIZERS, "adam")
def _adam(rule: Rule, gradient: Array, state: Array, rate: Array, step: int) -> Array:
    real = gradient.dtype.type
    first, second = state[:2]
    first += real(1 - rule.beta1) * (gradient - first)
    second *= real(rule.beta2)
    second += real(1 - rule.beta2) * (gradient * gradient)
    correction = math.sqrt(1 - rule.beta2 ** (step + 1))
    rate = rate / (1 - rule.beta1 ** (step + 1))
    if rule.epsilon_hat:
        # The correction of the root moves to the rate.
        rate, correction = rate * correction, 1.0
    root = np.sqrt(second) * real(1 / correction)
    scale = rate.astype(real)
    change: Array = scale * first / (root + real(rule.epsilon))
    return change


@_quiet
def update_parameters(
    layout: Layout,
    rule: Rule,
    theta: Array,
    gradient: Array,
    state: Array,
    step: int,
    rates: NDArray[np.float64],
) -> None:
    """Update ``theta`` and ``state``, of shape (slots, n_parameters), in place.

    ``step`` counts the updates before this one. ``rates`` is one learning rate, or one each for the
    weights and the biases of each layer. A rate of 0 leaves parameters exactly as they are.
    """
    change = _get(OPTIMIZERS, "rule", rule.name)
    real = theta.dtype.type
    tensors = list(_tensors(layout))
    kernel = np.concatenate([np.full(n, not biases) for _, biases, n in tensors])
    rate = np.full(theta.size, rates[0])
    if len(rates) > 1:
        rate = np.concatenate([np.full(n, rates[2 * layer + b]) for layer, b, n in tensors])
    before = theta.copy()
    if rule.l2 or rule.weight_decay:
        gradient = np.where(kernel, gradient + real(rule.l2) * theta, gradient)
        theta -= np.where(kernel, (rate * rule.weight_decay).astype(real) * theta, real(0))
    theta -= change(rule, gradient, state, rate, step)
    theta[rate == 0] = before[rate == 0]


def _tensors(layout: Layout) -> Iterator[tuple[int, bool, int]]:
    """Yield (layer, whether these are biases, how many) in the order of theta."""
    for layer, (n_in, n_out) in enumerate(pairwise(layout.sizes)):
        yield layer, False, n_out * n_in
        if layout.bias:
            yield layer, True, n_out


def _layers(layout: Layout, theta: Array) -> Iterator[tuple[Array, Array]]:
    """Yield (W, b) of each layer as views of ``theta``; ``b`` has no rows without biases."""
    end = 0
    for n_in, n_out in pairwise(layout.sizes):
        start, middle = end, end + n_out * n_in
        end = middle + n_out * layout.bias
        yield theta[start:middle].reshape(n_out, n_in), theta[middle:end].reshape(-1, 1)


def _activations(layout: Layout, theta: Array, X: Array) -> tuple[list[Array], list[Array]]:
    """Return X and the output of every layer, and the derivatives; the last layer is linear."""
    activations, derivatives = [X], []
    layers = list(_layers(layout, theta))
    for W, b in layers:
        Z = np.empty((len(W), X.shape[1]), X.dtype)
        linear(W, b if len(b) else np.zeros((1, 1), X.dtype), activations[-1], Z)
        if len(activations) < len(layers):
            derivatives.append(np.empty_like(Z))
            activate(Z, layout.activation, layout.negative_slope, Z, derivatives[-1])
        activations.append(Z)
    return activations, derivatives


class Descent:
    """The memory and the threads of a run; the reference has none."""


def forward(
    layout: Layout,
    thetas: Array,
    X: Array,
    Y: Array | None,
    sample_weight: Array | None,
    out: Array,
    threads: int,
    descent: Descent | None = None,
) -> NDArray[np.float64]:
    """Overwrite ``out`` with the networks' outputs; return their costs, NaN without ``Y``."""
    costs = np.full(len(thetas), np.nan)
    for k, theta in enumerate(thetas):
        Z = _activations(layout, theta, X)[0][-1]
        labels = np.zeros_like(Z) if Y is None else Y
        cost = loss(Z, labels, sample_weight, layout.loss, out[k], np.empty_like(Z))
        if Y is not None:
            costs[k] = cost
    return costs


@_quiet
def loss_and_gradient(
    layout: Layout,
    thetas: Array,
    X: Array,
    Y: Array,
    sample_weight: Array | None,
    gradients: Array,
    threads: int,
    descent: Descent | None = None,
) -> NDArray[np.float64]:
    """Overwrite ``gradients`` with the derivatives of the costs by the thetas; return the costs."""
    costs = np.empty(len(thetas))
    for k, (theta, gradient) in enumerate(zip(thetas, gradients, strict=True)):
        (*inputs, Z), derivatives = _activations(layout, theta, X)
        dZ = np.empty_like(Z)
        costs[k] = loss(Z, Y, sample_weight, layout.loss, np.empty_like(Z), dZ)
        parameters = list(_layers(layout, theta))
        gradient_layers = list(_layers(layout, gradient))
        for layer in reversed(range(len(parameters))):
            dW, db = gradient_layers[layer]
            dW[...] = dZ @ inputs[layer].T
            if layout.bias:
                db[...] = dZ.sum(axis=1, keepdims=True)
            if layer > 0:
                dZ = parameters[layer][0].T @ dZ * derivatives[layer - 1]
    return costs


@_quiet
def descend(
    layout: Layout,
    rules: Sequence[Rule],
    thetas: Array,
    states: Array,
    step: int,
    X: Array,
    Y: Array,
    sample_weight: Array | None,
    order: NDArray[np.intp] | None,
    batch_size: int,
    first: int,
    rates: NDArray[np.float64],
    costs: NDArray[np.float64],
    counts: NDArray[np.intp],
    networks: NDArray[np.intp],
    threads: int,
    descent: Descent | None = None,
) -> None:
    """Run ``costs.shape[1]`` iterations of each network; ``counts`` are those completed.

    ``rules``, ``rates``, ``costs`` and ``counts`` have an entry for each of ``networks``, the rows
    of ``thetas`` and ``states`` to run. Iteration ``i`` takes batch ``first + i`` of the batches
    that the rows of ``order`` are cut into. A batch has ``batch_size`` examples; the last one of a
    row may have fewer. Without ``order`` every batch is all examples. A row of ``order`` may have
    any number of indices.
    """
    batches = -(-(X.shape[1] if order is None else order.shape[1]) // batch_size)
    counts[...] = 0
    rates = np.broadcast_to(rates, (len(rates), costs.shape[1], rates.shape[2]))
    each = zip(rules, networks, rates, costs, strict=True)
    for n, (rule, k, own_rates, own_costs) in enumerate(each):
        theta = thetas[k]
        gradient = np.empty_like(theta)
        for i in range(costs.shape[1]):
            batch: Any = slice(None)
            if order is not None:
                row, b = divmod(first + i, batches)
                batch = order[row, b * batch_size : (b + 1) * batch_size]
            part = None if sample_weight is None else sample_weight[batch]
            total = X[:, batch].shape[1] if part is None else part.sum(dtype=np.float64)
            own = rule
            if rule.l2_by_batch and total > 0:
                own = rule._replace(l2=rule.l2 / total)
            [cost] = loss_and_gradient(
                layout, theta[None], X[:, batch], Y[:, batch], part, gradient[None], 1
            )
            updated = theta.copy()
            update_parameters(layout, own, updated, gradient, states[k], step + i, own_rates[i])
            if not np.isfinite(updated).all():
                break
            if own.penalty_in_cost:
                weights = [W.ravel() for W, _ in _layers(layout, theta)]
                squares = np.square(np.concatenate(weights), dtype=np.float64).sum()
                cost += own.penalty_in_cost * own.l2 / 2 * squares
            theta[...] = updated
            own_costs[i] = cost
            counts[n] = i + 1


# --- one iteration in separate calls --------------------------------------------------------------


@_quiet
def propagate(
    X: Any, parameters: Sequence[Any], masks: Sequence[Any] | None, keep_prob: float
) -> list[Array]:
    """Return ``[Z1, A1, Z2, A2, ...]``: ReLU of every layer but the last, sigmoid of that.

    With masks ``D``, the activations are ``relu(Z) * D / keep_prob``.
    """
    arrays: list[Array] = []
    A, n_in = X, None
    last = len(parameters) // 2
    for layer in range(1, last + 1):
        W = as_doubles(f"W{layer}", parameters[2 * layer - 2], (None, n_in))
        n_out, n_in = W.shape
        A = as_doubles("X", A, (n_in, None))
        shape = (n_out, A.shape[1])
        b = as_doubles(f"b{layer}", parameters[2 * layer - 1], (n_out, 1))
        Z = W @ A + b
        if layer == last:
            A = np.empty(shape)
            sigmoid(Z, A)
        else:
            A = np.maximum(Z, 0)
            if masks is not None:
                A = A * as_doubles(f"D{layer}", masks[layer - 1], shape) / keep_prob
        arrays += [Z, A]
        n_in = n_out
    return arrays


@_quiet
def cross_entropy(A: Any, Y: Any) -> float:
    """Return ``nansum(-log(A) * Y - log(1 - A) * (1 - Y)) / m``."""
    A = as_doubles("a3", A, (None, None))
    _check_examples("a3", A)
    Y = as_doubles("Y", Y, A.shape)
    return float(np.nansum(-np.log(A) * Y - np.log(1 - A) * (1 - Y)) / A.shape[1])


@_quiet
def propagate_back(
    Y: Any,
    activations: Sequence[Any],
    weights: Sequence[Any],
    masks: Sequence[Any] | None,
    keep_prob: float,
    lambd: float,
    average_first: bool,
) -> list[Array]:
    """Return ``[dZ, dW, db]`` of the last layer, then ``[dA, dZ, dW, db]`` of each before it.

    The mean over the examples is in the last ``dZ`` if it comes first, else in ``dW`` and ``db``
    alone. ``lambd * W / m`` is added to ``dW``; masks act as in :func:`propagate`.
    """
    last = len(weights)
    A = as_doubles(f"a{last}", activations[last], (None, None))
    _check_examples(f"a{last}", A)
    m = A.shape[1]
    dZ = A - as_doubles("Y", Y, A.shape)
    if average_first:
        dZ /= m
    arrays: list[Array] = [dZ]
    for layer in range(last, 0, -1):
        W = as_doubles(f"W{layer}", weights[layer - 1], (len(dZ), None))
        shape = (W.shape[1], m)
        A = as_doubles(f"a{layer - 1}" if layer > 1 else "X", activations[layer - 1], shape)
        dW, db = dZ @ A.T, dZ.sum(axis=1, keepdims=True)
        if not average_first:
            dW, db = dW / m, db / m
        arrays += [dW + lambd * W / m if lambd else dW, db]
        if layer > 1:
            dA = W.T @ dZ
            if masks is not None:
                dA = dA * as_doubles(f"D{layer - 1}", masks[layer - 2], shape) / keep_prob
            dZ = dA * (A > 0)
            arrays += [dA, dZ]
    return arrays


@_quiet
def step(
    parameters: MutableMapping[Any, Any],
    grads: Mapping[Any, Any],
    v: MutableMapping[Any, Any] | None,
    s: MutableMapping[Any, Any] | None,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    t: float,
) -> None:
    """Put new arrays into ``parameters``, ``v`` and ``s`` once all are computed.

    A step of gradient descent; with ``v`` of momentum; with ``v`` and ``s`` of Adam, its number t.
    """
    stepped: dict[Any, Array] = {}
    averages: dict[Any, Array] = {}
    squares: dict[Any, Array] = {}
    for name in parameters:
        p, key = as_doubles(f"{name}", parameters[name]), f"d{name}"
        along = gradient = as_doubles(key, grads[key], p.shape)
        if v is not None:
            first = as_doubles(f"v of {key}", v[key], p.shape)
            averages[key] = along = np.asarray(beta1 * first + (1 - beta1) * gradient)
            if s is not None:
                second = as_doubles(f"s of {key}", s[key], p.shape)
                squares[key] = np.asarray(beta2 * second + (1 - beta2) * np.square(gradient))
                root = np.sqrt(squares[key] / (1 - np.float64(beta2) ** t)) + epsilon
                along = along / (1 - np.float64(beta1) ** t) / root
        stepped[name] = np.asarray(p - learning_rate * along)
    for mapping, arrays in ((parameters, stepped), (v, averages), (s, squares)):
        for name, array in arrays.items():
            assert mapping is not None
            mapping[name] = array


def _check_examples(name: str, A: Array) -> None:
    if A.shape[1] == 0:
        raise ValueError(f"{name}: expected at least one example; got shape {A.shape}")


# --- random: element index in, value out ----------------------------------------------------------

BLOCKS = 64  # consecutive counters to a group; see kernels/random.pyx

# Polynomials by dtype, the highest coefficient first; for the sources see kernels/random.pyx.
_LOG = {
    np.dtype(np.float32): (
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    ),
    np.dtype(np.float64): (
        1.479819860511658591e-01,
        1.531383769920937332e-01,
        1.818357216161805012e-01,
        2.222219843214978396e-01,
        2.857142874366239149e-01,
        3.999999999940941908e-01,
        6.666666666666735130e-01,
    ),
}
_SINE = {
    np.dtype(np.float32): (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1),
    np.dtype(np.float64): (
        1.58969099521155010221e-10,
        -2.50507602534068634195e-08,
        2.75573137070700676789e-06,
        -1.98412698298579493134e-04,
        8.33333333332248946124e-03,
        -1.66666666666666324348e-01,
    ),
}
_COSINE = {
    np.dtype(np.float32): (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2),
    np.dtype(np.float64): (
        -1.13596475577881948265e-11,
        2.08757232129817482790e-09,
        -2.75573143513906633035e-07,
        2.48015872894767294178e-05,
        -1.38888888888741095749e-03,
        4.16666666666666019037e-02,
    ),
}
_CENTRAL_NUM = {
    np.dtype(np.float32): (5.9109374720e1, 1.5929113202e2, 5.0434271938e1, 3.3871327179e0),
    np.dtype(np.float64): (
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080e0,
    ),
}
_CENTRAL_DEN = {
    np.dtype(np.float32): (6.7187563600e1, 7.8757757664e1, 1.7895169469e1, 1.0),
    np.dtype(np.float64): (
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ),
}
_TAIL_NUM = {
    np.dtype(np.float32): (1.7023821103e-1, 1.3067284816e0, 2.7568153900e0, 1.4234372777e0),
    np.dtype(np.float64): (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258e0,
        3.64784832476320460504e0,
        5.76949722146069140550e0,
        4.63033784615654529590e0,
        1.42343711074968357734e0,
    ),
}
_TAIL_DEN = {
    np.dtype(np.float32): (1.2021132975e-1, 7.3700164250e-1, 1.0),
    np.dtype(np.float64): (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940e0,
        2.05319162663775882187e0,
        1.0,
    ),
}
_FAR_NUM = {
    np.dtype(np.float32): (1.7337203997e-2, 4.2868294337e-1, 3.0812263860e0, 6.6579051150e0),
    np.dtype(np.float64): (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        1.24266094738807843860e-3,
        2.65321895265761230930e-2,
        2.96560571828504891230e-1,
        1.78482653991729133580e0,
        5.46378491116411436990e0,
        6.65790464350110377720e0,
    ),
}
_FAR_DEN = {
    np.dtype(np.float32): (1.2258202635e-2, 2.4197894225e-1, 1.0),
    np.dtype(np.float64): (
        2.04426310338993978564e-15,
        1.42151175831644588870e-7,
        1.84631831751005468180e-5,
        7.86869131145613259100e-4,
        1.48753612908506148525e-2,
        1.36929880922735805310e-1,
        5.99832206555887937690e-1,
        1.0,
    ),
}

_NEAR_NUM: dict[Any, tuple[float, ...]] = {
    np.dtype(np.float32): (
        -2.4766809723e3,
        1.6911899083e4,
        2.2613970259e4,
        4.7802340476e3,
        2.7448827333e2,
        4.2645668678e0,
    ),
}
_NEAR_DEN: dict[Any, tuple[float, ...]] = {
    np.dtype(np.float32): (1.4096455973e4, 9.7333429098e3, 1.5165275136e3, 7.2536552462e1, 1.0)
}

Words = NDArray[np.uint64]
Polynomial = dict[Any, tuple[float, ...]]


def _elements(
    shape: tuple[int, int], first: int, step: int, size: int
) -> tuple[Words, NDArray[np.intp]]:
    """Return the counter block of each element, and its place among the words of a group."""
    rows, columns = (np.arange(n, dtype=np.uint64) for n in shape)
    index = np.uint64(first) + (rows * np.uint64(step))[:, None] + columns
    offset = index % np.uint64(size)
    block = index // np.uint64(size) * np.uint64(BLOCKS) + offset % np.uint64(BLOCKS)
    return block, (offset // np.uint64(BLOCKS)).astype(np.intp)


def _philox(block: Words, key: int, stream: int) -> tuple[Words, Words, Words, Words]:
    """Return the four 32-bit words of each counter (block, stream), Philox 4x32-10."""
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    x0, x1 = block & low, block >> high
    x2, x3 = (np.full_like(block, half) for half in (stream & 0xFFFFFFFF, stream >> 32))
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * x0, np.uint64(0xCD9E8D57) * x2
        x0, x1 = (p1 >> high) ^ x1 ^ np.uint64(k0), p1 & low
        x2, x3 = (p0 >> high) ^ x3 ^ np.uint64(k1), p0 & low
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return x0, x1, x2, x3


def _horner(coefficients: Polynomial, x: Array) -> Array:
    first, *others = (x.dtype.type(c) for c in coefficients[x.dtype])
    p: Array = first * x + others[0]
    for c in others[1:]:
        p = p * x + c
    return p


def _log(x: Array, exponent: float = 0.0) -> Array:
    """Return ``log(x * 2**exponent)`` of normal positive numbers."""
    if x.dtype == np.float32:
        bits = x.view(np.int32) - np.int32(0x3F3504F3)
        k = (bits >> 23).astype(np.float32) + np.float32(exponent)
        f = ((bits & 0x007FFFFF) + np.int32(0x3F3504F3)).view(np.float32) - np.float32(1)
        g = f * f
        even, odd = ({g.dtype: _LOG[g.dtype][start::2]} for start in (0, 1))
        polynomial = _horner(odd, g) * f + _horner(even, g)
        log: Array = f + g * (polynomial * f - np.float32(0.5))
        return k * np.float32(0.693147182464599609375) + log
    root = np.uint64(0x3FE6A09E667F3BCD)
    wide = x.view(np.uint64) + (np.uint64(0x3FF0000000000000) - root)
    k = (wide >> np.uint64(52)).astype(np.float64) - 1023.0 + exponent
    f = ((wide & np.uint64(0x000FFFFFFFFFFFFF)) + root).view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    half_square = 0.5 * f * f
    low = s * (half_square + _horner(_LOG, z) * z) + k * 1.90821492927058770002e-10
    return k * 6.93147180369123816490e-01 - ((half_square - low) - f)


def _sine_cosine(angle: Array) -> tuple[Array, Array]:
    """Return sine and cosine of angles in [-pi/4, pi/4]."""
    z = angle * angle
    half = angle.dtype.type(0.5)
    sine = angle + angle * z * _horner(_SINE, z)
    return sine, angle.dtype.type(1) - half * z + z * z * _horner(_COSINE, z)


def _quantile(q: Array, exponent: float, unit: float) -> Array:
    """Return z with the mass ``q * unit`` beyond it, for q * unit <= 1/2; unit is 2**exponent."""
    real = q.dtype.type
    y = real(0.5) - q * real(unit)
    root = np.sqrt(-_log(q, exponent))
    r, tail, far = real(0.180625) - y * y, root - real(1.6), root - real(5)
    central = y <= real(0.425)
    beyond = root > real(5)
    numerator = np.where(central, y * _horner(_CENTRAL_NUM, r), _horner(_TAIL_NUM, tail))
    denominator = np.where(central, _horner(_CENTRAL_DEN, r), _horner(_TAIL_DEN, tail))
    numerator = np.where(beyond, _horner(_FAR_NUM, far), numerator)
    denominator = np.where(beyond, _horner(_FAR_DEN, far), denominator)
    return numerator / denominator


def _near_quantile(q: Array, unit: float) -> Array:
    """Return ``_quantile`` for a mass of at least 0.0215; float32 only."""
    y = np.float32(0.5) - q * np.float32(unit)
    r = np.float32(0.23) - y * y
    z: Array = y * _horner(_NEAR_NUM, r) / _horner(_NEAR_DEN, r)
    return z


def _unit_double(bits: Words, origin: float) -> Array:
    """Return the top 52 bits as a number in [1, 2), less ``origin``."""
    return ((bits >> np.uint64(12)) | np.uint64(0x3FF0000000000000)).view(np.float64) - origin


def _drawn(
    out: NDArray[Any], first: int, step: int, sources: NDArray[np.uint64], stream: int
) -> tuple[list[Words], NDArray[np.intp]]:
    """Return each element's words, of 32 bits or 64 for doubles, and which of them it takes."""
    doubles = out.dtype == np.float64
    block, place = _elements(out.shape[1:], first, step, BLOCKS * (2 if doubles else 4))
    each = [_philox(block, key, own + stream) for key, own in sources.tolist()]
    x = np.array(each, np.uint64).swapaxes(0, 1)
    place = np.broadcast_to(place, out.shape)
    if doubles:
        return [x[0] | x[1] << np.uint64(32), x[2] | x[3] << np.uint64(32)], place
    return list(x), place


def _store(out: NDArray[Any], values: NDArray[Any], brain: bool) -> None:
    """Write floats, rounded to nearest even if ``out`` holds the bits of halves."""
    if out.dtype != np.uint16:
        out[...] = values
    elif brain:
        bits = values.view(np.uint32).astype(np.uint64)
        out[...] = (bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
    else:
        out[...] = values.astype(np.float16).view(np.uint16)


def _counters(out: NDArray[np.uint32], first: int, key: int, stream: int) -> None:
    """Overwrite ``out[w, b]``, of shape (4, n), with word w of counter ``(first + b, stream)``."""
    out[...] = _philox(np.uint64(first) + np.arange(out.shape[1], dtype=np.uint64), key, stream)


def permutation(out: NDArray[np.intp], key: int, stream: int) -> None:
    """Overwrite ``out`` with 0, 1, ... in random order."""
    drawn = np.empty((1, len(out)), np.uint32)
    words(drawn, 0, len(out), key, stream)
    out[...] = np.arange(len(out))
    for i, word in enumerate(drawn[0].tolist()):
        j = i + (word * (len(out) - i) >> 32)
        out[i], out[j] = out[j], out[i]


def shuffles(
    generator: np.random.BitGenerator, sample: NDArray[np.intp], out: NDArray[np.intp]
) -> None:
    """Shuffle ``sample`` for each row of ``out`` as ``RandomState.shuffle`` does."""
    state = np.random.RandomState(generator)
    for row in out:
        state.shuffle(sample)
        row[:] = sample


def words(out: NDArray[np.uint32], first: int, step: int, key: int, stream: int) -> None:
    """Overwrite ``out`` with the words of the generator, in the order in which floats take them."""
    x, place = _drawn(out[None], first, step, np.array([[key, 0]], np.uint64), stream)
    out[...] = np.choose(place, x)[0]


@_quiet
def uniform(
    out: NDArray[Any],
    first: int,
    step: int,
    sources: NDArray[np.uint64],
    stream: int,
    low: float,
    width: float,
    lowest: float,
    largest: float,
    brain: bool,
) -> None:
    """Overwrite ``out`` with ``low + unit * width``, from ``lowest`` to ``largest``."""
    x, place = _drawn(out, first, step, sources, stream)
    bits = np.choose(place, x)
    values: Array
    if out.dtype == np.float64:
        values = low + _unit_double(bits, 1.0) * width
    else:
        unit = (bits >> np.uint64(8)).astype(np.float32)
        values = np.float32(low) + unit * (np.float32(width) * np.float32(2**-24))
    real = values.dtype.type
    _store(out, np.clip(values, real(lowest), real(largest)), brain)


@_quiet
def normal(
    out: NDArray[Any],
    first: int,
    step: int,
    sources: NDArray[np.uint64],
    stream: int,
    mean: float,
    std: float,
    brain: bool,
) -> None:
    """Overwrite ``out`` with draws from the normal distribution (Box and Muller)."""
    x, place = _drawn(out, first, step, sources, stream)
    pair = place & ~1
    u: Array
    angle: Array
    for_radius, for_angle = np.choose(pair, x), np.choose(pair + 1, x)
    if out.dtype == np.float64:
        u = _unit_double(for_radius, 1 - 2.0**-53)
        angle = _unit_double(for_angle << np.uint64(2), 1.5) * 1.57079632679489661923
        bit = 62
    else:
        half = np.float32(0.5)
        u = ((for_radius >> np.uint64(1)).astype(np.float32) + half) * np.float32(2**-31)
        signed = (for_angle << np.uint64(2)).astype(np.uint32).view(np.int32)
        angle = signed.astype(np.float32) * np.float32(3.6572966e-10)
        bit = 30
    real = angle.dtype.type
    radius = np.sqrt(real(-2) * _log(u)) * real(std)
    sine, cosine = _sine_cosine(angle)
    cosine = np.where(for_angle >> np.uint64(bit) & np.uint64(1), -cosine, cosine)
    swapped = (for_angle >> np.uint64(bit + 1) & np.uint64(1)).astype(bool)
    _store(out, real(mean) + radius * np.where(swapped == (place % 2 == 0), sine, cosine), brain)


@_quiet
def truncated_normal(
    out: NDArray[Any],
    first: int,
    step: int,
    sources: NDArray[np.uint64],
    stream: int,
    mean: float,
    std: float,
    left: float,
    right: float,
    total: float,
    exponent: float,
    unit: float,
    lowest: float,
    largest: float,
    brain: bool,
) -> None:
    """Overwrite ``out`` with draws from the part of the normal distribution between two bounds."""
    x, place = _drawn(out, first, step, sources, stream)
    bits = np.choose(place, x)
    v: Array
    rest: Array
    if out.dtype == np.float64:
        v = _unit_double(bits, 1 - 2.0**-53)
        rest = 1.0 - v
    else:
        k = bits >> np.uint64(1)
        half, scale = np.float32(0.5), np.float32(2**-31)
        v = (k.astype(np.float32) + half) * scale
        rest = ((np.uint64(0x7FFFFFFF) - k).astype(np.float32) + half) * scale
    real = v.dtype.type
    on_left = real(left) + v * real(total)
    on_right = real(right) + rest * real(total)
    q = np.minimum(on_left, on_right)
    near = real is np.float32 and left * unit >= 0.0215 and right * unit >= 0.0215
    z = _near_quantile(q, unit) if near else _quantile(q, exponent, unit)
    values = real(mean) + real(std) * np.where(on_left < on_right, -z, z)
    _store(out, np.clip(values, real(lowest), real(largest)), brain)
