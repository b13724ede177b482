"""Initialisers, functions that fill an array with weights, and their registry as schemes.

Every initialiser in this module takes a shape, ``out=``, or both, and the keywords ``seed``,
``stream``, ``dtype``, ``window`` and ``threads``. :func:`lsuv`, which rescales the parameters of a
network, and the two schemes of :mod:`fastinit.lesson`, which draw from NumPy's legacy generators,
have their own parameters.

The values depend only on the seed, the stream, the shape, the dtype and the parameters of the
initialiser. They are the same bits on every platform and for every number of threads, memory layout
and window. The exceptions are :func:`orthogonal` and :func:`delta_orthogonal`, whose last bits
depend on the BLAS. All arguments are checked before anything is written.

Initialisers that depend on the numbers of inputs and outputs, such as :func:`he_normal`,
:func:`glorot_uniform` and :func:`lecun_normal`, expect kernels of shape (n_out, n_in, *field), as
in PyTorch and :class:`fastinit.Network`. For Keras and JAX kernels, (*field, n_in, n_out), pass
``in_axis=-2, out_axis=-1``. These are the defaults of the two initialisers that are named
after such libraries, :func:`keras_dense` and :func:`flax_dense`. ``in_axis``, ``out_axis`` and
``batch_axis`` describe any other layout.

Modules: ``scheme`` holds the registry, ``target`` the checks of the common keywords;
``distributions``, ``scaling`` and ``structured`` hold the initialisers, and ``data_dependent``
:func:`lsuv`, which needs a network and data.
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
