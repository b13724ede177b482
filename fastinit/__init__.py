"""Fill weights, train small networks, and see what the initialisation did."""

from fastinit import datasets, initializers, optimizers
from fastinit.comparison import Comparison, Table, compare
from fastinit.initializers import (
    constant,
    delta_orthogonal,
    dirac,
    flax_dense,
    gain,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    identity,
    kaiming_normal,
    kaiming_uniform,
    keras_dense,
    lecun_normal,
    lecun_uniform,
    lsuv,
    normal,
    ones,
    orthogonal,
    sklearn_mlp,
    sparse,
    torch_linear,
    truncated_normal,
    uniform,
    variance_scaling,
    xavier_normal,
    xavier_uniform,
    zero_init,
    zeros,
)
from fastinit.kernels import show_config
from fastinit.network import Network
from fastinit.optimizers import GradientDescent
from fastinit.training import Run, train

__version__ = "0.1.0"
