"""Network: the layers of a fully connected network and its flat parameter vector."""

# With this import, help() and editors show ArrayLike by name instead of its expansion.
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastinit.initializers import scheme as schemes
from fastinit.initializers.scheme import Scheme
from fastinit.initializers.target import LARGEST, Seed, Sources, check_seeds, key_of
from fastinit.kernels import dense, usable_cores
from fastinit.training import files
from fastinit.validation import (
    as_dtype,
    as_float,
    as_real,
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
    "sigmoid": (
        "sigmoid_cross_entropy",
        "saturating_cross_entropy",
        "clipped_sigmoid_cross_entropy",
    ),
    "softmax": ("softmax_cross_entropy", "clipped_softmax_cross_entropy"),
    "identity": ("squared_error",),
    "exponential": ("poisson",),
}

# What the labels of each output hold; a name of ``dense.usable``.
LABELS = {
    "sigmoid": "binary",
    "softmax": "one_hot",
    "identity": "finite",
    "exponential": "not_negative",
}

# Largest number of outputs in memory while many networks are scored: 16 MB of float64.
SCORE_NUMBERS = 1 << 21


class Layout(NamedTuple):
    """Description of a network for the kernels."""

    sizes: tuple[int, ...]
    activation: str
    negative_slope: float
    loss: str
    bias: bool


class Network:
    """A fully connected network.

    A network is immutable and hashable. It describes the layers and holds no parameter values. All
    parameters are stored in one contiguous vector ``theta``: W1, b1, W2, b2, ... each in C order,
    ``W_l`` of shape (n_out, n_in) and ``b_l`` of shape (n_out, 1).

    Parameters
    ----------
    sizes : sequence of int
        Number of units of each layer, from the features to the outputs. At least two entries, each
        at least 1.
    activation : {"relu", "leaky_relu", "tanh", "sigmoid", "identity", "gelu", "silu", "selu"}
        Activation of the hidden layers, "relu" by default. ``gelu`` is the exact function
        ``z * Phi(z)`` [1]_, as in PyTorch by default; ``silu`` is ``z * sigmoid(z)``; ``selu`` has
        the constants of [2]_.
    negative_slope : float, default 0.01
        Slope of ``leaky_relu`` for negative numbers; finite and >= 0.
    output : {"sigmoid", "softmax", "identity", "exponential"}
        Activation of the output layer, "sigmoid" by default. It determines the loss and the format
        of the labels ``Y`` of m examples:

        ============= ========================== ====================================
        output        loss of one example        labels
        ============= ========================== ====================================
        sigmoid       binary cross-entropy       (n_outputs, m), each 0 or 1
        softmax       cross-entropy              (m,) integers, or one-hot (n_outputs, m)
        identity      half the squared error     (n_outputs, m), finite numbers
        exponential   Poisson, ``A - Y log A``   (n_outputs, m), finite numbers >= 0
        ============= ========================== ====================================

        Labels of shape (1, m) may also have shape (m,). Losses are summed over the outputs and
        averaged over the examples.
    loss : str, optional
        The loss. By default it is computed from the logits, so that it is accurate where the output
        saturates. For "sigmoid", ``saturating_cross_entropy`` is the lesson's loss, computed from
        the output: it is infinite where the sigmoid saturates at the wrong label.
        ``clipped_sigmoid_cross_entropy`` and, for "softmax", ``clipped_softmax_cross_entropy`` are
        scikit-learn's, whose probabilities are clipped to [eps, 1 - eps]. Their gradients are the
        same.
    dtype : float64 or float32, default float64
        Type of the parameters and of the arithmetic.
    bias : bool, default True
        Whether the layers have biases. Without biases, ``theta`` holds W1, W2, ...

    Attributes
    ----------
    n_parameters : int
        Length of ``theta``.
    n_layers : int
        Number of layers with parameters: the hidden layers and the output layer.
    classifies : bool
        Whether the outputs are probabilities, of "sigmoid" or "softmax".
    layout : Layout
        Description of the network for the kernels.

    Raises
    ------
    TypeError
        If an argument has the wrong type, or `dtype` is neither float64 nor float32.
    ValueError
        If a size is out of range, or a name is unknown.

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
        raise AttributeError(f"{name}: a Network is immutable; create a new one instead")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name}: a Network is immutable; its attributes cannot be deleted")

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
        """Number of layers with parameters: the hidden layers and the output layer."""
        return len(self.sizes) - 1

    @property
    def classifies(self) -> bool:
        """Whether the outputs are probabilities, of "sigmoid" or "softmax"."""
        return self.output in ("sigmoid", "softmax")

    # --- parameters ---------------------------------------------------------------------------

    def unpack(self, theta: Array) -> dict[str, Array]:
        """Return the parameters of each layer as views of ``theta``.

        Parameters
        ----------
        theta : ndarray of shape (n_parameters,) or (k, n_parameters), the network's dtype
            The parameters of one network, or of a stack of k networks.

        Returns
        -------
        dict of str to ndarray
            ``{"W1": ..., "b1": ..., ...}``, of shapes (n_out, n_in) and (n_out, 1); for a stack
            (k, n_out, n_in) and (k, n_out, 1). The arrays share memory with `theta` if it is
            contiguous and aligned.

        Raises
        ------
        TypeError
            If `theta` has another dtype.
        ValueError
            If `theta` has another shape.

        Examples
        --------
        >>> import fastinit as fi
        >>> net = fi.Network([2, 3, 1])
        >>> {name: array.shape for name, array in net.unpack(net.initialize("zeros")).items()}
        {'W1': (3, 2), 'b1': (3, 1), 'W2': (1, 3), 'b2': (1, 1)}
        """
        thetas = self.check_stack(theta)
        return self._views(thetas if np.ndim(theta) == 2 else thetas[0])

    def pack(self, parameters: Mapping[str, ArrayLike]) -> Array:
        """Return a new ``theta`` with the parameters of a dictionary.

        Parameters
        ----------
        parameters : mapping of str to array_like
            ``{"W1": ..., "b1": ..., ...}``, of shapes (n_out, n_in) and (n_out, 1).

        Returns
        -------
        ndarray of shape (n_parameters,), the network's dtype

        Raises
        ------
        TypeError
            If `parameters` is not a mapping, or an array does not hold real numbers.
        ValueError
            If the keys or shapes do not match the network, or a finite number is too large for the
            network's dtype.

        Examples
        --------
        >>> import fastinit as fi
        >>> fi.Network([2, 1]).pack({"W1": [[1.0, 2.0]], "b1": [[3.0]]})
        array([1., 2., 3.])
        """
        if not isinstance(parameters, Mapping):
            raise TypeError(f"parameters: expected a mapping; got {type(parameters).__name__}")
        theta = np.empty(self.n_parameters, self.dtype)
        views = self.unpack(theta)
        if set(parameters) != set(views):
            raise ValueError(
                f"parameters: expected the keys {', '.join(views)}; got {', '.join(parameters)}"
            )
        for name, view in views.items():
            value = as_real(f"parameters[{name!r}]", parameters[name])
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
    @overload
    def initialize(
        self,
        scheme: AnyScheme | Sequence[AnyScheme],
        *,
        seed: Sequence[Seed] | NDArray[np.integer[Any]],
        stream: int = 0,
        n: None = None,
    ) -> Matrix: ...
    def initialize(
        self,
        scheme: AnyScheme | Sequence[AnyScheme],
        *,
        seed: Seed | Sequence[Seed] | NDArray[np.integer[Any]] = None,
        stream: int = 0,
        n: int | None = None,
    ) -> Array:
        """Return a new ``theta`` with initial weights and biases.

        Parameters
        ----------
        scheme : str, Scheme, callable, or a sequence of these
            A name of :func:`fastinit.initializers.names`, an initialiser, a ``functools.partial``
            of one, or a callable that takes ``seed=``, ``stream=`` and ``out=`` and fills ``out``
            in place. A sequence has one entry per layer. Biases are zero unless the scheme fills
            them.
        seed : int, SeedSequence, Generator, RandomState or None, or a sequence, default None
            None draws fresh entropy. With the lesson's schemes, ``lesson.random`` and
            ``lesson.he``, None draws from NumPy's global random state, and an int seeds NumPy's
            legacy generator. A sequence of k seeds returns a stack of k networks: network ``i`` is
            the one of ``seed=seed[i]``.
        stream : int, default 0
            Number of the network. Networks of the same seed and different streams are independent.
            Each of the arrays W1, b1, W2, b2, ... is drawn from a random stream of its own.
        n : int, optional
            Return a stack of n networks of one seed. Network ``i`` is the one of
            ``stream=stream + i``.

        Returns
        -------
        ndarray of shape (n_parameters,), the network's dtype
            With several seeds or with `n`, a stack of shape (k, n_parameters) or
            (n, n_parameters).

        Raises
        ------
        TypeError
            If an argument has the wrong type, or `n` is given with several seeds.
        ValueError
            If the scheme is unknown, a sequence does not have one scheme per layer, a seed is out
            of range, there are no seeds in a sequence, or `stream` or `n` is given with the
            lesson's schemes, whose generator has no streams.

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
        >>> thetas = net.initialize("he_normal", seed=range(100))
        >>> bool((thetas[7] == net.initialize("he_normal", seed=7)).all())
        True
        """
        layers = self._schemes(scheme)
        stream = check_integer("stream", stream)
        several = is_sequence(seed)
        if several and n is not None:
            raise TypeError("seed, n: expected at most one of several seeds and n; got both")
        if any(each.sequential for each in layers) and (stream != 0 or n is not None):
            raise ValueError(
                "scheme: expected schemes with streams if stream= or n= is given; got "
                f"{', '.join(each.name for each in layers if each.sequential)}"
            )
        seeds = check_seeds(seed if several else [seed])  # type: ignore[list-item, arg-type]
        k = len(seeds) if n is None else check_integer("n", n, 1)
        # The first stream of each network; a layer takes two.
        between = 2 * self.n_layers
        first, step = stream * between, 0 if n is None else between
        check_integer("stream", first + (k - 1) * step + between - 1)
        thetas = np.zeros((k, self.n_parameters), self.dtype)
        views = self._views(thetas)
        # Create each generator once for all layers: deriving a key from a Generator advances it.
        kinds = dict.fromkeys(each.generator_of for each in layers)
        if list(kinds) == [key_of] and all(each.fills_stacks for each in layers):
            pairs = np.empty((k, 2), np.uint64)
            pairs[:, 0] = np.array([key_of(each) for each in seeds], np.uint64)
            pairs[:, 1] = np.arange(k) * step
            self._fill(layers, views, {key_of: Sources(pairs)}, first)
        else:
            for i in range(k):
                if several or i == 0:
                    generators = {kind: kind(seeds[i]) for kind in kinds}
                own = {name: view[i] for name, view in views.items()}
                self._fill(layers, own, generators, first + i * step)
        return thetas if several or n is not None else thetas[0]

    @staticmethod
    def _fill(
        layers: list[Scheme], views: dict[str, Array], generators: dict[Any, Any], stream: int
    ) -> None:
        """Fill the arrays of one network or of a stack; the layers take two streams each."""
        for layer, each in enumerate(layers, start=1):
            W, b = views[f"W{layer}"], views.get(f"b{layer}")
            each.fill_layer(W, b, generators[each.generator_of], stream + 2 * (layer - 1))

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
        """The shapes of W1, b1, ... in the order of ``theta``."""
        shapes: dict[str, tuple[int, int]] = {}
        for layer, (n_in, n_out) in enumerate(pairwise(self.sizes), start=1):
            shapes[f"W{layer}"] = (n_out, n_in)
            if self.bias:
                shapes[f"b{layer}"] = (n_out, 1)
        return shapes

    @property
    def _is_weight(self) -> NDArray[np.bool_]:
        """A mask over ``theta``: True for weights, False for biases."""
        return np.concatenate(
            [np.full(math.prod(shape), name[0] == "W") for name, shape in self._shapes.items()]
        )

    def _views(self, theta: Array) -> dict[str, Array]:
        """Return views of W1, b1, ... with the leading axes of ``theta``."""
        views = {}
        end = 0
        for name, shape in self._shapes.items():
            start, end = end, end + math.prod(shape)
            views[name] = theta[..., start:end].reshape(theta.shape[:-1] + shape)
        return views

    # --- files --------------------------------------------------------------------------------

    @property
    def _architecture(self) -> dict[str, Any]:
        """The arguments that reconstruct this network, in JSON types."""
        return {
            "sizes": list(self.sizes),
            "activation": self.activation,
            "negative_slope": self.negative_slope,
            "output": self.output,
            "loss": self.loss,
            "dtype": self.dtype.name,
        } | ({} if self.bias else {"bias": False})

    def save(self, path: files.FilePath, theta: Array) -> None:
        """Save the network and its parameters to a file. :func:`fastinit.load` reads it.

        The file contains the tensors W1, b1, ... that :meth:`unpack` returns. It is replaced
        atomically: if anything fails, an existing file remains unchanged.

        Parameters
        ----------
        path : str or path-like
            Ends in ``.safetensors`` [1]_, a format that other frameworks and languages read, or in
            ``.npz``, which requires NumPy only.
        theta : ndarray of shape (n_parameters,) or (k, n_parameters), the network's dtype
            The parameters of one network, or of a stack of k networks. All must be finite.

        Raises
        ------
        TypeError
            If `path` is not path-like, or `theta` has another dtype.
        ValueError
            If `path` has another suffix, or `theta` has another shape or is not finite.
        ImportError
            If the suffix is ``.safetensors`` and the package safetensors is not installed. The
            extra ``files`` installs it.
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
        ...     loaded, loaded_theta = fi.load(f"{folder}/circles.npz")
        >>> loaded == net, bool((loaded_theta == theta).all())
        (True, True)
        """
        theta = np.asarray(theta)
        self.check_stack(theta)
        if not np.isfinite(theta).all():
            raise ValueError("theta: expected finite numbers; got NaN or infinity")
        files.write(path, self._architecture, self._views(theta))

    # --- forward and backward -----------------------------------------------------------------

    def _outputs(self, theta: Array, X: ArrayLike) -> Array:
        """Return the outputs, of shape (n_outputs, n_examples) or (k, n_outputs, n_examples)."""
        thetas = self.check_stack(theta)
        X = self.check_X(X)
        out = np.empty((len(thetas), self.sizes[-1], X.shape[1]), self.dtype)
        dense.forward(self.layout, thetas, X, None, None, out, usable_cores())
        return out if np.ndim(theta) == 2 else out[0]

    def predict_proba(self, theta: Array, X: ArrayLike) -> Array:
        """Return the predicted probabilities.

        Parameters
        ----------
        theta : ndarray of shape (n_parameters,) or (k, n_parameters), the network's dtype
            The parameters of one network, or of a stack of k networks.
        X : array_like of shape (n_features, n_examples), or (n_features,) for one example
            Features; converted to the network's dtype.

        Returns
        -------
        ndarray of shape (n_outputs, n_examples), or (n_outputs,) for one example
            For "sigmoid", the probability of class 1 of each output; for "softmax", the probability
            of each class. A stack adds a leading axis of length k.

        Raises
        ------
        TypeError
            If `theta` has another dtype, or `X` does not hold real numbers.
        ValueError
            If the output is neither "sigmoid" nor "softmax", shapes do not match, or `X` is not
            finite.

        Examples
        --------
        >>> import fastinit as fi
        >>> net = fi.Network([2, 10, 5, 3], output="softmax")
        >>> net.predict_proba(net.initialize("zeros"), [0.5, 1.0]).round(3)
        array([0.333, 0.333, 0.333])
        """
        self._check_classifies("predict_proba")
        if np.ndim(X) == 1:
            return self._outputs(theta, np.reshape(X, (-1, 1)))[..., 0]
        return self._outputs(theta, X)

    def predict(self, theta: Array, X: ArrayLike) -> Array:
        """Return the prediction for each example.

        Parameters
        ----------
        theta : ndarray of shape (n_parameters,) or (k, n_parameters), the network's dtype
            The parameters of one network, or of a stack of k networks.
        X : array_like of shape (n_features, n_examples), or (n_features,) for one example
            Features; converted to the network's dtype.

        Returns
        -------
        ndarray
            For "sigmoid", classes 0 or 1 of shape (n_outputs, n_examples): 1 if its probability is
            above 0.5. For "softmax", the most probable class, of shape (n_examples,). For the other
            outputs, the output itself, of shape (n_outputs, n_examples). Classes are intp. For one
            example, the last axis is dropped. A stack adds a leading axis of length k.

        Raises
        ------
        TypeError
            If `theta` has another dtype, or `X` does not hold real numbers.
        ValueError
            If shapes do not match, or `X` is not finite.

        Examples
        --------
        >>> import fastinit as fi
        >>> net = fi.Network([1, 1])
        >>> net.predict(np.array([2.0, -1.0]), [[0.0, 1.0]])
        array([[0, 1]])
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
        """Return the accuracy of a classifier, or the coefficient of determination R2.

        Parameters
        ----------
        theta : ndarray of shape (n_parameters,) or (k, n_parameters), the network's dtype
            The parameters of one network, or of a stack of k networks.
        X : array_like of shape (n_features, n_examples)
            Features; converted to the network's dtype.
        Y : array_like
            Labels, in the format of the output: see :class:`Network`.

        Returns
        -------
        float, or ndarray of shape (k,), float64, for a stack
            The :meth:`accuracy` if the output is "sigmoid" or "softmax". Otherwise R2, averaged
            over the outputs, as ``sklearn.metrics.r2_score`` does.

        Raises
        ------
        TypeError, ValueError
            If the arrays do not match the network.

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
        """Return the fraction of predictions that equal the labels.

        Parameters
        ----------
        theta : ndarray of shape (n_parameters,) or (k, n_parameters), the network's dtype
            The parameters of one network, or of a stack of k networks.
        X : array_like of shape (n_features, n_examples)
            Features; converted to the network's dtype.
        Y : array_like
            Labels, in the format of the output: see :class:`Network`.

        Returns
        -------
        float, or ndarray of shape (k,), float64, for a stack
            Several "sigmoid" outputs are counted individually.

        Raises
        ------
        ValueError
            If the output is neither "sigmoid" nor "softmax".
        TypeError, ValueError
            If the arrays do not match the network.

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
        theta : ndarray of shape (n_parameters,) or (k, n_parameters), the network's dtype
            The parameters of one network, or of a stack of k networks.
        X : array_like of shape (n_features, n_examples)
            Features; converted to the network's dtype.
        Y : array_like
            Labels, in the format of the output: see :class:`Network`.
        sample_weight : array_like of shape (n_examples,), optional
            Weights of the examples; the cost is the weighted mean. Finite, >= 0, not all zero.

        Returns
        -------
        float, or ndarray of shape (k,), float64, for a stack

        Raises
        ------
        TypeError, ValueError
            If the arrays do not match the network.

        Examples
        --------
        >>> import fastinit as fi
        >>> X, Y, _, _ = fi.lesson.load_dataset()
        >>> net = fi.Network([2, 10, 5, 1])
        >>> round(net.cost(net.initialize("zeros"), X, Y), 12)  # ln 2
        0.69314718056
        """
        return self._scores(theta, X, Y, sample_weight)[0]

    def _scores(
        self, theta: Array, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[float | Floats, float | Floats]:
        """Check the arrays; return costs and scores of one network or of a stack."""
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
        """Return weighted costs and unweighted scores, of arrays that have been checked."""
        k, n, m = len(thetas), self.sizes[-1], X.shape[1]
        costs, scores = np.empty(k), np.empty(k)
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

        Optimisers can call this method directly:
        ``scipy.optimize.minimize(net.loss_and_gradient, theta, jac=True, args=(X, Y))``.

        Parameters
        ----------
        theta : ndarray of shape (n_parameters,) or (k, n_parameters), the network's dtype
            The parameters of one network, or of a stack of k networks.
        X : array_like of shape (n_features, n_examples)
            Features; converted to the network's dtype.
        Y : array_like
            Labels, in the format of the output: see :class:`Network`.
        sample_weight : array_like of shape (n_examples,), optional
            Weights of the examples; the cost is the weighted mean. Finite, >= 0, not all zero.
        out : ndarray of the shape and dtype of theta, optional
            Contiguous array that the gradient is written to. It must not overlap the other arrays.

        Returns
        -------
        cost : float, or ndarray of shape (k,), float64, for a stack
        gradient : ndarray of the shape and dtype of theta
            `out`, if it was given.

        Raises
        ------
        TypeError, ValueError
            If the arrays do not match the network, or `out` overlaps one of them.

        Examples
        --------
        >>> import fastinit as fi
        >>> net = fi.Network([1, 1], output="identity")
        >>> net.loss_and_gradient(np.array([1.0, 0.0]), [[0.0, 1.0]], [0.0, 2.0])
        (0.25, array([-0.5, -0.5]))
        """
        thetas = self.check_stack(theta)
        X = self.check_X(X)
        Y = self.check_Y(Y, X)
        if sample_weight is not None:
            sample_weight = self.check_sample_weight(sample_weight, X)
        single = np.ndim(theta) != 2
        if out is None:
            gradients = np.empty_like(thetas)
            out = gradients[0] if single else gradients
        elif np.shape(out) != np.shape(theta):
            raise ValueError(f"out: expected shape {np.shape(theta)}; got {np.shape(out)}")
        else:
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
        return (float(costs[0]) if single else costs), out

    # --- checks of arguments --------------------------------------------------------------------

    def check_theta(self, theta: Array, *, name: str = "theta", written: bool = False) -> Array:
        """Check one parameter vector, and return it in the layout of the kernels.

        Parameters
        ----------
        theta : ndarray of shape (n_parameters,), the network's dtype
        name : str, default "theta"
            Name of the argument in error messages.
        written : bool, default False
            Whether the kernels write to the array. It is then returned without a copy, and must be
            contiguous, aligned and writable.

        Returns
        -------
        ndarray of shape (n_parameters,)

        Raises
        ------
        TypeError
            If `theta` has another dtype.
        ValueError
            If `theta` has another shape, or a layout that cannot be written to.

        Examples
        --------
        >>> import fastinit as fi
        >>> fi.Network([2, 1]).check_theta(np.zeros(3))
        array([0., 0., 0.])
        """
        if dense.usable(theta, self.dtype, (self.n_parameters,), "any", written):
            return theta
        if written and not isinstance(theta, np.ndarray):
            raise TypeError(f"{name}: expected a NumPy array; got {type(theta).__name__}")
        theta = np.asarray(theta)
        if theta.dtype != self.dtype:
            raise TypeError(f"{name}: expected dtype {self.dtype}; got {theta.dtype}")
        if theta.shape != (self.n_parameters,):
            raise ValueError(f"{name}: expected shape ({self.n_parameters},); got {theta.shape}")
        if not written:
            return self._converted(theta)
        if not theta.flags.c_contiguous:
            raise ValueError(f"{name}: expected a contiguous array; got strides {theta.strides}")
        if not theta.flags.aligned:
            raise ValueError(f"{name}: expected an aligned array; got an unaligned one")
        if not theta.flags.writeable:
            raise ValueError(f"{name}: expected a writable array; got a read-only one")
        return theta

    def check_stack(self, theta: Array, *, name: str = "theta", written: bool = False) -> Array:
        """Check one parameter vector or a stack of them, and return a matrix with one row for each.

        Parameters
        ----------
        theta : ndarray of shape (n_parameters,) or (k, n_parameters), the network's dtype
        name, written
            As in :meth:`check_theta`.

        Returns
        -------
        ndarray of shape (1, n_parameters) or (k, n_parameters)

        Raises
        ------
        TypeError, ValueError
            As in :meth:`check_theta`.

        Examples
        --------
        >>> import fastinit as fi
        >>> fi.Network([2, 1]).check_stack(np.zeros(3)).shape
        (1, 3)
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
        return theta if written else self._converted(theta)

    def check_X(self, X: ArrayLike, *, name: str = "X") -> Array:
        """Check features, and return them contiguous and in the network's dtype.

        Parameters
        ----------
        X : array_like of shape (n_features, n_examples)
        name : str, default "X"
            Name of the argument in error messages.

        Returns
        -------
        ndarray of shape (n_features, n_examples)
            `X` itself if it needs no conversion.

        Raises
        ------
        TypeError
            If `X` does not hold real numbers.
        ValueError
            If `X` has another shape, or is not finite in the network's dtype.

        Examples
        --------
        >>> import fastinit as fi
        >>> fi.Network([2, 1]).check_X([[1, 2, 3], [4, 5, 6]])
        array([[1., 2., 3.],
               [4., 5., 6.]])
        """
        n = self.sizes[0]
        if dense.usable(X, self.dtype, (n, -1), "finite"):
            return X  # type: ignore[return-value]
        X = as_real(name, X)
        if X.ndim != 2 or X.shape[0] != n:
            hint = f"; pass {name}.T" if X.ndim == 2 and X.shape[1] == n else ""
            raise ValueError(f"{name}: expected shape ({n}, n_examples); got {X.shape}{hint}")
        X = self._converted(X)
        if not dense.all_finite(X):
            raise ValueError(f"{name}: expected finite {self.dtype} numbers; got NaN or infinity")
        return X

    def _converted(self, array: Array) -> Array:
        """Return an array contiguous, aligned and in the network's dtype."""
        flags = array.flags
        if array.dtype == self.dtype and flags.c_contiguous and flags.aligned:
            return array
        if array.dtype.kind != "f":
            return array.astype(self.dtype, order="C")
        with np.errstate(
            over="ignore"
        ):  # a number that overflows becomes infinite: callers refuse it
            return array.astype(self.dtype, order="C")

    def check_Y(self, Y: ArrayLike, X: Array, *, name: str = "Y") -> Array:
        """Check labels, and return them as a matrix in the network's dtype.

        Parameters
        ----------
        Y : array_like
            Labels, in the format of the output: see :class:`Network`.
        X : ndarray of shape (n_features, n_examples)
            The features of the same examples.
        name : str, default "Y"
            Name of the argument in error messages.

        Returns
        -------
        ndarray of shape (n_outputs, n_examples)
            One-hot for "softmax".

        Raises
        ------
        TypeError
            If `Y` does not hold real numbers.
        ValueError
            If shapes do not match, there are no examples, or a label is out of range.

        Examples
        --------
        >>> import fastinit as fi
        >>> fi.Network([2, 3], output="softmax").check_Y([0, 2], np.ones((2, 2)))
        array([[1., 0.],
               [0., 0.],
               [0., 1.]])
        """
        n, m = self.sizes[-1], X.shape[1]
        if m and dense.usable(Y, self.dtype, (n, m), LABELS[self.output]):
            return Y  # type: ignore[return-value]
        Y = as_real(name, Y)
        of_X = name.replace("Y", "X")
        if m == 0:
            raise ValueError(f"{of_X}: expected at least one example; got shape {X.shape}")
        if Y.shape == (m,) and self.output == "softmax":
            return self._one_hot(Y, name)
        if Y.shape == (m,) and n == 1:
            Y = Y[None]
        if Y.shape != (n, m):
            vector = self.output == "softmax" or n == 1
            expected = f"({m},) or ({n}, {m})" if vector else f"({n}, {m})"
            if Y.shape == (m, n):
                expected += ", examples along the second axis"
            if Y.shape == (m,) and self.output == "sigmoid":
                expected += " (class numbers require output='softmax')"
            raise ValueError(
                f"{name}: expected shape {expected} to match {of_X} {X.shape}; got {Y.shape}"
            )
        if Y.dtype == self.dtype or Y.dtype.kind in "iub":
            # The labels can be checked after the conversion: no integer other than 0 and 1 is
            # rounded to 0 or 1, whereas a small float64 would become 0 in float32.
            labels = self._converted(Y)
            if dense.usable(labels, self.dtype, (n, m), LABELS[self.output]):
                return labels
        if self.classifies:
            wrong, expected = Y[(Y != 0) & (Y != 1)], "labels 0 and 1"
        else:
            counts = self.output == "exponential"
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
        return self._converted(Y)

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
        """Check the weights of the examples, and return them in the network's dtype.

        Parameters
        ----------
        sample_weight : array_like of shape (n_examples,)
            Finite, >= 0, not all zero.
        X : ndarray of shape (n_features, n_examples)
            The features of the same examples.

        Returns
        -------
        ndarray of shape (n_examples,)

        Raises
        ------
        TypeError
            If `sample_weight` does not hold real numbers.
        ValueError
            If the shape does not match, a weight is negative or not finite, or all are zero.

        Examples
        --------
        >>> import fastinit as fi
        >>> fi.Network([2, 1]).check_sample_weight([1, 2], np.ones((2, 2)))
        array([1., 2.])
        """
        sample_weight = as_real("sample_weight", sample_weight)
        if sample_weight.shape != (X.shape[1],):
            raise ValueError(
                f"sample_weight: expected shape ({X.shape[1]},) to match X {X.shape}; "
                f"got {sample_weight.shape}"
            )
        sample_weight = self._converted(sample_weight)
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
    """Return the R2 of each network, averaged over its outputs, (k, n, m), given labels (n, m).

    As in scikit-learn, R2 for constant labels is 1 if the residual is zero, and otherwise 0.
    """
    labels = Y.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        residual = np.square(labels - outputs).sum(axis=2)
        total = np.square(labels - labels.mean(axis=1, keepdims=True)).sum(axis=1)
        r2 = np.where(total > 0, 1 - residual / total, residual == 0)
    return r2.mean(axis=1, dtype=np.float64)  # type: ignore[no-any-return]


def load(path: files.FilePath) -> tuple[Network, Array]:
    """Load a network and its parameters from a file that :meth:`Network.save` wrote.

    Files of unknown origin are safe to load: no code is executed, and the sizes that a file
    declares are compared with its content before memory is allocated.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.safetensors`` or ``.npz``.

    Returns
    -------
    network : Network
    theta : ndarray of shape (n_parameters,) or (k, n_parameters), the network's dtype
        The parameters of one network, or of a stack of k networks, bit for bit as saved.

    Raises
    ------
    TypeError
        If `path` is not path-like.
    ValueError
        If `path` has another suffix, or the file is damaged, does not describe a network, has a
        later version, or contains NaN or infinity.
    ImportError
        If the suffix is ``.safetensors`` and the package safetensors is not installed. The extra
        ``files`` installs it.
    OSError
        If the file cannot be read.

    See Also
    --------
    Network.save : Save a network, with an example of loading it.

    Examples
    --------
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
        raise ValueError(f"{what}: expected all of {', '.join(network._architecture)} as keys")
    shapes = network._shapes
    if set(tensors) != set(shapes):
        raise ValueError(f"{what}: expected the tensors {_listed(shapes)}; got {_listed(tensors)}")
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


def _listed(names: Iterable[str]) -> str:
    """Return the first eight names as text: a malicious file may contain a million."""
    first = list(islice(names, 9))
    return ", ".join(first[:8]) + (", ..." if len(first) > 8 else "")
