"""Keras: the initialisers of ``keras.initializers``, filled by fastinit.

The random initialisers have the names, parameters and configurations of those of Keras, from which
they derive. Their values are the same bits on every backend and under every layout. ``Constant``,
``Identity``, ``Ones``, ``STFT`` and ``Zeros`` are those of Keras itself.

All are called as ``initializer(shape, dtype=None, layout=None)``:

- ``shape`` is a sequence of int, () included.
- ``dtype`` is float64, float32, float16 or bfloat16; ``keras.config.floatx()`` by default.
- ``layout`` is a ``keras.distribution.TensorLayout`` or a ``jax.sharding.Sharding``, with the JAX
  backend alone. Each device's part is computed on its own, with the same values as without a
  layout. Keras passes it under a ``keras.distribution``.

An integer as ``seed`` is the seed of fastinit, with stream 0. A ``keras.random.SeedGenerator``
advances with every call: call n has its seed, and stream n.

Import this module before you load a model that was saved with its initialisers.
"""

import math
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
from keras.initializers import STFT, Constant, Identity, Ones, Zeros
from numpy.typing import NDArray

from fastinit import initializers
from fastinit.initializers.fills import Window, aligned, shards_of
from fastinit.initializers.scaling import TRUNCATED_STD, fans
from fastinit.initializers.target import Shape, Target, check_shape
from fastinit.validation import check_integer

__all__ = [
    "STFT",
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "custom_objects",
]

_register = keras.saving.register_keras_serializable(package="fastinit")


@_register
class RandomNormal(keras.initializers.RandomNormal):  # type: ignore[misc]
    """Normal draws: the values of :func:`fastinit.normal`.

    Parameters
    ----------
    mean : float, default 0.0
    stddev : float, default 0.05
        At least 0.
    seed : int or keras.random.SeedGenerator, optional
        An integer, from 0 to 2**64 - 1, gives the same values in every call, and to all tensors of
        the same shape. A generator gives other values to each. None draws an integer from Python's
        ``random`` when the initialiser is made; ``keras.utils.set_random_seed`` determines it.

    Examples
    --------
    >>> values = RandomNormal(stddev=0.02, seed=0)((100, 100))
    >>> bool(abs(values.std() - 0.02) < 0.001)
    True
    """

    def __call__(self, shape: Shape, dtype: Any = None, layout: Any = None) -> Any:
        """Return a tensor of the backend; see :mod:`fastinit.keras`."""
        mean = _number("mean", self.mean, dtype)
        std = _number("stddev", self.stddev, dtype, 0.0)
        fill = partial(initializers.normal, mean=mean, std=std)
        return _tensor(fill, self.seed, shape, dtype, layout)


@_register
class TruncatedNormal(keras.initializers.TruncatedNormal):  # type: ignore[misc]
    """Normal draws, truncated at two standard deviations: :func:`fastinit.truncated_normal`.

    Parameters
    ----------
    mean : float, default 0.0
    stddev : float, default 0.05
        Standard deviation before the truncation, at least 0.
    seed : int or keras.random.SeedGenerator, optional
        As for :class:`RandomNormal`.

    Examples
    --------
    >>> values = TruncatedNormal(stddev=0.02, seed=0)((100, 100))
    >>> bool(abs(values).max() <= 0.04)
    True
    """

    def __call__(self, shape: Shape, dtype: Any = None, layout: Any = None) -> Any:
        """Return a tensor of the backend; see :mod:`fastinit.keras`."""
        mean = _number("mean", self.mean, dtype)
        std = _number("stddev", self.stddev, dtype, 0.0)
        fill = partial(initializers.truncated_normal, mean=mean, std=std)
        return _tensor(fill, self.seed, shape, dtype, layout)


@_register
class RandomUniform(keras.initializers.RandomUniform):  # type: ignore[misc]
    """Uniform draws from [minval, maxval): the values of :func:`fastinit.uniform`.

    Parameters
    ----------
    minval, maxval : float, default -0.05 and 0.05
        Bounds. If they are equal, all values are.
    seed : int or keras.random.SeedGenerator, optional
        As for :class:`RandomNormal`.

    Examples
    --------
    >>> values = RandomUniform(seed=0)((100, 100))
    >>> bool(abs(values).max() <= 0.05)
    True
    """

    def __call__(self, shape: Shape, dtype: Any = None, layout: Any = None) -> Any:
        """Return a tensor of the backend; see :mod:`fastinit.keras`."""
        low = _number("minval", self.minval, dtype)
        high = _number("maxval", self.maxval, dtype)
        if low > high:
            raise ValueError(f"minval, maxval: expected minval <= maxval; got {low} and {high}")
        _number("maxval - minval", high - low, dtype)
        fill = partial(initializers.uniform, low=low, high=high)
        if low == high:
            fill = partial(initializers.constant, value=low)
        return _tensor(fill, self.seed, shape, dtype, layout)


@_register
class VarianceScaling(keras.initializers.VarianceScaling):  # type: ignore[misc]
    """Draws of mean 0 and variance ``scale / fan``: :func:`fastinit.variance_scaling`.

    Parameters
    ----------
    scale : float, default 1.0
        Above 0.
    mode : {"fan_in", "fan_out", "fan_avg"}, default "fan_in"
    distribution : {"truncated_normal", "untruncated_normal", "uniform"}
        ``"truncated_normal"`` by default, which is widened to the given variance.
        ``"untruncated_normal"`` is ``"normal"`` in fastinit. Keras takes ``"normal"`` as another
        name of ``"truncated_normal"``.
    seed : int or keras.random.SeedGenerator, optional
        As for :class:`RandomNormal`.
    input_axes, output_axes : sequence of int, optional
        The axes whose lengths are multiplied to the fans, if both are given. By default kernels
        have the shape (*field, n_in, n_out), and the fans include the size of the receptive field.
        Both fans of a vector are its length, and those of a scalar are 1.

    Examples
    --------
    >>> import numpy as np
    >>> import fastinit as fi
    >>> parameters = {"scale": 2.0, "mode": "fan_out", "distribution": "uniform", "seed": 3}
    >>> values = VarianceScaling(**parameters)((3, 3, 8, 16), dtype="float32")
    >>> layout = {"in_axis": -2, "out_axis": -1}
    >>> same = fi.variance_scaling((3, 3, 8, 16), dtype="float32", **parameters, **layout)
    >>> bool((np.asarray(values) == same).all())
    True
    """

    def __call__(self, shape: Shape, dtype: Any = None, layout: Any = None) -> Any:
        """Return a tensor of the backend; see :mod:`fastinit.keras`."""
        shape = check_shape(shape)
        fan_in, fan_out = _fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out}.get(self.mode, (fan_in + fan_out) / 2)
        std = math.sqrt(_number("scale", self.scale, dtype) / max(fan, 1.0))
        if self.distribution == "uniform":
            limit = math.sqrt(3) * std
            fill = partial(initializers.uniform, low=-limit, high=limit)
        elif self.distribution == "truncated_normal":
            fill = partial(initializers.truncated_normal, std=std / TRUNCATED_STD)
        else:
            fill = partial(initializers.normal, std=std)
        return _tensor(fill, self.seed, shape, dtype, layout)


@_register
class GlorotUniform(VarianceScaling, keras.initializers.GlorotUniform):  # type: ignore[misc]
    """Uniform draws of variance ``2 / (fan_in + fan_out)``: :func:`fastinit.keras_dense`.

    Parameters
    ----------
    seed, input_axes, output_axes
        As for :class:`VarianceScaling`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastinit as fi
    >>> values = GlorotUniform(seed=0)((64, 128))
    >>> bool((np.asarray(values) == fi.keras_dense((64, 128), seed=0, dtype="float32")).all())
    True
    """


@_register
class GlorotNormal(VarianceScaling, keras.initializers.GlorotNormal):  # type: ignore[misc]
    """Truncated normal draws of variance ``2 / (fan_in + fan_out)``.

    Parameters
    ----------
    seed, input_axes, output_axes
        As for :class:`VarianceScaling`.

    Examples
    --------
    >>> values = GlorotNormal(seed=0)((100, 100))
    >>> bool(abs(values.std() - 0.1) < 0.002)
    True
    """


@_register
class HeUniform(VarianceScaling, keras.initializers.HeUniform):  # type: ignore[misc]
    """Uniform draws of variance ``2 / fan_in``, for ReLU.

    Parameters
    ----------
    seed, input_axes, output_axes
        As for :class:`VarianceScaling`.

    Examples
    --------
    >>> values = HeUniform(seed=0)((6, 4))
    >>> bool(abs(values).max() <= 1)
    True
    """


@_register
class HeNormal(VarianceScaling, keras.initializers.HeNormal):  # type: ignore[misc]
    """Truncated normal draws of variance ``2 / fan_in``, for ReLU.

    The values differ from those of :func:`fastinit.he_normal`, which does not truncate.

    Parameters
    ----------
    seed, input_axes, output_axes
        As for :class:`VarianceScaling`.

    Examples
    --------
    >>> values = HeNormal(seed=0)((200, 100))
    >>> bool(abs(values.std() - 0.1) < 0.002)
    True
    """


@_register
class LecunUniform(VarianceScaling, keras.initializers.LecunUniform):  # type: ignore[misc]
    """Uniform draws of variance ``1 / fan_in``.

    Parameters
    ----------
    seed, input_axes, output_axes
        As for :class:`VarianceScaling`.

    Examples
    --------
    >>> values = LecunUniform(seed=0)((3, 4))
    >>> bool(abs(values).max() <= 1)
    True
    """


@_register
class LecunNormal(VarianceScaling, keras.initializers.LecunNormal):  # type: ignore[misc]
    """Truncated normal draws of variance ``1 / fan_in``: :func:`fastinit.flax_dense`.

    Parameters
    ----------
    seed, input_axes, output_axes
        As for :class:`VarianceScaling`.

    Examples
    --------
    >>> values = LecunNormal(seed=0)((100, 100))
    >>> bool(abs(values.std() - 0.1) < 0.002)
    True
    """


@_register
class Orthogonal(keras.initializers.Orthogonal):  # type: ignore[misc]
    """A random orthogonal matrix: the values of :func:`fastinit.orthogonal`.

    All axes but the last form the rows. The columns are orthonormal if there are at least as many
    rows as columns; otherwise the rows are. The last bits of the values depend on the BLAS of
    NumPy, but not on the backend. Under a layout the whole matrix is computed once.

    Parameters
    ----------
    gain : float, default 1.0
    seed : int or keras.random.SeedGenerator, optional
        As for :class:`RandomNormal`.

    Examples
    --------
    >>> import numpy as np
    >>> Q = np.asarray(Orthogonal(seed=0)((5, 3)))
    >>> bool(np.allclose(Q.T @ Q, np.eye(3), atol=1e-6))
    True
    """

    def __call__(self, shape: Shape, dtype: Any = None, layout: Any = None) -> Any:
        """Return a tensor of the backend; see :mod:`fastinit.keras`."""
        gain = _number("gain", self.gain, dtype)
        fill = partial(initializers.orthogonal, gain=gain, in_axis=-2, out_axis=-1)
        return _tensor(fill, self.seed, shape, dtype, layout)


_RANDOM = (
    GlorotNormal, GlorotUniform, HeNormal, HeUniform, LecunNormal, LecunUniform, Orthogonal,
    RandomNormal, RandomUniform, TruncatedNormal, VarianceScaling,
)  # fmt: skip

#: Keras's names of the random initialisers, as strings, and the classes of this module. Under
#: ``keras.saving.custom_object_scope`` the names in layers, defaults included, mean these.
custom_objects: dict[str, Any] = {
    **{each.__name__: each for each in _RANDOM},
    **{re.sub(r"(?<=[a-z])(?=[A-Z])", "_", each.__name__).lower(): each for each in _RANDOM},
    "OrthogonalInitializer": Orthogonal,
    "normal": RandomNormal,
    "uniform": RandomUniform,
}


# --- arguments ------------------------------------------------------------------------------------


def _number(name: str, value: Any, dtype: Any, least: float = -math.inf) -> float:
    """Return a parameter as a float that is finite in the dtype; Keras takes scalar tensors too."""
    if keras.ops.is_tensor(value):
        value = keras.ops.convert_to_numpy(value)[()]
    target = Target((), dtype=keras.utils.standardize_dtype(dtype), complex_too=True)
    return target.number(name, value, least)


def _fans(
    shape: tuple[int, ...], input_axes: Sequence[int] | None, output_axes: Sequence[int] | None
) -> tuple[float, float]:
    """Return the fans of a shape as Keras counts them."""
    if input_axes is not None and output_axes is not None:
        axes = {"input_axes": input_axes, "output_axes": output_axes}
        fan_in, fan_out = (_product(name, shape, own) for name, own in axes.items())
        return fan_in, fan_out
    if len(shape) < 2:
        return float(math.prod(shape)), float(math.prod(shape))
    return fans(shape, in_axis=-2, out_axis=-1)


def _product(name: str, shape: tuple[int, ...], axes: Sequence[int]) -> float:
    rank = len(shape)
    return float(math.prod(shape[check_integer(name, axis, -rank, rank)] for axis in axes))


def _source(seed: Any) -> dict[str, int]:
    """Return seed and stream of one call."""
    if not isinstance(seed, keras.random.SeedGenerator):
        return {"seed": int(seed), "stream": 0}
    return _of_state(keras.ops.convert_to_numpy(seed.next()))


def _of_state(state: Any) -> dict[str, int]:
    # 32 bits without a sign, which PyTorch lacks: it has them as int32.
    seed, stream = (int(number) & 0xFFFFFFFF for number in state)
    return {"seed": seed, "stream": stream}


# --- tensors of the backends ----------------------------------------------------------------------


def _tensor(fill: "partial[Any]", seed: Any, shape: Shape, dtype: Any, layout: Any) -> Any:
    """Return a tensor of the backend, filled by an initialiser with its own parameters bound."""
    shape = check_shape(shape)
    dtype = keras.utils.standardize_dtype(dtype)
    fill = partial(fill, shape)
    if 0 not in shape:
        # All checks, on an empty window: before a generator advances, and outside of callbacks.
        key = 0 if isinstance(seed, keras.random.SeedGenerator) else int(seed)
        fill(dtype=dtype, seed=key, window=(slice(0, 0),) * len(shape))
    backend = keras.backend.backend()
    if backend == "jax":
        return _jax_array(fill, seed, shape, dtype, layout)
    if layout is not None:
        raise ValueError(f"layout: expected none with the backend {backend}; got {layout!r}")
    if backend == "torch":
        tensor = keras.ops.empty(shape, dtype)
        if tensor.is_meta:
            return tensor
        if tensor.device.type == "cpu":
            return _write(tensor, fill, **_source(seed))
        return tensor.copy_(_write(tensor.new_empty(shape, device="cpu"), fill, **_source(seed)))
    array = _array(shape, dtype, fill, **_source(seed))
    return array if backend == "numpy" else keras.ops.convert_to_tensor(array)


def _write(out: Any, fill: "partial[Any]", **keywords: Any) -> Any:
    return fill(out=out, **keywords) if 0 not in out.shape else out


def _array(
    shape: tuple[int, ...], dtype: str, fill: "partial[Any]", **keywords: Any
) -> NDArray[Any]:
    """Return a new NumPy array, filled, whose memory JAX can take over."""
    out = aligned(shape, dtype)
    _write(out, fill, **keywords)
    return out


def _jax_array(
    fill: "partial[Any]", seed: Any, shape: tuple[int, ...], dtype: str, layout: Any
) -> Any:
    import jax

    # JAX makes it a float32 unless 64 bits are enabled, and warns.
    probe = jax.numpy.empty((), dtype)
    dtype = probe.dtype.name
    if isinstance(probe, jax.core.Tracer):
        # Filled when the compiled function runs: a constant would be a part of its code.
        states = [seed.next()] if isinstance(seed, keras.random.SeedGenerator) else []

        def filled(*states: Any) -> Any:
            source = _of_state(*states) if states else _source(seed)
            return _array(shape, dtype, fill, **source)

        result = jax.ShapeDtypeStruct(shape, dtype)
        value = jax.pure_callback(filled, result, *states, vmap_method="sequential")
        return value if layout is None else keras.distribution.distribute_tensor(value, layout)
    if layout is None:
        return jax.device_put(_array(shape, dtype, fill, **_source(seed)))
    sharding = _concrete(layout)
    try:
        sharding.shard_shape(shape)
    except (IndexError, ValueError) as error:
        raise ValueError(f"layout: expected one that divides {shape}; got {layout}") from error
    # Keras calls initialisers under a mesh with explicit axes. Its generators are not on that one.
    with jax.set_mesh(jax.sharding.get_mesh()):
        source = _source(seed)

    def part(window: Window) -> NDArray[Any]:
        lengths = tuple([each.stop - each.start for each in window])
        return _array(lengths, dtype, fill, window=window, **source)

    shard = shards_of(shape, part, whole=fill.func is initializers.orthogonal)
    return jax.make_array_from_callback(shape, sharding, shard)


def _concrete(layout: Any) -> Any:
    """Return a sharding over devices, from a layout in one of the forms that Keras passes."""
    import jax

    sharding: Any = layout
    if isinstance(layout, keras.distribution.TensorLayout):
        sharding = layout.backend_layout
    if not isinstance(sharding, jax.sharding.Sharding):
        raise TypeError(
            "layout: expected a keras.distribution.TensorLayout or a jax.sharding.Sharding; "
            f"got {type(layout).__name__}"
        )
    mesh: Any = getattr(sharding, "mesh", None)
    if not isinstance(mesh, jax.sharding.AbstractMesh):
        return sharding
    # The layout has the types of the axes, the mesh of the context has the devices.
    context = jax.sharding.get_mesh()
    if context.axis_names != mesh.axis_names:
        raise ValueError(f"layout: expected the mesh of the context, {context}; got {mesh}")
    mesh = jax.sharding.Mesh(context.devices, mesh.axis_names, axis_types=mesh.axis_types)
    spec: Any = sharding.spec  # type: ignore[attr-defined]
    return jax.sharding.NamedSharding(mesh, spec)
