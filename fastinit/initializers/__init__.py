"""Initialisers: functions that fill an array with weights, and the schemes that they belong to.

All initialisers take a shape, ``out=``, or both, and the keywords ``seed``, ``stream``, ``dtype``,
``out``, ``window`` and ``threads``, which ``help()`` describes for each.

The values depend on seed, stream, shape, dtype and the initialiser's parameters alone: they are the
same bits on every platform, for any number of threads, memory layout and window. Exceptions are
``orthogonal`` and ``delta_orthogonal``, whose last bits depend on the BLAS. All arguments are
checked before anything is written.

Most initialisers are a :func:`variance_scaling` of a named variance. Where inputs and outputs
matter, kernels have the shape (n_out, n_in, *field), as in PyTorch and in
:class:`fastinit.Network`; the initialisers named after Keras and Flax expect (*field,
n_in, n_out), as these libraries do.
``in_axis``, ``out_axis`` and ``batch_axis`` describe any other layout.

Modules: ``scheme`` holds the registry of names, ``target`` checks where values go,
``distributions``, ``scaling`` and ``structured`` hold the initialisers, and ``data_dependent``
holds LSUV, which needs a network and data.
"""

from fastinit.initializers.data_dependent import lsuv
from fastinit.initializers.distributions import (
    constant,
    normal,
    ones,
    truncated_normal,
    uniform,
    zeros,
)
from fastinit.initializers.scaling import (
    fans,
    flax_dense,
    gain,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    kaiming_normal,
    kaiming_uniform,
    keras_dense,
    lecun_normal,
    lecun_uniform,
    sklearn_mlp,
    torch_linear,
    variance_scaling,
    xavier_normal,
    xavier_uniform,
)
from fastinit.initializers.scheme import Scheme, get, names, register
from fastinit.initializers.structured import (
    delta_orthogonal,
    dirac,
    identity,
    orthogonal,
    sparse,
    zero_init,
)

__all__ = [
    "Scheme",
    "constant",
    "delta_orthogonal",
    "dirac",
    "fans",
    "flax_dense",
    "gain",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "kaiming_normal",
    "kaiming_uniform",
    "keras_dense",
    "lecun_normal",
    "lecun_uniform",
    "lsuv",
    "names",
    "normal",
    "ones",
    "orthogonal",
    "register",
    "sklearn_mlp",
    "sparse",
    "torch_linear",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zero_init",
    "zeros",
]
