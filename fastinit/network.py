"""Network: layer sizes laid over one flat parameter vector."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastinit import initializers
from fastinit.initializers import Initializer, Seed
from fastinit.kernels import dense

Array = NDArray[Any]
Scheme = str | Initializer


class Network:
    """A fully connected network: ReLU hidden layers and a sigmoid output.

    Immutable: it knows shapes, not values. All parameters live in one contiguous vector ``theta``:
    W1, b1, W2, b2, ... each in C order, ``W_l`` of shape (n_out, n_in) and ``b_l`` (n_out, 1).

    Parameters
    ----------
    sizes : sequence of int
        Units per layer, from the features to the outputs; at least two, each at least 1.
    hidden : "relu"
        Activation of the hidden layers.
    output : "sigmoid"
        Activation of the output layer; its loss is binary cross-entropy.
    dtype : float64 or float32, default float64
        Of parameters and arithmetic.

    Attributes
    ----------
    n_parameters : int
        The length of ``theta``.
    n_layers : int
        Layers with parameters: the hidden ones and the output.
    layout : ndarray of intp
        The sizes again, as the kernels take them.

    Examples
    --------
    >>> import fastinit as fi
    >>> net = fi.Network([2, 10, 5, 1])
    >>> net
    Network([2, 10, 5, 1], hidden='relu', output='sigmoid', dtype='float64')
    >>> net.n_parameters
    91
    >>> theta = net.initialize("he", seed=3)
    >>> net.unpack(theta)["W2"].shape
    (5, 10)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        hidden: str = "relu",
        output: str = "sigmoid",
        dtype: DTypeLike = np.float64,
    ) -> None:
        if isinstance(sizes, (str, bytes)) or not isinstance(sizes, (Sequence, np.ndarray)):
            raise TypeError(f"sizes: expected a sequence of integers; got {sizes!r}")
        for size in sizes:
            if not isinstance(size, (int, np.integer)) or isinstance(size, bool):
                raise TypeError(f"sizes: expected integers; got {size!r} in {sizes!r}")
            if not 1 <= size < 2**31:
                raise ValueError(f"sizes: expected each from 1 to 2**31 - 1; got {size}")
        if len(sizes) < 2:
            raise ValueError(
                f"sizes: expected at least two, those of input and output; got {sizes!r}"
            )
        if hidden != "relu":
            raise ValueError(f"hidden: expected 'relu'; got {hidden!r}")
        if output != "sigmoid":
            raise ValueError(f"output: expected 'sigmoid'; got {output!r}")
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise TypeError(f"dtype: expected float32 or float64; got {np.dtype(dtype)}")
        self.sizes = tuple(int(size) for size in sizes)
        self.hidden = hidden
        self.output = output
        self.dtype = np.dtype(dtype)
        self.n_parameters = sum(n_out * (n_in + 1) for n_in, n_out in pairwise(self.sizes))
        self.layout = np.array(self.sizes, dtype=np.intp)
        self.layout.flags.writeable = False

    def __repr__(self) -> str:
        return (
            f"Network({list(self.sizes)}, hidden={self.hidden!r}, output={self.output!r}, "
            f"dtype={self.dtype.name!r})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    def n_layers(self) -> int:
        """Layers with parameters."""
        return len(self.sizes) - 1

    # --- parameters ---------------------------------------------------------------------------

    def unpack(self, theta: Array) -> dict[str, Array]:
        """Return ``{"W1": ..., "b1": ..., ...}`` as views that share memory with ``theta``."""
        theta = self.check_theta(theta)
        parameters = {}
        end = 0
        for layer, (n_in, n_out) in enumerate(pairwise(self.sizes), start=1):
            start, middle, end = end, end + n_out * n_in, end + n_out * (n_in + 1)
            parameters[f"W{layer}"] = theta[start:middle].reshape(n_out, n_in)
            parameters[f"b{layer}"] = theta[middle:end].reshape(n_out, 1)
        return parameters

    def pack(self, parameters: Mapping[str, ArrayLike]) -> Array:
        """Return a new ``theta`` with the values of ``{"W1": ..., "b1": ..., ...}``."""
        theta = np.empty(self.n_parameters, self.dtype)
        views = self.unpack(theta)
        if set(parameters) != set(views):
            raise ValueError(
                f"parameters: expected the keys {', '.join(views)}; got {', '.join(parameters)}"
            )
        for name, view in views.items():
            value = _real(f"parameters[{name!r}]", parameters[name])
            if value.shape != view.shape:
                raise ValueError(
                    f"parameters[{name!r}]: expected shape {view.shape}; got {value.shape}"
                )
            with np.errstate(over="ignore"):
                view[...] = value
            if not (np.isfinite(view) | ~np.isfinite(value)).all():
                raise ValueError(f"parameters[{name!r}]: expected {self.dtype} numbers; got larger")
        return theta

    def initialize(
        self,
        scheme: Scheme | Sequence[Scheme],
        *,
        seed: Seed = None,
        stream: int = 0,
        n: int | None = None,
    ) -> Array:
        """Return a new ``theta``: weights by the scheme, biases zero unless a preset says else.

        Parameters
        ----------
        scheme : str, callable, or a sequence of them
            One of :func:`fastinit.initializers.names`, or a callable that fills ``out=`` and takes
            ``seed=`` and ``stream=`` as they do; or one for each layer. ``zeros``, ``random`` and
            ``he`` are the lesson's own draws.
        seed : int, SeedSequence, Generator or None
            None draws fresh entropy; for ``random`` and ``he`` it means NumPy's global random state
            as it stands, and an int seeds NumPy's legacy generator.
        stream : int, default 0
            Which network of the seed. A network of n_layers has 2 * n_layers streams of its own,
            those of W1, b1, W2, b2, ...
        n : int, optional
            So many networks at once: number i is what ``stream=stream + i`` gives alone.

        Returns
        -------
        ndarray of shape (n_parameters,), or (n, n_parameters)

        Raises
        ------
        ValueError
            For ``stream`` or ``n`` with ``random`` or ``he``: the lesson's generator has one stream
            only. Give each network a seed of its own there.

        Examples
        --------
        >>> from functools import partial
        >>> from fastinit import orthogonal
        >>> net = Network([2, 3, 1])
        >>> net.initialize([partial(orthogonal, gain=2.0), "zeros"], seed=0).shape
        (13,)
        >>> thetas = net.initialize("he_normal", seed=0, n=5)
        >>> bool((thetas[3] == net.initialize("he_normal", seed=0, stream=3)).all())
        True
        """
        fills = self._fills(scheme)
        lessons = [fill in (initializers.random, initializers.he) for fill in fills]
        for name, value, least in (("stream", stream, 0), ("n", n, 1)):
            if value is None:
                continue
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
                raise TypeError(f"{name}: expected an integer; got {type(value).__name__}")
            if value < least:
                raise ValueError(f"{name}: expected at least {least}; got {value}")
        if any(lessons) and (stream != 0 or n is not None):
            raise ValueError(
                "scheme: expected counter-based schemes with stream= or n=; got a lesson's draw, "
                "whose generator has no streams"
            )
        # One seed for all layers of a kind, taken once: a generator moves on as it is asked.
        seeds: dict[bool, Seed] = {}
        for fill, lesson in zip(fills, lessons, strict=True):
            if lesson not in seeds:
                seeds[lesson] = initializers.shared_seed(fill, seed)
        thetas = np.zeros((1 if n is None else n, self.n_parameters), self.dtype)
        for network, theta in enumerate(thetas, start=int(stream)):
            views = self.unpack(theta)
            for layer, fill in enumerate(fills, start=1):
                own = seeds[lessons[layer - 1]]
                W, b = views[f"W{layer}"], views[f"b{layer}"]
                first = 2 * (network * self.n_layers + layer - 1)
                fill(out=W, seed=own, stream=first)
                initializers.fill_bias(fill, b, self.sizes[layer - 1], own, first + 1)
        return thetas[0] if n is None else thetas

    def _fills(self, scheme: Scheme | Sequence[Scheme]) -> list[Initializer]:
        """Return the initialiser of each layer."""
        if isinstance(scheme, str) or callable(scheme):
            scheme = [scheme] * self.n_layers
        if not isinstance(scheme, Sequence):
            raise TypeError(f"scheme: expected a name, a callable or a sequence; got {scheme!r}")
        schemes = list(scheme)
        if len(schemes) != self.n_layers:
            raise ValueError(
                f"scheme: expected one for each of {self.n_layers} layers; got {len(schemes)}"
            )
        fills = []
        for each in schemes:
            if not isinstance(each, str) and not callable(each):
                raise TypeError(f"scheme: expected a name or a callable; got {each!r}")
            fills.append(initializers.get(each) if isinstance(each, str) else each)
        return fills

    # --- forward and backward -----------------------------------------------------------------

    def predict_proba(self, theta: Array, X: ArrayLike) -> Array:
        """Return the outputs, probabilities of class 1, of shape (n_outputs, n_examples)."""
        theta = self.check_theta(theta)
        X = self.check_X(X)
        out = np.empty((self.sizes[-1], X.shape[1]), self.dtype)
        dense.forward(self.layout, theta, X, out)
        return out

    def predict(self, theta: Array, X: ArrayLike) -> NDArray[np.intp]:
        """Return the classes, 0 or 1; class 1 is a probability above one half, strictly."""
        return (self.predict_proba(theta, X) > 0.5).astype(np.intp)

    def accuracy(self, theta: Array, X: ArrayLike, Y: ArrayLike) -> float:
        """Return the share of predictions that agree with the labels."""
        X = self.check_X(X)
        return float(np.mean(self.predict(theta, X) == self.check_Y(Y, X)))

    def loss_and_gradient(
        self, theta: Array, X: ArrayLike, Y: ArrayLike, *, out: Array | None = None
    ) -> tuple[float, Array]:
        """Return the cost and its gradient by ``theta``.

        The signature that optimisers ask for:
        ``scipy.optimize.minimize(net.loss_and_gradient, theta, jac=True, args=(X, Y))``.

        Parameters
        ----------
        theta : ndarray of shape (n_parameters,)
        X : array_like of shape (n_features, n_examples)
        Y : array_like of shape (n_outputs, n_examples), each 0 or 1
        out : ndarray of shape (n_parameters,), optional
            Where the gradient goes; it must not overlap the inputs.
        """
        theta = self.check_theta(theta)
        X = self.check_X(X)
        Y = self.check_Y(Y, X)
        if out is None:
            out = np.empty(self.n_parameters, self.dtype)
        else:
            self.check_theta(out, name="out", written=True)
            for name, array in (("theta", theta), ("X", X), ("Y", Y)):
                if np.may_share_memory(out, array):
                    raise ValueError(f"out: expected memory of its own; got an overlap with {name}")
        return dense.loss_and_gradient(self.layout, theta, X, Y, out), out

    # --- checks, for this room and those above it ---------------------------------------------

    def check_theta(self, theta: Array, *, name: str = "theta", written: bool = False) -> Array:
        """Return ``theta`` as the kernels want it; the same memory, if it will be written."""
        if written and not isinstance(theta, np.ndarray):
            raise TypeError(f"{name}: expected a NumPy array; got {type(theta).__name__}")
        theta = np.asarray(theta)
        if theta.dtype != self.dtype:
            raise TypeError(f"{name}: expected dtype {self.dtype}; got {theta.dtype}")
        if theta.shape != (self.n_parameters,):
            raise ValueError(f"{name}: expected shape ({self.n_parameters},); got {theta.shape}")
        if not written:
            return np.require(theta, requirements=["C", "A"])
        if not theta.flags.c_contiguous:
            raise ValueError(f"{name}: expected a contiguous array; got strides {theta.strides}")
        if not theta.flags.aligned:
            raise ValueError(f"{name}: expected an aligned array; got an unaligned one")
        if not theta.flags.writeable:
            raise ValueError(f"{name}: expected a writable array; got a read-only one")
        return theta

    def check_X(self, X: ArrayLike, *, name: str = "X") -> Array:
        """Return X contiguous and in the network's dtype, shape (n_features, n_examples)."""
        X = _real(name, X)
        if X.ndim != 2 or X.shape[0] != self.sizes[0]:
            raise ValueError(f"{name}: expected shape ({self.sizes[0]}, n_examples); got {X.shape}")
        with np.errstate(over="ignore"):
            X = np.require(X, self.dtype, ["C", "A"])
        if not np.isfinite(X).all():
            raise ValueError(f"{name}: expected finite {self.dtype} numbers; got NaN or infinity")
        return X

    def check_Y(self, Y: ArrayLike, X: Array, *, name: str = "Y") -> Array:
        """Return Y contiguous and in the network's dtype, each label exactly 0 or 1."""
        Y = _real(name, Y)
        of_X = name.replace("Y", "X")
        if X.shape[1] == 0:
            raise ValueError(f"{of_X}: expected at least one example; got shape {X.shape}")
        expected = (self.sizes[-1], X.shape[1])
        if Y.shape != expected:
            raise ValueError(
                f"{name}: expected shape {expected} to match {of_X} {X.shape}; got {Y.shape}"
            )
        wrong = Y[(Y != 0) & (Y != 1)]
        if wrong.size:
            raise ValueError(f"{name}: expected labels 0 and 1; got {wrong.flat[0]}")
        return np.require(Y, self.dtype, ["C", "A"])


def _real(name: str, value: ArrayLike) -> Array:
    """Return the value as an array of real numbers."""
    if np.ma.isMaskedArray(value):
        raise TypeError(f"{name}: expected every number; got a masked array")
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers; got dtype {array.dtype}")
    return array
