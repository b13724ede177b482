"""Fill weights, train small networks, and see what the initialisation did."""

from fastinit import datasets, initializers, optimizers
from fastinit.comparison import Comparison, Table, compare
from fastinit.initializers import (
    constant,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    ones,
    truncated_normal,
    uniform,
    variance_scaling,
    zeros,
)
from fastinit.kernels import show_config
from fastinit.network import Network
from fastinit.optimizers import GradientDescent
from fastinit.training import Run, train

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "GradientDescent",
    "Network",
    "Run",
    "Table",
    "compare",
    "constant",
    "datasets",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "initializers",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "optimizers",
    "show_config",
    "train",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "zeros",
]
