"""Schemes: how the weights and biases of a network are filled, and the registry of their names.

An initialiser is a function that fills one array. A scheme describes how an initialiser fills a
whole network: what the biases are, which axis of a kernel holds the inputs, and how the tensors
share a seed. The decorator :func:`register` adds a function as a scheme.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from textwrap import indent
from typing import Any, TypeVar, get_args, get_origin, overload

from numpy.typing import NDArray

from fastinit.calls import Call, check_settings
from fastinit.initializers.target import REAL, REAL_AND_COMPLEX, Common, Fans, Seed, key_of
from fastinit.validation import check_name

Array = NDArray[Any]
Fill = Callable[..., Any]
Function = TypeVar("Function", bound=Fill)
FillBias = Callable[..., Any]


@dataclass(frozen=True)
class Scheme:
    """How the weights and biases of a network are filled.

    Attributes
    ----------
    name : str
    fill : callable
        Fills the weights of one layer: ``fill(out=, seed=, stream=)``.
    fill_bias : callable or None
        Fills the biases of one layer: ``fill_bias(fan_in, out=, seed=, stream=)``. None sets them
        to zero.
    inputs_first : bool
        Whether ``fill`` expects kernels of shape (n_in, n_out), as in Keras and JAX.
    generator_of : callable
        Turns the seed of a network into the ``seed`` of each call of ``fill`` and ``fill_bias``. By
        default it is a key, and each tensor has its own stream.
    sequential : bool
        Whether the tensors are drawn one after another from a single generator. Each tensor then
        depends on the previous ones, and there are no streams.
    fills_stacks : bool
        Whether ``fill`` and ``fill_bias`` take the common keywords of the initialisers, and thus
        :class:`fastinit.initializers.target.Sources` as the seed of a stack of arrays.
    default_seed : int or None
        The seed that :func:`fastinit.compare` uses if none is given.

    Examples
    --------
    >>> import fastinit as fi
    >>> fi.initializers.get("torch_linear").fill is fi.torch_linear
    True
    """

    name: str
    fill: Fill
    fill_bias: FillBias | None = None
    inputs_first: bool = False
    generator_of: Callable[[Seed], Any] = key_of
    sequential: bool = False
    fills_stacks: bool = False
    default_seed: int | None = 0

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Fill one array."""
        return self.fill(*args, **keywords)

    def fill_layer(self, W: Array, b: Array | None, generator: Any, stream: int) -> None:
        """Fill the weights, (n_out, n_in), and the biases, (n_out, 1), of one layer in place.

        If ``generator`` is Sources, the arrays have a leading axis for the networks of a stack.
        """
        out = W.swapaxes(-1, -2) if self.inputs_first else W
        self.fill(out=out, seed=generator, stream=stream)
        if b is None:
            return
        if self.fill_bias is None:
            b[...] = 0
        else:
            self.fill_bias(W.shape[-1], out=b, seed=generator, stream=stream + 1)


_SCHEMES: dict[str, Scheme] = {}


@overload
def register(function: Function, /) -> Function: ...
@overload
def register(*, name: str | None = None, **attributes: Any) -> Callable[[Function], Function]: ...
def register(function: Any = None, /, *, name: str | None = None, **attributes: Any) -> Any:
    """Add an initialiser to the registry.

    The function is returned unchanged, except that ``**keywords`` in its signature and docstring
    is replaced by the individual keywords, for ``help()`` and editors.

    Parameters
    ----------
    function : callable
        Called as ``function(out=, seed=, stream=)``; fills and returns ``out``. A function whose
        ``**keywords`` are annotated as ``Unpack[Common]`` passes them on to an initialiser, and
        fills stacks with a single call.
    name : str, optional
        The name of the scheme; that of the function by default.
    **attributes
        Other attributes of the :class:`Scheme`.

    Raises
    ------
    TypeError
        If the function is not callable, or has no name and none is given.
    ValueError
        If the name is registered already.
    """
    if function is None:
        return partial(register, name=name, **attributes)
    if not callable(function):
        raise TypeError(f"function: expected a callable; got {type(function).__name__}")
    if name is None:
        name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        raise TypeError(f"name: expected a string; got {type(name).__name__}")
    if name in _SCHEMES:
        raise ValueError(f"name: expected one that is not registered yet; got {name!r}")
    keywords = _keywords_of(function)
    scheme = Scheme(name, function, fills_stacks=keywords is not None, **attributes)
    if keywords is not None:
        _expand_keywords(function, keywords)
    _SCHEMES[name] = scheme
    return function


# --- the common keywords in signatures and docstrings ---------------------------------------------

# The keywords in the order of signatures, with their defaults.
_DEFAULTS: dict[str, Any] = {
    "in_axis": 1, "out_axis": 0, "batch_axis": (),
    "seed": None, "stream": 0, "dtype": None, "out": None, "window": None, "threads": None,
}  # fmt: skip
_DESCRIPTIONS = {
    "in_axis": """\
in_axis, out_axis : {axes}, default {in_axis} and {out_axis}
    The axes of inputs and outputs. {layout}
""",
    "batch_axis": """\
batch_axis : int or sequence of int, default ()
    Axes along which independent kernels are stacked; they do not count towards the fans. All
    remaining axes are the receptive field.
""",
    "seed": """\
seed : int, SeedSequence, Generator, RandomState or None
    Determines the values. A generator advances by one draw. None draws fresh entropy.
""",
    "stream": """\
stream : int, default 0
    Number of the tensor within a model. Each stream of a seed has independent values.
""",
    "dtype": """\
dtype : {{{dtypes}}}, optional
    That of ``out`` by default, else float64. float16 and bfloat16 values are the float32
    values, rounded once to nearest. bfloat16 requires the package ml_dtypes, or an ``out`` of
    uint16 for the bits.
""",
    "out": """\
out : array, optional
    Filled in place and returned: an ndarray or memmap with any strides, or any array on the CPU
    that supports DLPack or the buffer protocol, such as a PyTorch tensor.
""",
    "window": """\
window : slice or tuple of slice, optional
    Fill only this part of the whole array, with the same values as in the whole array.
""",
    "threads": """\
threads : int, optional
    Maximum number of threads; all usable cores by default. Small arrays use one. The values do
    not depend on it.
""",
}
_LAYOUTS: dict[Any, str] = {
    (1, 0): """\
The default is for kernels of shape
    (n_out, n_in, *field), as in PyTorch and :class:`fastinit.Network`. For Keras and JAX
    kernels, (*field, n_in, n_out), pass ``in_axis=-2, out_axis=-1``.""",
    (-2, -1): """\
The default is for kernels of shape
    (*field, n_in, n_out), as in Keras and JAX. For PyTorch kernels, (n_out, n_in, *field), pass
    ``in_axis=1, out_axis=0``.""",
}
# Python 3.13 and newer remove the common indentation of docstrings.
_PLACEHOLDER = re.compile(
    r"^( *)\*\*keywords\n +Those of every initialiser(; ``dtype`` may be complex)?\.\n",
    re.MULTILINE,
)


def _keywords_of(function: Any) -> Any:
    """Return Common or Fans if the annotation of ``**keywords`` is one of them, otherwise None."""
    kind, *_ = get_args(getattr(function, "__annotations__", {}).get("keywords")) or [None]
    kind = get_origin(kind) or kind  # Common of Common[Out]
    return kind if kind is Common or kind is Fans else None


def _expand_keywords(function: Any, kind: Any) -> None:
    """Replace ``**keywords`` in a signature and docstring by the keywords that they stand for."""
    # Annotations are left to type checkers: they would make the signature in help() unreadable.
    signature = inspect.signature(function)
    parameters = {
        key: parameter.replace(annotation=parameter.empty)
        for key, parameter in signature.parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    for key, default in _DEFAULTS.items():
        if key in kind.__annotations__ and key not in parameters:
            parameters[key] = inspect.Parameter(
                key, inspect.Parameter.KEYWORD_ONLY, default=default
            )
    function.__signature__ = inspect.Signature(list(parameters.values()))
    defaults = {key: parameter.default for key, parameter in parameters.items()}

    def description(match: re.Match[str]) -> str:
        text = "".join(text for key, text in _DESCRIPTIONS.items() if key in parameters)
        text = text.format(
            axes="int or sequence of int" if "batch_axis" in parameters else "int",
            in_axis=defaults.get("in_axis"),
            out_axis=defaults.get("out_axis"),
            layout=_LAYOUTS.get((defaults.get("in_axis"), defaults.get("out_axis")), ""),
            dtypes=", ".join(REAL_AND_COMPLEX if match[2] else REAL),
        )
        return indent(text, match[1])

    if function.__doc__:  # absent under -OO
        function.__doc__ = _PLACEHOLDER.sub(description, function.__doc__)


# --- look-up --------------------------------------------------------------------------------------


def names() -> list[str]:
    """Return the registered names.

    Examples
    --------
    >>> "he_normal" in names()
    True
    """
    return list(_SCHEMES)


def get(scheme: Any) -> Scheme:
    """Return the scheme of a name, an initialiser, or any callable that fills ``out=``.

    Parameters
    ----------
    scheme : str, callable or Scheme
        For a ``functools.partial`` of a registered initialiser, the attributes of its scheme are
        kept, such as how it fills biases.

    Returns
    -------
    Scheme

    Raises
    ------
    ValueError
        If the name is unknown. The message suggests similar names.
    TypeError
        If it is neither a name, nor a scheme, nor callable.

    Examples
    --------
    >>> from functools import partial
    >>> import fastinit as fi
    >>> get(partial(fi.torch_linear, batch_axis=())).fill_bias is get("torch_linear").fill_bias
    True
    """
    if isinstance(scheme, Scheme):
        return scheme
    if isinstance(scheme, str):
        name = scheme.partition("(")[0]
        if name != scheme and name in _SCHEMES:
            raise ValueError(
                f"scheme: expected a name, or functools.partial(fastinit.{name}, ...) with the "
                f"settings; got {scheme!r}"
            )
        return _SCHEMES[check_name("scheme", scheme, _SCHEMES)]
    if isinstance(scheme, partial):
        return replace(get(scheme.func), fill=scheme)
    if not callable(scheme):
        raise TypeError(f"scheme: expected a name, a scheme or a callable; got {scheme!r}")
    for known in _SCHEMES.values():
        if known.fill is scheme:
            return known
    return Scheme(getattr(scheme, "__name__", type(scheme).__name__), scheme)


# Keywords of initialisers that are set by the functions which fill a model.
OWN = ("shape", "seed", "stream", "dtype", "out", "window", "threads")


def called(call: Call) -> Any:
    """Return the scheme of a name with settings: the name, or a partial of the initialiser.

    Raises
    ------
    ValueError
        If the name or a setting is unknown.

    Examples
    --------
    >>> called(Call("zeros", {}))
    'zeros'
    >>> called(Call("normal", {"std": 0.02})).keywords
    {'std': 0.02}
    """
    fill = get(call.name).fill
    known = [name for name in inspect.signature(fill).parameters if name not in OWN]
    check_settings("scheme", call, known)
    return partial(fill, **call.settings) if call.settings else call.name
