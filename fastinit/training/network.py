"""Network: layer sizes laid over one flat parameter vector."""

# help() and editors then show the names of types, such as ArrayLike, not what they stand for.
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastinit.initializers import scheme as schemes
from fastinit.initializers.scheme import Scheme
from fastinit.initializers.target import LARGEST, Seed
from fastinit.kernels import dense, usable_cores
from fastinit.training import files
from fastinit.validation import (
    as_dtype,
    as_float,
    check_bool,
    check_integer,
    check_name,
    is_sequence,
)

Array = NDArray[Any]
# One theta and a stack of them, for type checkers.
Vector = np.ndarray[tuple[int], np.dtype[Any]]
Matrix = np.ndarray[tuple[int, int], np.dtype[Any]]
Floats = NDArray[np.float64]
AnyScheme = str | Scheme | Callable[..., Any]

ACTIVATIONS = tuple(dense.ACTIVATIONS)
# The losses of each output, the default first.
LOSSES = {
    "sigmoid": ("sigmoid_cross_entropy", "saturating_cross_entropy"),
    "softmax": ("softmax_cross_entropy",),
    "identity": ("squared_error",),
    "exponential": ("poisson",),
}

# Outputs that are kept at once to score many networks: 16 MB of float64.
SCORE_NUMBERS = 1 << 21


class Layout(NamedTuple):
    """What the kernels must know of a network."""

    sizes: tuple[int, ...]
    activation: str
    negative_slope: float
    loss: str
    bias: bool


class Network:
    """A fully connected network.

    Immutable and hashable: it knows shapes, not values. All parameters live in one contiguous
    vector ``theta``: W1, b1, W2, b2, ... each in C order, ``W_l`` of shape (n_out, n_in) and
    ``b_l`` (n_out, 1).

    Parameters
    ----------
    sizes : sequence of int
        Units per layer, from the features to the outputs; at least two, each at least 1.
    activation : {"relu", "leaky_relu", "tanh", "sigmoid", "identity", "gelu", "silu", "selu"}
        Activation of the hidden layers. ``gelu`` is the exact one, ``z * Phi(z)`` [1]_, as
        PyTorch's default; ``silu`` is ``z * sigmoid(z)``; ``selu`` has the constants of [2]_.
    negative_slope : float, default 0.01
        What ``leaky_relu`` multiplies negative numbers with; finite and not negative.
    output : {"sigmoid", "softmax", "identity", "exponential"}
        Activation of the output layer, which decides the loss and the labels ``Y``:

        ============= ========================== ====================================
        output        loss of an example         labels
        ============= ========================== ====================================
        sigmoid       binary cross-entropy       (n_outputs, m), each 0 or 1
        softmax       cross-entropy              (m,) integers, or one-hot (n_outputs, m)
        identity      half the squared error     (n_outputs, m), numbers
        exponential   Poisson, ``A - Y log A``   (n_outputs, m), numbers >= 0
        ============= ========================== ====================================

        Losses are summed over independent outputs and averaged over the examples.
    loss : str, optional
        Computed from the logits by default, exact wherever they are finite. For ``sigmoid`` there
        is also ``saturating_cross_entropy``, the lesson's: infinite where the sigmoid saturates on
        the wrong side. Its gradient is the same.
    dtype : float64 or float32, default float64
        Of parameters and arithmetic.
    bias : bool, default True
        Whether the layers have biases; without them ``theta`` is W1, W2, ...

    Attributes
    ----------
    n_parameters : int
        The length of ``theta``.
    n_layers : int
        Layers with parameters: the hidden ones and the output.
    layout : Layout
        Sizes and functions, as the kernels take them.

    References
    ----------
    .. [1] Hendrycks and Gimpel, "Gaussian error linear units", 2016, arXiv:1606.08415.
    .. [2] Klambauer et al., "Self-normalizing neural networks", 2017, arXiv:1706.02515.

    Examples
    --------
    >>> import fastinit as fi
    >>> net = fi.Network([2, 10, 5, 1])
    >>> net
    Network([2, 10, 5, 1], activation='relu', output='sigmoid', dtype='float64')
    >>> net.n_parameters
    91
    >>> theta = net.initialize("lesson.he", seed=3)
    >>> net.unpack(theta)["W2"].shape
    (5, 10)
    """

    __slots__ = (
        "activation",
        "bias",
        "dtype",
        "layout",
        "loss",
        "n_parameters",
        "negative_slope",
        "output",
        "sizes",
    )
    sizes: tuple[int, ...]
    activation: str
    negative_slope: float
    output: str
    loss: str
    dtype: np.dtype[Any]
    bias: bool
    n_parameters: int
    layout: Layout

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str = "relu",
        negative_slope: float = 0.01,
        output: str = "sigmoid",
        loss: str | None = None,
        dtype: DTypeLike = np.float64,
        bias: bool = True,
    ) -> None:
        if not is_sequence(sizes):
            raise TypeError(f"sizes: expected a sequence of integers; got {sizes!r}")
        own = tuple([check_integer("sizes", size, 1, 2**31) for size in sizes])
        if len(own) < 2:
            raise ValueError(
                f"sizes: expected at least two, those of input and output; got {sizes!r}"
            )
        check_name("activation", activation, ACTIVATIONS)
        negative_slope = as_float("negative_slope", negative_slope)
        if not 0 <= negative_slope <= LARGEST["float32"]:
            raise ValueError(f"negative_slope: expected finite and >= 0; got {negative_slope}")
        check_name("output", output, LOSSES)
        if output == "softmax" and own[-1] < 2:
            raise ValueError(f"sizes: expected at least two outputs for softmax; got {own[-1]}")
        if loss is None:
            loss = LOSSES[output][0]
        if loss not in LOSSES[output]:
            expected = " or ".join(LOSSES[output])
            raise ValueError(f"loss: expected {expected} with output {output!r}; got {loss!r}")
        real = as_dtype(dtype, "dtype: expected float32 or float64")
        if real not in (np.float32, np.float64) or not real.isnative:
            raise TypeError(f"dtype: expected float32 or float64; got {real}")
        bias = check_bool("bias", bias)
        n_parameters = sum(n_out * (n_in + bias) for n_in, n_out in pairwise(own))
        values = {
            "sizes": own,
            "activation": activation,
            "negative_slope": negative_slope,
            "output": output,
            "loss": loss,
            "dtype": np.dtype(real.name),
            "bias": bias,
            "n_parameters": n_parameters,
            "layout": Layout(own, activation, negative_slope, loss, bias),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name}: expected a new Network; got an assignment to an old one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name}: expected a Network to stay as it is; got a deletion")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._architecture,)

    def __repr__(self) -> str:
        negative_slope = (
            f", negative_slope={self.negative_slope!r}" if self.activation == "leaky_relu" else ""
        )
        loss = f", loss={self.loss!r}" if self.loss != LOSSES[self.output][0] else ""
        bias = "" if self.bias else ", bias=False"
        return (
            f"Network({list(self.sizes)}, activation={self.activation!r}{negative_slope}, "
            f"output={self.output!r}{loss}, dtype={self.dtype.name!r}{bias})"
        )

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Network):
            return NotImplemented
        return (self.layout, self.output, self.dtype) == (other.layout, other.output, other.dtype)

    def __hash__(self) -> int:
        return hash((self.layout, self.output, self.dtype))

    @property
    def n_layers(self) -> int:
        """Layers with parameters."""
        return len(self.sizes) - 1

    @property
    def classifies(self) -> bool:
        """Whether the outputs are probabilities of classes."""
        return self.output in ("sigmoid", "softmax")

    # --- parameters ---------------------------------------------------------------------------

    def unpack(self, theta: Array) -> dict[str, Array]:
        """Return ``{"W1": ..., "b1": ..., ...}`` as views that share memory with ``theta``.

        Those of a stack of k thetas have its axis in front: W1 is (k, n_out, n_in).
        """
        thetas = self.check_stack(theta)
        return self._views(thetas if np.ndim(theta) == 2 else thetas[0])

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

    @overload
    def initialize(
        self,
        scheme: AnyScheme | Sequence[AnyScheme],
        *,
        seed: Seed = None,
        stream: int = 0,
        n: None = None,
    ) -> Vector: ...
    @overload
    def initialize(
        self,
        scheme: AnyScheme | Sequence[AnyScheme],
        *,
        seed: Seed = None,
        stream: int = 0,
        n: int,
    ) -> Matrix: ...
    def initialize(
        self,
        scheme: AnyScheme | Sequence[AnyScheme],
        *,
        seed: Seed = None,
        stream: int = 0,
        n: int | None = None,
    ) -> Array:
        """Return a new ``theta`` with weights and biases as the scheme fills them.

        Parameters
        ----------
        scheme : str, Scheme, callable, or a sequence of them
            One of :func:`fastinit.initializers.names`, an initialiser, a ``functools.partial`` of
            one, or any callable that fills ``out=`` and takes ``seed=`` and ``stream=``; or one for
            each layer. Biases are zero unless the scheme fills them.
        seed : int, SeedSequence, Generator, RandomState or None
            None draws fresh entropy; with the lesson's schemes, ``lesson.random`` and
            ``lesson.he``, it means NumPy's global random state, and an int seeds NumPy's
            legacy generator.
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
            For ``stream`` or ``n`` with the lesson's schemes, whose generator has no streams.

        Examples
        --------
        >>> from functools import partial
        >>> import fastinit as fi
        >>> net = fi.Network([2, 3, 1])
        >>> net.initialize([partial(fi.orthogonal, gain=2.0), "zeros"], seed=0).shape
        (13,)
        >>> thetas = net.initialize("he_normal", seed=0, n=5)
        >>> bool((thetas[3] == net.initialize("he_normal", seed=0, stream=3)).all())
        True
        """
        layers = self._schemes(scheme)
        stream = check_integer("stream", stream)
        k = 1 if n is None else check_integer("n", n, 1)
        if any(each.sequential for each in layers) and (stream != 0 or n is not None):
            raise ValueError(
                "scheme: expected schemes with streams if stream= or n= is given; got "
                f"{', '.join(each.name for each in layers if each.sequential)}"
            )
        # Each kind of generator is made once for all layers: a Generator advances when it is asked.
        kinds = dict.fromkeys(each.generator_of for each in layers)
        generators = {generator_of: generator_of(seed) for generator_of in kinds}
        thetas = np.zeros((k, self.n_parameters), self.dtype)
        for network, theta in enumerate(thetas, start=stream):
            views = self._views(theta)
            for layer, each in enumerate(layers, start=1):
                each.fill_layer(
                    views[f"W{layer}"],
                    views.get(f"b{layer}"),
                    generators[each.generator_of],
                    2 * (network * self.n_layers + layer - 1),
                )
        return thetas[0] if n is None else thetas

    def _schemes(self, scheme: AnyScheme | Sequence[AnyScheme]) -> list[Scheme]:
        """Return the scheme of each layer."""
        if not is_sequence(scheme):
            return [schemes.get(scheme)] * self.n_layers
        found = [schemes.get(each) for each in scheme]  # type: ignore[union-attr]
        if len(found) != self.n_layers:
            raise ValueError(
                f"scheme: expected one for each of {self.n_layers} layers; got {len(found)}"
            )
        return found

    @property
    def _shapes(self) -> dict[str, tuple[int, int]]:
        """The shapes of W1, b1, ... in the order in which ``theta`` holds them."""
        shapes: dict[str, tuple[int, int]] = {}
        for layer, (n_in, n_out) in enumerate(pairwise(self.sizes), start=1):
            shapes[f"W{layer}"] = (n_out, n_in)
            if self.bias:
                shapes[f"b{layer}"] = (n_out, 1)
        return shapes

    @property
    def _is_weight(self) -> NDArray[np.bool_]:
        """Which entries of ``theta`` are weights; the others are biases."""
        return np.concatenate(
            [np.full(math.prod(shape), name[0] == "W") for name, shape in self._shapes.items()]
        )

    def _views(self, theta: Array) -> dict[str, Array]:
        """Return W1, b1, ... of one theta, or of a stack with its axis in front."""
        views = {}
        end = 0
        for name, shape in self._shapes.items():
            start, end = end, end + math.prod(shape)
            views[name] = theta[..., start:end].reshape(theta.shape[:-1] + shape)
        return views

    # --- files --------------------------------------------------------------------------------

    @property
    def _architecture(self) -> dict[str, Any]:
        """The keywords that make this network again, as JSON knows them."""
        return {
            "sizes": list(self.sizes),
            "activation": self.activation,
            "negative_slope": self.negative_slope,
            "output": self.output,
            "loss": self.loss,
            "dtype": self.dtype.name,
        } | ({} if self.bias else {"bias": False})

    def save(self, path: files.FilePath, theta: Array) -> None:
        """Write the network and its parameters to a file that :func:`fastinit.load` reads.

        The tensors are W1, b1, ... as :meth:`unpack` names them, in a stack with its axis in front.
        An existing file is replaced at once when the new one is whole on the disk; whatever
        happens before, it stays as it was.

        Parameters
        ----------
        path : str or path-like
            Ending in ``.safetensors`` [1]_, which other frameworks and languages read, or in
            ``.npz``, which needs NumPy alone.
        theta : ndarray of shape (n_parameters,) or (k, n_parameters), the network's dtype
            Finite numbers, as :func:`fastinit.train` leaves them.

        Raises
        ------
        TypeError, ValueError
            For arguments that do not fit, before anything is written.
        ImportError
            For ``.safetensors`` without the package of that name: the extra ``files``.
        OSError
            If the file cannot be written.

        References
        ----------
        .. [1] https://huggingface.co/docs/safetensors

        Examples
        --------
        >>> import tempfile
        >>> import fastinit as fi
        >>> net = fi.Network([2, 10, 5, 1])
        >>> theta = net.initialize("he_normal", seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     net.save(f"{folder}/circles.npz", theta)
        ...     loaded, its_theta = fi.load(f"{folder}/circles.npz")
        >>> loaded == net, bool((its_theta == theta).all())
        (True, True)
        """
        theta = np.asarray(theta)
        self.check_stack(theta)
        if not np.isfinite(theta).all():
            raise ValueError("theta: expected finite numbers; got NaN or infinity")
        files.write(path, self._architecture, self._views(theta))

    # --- forward and backward -----------------------------------------------------------------

    def _outputs(self, theta: Array, X: ArrayLike) -> Array:
        """Return the outputs, (n_outputs, n_examples), with the axis of a stack in front."""
        thetas = self.check_stack(theta)
        X = self.check_X(X)
        out = np.empty((len(thetas), self.sizes[-1], X.shape[1]), self.dtype)
        dense.forward(self.layout, thetas, X, None, None, out, usable_cores())
        return out if np.ndim(theta) == 2 else out[0]

    def predict_proba(self, theta: Array, X: ArrayLike) -> Array:
        """Return the predicted probabilities.

        Parameters
        ----------
        theta : ndarray of shape (n_parameters,) or (k, n_parameters)
        X : array_like of shape (n_features, n_examples), or (n_features,) for one example

        Returns
        -------
        ndarray of shape (n_outputs, n_examples), or (n_outputs,) for one example
            The probability of class 1 for each sigmoid output, of each class for softmax. For a
            stack of k thetas, with an axis of length k in front.

        Raises
        ------
        ValueError
            For networks with other outputs, which predict no probabilities.
        """
        self._check_classifies("predict_proba")
        if np.ndim(X) == 1:
            return self._outputs(theta, np.reshape(X, (-1, 1)))[..., 0]
        return self._outputs(theta, X)

    def predict(self, theta: Array, X: ArrayLike) -> Array:
        """Return the prediction for each example.

        Parameters
        ----------
        theta : ndarray of shape (n_parameters,) or (k, n_parameters)
        X : array_like of shape (n_features, n_examples), or (n_features,) for one example

        Returns
        -------
        ndarray
            For sigmoid, classes 0 or 1 of shape (n_outputs, n_examples): class 1 is predicted if
            its probability is above 0.5. For softmax, the most probable class, (n_examples,). For
            other outputs, the outputs, (n_outputs, n_examples). For one example without the last
            axis; for a stack of k thetas with an axis of length k in front.
        """
        if np.ndim(X) == 1:
            return self.predict(theta, np.reshape(X, (-1, 1)))[..., 0]
        outputs = self._outputs(theta, X)
        if self.output == "sigmoid":
            return (outputs > 0.5).astype(np.intp)
        return outputs.argmax(axis=-2) if self.output == "softmax" else outputs

    @overload
    def score(self, theta: Vector, X: ArrayLike, Y: ArrayLike) -> float: ...
    @overload
    def score(self, theta: Matrix, X: ArrayLike, Y: ArrayLike) -> Floats: ...
    def score(self, theta: Array, X: ArrayLike, Y: ArrayLike) -> float | Floats:
        """Return the accuracy, or the coefficient of determination R2 of a network without classes.

        Parameters
        ----------
        theta : ndarray of shape (n_parameters,) or (k, n_parameters)
        X : array_like of shape (n_features, n_examples)
        Y : array_like
            Labels, as the output expects them: see :class:`Network`.

        Returns
        -------
        float, or ndarray of shape (k,) for a stack
            R2 is averaged over the outputs, as scikit-learn's ``r2_score`` does.

        Examples
        --------
        >>> import fastinit as fi
        >>> net = fi.Network([1, 1], output="identity")
        >>> net.score(np.array([1.0, 0.0]), [[0, 1, 2]], [0, 1, 2])
        1.0
        """
        return self._scores(theta, X, Y, None)[1]

    @overload
    def accuracy(self, theta: Vector, X: ArrayLike, Y: ArrayLike) -> float: ...
    @overload
    def accuracy(self, theta: Matrix, X: ArrayLike, Y: ArrayLike) -> Floats: ...
    def accuracy(self, theta: Array, X: ArrayLike, Y: ArrayLike) -> float | Floats:
        """Return the share of predictions that agree with the labels.

        Parameters
        ----------
        theta : ndarray of shape (n_parameters,) or (k, n_parameters)
        X : array_like of shape (n_features, n_examples)
        Y : array_like
            Labels, as the output expects them: see :class:`Network`.

        Returns
        -------
        float, or ndarray of shape (k,) for a stack

        Raises
        ------
        ValueError
            For networks that do not classify.

        Examples
        --------
        >>> import fastinit as fi
        >>> X, Y, _, _ = fi.lesson.load_dataset()
        >>> net = fi.Network([2, 10, 5, 1])
        >>> net.accuracy(net.initialize("zeros"), X, Y)
        0.5
        >>> net.accuracy(net.initialize("he_normal", seed=0, n=4), X, Y).shape
        (4,)
        """
        self._check_classifies("accuracy")
        return self._scores(theta, X, Y, None)[1]

    @overload
    def cost(
        self, theta: Vector, X: ArrayLike, Y: ArrayLike, *, sample_weight: ArrayLike | None = None
    ) -> float: ...
    @overload
    def cost(
        self, theta: Matrix, X: ArrayLike, Y: ArrayLike, *, sample_weight: ArrayLike | None = None
    ) -> Floats: ...
    def cost(
        self, theta: Array, X: ArrayLike, Y: ArrayLike, *, sample_weight: ArrayLike | None = None
    ) -> float | Floats:
        """Return the cost: the mean loss of the examples.

        Parameters
        ----------
        theta : ndarray of shape (n_parameters,) or (k, n_parameters)
        X : array_like of shape (n_features, n_examples)
        Y : array_like
            Labels, as the output expects them: see :class:`Network`.
        sample_weight : array_like of shape (n_examples,), optional
            Weights of the mean.

        Returns
        -------
        float, or ndarray of shape (k,) for a stack
        """
        return self._scores(theta, X, Y, sample_weight)[0]

    def _scores(
        self, theta: Array, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[float | Floats, float | Floats]:
        """Return costs and scores, of one theta or of each in a stack."""
        thetas = self.check_stack(theta)
        X = self.check_X(X)
        Y = self.check_Y(Y, X)
        w = None if sample_weight is None else self.check_sample_weight(sample_weight, X)
        costs, scores = self._score(thetas, X, Y, w, usable_cores())
        if np.ndim(theta) != 2:
            return float(costs[0]), float(scores[0])
        return costs, scores

    def _score(
        self, thetas: Array, X: Array, Y: Array, sample_weight: Array | None, threads: int
    ) -> tuple[Floats, Floats]:
        """Return costs, weighted, and scores in one pass over checked arrays."""
        k, n, m = len(thetas), self.sizes[-1], X.shape[1]
        costs, scores = np.empty(k), np.empty(k)
        # As many networks at once as keep the outputs small.
        size = max(1, SCORE_NUMBERS // (n * m))
        out = np.empty((min(size, k), n, m), self.dtype)
        for start in range(0, k, size):
            part = slice(start, min(start + size, k))
            outputs = out[: part.stop - start]
            costs[part] = dense.forward(
                self.layout, thetas[part], X, Y, sample_weight, outputs, threads
            )
            if self.output == "sigmoid":
                scores[part] = np.mean((outputs > 0.5) == Y, axis=(1, 2))
            elif self.output == "softmax":
                scores[part] = np.mean(outputs.argmax(axis=1) == Y.argmax(axis=0), axis=1)
            else:
                scores[part] = _r2(outputs, Y)
        return costs, scores

    def loss_and_gradient(
        self,
        theta: Array,
        X: ArrayLike,
        Y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        out: Array | None = None,
    ) -> tuple[Any, Array]:
        """Return the cost and its gradient with respect to ``theta``.

        The signature that optimisers ask for:
        ``scipy.optimize.minimize(net.loss_and_gradient, theta, jac=True, args=(X, Y))``.

        Parameters
        ----------
        theta : ndarray of shape (n_parameters,) or (k, n_parameters)
        X : array_like of shape (n_features, n_examples)
        Y : array_like
            Labels, as the output wants them: see :class:`Network`.
        sample_weight : array_like of shape (n_examples,), optional
            How much each example counts; the cost is the weighted mean.
        out : ndarray of the shape of theta, optional
            Where the gradient goes; it must not overlap the inputs.

        Returns
        -------
        cost : float, or ndarray of shape (k,)
        gradient : ndarray of the shape of theta
        """
        thetas = self.check_stack(theta)
        X = self.check_X(X)
        Y = self.check_Y(Y, X)
        if sample_weight is not None:
            sample_weight = self.check_sample_weight(sample_weight, X)
        if out is None:
            out = np.empty(np.shape(theta), self.dtype)
        elif np.shape(out) != np.shape(theta):
            raise ValueError(f"out: expected shape {np.shape(theta)}; got {np.shape(out)}")
        gradients = self.check_stack(out, name="out", written=True)
        for name, array in (
            ("theta", thetas),
            ("X", X),
            ("Y", Y),
            ("sample_weight", sample_weight),
        ):
            if array is not None and np.may_share_memory(out, array):
                raise ValueError(f"out: expected memory of its own; got an overlap with {name}")
        costs = dense.loss_and_gradient(
            self.layout, thetas, X, Y, sample_weight, gradients, usable_cores()
        )
        return (costs if np.ndim(theta) == 2 else float(costs[0])), out

    # --- checks of arguments --------------------------------------------------------------------

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
            return self._as_kernel_wants(theta)
        if not theta.flags.c_contiguous:
            raise ValueError(f"{name}: expected a contiguous array; got strides {theta.strides}")
        if not theta.flags.aligned:
            raise ValueError(f"{name}: expected an aligned array; got an unaligned one")
        if not theta.flags.writeable:
            raise ValueError(f"{name}: expected a writable array; got a read-only one")
        return theta

    def check_stack(self, theta: Array, *, name: str = "theta", written: bool = False) -> Array:
        """Return one ``theta``, or a stack of them, as the rows of a matrix.

        As in :meth:`check_theta`, it is the same memory, if it will be written.
        """
        if np.ndim(theta) != 2:
            return self.check_theta(theta, name=name, written=written)[None]
        if written and not isinstance(theta, np.ndarray):
            raise TypeError(f"{name}: expected a NumPy array; got {type(theta).__name__}")
        theta = np.asarray(theta)
        if len(theta) == 0:
            raise ValueError(f"{name}: expected shape (k, {self.n_parameters}); got {theta.shape}")
        if written and not theta.flags.c_contiguous:
            raise ValueError(f"{name}: expected a contiguous array; got strides {theta.strides}")
        self.check_theta(theta[0], name=name, written=written)
        return theta if written else self._as_kernel_wants(theta)

    def check_X(self, X: ArrayLike, *, name: str = "X") -> Array:
        """Return X contiguous and in the network's dtype, shape (n_features, n_examples)."""
        X = _real(name, X)
        n = self.sizes[0]
        if X.ndim != 2 or X.shape[0] != n:
            hint = f"; pass {name}.T" if X.ndim == 2 and X.shape[1] == n else ""
            raise ValueError(f"{name}: expected shape ({n}, n_examples); got {X.shape}{hint}")
        X = self._as_kernel_wants(X)
        if not dense.all_finite(X):
            raise ValueError(f"{name}: expected finite {self.dtype} numbers; got NaN or infinity")
        return X

    def _as_kernel_wants(self, array: Array) -> Array:
        """Return an array contiguous, aligned and in the network's dtype."""
        flags = array.flags
        if array.dtype == self.dtype and flags.c_contiguous and flags.aligned:
            return array
        if array.dtype.kind != "f":
            return array.astype(self.dtype, order="C")
        with np.errstate(over="ignore"):  # a wider number becomes infinite, and is refused later
            return array.astype(self.dtype, order="C")

    def check_Y(self, Y: ArrayLike, X: Array, *, name: str = "Y") -> Array:
        """Return the labels as the kernels want them: numbers of shape (n_outputs, n_examples)."""
        Y = _real(name, Y)
        of_X = name.replace("Y", "X")
        if X.shape[1] == 0:
            raise ValueError(f"{of_X}: expected at least one example; got shape {X.shape}")
        n, m = self.sizes[-1], X.shape[1]
        if Y.shape == (m,) and self.output == "softmax":
            return self._one_hot(Y, name)
        if Y.shape == (m,) and n == 1:
            Y = Y[None]
        if Y.shape != (n, m):
            vector = self.output == "softmax" or n == 1
            expected = f"({m},) or ({n}, {m})" if vector else f"({n}, {m})"
            if Y.shape == (m, n):
                expected += ", examples along the second axis"
            raise ValueError(
                f"{name}: expected shape {expected} to match {of_X} {X.shape}; got {Y.shape}"
            )
        counts = self.output == "exponential"
        if Y.dtype == self.dtype or Y.dtype.kind in "iub":
            # No other integer becomes 0 or 1, as small numbers of a wider type do.
            labels = self._as_kernel_wants(Y)
            fits = dense.all_binary if self.classifies else dense.all_finite
            if fits(labels) and self.output != "softmax" and not counts:
                return labels
        if self.classifies:
            wrong, expected = Y[(Y != 0) & (Y != 1)], "labels 0 and 1"
        else:
            with np.errstate(over="ignore"):
                finite = np.isfinite(Y.astype(self.dtype))
            wrong = Y[~finite | (Y < 0)] if counts else Y[~finite]
            expected = f"finite {self.dtype} numbers{' >= 0' if counts else ''}"
        if wrong.size:
            raise ValueError(f"{name}: expected {expected}; got {wrong.flat[0]}")
        if self.output == "softmax" and not ((ones := Y.sum(axis=0)) == 1).all():
            e = int(np.flatnonzero(ones != 1)[0])
            raise ValueError(
                f"{name}: expected one 1 for each example; got {int(ones[e])} for example {e}"
            )
        return self._as_kernel_wants(Y)

    def _one_hot(self, labels: Array, name: str) -> Array:
        n, m = self.sizes[-1], len(labels)
        fits = (labels >= 0) & (labels < n)
        if labels.dtype.kind == "f":
            fits &= labels == np.floor(labels)
        if not fits.all():
            wrong = labels[~fits][0]
            raise ValueError(f"{name}: expected integers from 0 to {n - 1}; got {wrong}")
        Y = np.zeros((n, m), self.dtype)
        Y.reshape(-1)[labels.astype(np.intp) * m + np.arange(m)] = 1
        return Y

    def check_sample_weight(self, sample_weight: ArrayLike, X: Array) -> Array:
        """Return the weights of the examples in the network's dtype, shape (n_examples,)."""
        sample_weight = _real("sample_weight", sample_weight)
        if sample_weight.shape != (X.shape[1],):
            raise ValueError(
                f"sample_weight: expected shape ({X.shape[1]},) to match X {X.shape}; "
                f"got {sample_weight.shape}"
            )
        sample_weight = self._as_kernel_wants(sample_weight)
        wrong = sample_weight[~(np.isfinite(sample_weight) & (sample_weight >= 0))]
        if wrong.size:
            raise ValueError(f"sample_weight: expected finite and >= 0; got {wrong[0]}")
        if not sample_weight.any():
            raise ValueError("sample_weight: expected at least one above 0; got only zeros")
        return sample_weight

    def _check_classifies(self, what: str) -> None:
        if not self.classifies:
            raise ValueError(f"{what}: expected output sigmoid or softmax; got {self.output!r}")


def _rebuilt(architecture: dict[str, Any]) -> Network:
    return Network(**architecture)


def _r2(outputs: Array, Y: Array) -> Floats:
    """Return the mean R2 of the outputs of each network; (k, n, m) and (n, m).

    As in scikit-learn, labels that do not vary have 1 if they are met exactly, and otherwise 0.
    """
    labels = Y.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        residual = np.square(labels - outputs).sum(axis=2)
        total = np.square(labels - labels.mean(axis=1, keepdims=True)).sum(axis=1)
        r2 = np.where(total > 0, 1 - residual / total, residual == 0)
    return r2.mean(axis=1, dtype=np.float64)  # type: ignore[no-any-return]


def load(path: files.FilePath) -> tuple[Network, Array]:
    """Return the network and the parameters that :meth:`Network.save` wrote.

    Safe on files of unknown origin: no code is run, and what a file declares is held against what
    it contains before memory is taken for it.

    Parameters
    ----------
    path : str or path-like
        Ending in ``.safetensors`` or ``.npz``.

    Returns
    -------
    network : Network
    theta : ndarray of shape (n_parameters,) or (k, n_parameters), the network's dtype
        Finite numbers, the very bits that were saved.

    Raises
    ------
    TypeError
        For a path that is none.
    ValueError
        For another suffix, and for a file that is damaged, no network's, of a later version, or
        not finite.
    ImportError
        For ``.safetensors`` without the package of that name: the extra ``files``.
    OSError
        If the file cannot be read.

    Examples
    --------
    See :meth:`Network.save`.

    >>> load("circles.h5")
    Traceback (most recent call last):
        ...
    ValueError: path: expected a name in .safetensors or .npz; got 'circles.h5'
    """
    architecture, tensors = files.read(path)
    what = f"path: expected a network as Network.save writes it; got {str(path)!r}"
    try:
        network = Network(**architecture)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: {error}") from error
    if network._architecture != architecture:
        raise ValueError(f"{what}: expected all of {', '.join(network._architecture)}, spelt out")
    shapes = network._shapes
    if set(tensors) != set(shapes):
        raise ValueError(f"{what}: expected the tensors {_some(shapes)}; got {_some(tensors)}")
    stack = tensors["W1"].shape[:-2]
    if len(stack) > 1 or stack == (0,):
        raise ValueError(f"{what}: expected one network or a stack; got {stack + shapes['W1']}")
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != stack + shape or tensor.dtype != network.dtype:
            raise ValueError(
                f"{what}: expected {name} of shape {stack + shape}, {network.dtype}; "
                f"got {tensor.shape}, {tensor.dtype}"
            )
        if not np.isfinite(tensor).all():
            raise ValueError(f"{what}: expected finite numbers; got NaN or infinity in {name}")
    theta = np.empty((*stack, network.n_parameters), network.dtype)
    for name, view in network._views(theta).items():
        view[...] = tensors[name]
    return network, theta


def _some(names: Iterable[str]) -> str:
    """Return the first of what may be a hostile file's million names."""
    first = list(islice(names, 9))
    return ", ".join(first[:8]) + (", ..." if len(first) > 8 else "")


def _real(name: str, value: ArrayLike) -> Array:
    """Return the value as an array of real numbers."""
    if np.ma.isMaskedArray(value):
        raise TypeError(f"{name}: expected every number; got a masked array")
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers; got dtype {array.dtype}")
    return array
