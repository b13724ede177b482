"""What signal and gradient do on their way through a network, beside what theory expects.

``measure`` passes data through a network and the gradient back, layer by layer, and says in words
what it found: vanishing, exploding, symmetric, dead, saturated, collapsed, or healthy. ``along``
does so at chosen iterations of a training. ``mean_field`` is the theory: what a wide network of
random weights does on average [1]_ [2]_ [3]_.

This module is for looking, not for speed: plain NumPy, always in float64.

References
----------
.. [1] Poole et al., "Exponential expressivity in deep neural networks through transient chaos",
   2016, arXiv:1606.05340.
.. [2] Schoenholz et al., "Deep information propagation", 2017, arXiv:1611.01232.
.. [3] He et al., "Delving deep into rectifiers", 2015, arXiv:1502.01852.
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit import reference
from fastinit.comparison.statistics import SATURATED
from fastinit.comparison.tables import Table
from fastinit.training.loop import train
from fastinit.training.network import Array, Network
from fastinit.training.run import Run

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

# Thresholds of the verdict. A signal or gradient has vanished or exploded when it changed its size
# by more than this factor. He weights keep it on average: by luck they change it that much in one
# of thirty networks with 10 layers of 10 units, and in none of 300 with layers of 32.
FACTOR = 10.0
# A layer is called dead or saturated when this share of it is.
MAJORITY = 0.5
# Examples that differ by a hundredth of what they have in common have an effective rank of 1.06.
COLLAPSED = 1.06


# --- what is measured -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Moments:
    """The numbers of each layer, summed up.

    Attributes
    ----------
    mean, std : ndarray of shape (n_layers,)
    quantiles : ndarray of shape (n_layers, 5)
        Those of 5, 25, 50, 75 and 95 %.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    quantiles: NDArray[np.float64]

    @classmethod
    def of(cls, layers: Sequence[Array]) -> "Moments":
        """Sum up one array per layer."""
        return cls(
            np.array([layer.mean() for layer in layers]),
            np.array([layer.std() for layer in layers]),
            np.array([np.quantile(layer, QUANTILES) for layer in layers]).reshape(-1, 5),
        )

    @property
    def rms(self) -> NDArray[np.float64]:
        """The root of the mean square, which is what theory predicts."""
        return np.hypot(self.mean, self.std)


@dataclass(frozen=True, eq=False)
class MeanField:
    """What a wide network of random weights does on average.

    Attributes
    ----------
    z_rms : ndarray of shape (n_layers,)
        Of the pre-activations: the root of the ``q`` of Poole et al.
    a_rms : ndarray of shape (n_layers - 1,)
        Of the activations of the hidden layers.
    da_rms, dz_rms : ndarray of shape (n_layers - 1,), (n_layers,)
        Of the gradient there.
    chi : ndarray of shape (n_layers - 1,)
        ``n_l var(W_{l+1}) E[phi'(z_l)**2]`` of each hidden layer: what happens to the square of a
        gradient, and to the square of a small difference between two examples, from layer to layer.
        Below 1 both vanish, above 1 both explode.
    """

    z_rms: NDArray[np.float64]
    a_rms: NDArray[np.float64]
    da_rms: NDArray[np.float64]
    dz_rms: NDArray[np.float64]
    chi: NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Propagation:
    """Signal and gradient in each layer of one network; prints as its table and its verdict.

    Index 0 is the first hidden layer, the last index the output. Gradients by pre-activations and
    activations are those of each example's own loss, so that they do not depend on how many there
    are; gradients by parameters are those of the cost, the mean of the losses.

    Attributes
    ----------
    network : Network
    x_rms, x_rank : float
        Root mean square and effective rank of the data.
    z, a : Moments
        Pre-activations ``W @ A + b`` and activations, over units and examples.
    dz, da : Moments
        The gradient by them; ``da`` of the hidden layers alone.
    w, dw, db : Moments
        Weights, and the gradient by weights and by biases.
    dead_units : ndarray of shape (n_layers,)
        Share of units that are zero for every example.
    dead_activations : ndarray of shape (n_layers,)
        Share of activations that are zero.
    saturation : ndarray of shape (n_layers,)
        Share of activations that pass on less than 1 % of the gradient that they could.
    distinct_units : ndarray of shape (n_layers,), intp
        Units that are not copies of each other. Units with the same weights in front of and behind
        them get the same gradient, and stay copies in all training.
    effective_rank : ndarray of shape (n_layers,)
        In how many directions the activations of the examples lie: the exponential of the entropy
        of the singular values [1]_; 0 where all are zero.
    theory : MeanField
        What is expected of weights with the mean squares of these, given the data and the gradient
        at the output.

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
        """Root mean square of each layer's weight gradient, in units of its weights'.

        Times the learning rate it is the share by which a first step of gradient descent changes
        the weights. A rule of thumb wants about 0.001 [1]_.

        References
        ----------
        .. [1] https://cs231n.github.io/neural-networks-3/#ratio
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.dw.rms / self.w.rms

    @property
    def findings(self) -> dict[str, str]:
        """What is wrong, each with its reason; or, when nothing is, that it is healthy."""
        problems = dict(_problems(self))
        fine = ", ".join(map(str, _changes(self))) or "no hidden layer is in the way"
        return problems or {"healthy": fine}

    @property
    def verdict(self) -> str:
        """The findings in one line."""
        return "; ".join(f"{finding}: {reason}" for finding, reason in self.findings.items())

    def table(self) -> Table:
        """Return a row for each layer."""
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
        return f"{self.table()._repr_html_()}<p>{self.verdict}</p>"


@np.errstate(over="ignore", invalid="ignore")
def measure(network: Network, theta: Array, X: ArrayLike, Y: ArrayLike) -> Propagation:
    """Pass data through a network and the gradient back, and sum up what happens in each layer.

    Parameters
    ----------
    network : Network
    theta : ndarray of shape (n_parameters,)
        Fresh from an initialiser, or trained.
    X : array_like of shape (n_features, m)
    Y : array_like
        Labels as the network takes them.

    Returns
    -------
    Propagation

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit. Overflow on the way is no error, it is a finding.

    Notes
    -----
    Some hundreds of examples tell as much as all of them; the activations and gradients of every
    layer are in memory at once.

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
    X, Y, *parameters = (
        array.astype(np.float64) for array in (X, Y, *network.unpack(theta).values())
    )
    W, b = parameters[::2], parameters[1::2]
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
        db=Moments.of([dZ_l.mean(axis=1) for dZ_l in dZ]),
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
    """Measure each of many networks, ``thetas`` of shape (k, n_parameters).

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
    """Train, and measure at chosen iterations; between them nothing is slower.

    Parameters
    ----------
    network, theta, X, Y
        As for :func:`fastinit.train`; ``theta`` is updated in place.
    at : sequence of int
        Before which iterations to measure, ascending; 0 is the start.
    **keywords
        Those of :func:`fastinit.train`, but ``epochs``, ``patience`` and L-BFGS. Without
        ``iterations`` the training ends at the last of ``at``.

    Returns
    -------
    run : Run
    snapshots : dict of int to Propagation
        Those that the training reached.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit, before anything is written.

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
    marks = [_iteration(mark) for mark in at]
    if not marks or any(later <= earlier for earlier, later in pairwise(marks)):
        raise ValueError(f"at: expected at least one iteration, ascending; got {at!r}")
    iterations = _iteration(keywords.pop("iterations", marks[-1]), name="iterations")
    if marks[-1] > iterations:
        raise ValueError(f"at: expected none after the {iterations} iterations; got {marks[-1]}")
    network.check_theta(theta, written=True)  # one network: train would take a stack
    run = train(network, theta, X, Y, iterations=0, **keywords)
    snapshots = {}
    for mark in [*marks, iterations]:
        missing = mark - run.iterations
        run = train(network, theta, X, Y, iterations=missing, resume=run, **keywords)
        if run.iterations == mark and mark in marks:
            snapshots[mark] = measure(network, theta, X, Y)
        if run.stopped_by != "iterations":
            break
    return run, snapshots


def _iteration(value: Any, *, name: str = "at") -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected integers; got {type(value).__name__}") from None
    if count < 0:
        raise ValueError(f"{name}: expected from 0 on; got {count}")
    return count


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
    """Return what a wide network of independent random weights with mean 0 does on average.

    Forward ``q_{l+1} = n_l var(W_{l+1}) E[phi(sqrt(q_l) z)**2] + var(b_{l+1})`` over a standard
    normal z [1]_; backward, with weights as if independent of those on the way forward [2]_,
    ``E[dZ_l**2] = n_{l+1} var(W_{l+1}) E[phi'(sqrt(q_l) z)**2] E[dZ_{l+1}**2]``.

    Parameters
    ----------
    network : Network
        Its sizes and hidden activation.
    weight_variances, bias_variances : array_like of shape (n_layers,), or one number for all
        Such as ``2 / fan_in`` for He weights.
    x_rms : float
        Root mean square of the data.
    dz_rms : float
        Root mean square of the gradient at the pre-activations of the output.

    Notes
    -----
    The schemes of this package have variances such as ``2 / fan_in`` (he), ``1 / fan_in`` (lecun,
    orthogonal where it does not widen), ``2 / (fan_in + fan_out)`` (glorot). For other weights take
    those that were drawn, as :func:`measure` does.

    References
    ----------
    .. [1] Poole et al., 2016, arXiv:1606.05340, equation 3.
    .. [2] Schoenholz et al., 2017, arXiv:1611.01232, section 4.

    Examples
    --------
    He weights keep a ReLU network at the edge, whatever the data:

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


# Nodes and weights of an integral over the half line, by the trapezoidal rule in the logarithm. The
# integrand there is analytic to a width of pi / 4 and dies faster than exponentially to both sides,
# so this step gives full double precision. Gauss-Hermite quadrature, the usual choice, knows one
# scale only: it misses both the kinks at zero and the narrow derivatives of saturated units, where
# this one has nodes at every scale.
_STEP = 0.125
_NODES = np.exp(np.arange(-40, math.log(39), _STEP))
_WEIGHTS = _STEP * _NODES * np.exp(-(_NODES**2) / 2) / math.sqrt(2 * math.pi)


def gaussian_mean(function: Callable[[Array], Array], std: float) -> float:
    """Return ``E[function(std * z)]`` over a standard normal z.

    For functions that are smooth on either side of zero, on any scale.

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
    """Return pre-activations of each layer, and activations and derivatives of hidden ones."""
    Z: list[Array] = []
    A, derivatives = [X], []
    for W_l, b_l in zip(W[:-1], b[:-1], strict=True):
        Z.append(W_l @ A[-1] + b_l)
        A_l, slopes_l = _activate(network, Z[-1])
        A.append(A_l)
        derivatives.append(slopes_l)
    Z.append(W[-1] @ A[-1] + b[-1])
    return Z, A[1:], derivatives


def _backward(
    W: Sequence[Array], derivatives: Sequence[Array], dZ_out: Array
) -> tuple[list[Array], list[Array]]:
    """Return the gradient by the pre-activations of each layer, and activations of the hidden."""
    dZ, dA = [dZ_out], []
    for W_l, slopes_l in zip(reversed(W[1:]), reversed(derivatives), strict=True):
        dA.append(W_l.T @ dZ[-1])
        dZ.append(dA[-1] * slopes_l)
    return dZ[::-1], dA[::-1]


def _activate(network: Network, Z: Array) -> tuple[Array, Array]:
    """Return the hidden activation of Z and its derivatives."""
    A, derivatives = np.empty_like(Z), np.empty_like(Z)
    reference.activate(Z, network.activation, network.negative_slope, A, derivatives)
    return A, derivatives


def _outputs(network: Network, Z: Array, Y: Array) -> tuple[Array, Array]:
    """Return what the output layer makes of Z, and the gradient of each example's loss there."""
    A, dZ = np.empty_like(Z), np.empty_like(Z)
    reference.loss(Z, Y, None, network.loss, A, dZ)
    return A, dZ * Z.shape[1]


def _distinct_units(W: Sequence[Array], b: Sequence[Array]) -> Iterator[int]:
    behind = [W_l.T for W_l in W[1:]] + [np.empty((W[-1].shape[0], 0))]
    for W_l, b_l, W_behind in zip(W, b, behind, strict=True):
        yield len(np.unique(np.hstack([W_l, b_l, W_behind]), axis=0))


def _flattens(network: Network) -> bool:
    """Whether the hidden activation saturates on both sides, as tanh and sigmoid do."""
    _, derivatives = _activate(network, np.linspace(-20, 20, 401))
    return bool(np.abs(derivatives[[0, -1]]).max() < SATURATED * np.abs(derivatives).max())


def _saturation(network: Network, derivatives: Sequence[Array], A_out: Array) -> Iterator[float]:
    _, on_the_way = _activate(network, np.linspace(-10, 10, 2001))
    for slopes_l in derivatives:
        yield float(np.mean(np.abs(slopes_l) < SATURATED * on_the_way.max()))
    # The slope of an output by its own pre-activation, at most 1 / 4; the others saturate nowhere.
    bounded = network.output in ("sigmoid", "softmax")
    yield float(np.mean(A_out * (1 - A_out) < SATURATED / 4)) if bounded else 0.0


def _effective_rank(A: Array) -> float:
    if not np.isfinite(A).all():
        return math.nan
    largest = np.abs(A).max()
    if largest == 0:
        return 0.0
    A = A / largest
    # Singular values by way of the smaller Gram matrix: far quicker than a decomposition of A, and
    # what it loses, below 1e-8 of the largest, is nothing to their entropy.
    squares = np.linalg.eigvalsh(A @ A.T if A.shape[0] <= A.shape[1] else A.T @ A)
    singular = np.sqrt(squares[squares > 0])
    shares = singular / singular.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


# --- the verdict ------------------------------------------------------------------------------


def _problems(p: Propagation) -> Iterator[tuple[str, str]]:
    """Yield each finding with its reason, those that explain the others first."""
    several = np.array(p.network.sizes[1:-1]) > 1
    symmetric = several & (p.distinct_units[:-1] == 1)
    if symmetric.any():
        yield "symmetric", f"all units of {_layers(symmetric)} are copies of one, and will stay so"
    dead = p.dead_units[:-1] >= MAJORITY
    if dead.any():
        share = _share(p.dead_units[:-1][dead])
        yield "dead", f"{share} of the units of {_layers(dead)} are zero for every example"
    # The other activations are flat on one side by design, and an output may well be sure.
    saturated = (p.saturation[:-1] >= MAJORITY) & _flattens(p.network)
    if saturated.any():
        yield (
            "saturated",
            f"{_share(p.saturation[:-1][saturated])} of the activations of {_layers(saturated)} "
            f"pass on less than {SATURATED:.0%} of the gradient that they could",
        )
    rank = p.effective_rank[:-1]
    collapsed = several & (rank > 0) & (rank < COLLAPSED)
    if collapsed.any() and p.x_rank >= COLLAPSED:
        yield (
            "collapsed",
            f"{_layers(collapsed)} can hardly tell one example from another, down to an effective "
            f"rank of {rank[collapsed].min():.3f}",
        )
    for change in _changes(p):
        if not change.measured <= FACTOR:
            yield f"exploding {change.what}", str(change)
        elif change.measured < 1 / FACTOR:
            yield f"vanishing {change.what}", str(change)


class _Change(NamedTuple):
    """By which factor signal or gradient changes on its way."""

    what: str
    way: str
    measured: float
    expected: float
    why: str = ""

    def __str__(self) -> str:
        measured, expected = _fold(self.measured), _fold(self.expected)
        return f"the {self.what} {measured} {self.way} (theory: {expected}{self.why})"


def _changes(p: Propagation) -> Iterator[_Change]:
    last = p.network.n_layers - 1  # the output has too few units for a size that is not luck
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
    """Return the quotient; nothing that came of nothing is nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 0.0 if end == 0 else float(np.divide(end, start))


def _fold(factor: float) -> str:
    """Say a factor in words, as in shrinks 23-fold."""
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


def _layers(chosen: Iterable[Any]) -> str:
    numbers = [i for i, yes in enumerate(chosen, start=1) if yes]
    if len(numbers) == 1:
        return f"layer {numbers[0]}"
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"layers {numbers[0]} to {numbers[-1]}"
    return f"layers {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
