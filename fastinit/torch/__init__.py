"""PyTorch: the functions of ``torch.nn.init``, whole modules, and sharded parameters.

The functions have the names, signatures and errors of ``torch.nn.init``, and take ``seed`` and
``stream`` as well. :func:`patch` makes existing code use them. :func:`initialize` fills all
parameters of a module, so that the values of each depend only on the seed, its full name, its shape
and its rule.

Parameters may be DTensors, as after ``fully_shard`` or ``parallelize_module``. Each process fills
the part that it holds, without communication, and the values are those of the whole tensor.

Modules, each of which imports from those below it alone: ``modules`` holds :func:`initialize`;
``rules`` what fills each parameter, and ``entries`` the parameters and their names; ``recording``
finds out what the functions of modules do, and ``patching`` holds :func:`patch`; ``functions``
holds those of ``torch.nn.init``, ``sharding`` the windows of DTensors, ``devices`` the memory to
fill, and ``internals`` what PyTorch does not document.
"""

# The first two are names in the examples of the functions, which are looked up here.
import torch  # noqa: F401
from torch import nn  # noqa: F401
from torch.nn.init import calculate_gain

from fastinit.torch.deprecated import (
    constant,
    dirac,
    eye,
    kaiming_normal,
    kaiming_uniform,
    normal,
    orthogonal,
    sparse,
    uniform,
    xavier_normal,
    xavier_uniform,
)
from fastinit.torch.functions import (
    constant_,
    dirac_,
    eye_,
    kaiming_normal_,
    kaiming_uniform_,
    normal_,
    ones_,
    orthogonal_,
    sparse_,
    trunc_normal_,
    uniform_,
    xavier_normal_,
    xavier_uniform_,
    zeros_,
)
from fastinit.torch.modules import initialize
from fastinit.torch.patching import patch

__all__ = [
    "calculate_gain",
    "constant",
    "constant_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "initialize",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "patch",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]

# Users find them here: in tracebacks, in help() and in pickles.
for _each in list(globals().values()):
    if getattr(_each, "__module__", "").startswith(f"{__name__}."):
        _each.__module__ = __name__
