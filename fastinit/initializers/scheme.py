"""Schemes: how the tensors of a network are filled, and the registry of their names.

An initialiser is a function that fills one array. A scheme says how it fills a whole network: what
the biases get, which axis of a kernel holds the inputs, and whether the tensors depend on each
other. Adding one is a single decorator, :func:`register`, around its function.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar, get_args, overload

from numpy.typing import NDArray

from fastinit.initializers.target import (
    COMMON_DEFAULTS,
    COMMON_DESCRIPTION,
    FANS_DEFAULTS,
    FANS_DESCRIPTION,
    Common,
    Fans,
    Seed,
    key_of,
)
from fastinit.validation import check_name

Array = NDArray[Any]
Fill = Callable[..., Any]
Function = TypeVar("Function", bound=Fill)
FillBias = Callable[..., Any]


@dataclass(frozen=True)
class Scheme:
    """How the tensors of a network are filled.

    Attributes
    ----------
    name : str
    fill : callable
        Fills the weights of one layer: ``fill(out=, seed=, stream=)``.
    fill_bias : callable or None
        Fills the biases of one layer, ``fill_bias(fan_in, out=, seed=, stream=)``; None for zeros.
    inputs_first : bool
        Whether ``fill`` expects kernels of shape (n_in, n_out), as Keras and JAX have them.
    generator_of : callable
        From a seed to what all tensors of a network are filled with: by default a key, and each
        tensor has a stream of its own.
    sequential : bool
        Whether the tensors are drawn one after another from one generator, so that each depends on
        those before it and there are no streams.
    default_seed : int or None
        What :func:`fastinit.compare` takes if no seed is given.
    keywords : mapping
        Arguments of ``fill``.

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
    default_seed: int | None = 0
    keywords: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Fill one array."""
        return self.fill(*args, **{**self.keywords, **keywords})

    def fill_layer(self, W: Array, b: Array | None, generator: Any, stream: int) -> None:
        """Fill the weights, (n_out, n_in), and the biases, (n_out, 1), of one layer in place."""
        self(out=W.T if self.inputs_first else W, seed=generator, stream=stream)
        if b is None:
            return
        if self.fill_bias is None:
            b[...] = 0
        else:
            self.fill_bias(W.shape[1], out=b, seed=generator, stream=stream + 1)


_SCHEMES: dict[str, Scheme] = {}


@overload
def register(function: Function, /) -> Function: ...
@overload
def register(*, name: str | None = None, **attributes: Any) -> Callable[[Function], Function]: ...
def register(function: Any = None, /, *, name: str | None = None, **attributes: Any) -> Any:
    """Add an initialiser to the registry, under its own name unless another is given.

    The function stays what it is. ``**keywords`` in its signature and docstring is expanded, so
    that ``help()`` shows every keyword.

    Parameters
    ----------
    function : callable
    name : str, optional
    **attributes
        Those of :class:`Scheme`.
    """
    if function is None:
        return partial(register, name=name, **attributes)
    name = name or function.__name__
    _expand_keywords(function)
    _SCHEMES[name] = Scheme(name, function, **attributes)
    return function


def _expand_keywords(function: Any) -> None:
    """Replace ``**keywords`` in signature and docstring by the keywords themselves."""
    annotation = function.__annotations__.get("keywords")
    kinds: tuple[Any, ...] = get_args(annotation)
    if kinds == (Fans,):
        defaults, description = FANS_DEFAULTS | COMMON_DEFAULTS, FANS_DESCRIPTION
        annotations = {**Fans.__annotations__, **Common.__annotations__}
    elif kinds == (Common,):
        defaults, description = COMMON_DEFAULTS, ""
        annotations = Common.__annotations__
    else:
        return
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    taken = {p.name for p in own}
    extra = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default,
                          annotation=annotations[key])
        for key, default in defaults.items()
        if key not in taken
    ]  # fmt: skip
    function.__signature__ = signature.replace(parameters=[*own, *extra])
    if function.__doc__:  # absent under -OO
        function.__doc__ = function.__doc__.replace(
            "    **keywords\n        Those of every initialiser.\n",
            description + COMMON_DESCRIPTION,
        )


def names() -> list[str]:
    """Return the registered names.

    Examples
    --------
    >>> "he_normal" in names()
    True
    """
    return list(_SCHEMES)


def get(scheme: Any) -> Scheme:
    """Return the scheme of a name, of an initialiser, or of any callable that fills ``out=``.

    Parameters
    ----------
    scheme : str, callable or Scheme
        A ``functools.partial`` of a registered initialiser keeps what its scheme says of biases
        and axes.

    Returns
    -------
    Scheme

    Raises
    ------
    ValueError
        For an unknown name; the message suggests the nearest ones.
    TypeError
        For anything else.

    Examples
    --------
    >>> from functools import partial
    >>> import fastinit as fi
    >>> get(partial(fi.torch_linear, dtype="float32")).fill_bias is get("torch_linear").fill_bias
    True
    """
    if isinstance(scheme, Scheme):
        return scheme
    if isinstance(scheme, str):
        return _SCHEMES[check_name("scheme", scheme, _SCHEMES)]
    if isinstance(scheme, partial) and not scheme.args:
        base = get(scheme.func)
        return replace(base, keywords=MappingProxyType({**base.keywords, **scheme.keywords}))
    if not callable(scheme):
        raise TypeError(f"scheme: expected a name, a scheme or a callable; got {scheme!r}")
    for known in _SCHEMES.values():
        if known.fill is scheme:
            return known
    return Scheme(getattr(scheme, "__name__", type(scheme).__name__), scheme)
