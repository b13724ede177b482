"""Signal and gradient in each layer of a network, compared with mean-field theory.

``measure`` propagates data forward and the gradient backward through a network and returns the
statistics of each layer and a verdict: vanishing, exploding, symmetric, dead, saturated, collapsed
or healthy. ``along`` measures at chosen iterations of a training. ``mean_field`` computes what is
expected of a wide network of random weights [1]_ [2]_ [3]_.

All computations are in float64 and plain NumPy; this module is not optimised for speed.

References
----------
.. [1] Poole et al., "Exponential expressivity in deep neural networks through transient chaos",
   2016, arXiv:1606.05340.
.. [2] Schoenholz et al., "Deep information propagation", 2017, arXiv:1611.01232.
.. [3] He et al., "Delving deep into rectifiers", 2015, arXiv:1502.01852.
"""

import html
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit import reference
from fastinit.comparison.tables import Table
from fastinit.comparison.verdicts import SATURATED, layers_in_words
from fastinit.training.loop import train
from fastinit.training.network import Array, Network
from fastinit.training.optimizers import LBFGS
from fastinit.training.run import Run
from fastinit.validation import MOST_ITERATIONS, check_integer, is_sequence

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

# Thresholds of the verdict. A signal or gradient vanishes or explodes if its size changes by more
# than this factor. He weights preserve it on average: it changed that much in one of 30 random
# networks with 10 layers of 10 units, and in none of 300 with layers of 32 units.
FACTOR = 10.0
# A layer is called dead or saturated if at least this share of its units or activations is.
MAJORITY = 0.5
# The effective rank of examples that differ by a hundredth of their common part.
COLLAPSED = 1.06


# --- measurements -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean, standard deviation and quantiles of one array for each layer.

    Attributes
    ----------
    mean, std : ndarray of shape (n_layers,)
    quantiles : ndarray of shape (n_layers, 5)
        At 5, 25, 50, 75 and 95 %.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    quantiles: NDArray[np.float64]

    @classmethod
    def of(cls, layers: Sequence[Array]) -> "Moments":
        """Return the moments of one array for each layer."""
        return cls(
            np.array([layer.mean() for layer in layers]),
            np.array([layer.std() for layer in layers]),
            np.array([np.quantile(layer, QUANTILES) for layer in layers]).reshape(-1, 5),
        )

    @property
    def rms(self) -> NDArray[np.float64]:
        """The root mean square, which theory predicts."""
        return np.hypot(self.mean, self.std)


@dataclass(frozen=True, eq=False)
class MeanField:
    """Expected root mean squares in a wide network of random weights.

    Attributes
    ----------
    z_rms : ndarray of shape (n_layers,)
        Of the pre-activations: the square root of ``q`` in Poole et al.
    a_rms : ndarray of shape (n_layers - 1,)
        Of the activations of the hidden layers.
    da_rms, dz_rms : ndarray of shape (n_layers - 1,), (n_layers,)
        Of the gradient by activations and by pre-activations.
    chi : ndarray of shape (n_layers - 1,)
        ``n_l var(W_{l+1}) E[phi'(z_l)**2]`` of each hidden layer: the factor from layer to layer of
        the squared gradient and of the squared difference between two similar examples. Below 1
        both vanish, above 1 both explode.
    """

    z_rms: NDArray[np.float64]
    a_rms: NDArray[np.float64]
    da_rms: NDArray[np.float64]
    dz_rms: NDArray[np.float64]
    chi: NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Propagation:
    """Signal and gradient in each layer of one network; prints as a table and a verdict.

    Index 0 is the first hidden layer, the last index is the output layer. Gradients by
    pre-activations and activations are those of the loss of each example, so that their size does
    not depend on the number of examples. Gradients by parameters are those of the cost, the mean
    loss.

    Attributes
    ----------
    network : Network
    x_rms, x_rank : float
        Root mean square and effective rank of the data.
    z, a : Moments
        Pre-activations ``W @ A + b`` and activations, over units and examples.
    dz, da : Moments
        Gradients by pre-activations, and by the activations of the hidden layers.
    w, dw, db : Moments
        Weights, and gradients by weights and by biases; ``db`` is empty without biases.
    dead_units : ndarray of shape (n_layers,)
        Share of units that are zero for every example.
    dead_activations : ndarray of shape (n_layers,)
        Share of activations that are zero.
    saturation : ndarray of shape (n_layers,)
        Share of activations whose derivative is below 1 % of the largest one of the function.
    distinct_units : ndarray of shape (n_layers,), intp
        Number of units with different weights. Units with the same incoming and outgoing weights
        get the same gradient, so they stay identical during training.
    effective_rank : ndarray of shape (n_layers,)
        Effective number of directions of the activations of all examples: the exponential of the
        entropy of the normalised singular values [1]_. 0 if all activations are zero.
    theory : MeanField
        Expectation for random weights with the same mean squares, given the root mean squares of
        the data and of the gradient at the output.

    References
    ----------
    .. [1] Roy and Vetterli, "The effective rank: a measure of effective dimensionality", 2007.
    """

    network: Network
    x_rms: float
    x_rank: float
    z: Moments
    a: Moments
    dz: Moments
    da: Moments
    w: Moments
    dw: Moments
    db: Moments
    dead_units: NDArray[np.float64]
    dead_activations: NDArray[np.float64]
    saturation: NDArray[np.float64]
    distinct_units: NDArray[np.intp]
    effective_rank: NDArray[np.float64]
    theory: MeanField

    @property
    def gradient_to_parameter(self) -> NDArray[np.float64]:
        """Root mean square of each layer's weight gradient, divided by that of its weights.

        Multiplied by the learning rate, it is the relative size of the first update of gradient
        descent, for which 0.001 is a rule of thumb [1]_.

        References
        ----------
        .. [1] https://cs231n.github.io/neural-networks-3/#ratio
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.dw.rms / self.w.rms

    @property
    def findings(self) -> dict[str, str]:
        """The problems by name, each with its reason; ``healthy`` if there are none."""
        problems = dict(_problems(self))
        fine = ", ".join(map(str, _changes(self))) or "the network has no hidden layers"
        return problems or {"healthy": fine}

    @property
    def verdict(self) -> str:
        """All findings in one line."""
        return "; ".join(f"{finding}: {reason}" for finding, reason in self.findings.items())

    def table(self) -> Table:
        """Return one row for each layer."""
        n_layers = self.network.n_layers
        ratio = self.gradient_to_parameter
        return Table(
            [
                {
                    "layer": i + 1,
                    "units": self.network.sizes[i + 1],
                    "distinct": int(self.distinct_units[i]),
                    "z rms": float(self.z.rms[i]),
                    "theory": float(self.theory.z_rms[i]),
                    "a mean": float(self.a.mean[i]),
                    "a std": float(self.a.std[i]),
                    "rank": float(self.effective_rank[i]),
                    "dead units": float(self.dead_units[i]),
                    "saturated": float(self.saturation[i]),
                    "dz rms": float(self.dz.rms[i]),
                    "theory of dz": float(self.theory.dz_rms[i]),
                    "chi": float(self.theory.chi[i]) if i < n_layers - 1 else None,
                    "dW / W": float(ratio[i]),
                }
                for i in range(n_layers)
            ]
        )

    def __repr__(self) -> str:
        return f"{self.table()!r}\n{self.verdict}"

    def _repr_html_(self) -> str:
        return f"{self.table()._repr_html_()}<p>{html.escape(self.verdict)}</p>"


@np.errstate(over="ignore", invalid="ignore")
def measure(network: Network, theta: Array, X: ArrayLike, Y: ArrayLike) -> Propagation:
    """Propagate data forward and the gradient backward, and return the statistics of each layer.

    Parameters
    ----------
    network : Network
    theta : ndarray of shape (n_parameters,), the network's dtype
        Parameters, initialised or trained.
    X : array_like of shape (n_features, n_examples)
    Y : array_like
        Labels, as the output of the network takes them: see :class:`fastinit.Network`.

    Returns
    -------
    Propagation

    Raises
    ------
    TypeError, ValueError
        For invalid arguments. Overflow in the network is not an error but a finding.

    Notes
    -----
    A few hundred examples are enough for stable statistics. The activations and gradients of all
    layers are in memory at once.

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, _, _ = fi.lesson.load_dataset()
    >>> net = fi.Network([2, *[100] * 10, 1])
    >>> fi.propagation.measure(net, net.initialize("he_normal", seed=0), X, Y).findings.keys()
    dict_keys(['healthy'])
    >>> theta = net.initialize("lecun_normal", seed=0)
    >>> fi.propagation.measure(net, theta, X, Y).findings.keys()
    dict_keys(['vanishing signal', 'vanishing gradient'])
    """
    if not isinstance(network, Network):
        raise TypeError(f"network: expected a Network; got {type(network).__name__}")
    theta = network.check_theta(theta)
    if not np.isfinite(theta).all():
        raise ValueError("theta: expected finite numbers; got NaN or infinity")
    X = network.check_X(X)
    Y = network.check_Y(Y, X)
    X, Y = X.astype(np.float64), Y.astype(np.float64)
    parameters = {name: p.astype(np.float64) for name, p in network.unpack(theta).items()}
    W = [parameters[f"W{i + 1}"] for i in range(network.n_layers)]
    b = [parameters.get(f"b{i + 1}", np.zeros((len(W_l), 1))) for i, W_l in enumerate(W)]
    Z, A, derivatives = _forward(network, W, b, X)
    A_out, dZ_out = _outputs(network, Z[-1], Y)
    A.append(A_out)
    dZ, dA = _backward(W, derivatives, dZ_out)
    inputs, m = [X, *A[:-1]], X.shape[1]
    w, dz, x_rms = Moments.of(W), Moments.of(dZ), float(np.sqrt(np.mean(X**2)))
    return Propagation(
        network=network,
        x_rms=x_rms,
        x_rank=_effective_rank(X),
        z=Moments.of(Z),
        a=Moments.of(A),
        dz=dz,
        da=Moments.of(dA),
        w=w,
        dw=Moments.of([dZ_l @ A_l.T / m for dZ_l, A_l in zip(dZ, inputs, strict=True)]),
        db=Moments.of([dZ_l.mean(axis=1) for dZ_l in dZ] if network.bias else []),
        dead_units=np.array([np.mean((A_l == 0).all(axis=1)) for A_l in A]),
        dead_activations=np.array([np.mean(A_l == 0) for A_l in A]),
        saturation=np.array(list(_saturation(network, derivatives, A[-1]))),
        distinct_units=np.array(list(_distinct_units(W, b))),
        effective_rank=np.array([_effective_rank(A_l) for A_l in A]),
        theory=mean_field(
            network,
            w.rms**2,
            Moments.of(b).rms ** 2,
            x_rms=x_rms,
            dz_rms=float(dz.rms[-1]),
        ),
    )


def measure_stack(network: Network, thetas: Array, X: ArrayLike, Y: ArrayLike) -> list[Propagation]:
    """Measure each network of a stack.

    Parameters
    ----------
    network : Network
    thetas : ndarray of shape (k, n_parameters), the network's dtype
    X, Y : array_like
        As for :func:`measure`.

    Returns
    -------
    list of k Propagation

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, _, _ = fi.lesson.load_dataset()
    >>> net = fi.Network([2, 10, 5, 1])
    >>> thetas = np.stack([net.initialize("he_normal", seed=seed) for seed in range(3)])
    >>> [int(each.distinct_units[0]) for each in fi.propagation.measure_stack(net, thetas, X, Y)]
    [10, 10, 10]
    """
    thetas = np.asarray(thetas)
    if thetas.ndim != 2:
        raise ValueError(f"thetas: expected shape (k, n_parameters); got {thetas.shape}")
    return [measure(network, theta, X, Y) for theta in thetas]


def along(
    network: Network,
    theta: Array,
    X: ArrayLike,
    Y: ArrayLike,
    *,
    at: Sequence[int],
    **keywords: Any,
) -> tuple[Run, dict[int, Propagation]]:
    """Train a network and measure it at chosen iterations.

    Parameters
    ----------
    network, theta, X, Y
        As for :func:`fastinit.train`; ``theta`` is one network and is updated in place.
    at : sequence of int
        The iterations before which the network is measured, in ascending order; 0 is the start.
    **keywords
        Those of :func:`fastinit.train`, except ``epochs``, ``tol``, ``n_iter_no_change``,
        ``resume`` and the optimizer L-BFGS. ``iterations`` is the last entry of ``at`` by default.

    Returns
    -------
    run : Run
    snapshots : dict of int to Propagation
        The measurements by iteration, of the iterations that the training reached.

    Raises
    ------
    TypeError, ValueError
        For invalid arguments, before anything is written.

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, _, _ = fi.lesson.load_dataset()
    >>> net = fi.Network([2, 10, 5, 1])
    >>> theta = net.initialize("lesson.he", seed=3)
    >>> run, snapshots = fi.propagation.along(net, theta, X, Y, at=[0, 100, 1000])
    >>> list(snapshots), run.iterations
    ([0, 100, 1000], 1000)
    """
    if not is_sequence(at):
        raise TypeError(f"at: expected a sequence of integers; got {at!r}")
    marks = [check_integer("at", mark, 0, MOST_ITERATIONS) for mark in at]
    if not marks or any(later <= earlier for earlier, later in pairwise(marks)):
        raise ValueError(f"at: expected at least one iteration, ascending; got {at!r}")
    iterations = check_integer(
        "iterations", keywords.pop("iterations", marks[-1]), 0, MOST_ITERATIONS
    )
    if marks[-1] > iterations:
        raise ValueError(f"at: expected at most the {iterations} iterations; got {marks[-1]}")
    for name in ("epochs", "tol", "n_iter_no_change", "resume"):
        if name in keywords:
            raise TypeError(f"{name}: expected none; got {keywords[name]!r}")
    if isinstance(keywords.get("optimizer"), LBFGS):
        raise ValueError("optimizer: expected another than LBFGS, which starts anew when resumed")
    network.check_theta(theta, written=True)  # one network: train would take a stack
    run = train(network, theta, X, Y, iterations=0, **keywords)
    # A resumed run keeps how its examples are ordered.
    for name in ("batch_size", "shuffle", "seed"):
        keywords.pop(name, None)
    snapshots = {}
    for mark in [*marks, iterations]:
        missing = mark - run.iterations
        run = train(network, theta, X, Y, iterations=missing, resume=run, **keywords)
        if run.iterations == mark and mark in marks:
            snapshots[mark] = measure(network, theta, X, Y)
        if run.stopped_by != "iterations":
            break
    return run, snapshots


# --- theory -----------------------------------------------------------------------------------


@np.errstate(over="ignore", invalid="ignore")
def mean_field(
    network: Network,
    weight_variances: ArrayLike,
    bias_variances: ArrayLike = 0.0,
    *,
    x_rms: float = 1.0,
    dz_rms: float = 1.0,
) -> MeanField:
    """Return the expected root mean squares in a wide network of random weights.

    The weights are independent with mean 0, and z is standard normal. Forward [1]_,
    ``q_{l+1} = n_l var(W_{l+1}) E[phi(sqrt(q_l) z)**2] + var(b_{l+1})``. Backward [2]_, assuming
    weights that are independent of those in the forward pass,
    ``E[dZ_l**2] = n_{l+1} var(W_{l+1}) E[phi'(sqrt(q_l) z)**2] E[dZ_{l+1}**2]``.

    Parameters
    ----------
    network : Network
        Sizes and hidden activation are used.
    weight_variances : float or array_like of shape (n_layers,)
        Variances of the weights, such as ``2 / fan_in``.
    bias_variances : float or array_like of shape (n_layers,), default 0.0
    x_rms : float, default 1.0
        Root mean square of the data.
    dz_rms : float, default 1.0
        Root mean square of the gradient by the pre-activations of the output.

    Returns
    -------
    MeanField

    Raises
    ------
    ValueError
        For variances of another shape, or negative ones.

    Notes
    -----
    The variance is ``2 / fan_in`` for He weights, ``1 / fan_in`` for LeCun weights and for
    orthogonal ones with ``n_out <= n_in``, and ``2 / (fan_in + fan_out)`` for Glorot weights. For
    other weights use the variance of the values drawn, as :func:`measure` does.

    References
    ----------
    .. [1] Poole et al., 2016, arXiv:1606.05340, equation 3.
    .. [2] Schoenholz et al., 2017, arXiv:1611.01232, section 4.

    Examples
    --------
    With He weights the gradient in a ReLU network neither vanishes nor explodes:

    >>> import fastinit as fi
    >>> net = fi.Network([100] * 6)
    >>> fi.propagation.mean_field(net, 2 / 100, x_rms=3.0).chi.round(12)
    array([1., 1., 1., 1.])
    """
    n_layers = network.n_layers
    weights = _variances("weight_variances", weight_variances, n_layers)
    biases = _variances("bias_variances", bias_variances, n_layers)
    fan_in, fan_out = np.array(network.sizes[:-1]), np.array(network.sizes[1:])
    q = np.empty(n_layers)
    a, derivatives = np.empty(n_layers - 1), np.empty(n_layers - 1)
    q[0] = fan_in[0] * weights[0] * x_rms**2 + biases[0]
    for i in range(n_layers - 1):
        a[i] = gaussian_mean(lambda z: _activate(network, z)[0] ** 2, math.sqrt(q[i]))
        derivatives[i] = gaussian_mean(lambda z: _activate(network, z)[1] ** 2, math.sqrt(q[i]))
        q[i + 1] = fan_in[i + 1] * weights[i + 1] * a[i] + biases[i + 1]
    da, dz = np.empty(n_layers - 1), np.empty(n_layers)
    dz[-1] = dz_rms**2
    for i in reversed(range(n_layers - 1)):
        da[i] = fan_out[i + 1] * weights[i + 1] * dz[i + 1]
        dz[i] = derivatives[i] * da[i]
    return MeanField(
        z_rms=np.sqrt(q),
        a_rms=np.sqrt(a),
        da_rms=np.sqrt(da),
        dz_rms=np.sqrt(dz),
        chi=fan_in[1:] * weights[1:] * derivatives,
    )


def _variances(name: str, value: ArrayLike, n_layers: int) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=np.float64)
    if array.shape not in ((), (n_layers,)):
        raise ValueError(f"{name}: expected one number or shape ({n_layers},); got {array.shape}")
    if not (array >= 0).all():
        raise ValueError(f"{name}: expected none negative; got {array.min()}")
    return np.broadcast_to(array, n_layers)


# Nodes and weights of the trapezoidal rule on the half line, after the substitution z = exp(t). The
# integrand is analytic in a strip of width pi / 4 and decays faster than exponentially on both
# sides, so this step gives full double precision. Gauss-Hermite quadrature resolves a single scale:
# it fails at kinks at zero and for the narrow derivatives of saturated units.
_STEP = 0.125
_NODES = np.exp(np.arange(-40, math.log(39), _STEP))
_WEIGHTS = _STEP * _NODES * np.exp(-(_NODES**2) / 2) / math.sqrt(2 * math.pi)


def gaussian_mean(function: Callable[[Array], Array], std: float) -> float:
    """Return ``E[function(std * z)]`` over a standard normal z.

    Parameters
    ----------
    function : callable
        Elementwise, and smooth on each side of zero.
    std : float
        Standard deviation.

    Returns
    -------
    float

    Examples
    --------
    >>> round(gaussian_mean(lambda z: np.maximum(z, 0) ** 2, 3.0), 12)
    4.5
    """
    return float(_WEIGHTS @ (function(std * _NODES) + function(-std * _NODES)))


# --- forward and backward ---------------------------------------------------------------------


def _forward(
    network: Network, W: Sequence[Array], b: Sequence[Array], X: Array
) -> tuple[list[Array], list[Array], list[Array]]:
    """Return pre-activations of all layers, and activations and derivatives of the hidden ones."""
    Z: list[Array] = []
    A, derivatives = [X], []
    for W_l, b_l in zip(W[:-1], b[:-1], strict=True):
        Z.append(W_l @ A[-1] + b_l)
        A_l, derivatives_l = _activate(network, Z[-1])
        A.append(A_l)
        derivatives.append(derivatives_l)
    Z.append(W[-1] @ A[-1] + b[-1])
    return Z, A[1:], derivatives


def _backward(
    W: Sequence[Array], derivatives: Sequence[Array], dZ_out: Array
) -> tuple[list[Array], list[Array]]:
    """Return gradients by pre-activations of all layers and by activations of the hidden ones."""
    dZ, dA = [dZ_out], []
    for W_l, derivatives_l in zip(reversed(W[1:]), reversed(derivatives), strict=True):
        dA.append(W_l.T @ dZ[-1])
        dZ.append(dA[-1] * derivatives_l)
    return dZ[::-1], dA[::-1]


def _activate(network: Network, Z: Array) -> tuple[Array, Array]:
    """Return the hidden activation of Z and its derivatives."""
    A, derivatives = np.empty_like(Z), np.empty_like(Z)
    reference.activate(Z, network.activation, network.negative_slope, A, derivatives)
    return A, derivatives


def _outputs(network: Network, Z: Array, Y: Array) -> tuple[Array, Array]:
    """Return the outputs, and the gradient of each example's loss by Z."""
    A, dZ = np.empty_like(Z), np.empty_like(Z)
    reference.loss(Z, Y, None, network.loss, A, dZ)
    return A, dZ * Z.shape[1]


def _distinct_units(W: Sequence[Array], b: Sequence[Array]) -> Iterator[int]:
    outgoing = [W_l.T for W_l in W[1:]] + [np.empty((W[-1].shape[0], 0))]
    for W_l, b_l, W_next in zip(W, b, outgoing, strict=True):
        yield len(np.unique(np.hstack([W_l, b_l, W_next]), axis=0))


def _flattens(network: Network) -> bool:
    """Whether the hidden activation saturates on both sides, as tanh and sigmoid do."""
    _, derivatives = _activate(network, np.linspace(-20, 20, 401))
    return bool(np.abs(derivatives[[0, -1]]).max() < SATURATED * np.abs(derivatives).max())


def _saturation(network: Network, derivatives: Sequence[Array], A_out: Array) -> Iterator[float]:
    _, possible = _activate(network, np.linspace(-10, 10, 2001))
    for derivatives_l in derivatives:
        yield float(np.mean(np.abs(derivatives_l) < SATURATED * possible.max()))
    # A * (1 - A) is the derivative by the own pre-activation, at most 1 / 4; other outputs do not
    # saturate.
    bounded = network.output in ("sigmoid", "softmax")
    yield float(np.mean(A_out * (1 - A_out) < SATURATED / 4)) if bounded else 0.0


def _effective_rank(A: Array) -> float:
    if not np.isfinite(A).all():
        return math.nan
    largest = np.abs(A).max()
    if largest == 0:
        return 0.0
    A = A / largest
    # Singular values from the smaller Gram matrix: much faster than a decomposition of A. It loses
    # those below 1e-8 of the largest, which do not change the entropy.
    squares = np.linalg.eigvalsh(A @ A.T if A.shape[0] <= A.shape[1] else A.T @ A)
    singular = np.sqrt(squares[squares > 0])
    shares = singular / singular.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


# --- the verdict ------------------------------------------------------------------------------


def _problems(p: Propagation) -> Iterator[tuple[str, str]]:
    """Yield each finding with its reason, causes before effects."""
    several = np.array(p.network.sizes[1:-1]) > 1
    symmetric = several & (p.distinct_units[:-1] == 1)
    if symmetric.any():
        yield (
            "symmetric",
            f"all units of {layers_in_words(symmetric)} are identical and stay so in training",
        )
    dead = p.dead_units[:-1] >= MAJORITY
    if dead.any():
        share = _share(p.dead_units[:-1][dead])
        yield "dead", f"{share} of the units of {layers_in_words(dead)} are zero for every example"
    # Other activations have a zero derivative on one side by design, and outputs may be certain.
    saturated = (p.saturation[:-1] >= MAJORITY) & _flattens(p.network)
    if saturated.any():
        yield (
            "saturated",
            f"{_share(p.saturation[:-1][saturated])} of the activations of "
            f"{layers_in_words(saturated)} have a derivative below {SATURATED:.0%} of the largest",
        )
    rank = p.effective_rank[:-1]
    collapsed = several & (rank > 0) & (rank < COLLAPSED)
    if collapsed.any() and p.x_rank >= COLLAPSED:
        yield (
            "collapsed",
            f"the activations of {layers_in_words(collapsed)} lie along nearly one direction, "
            f"down to an effective rank of {rank[collapsed].min():.3f}",
        )
    for change in _changes(p):
        if not change.measured <= FACTOR:
            yield f"exploding {change.what}", str(change)
        elif change.measured < 1 / FACTOR:
            yield f"vanishing {change.what}", str(change)


class _Change(NamedTuple):
    """The factor by which signal or gradient changes between two layers."""

    what: str
    way: str
    measured: float
    expected: float
    why: str = ""

    def __str__(self) -> str:
        measured, expected = _fold(self.measured), _fold(self.expected)
        return f"the {self.what} {measured} {self.way} (theory: {expected}{self.why})"


def _changes(p: Propagation) -> Iterator[_Change]:
    last = p.network.n_layers - 1  # the output has too few units for stable statistics
    if last > 0:
        yield _Change(
            "signal",
            f"from the data to layer {last}",
            _ratio(p.z.rms[last - 1], p.x_rms),
            _ratio(p.theory.z_rms[last - 1], p.x_rms),
        )
    if last > 1:
        yield _Change(
            "gradient",
            f"from layer {last} back to layer 1",
            _ratio(p.dz.rms[0], p.dz.rms[last - 1]),
            _ratio(p.theory.dz_rms[0], p.theory.dz_rms[last - 1]),
            f", chi {_geometric_mean(p.theory.chi[: last - 1]):.2g} a layer",
        )


def _geometric_mean(values: NDArray[np.float64]) -> float:
    with np.errstate(divide="ignore"):
        return float(np.exp(np.mean(np.log(values))))


def _ratio(end: float, start: float) -> float:
    """Return the quotient; 0 if both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 0.0 if end == 0 else float(np.divide(end, start))


def _fold(factor: float) -> str:
    """Return a factor in words, such as "shrinks 23-fold"."""
    if not math.isfinite(factor):
        return "leaves the finite numbers"
    if factor == 0:
        return "vanishes"
    size = max(factor, 1 / factor)
    if size < 1.05:
        return "keeps its size"
    digits = f"{size:.2g}" if size < 10 or size >= 1e6 else f"{size:,.0f}"
    return f"{'grows' if factor >= 1 else 'shrinks'} {digits}-fold"


def _share(shares: NDArray[np.float64]) -> str:
    low, high = f"{shares.min():.0%}", f"{shares.max():.0%}"
    return low if low == high else f"{low} to {high}"
