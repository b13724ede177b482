"""What does each kernel gain over the same step in NumPy?

The shapes are those of the lesson (10 by 2, 300 examples) and of a wider layer (64 by 64, 256
examples). PyTorch, if it is installed, performs the same step eagerly on one thread.
"""

from importlib.util import find_spec

import numpy as np
import pytest
from timing import Contender, in_turns, needs, ratio

import fastinit as fi
from fastinit import kernels, reference

SHAPES = {"10 x 2, 300 examples": (10, 2, 300), "64 x 64, 256 examples": (64, 64, 256)}
KERNELS = ("linear_relu", "backward", "loss", "update_parameters")


def arguments(kernel: str, shape: tuple[int, int, int], dtype: str) -> list:
    n_out, n_in, m = shape
    rng = np.random.default_rng(0)

    def draw(*lengths: int) -> np.ndarray:
        return rng.standard_normal(lengths).astype(dtype)

    W, b, A, dZ = draw(n_out, n_in), draw(n_out, 1), draw(n_in, m), draw(n_out, m)
    return {
        "linear_relu": [W, b, A, dZ],
        "backward": [W, A, dZ, np.zeros_like(W), np.zeros_like(b), np.zeros_like(A)],
        "loss": [
            draw(1, m), (draw(1, m) > 0).astype(dtype), None, "sigmoid_cross_entropy",
            draw(1, m), draw(1, m),
        ],
        "update_parameters": [
            fi.Network([n_in, n_out]).layout, fi.GradientDescent().rule,
            draw(n_out * (n_in + 1)), draw(n_out * (n_in + 1)),
            np.empty((0, n_out * (n_in + 1)), dtype), 0, np.array([1e-9]),
        ],
    }[kernel]  # fmt: skip


def repeated(function, values: list) -> Contender:
    def contender(n: int) -> None:
        for _ in range(n):
            function(*values)

    return contender


def torch_step(kernel: str, values: list) -> Contender:
    import torch

    torch.set_num_threads(1)
    t = [torch.from_numpy(v) if isinstance(v, np.ndarray) else v for v in values]

    def linear_relu(W, b, A, out):
        torch.addmm(b, W, A, out=out).relu_()

    def backward(W, A, dZ, dW, db, dA):
        dW.addmm_(dZ, A.T)
        db.add_(dZ.sum(1, keepdim=True))
        torch.mm(W.T, dZ, out=dA).mul_(A > 0)

    def loss(Z, Y, weights, name, A, dZ):
        torch.sigmoid(Z, out=A)
        torch.sub(A, Y, out=dZ).mul_(1 / Z.shape[1])
        return torch.nn.functional.binary_cross_entropy_with_logits(Z, Y).item()

    def update_parameters(layout, rule, theta, gradient, state, step, rates):
        theta.sub_(gradient, alpha=1e-9)

    step = locals()[kernel]
    return repeated(torch.inference_mode()(step), t)


def contenders(kernel: str, shape: tuple[int, int, int], dtype: str) -> dict[str, Contender]:
    def fresh() -> list:
        return arguments(kernel, shape, dtype)

    found = {
        "fastinit": repeated(getattr(kernels.dense, kernel), fresh()),
        "NumPy": repeated(getattr(reference, kernel), fresh()),
    }
    if find_spec("torch") is not None:
        found["PyTorch"] = torch_step(kernel, fresh())
    return found


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", ["fastinit", "NumPy", "PyTorch"])
def test_kernel(benchmark, kernel, shape, dtype, name):
    needs("torch" if name == "PyTorch" else None)
    benchmark.group = f"{kernel}, {shape}, {dtype}"
    benchmark(contenders(kernel, SHAPES[shape], dtype)[name], 10)


def ratios() -> list[dict]:
    """Return one row per kernel, shape and peer, in float32."""
    rows = []
    for kernel in KERNELS:
        for label, shape in SHAPES.items():
            times = in_turns(contenders(kernel, shape, "float32"), turns=11, seconds=0.02)
            rows += [
                {
                    "question": f"`{kernel}`, {label}, float32",
                    "peer": peer,
                    "measured": ratio(times, peer, "fastinit"),
                }
                for peer in times
                if peer != "fastinit"
            ]
    return rows
