"""How long does one training step take, from small networks to wide ones?

All contenders perform the same computation: a whole step with its update in float32, on one fixed
batch, with the cost recorded in every step. Set-up and compilation are not timed, except for
scikit-learn, whose ``fit`` includes the set-up: a few per cent of the time for the widest networks.
Peers that are not installed are reported as skipped.

PyTorch uses its fused optimisers, and the faster of one and two threads is reported. Its cost is
read with ``loss.item()``, which on a CPU is faster than writing to a tensor. JAX runs the whole
loop in one jit.

Threads of a pool spin while they wait for work and slow down the next contender. Each contender is
therefore preceded by a pause that is longer than they spin, and by one untimed step, which fills
the caches and wakes its own threads.

There are two limits: for small shapes, the speed of all usable cores in a large matrix product; for
wide ones, the time of the matrix products of the same step, computed with ``np.matmul(out=)``.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

import numpy as np
import pytest
from bench_lesson import core_peak
from timing import PAUSE, Contender, absent, in_turns, needs, ratio

import fastinit as fi
from fastinit import reference
from fastinit.kernels import usable_cores

RATE = 0.001
DTYPE = np.dtype("float32")


@dataclass(frozen=True)
class Task:
    """A network, its optimiser and the number of examples."""

    sizes: tuple[int, ...]
    examples: int
    activation: str = "relu"
    output: str = "sigmoid"
    adam: bool = False
    wide: bool = False
    targets: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        job = {"sigmoid": "", "softmax": " softmax", "identity": " squared error"}[self.output]
        activation = "" if self.activation == "relu" else f" {self.activation}"
        adam = ", Adam" if self.adam else ""
        sizes = "-".join(map(str, self.sizes))
        return f"{sizes}{activation}{job}{adam}, {self.examples:,} examples"

    @property
    def network(self) -> fi.Network:
        return fi.Network(self.sizes, activation=self.activation, output=self.output, dtype=DTYPE)

    @property
    def optimizer(self) -> fi.Adam | fi.GradientDescent:
        return fi.Adam(RATE) if self.adam else fi.GradientDescent(RATE)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of a step: forward, gradients of the weights and of the activations."""
        products = [n_in * n_out for n_in, n_out in pairwise(self.sizes)]
        return self.examples * (3 * sum(products) - products[0])

    def data(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return X, Y and the initial parameters. For softmax, Y holds integers."""
        rng = np.random.default_rng(0)
        X = rng.standard_normal((self.sizes[0], self.examples), dtype=DTYPE)
        if self.output == "softmax":
            Y = rng.integers(self.sizes[-1], size=self.examples)
        else:
            Y = rng.standard_normal((self.sizes[-1], self.examples), dtype=DTYPE)
            if self.output == "sigmoid":
                Y = (Y > 0).astype(DTYPE)
        return X, Y, self.network.initialize("glorot_uniform", seed=0)


def fastinit(task: Task) -> Contender:
    X, Y, start = task.data()
    net, optimizer = task.network, task.optimizer
    return lambda n: fi.train(net, start.copy(), X, Y, optimizer=optimizer, iterations=n)


def numpy_reference(task: Task) -> Contender:
    X, Y, start = task.data()
    net, optimizer = task.network, task.optimizer
    Y = net.check_Y(Y, X)

    def iterate(n: int) -> np.ndarray:
        costs = np.empty((1, n))
        states = np.zeros((1, optimizer.slots, net.n_parameters), DTYPE)
        reference.descend(
            net.layout, [optimizer.rule], start[None].copy(), states, 0, X, Y, None, None,
            task.examples, 0, np.full((1, n, 1), RATE), costs, np.empty(1, np.intp),
            np.arange(1), 1,
        )  # fmt: skip
        return costs

    return iterate


def bare_products(task: Task) -> Contender:
    """Only the matrix products of a step."""
    X, _, start = task.data()
    parameters = task.network.unpack(start)
    n_layers = len(task.sizes) - 1
    W = [parameters[f"W{layer + 1}"] for layer in range(n_layers)]
    A = [X] + [np.ones((size, task.examples), DTYPE) for size in task.sizes[1:]]
    dW, dA = [np.empty_like(w) for w in W], [np.empty_like(a) for a in A]

    def iterate(n: int) -> None:
        for _ in range(n):
            for layer in range(n_layers):
                np.matmul(W[layer], A[layer], out=dA[layer + 1])
            for layer in reversed(range(n_layers)):
                np.matmul(A[layer + 1], A[layer].T, out=dW[layer])
                if layer > 0:
                    np.matmul(W[layer].T, A[layer + 1], out=dA[layer])

    return iterate


def torch_loop(task: Task, threads: int) -> Contender:
    import torch
    from torch.nn import functional

    X, Y, start = task.data()
    parameters = task.network.unpack(start)
    X, Y = torch.from_numpy(X.T.copy()), torch.from_numpy(Y.T.copy())
    activation = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[task.activation]
    modules: list[torch.nn.Module] = []
    for layer, (n_in, n_out) in enumerate(pairwise(task.sizes), start=1):
        linear = torch.nn.Linear(n_in, n_out)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(parameters[f"W{layer}"]))
            linear.bias.copy_(torch.from_numpy(parameters[f"b{layer}"].ravel()))
        modules += [linear, activation()]
    model = torch.nn.Sequential(*modules[:-1])
    make = torch.optim.Adam if task.adam else torch.optim.SGD
    optimizer = make(model.parameters(), lr=RATE, fused=True)
    loss_of = {
        "sigmoid": functional.binary_cross_entropy_with_logits,
        "softmax": functional.cross_entropy,
        "identity": lambda Z, Y: functional.mse_loss(Z, Y, reduction="sum") / (2 * task.examples),
    }[task.output]

    def iterate(n: int) -> list[float]:
        torch.set_num_threads(threads)
        costs = []
        for _ in range(n):
            optimizer.zero_grad()
            loss = loss_of(model(X), Y)
            loss.backward()
            optimizer.step()
            costs.append(loss.item())
        return costs

    return iterate


def jax_loop(task: Task) -> Contender:
    import jax
    import jax.numpy as jnp

    X, Y, start = task.data()
    net = task.network
    Y = net.check_Y(Y, X)
    parameters = {name: jnp.asarray(value) for name, value in net.unpack(start).items()}
    activation = {"relu": lambda z: jnp.maximum(z, 0), "tanh": jnp.tanh}[task.activation]
    losses_of = {
        "sigmoid": lambda z, Y: jax.nn.softplus(z) - z * Y,
        "softmax": lambda z, Y: -jnp.sum(jax.nn.log_softmax(z, axis=0) * Y, axis=0),
        "identity": lambda z, Y: jnp.sum(jnp.square(z - Y), axis=0) / 2,
    }[task.output]

    def cost(p, X, Y):
        A = X
        for layer in range(1, net.n_layers):
            A = activation(p[f"W{layer}"] @ A + p[f"b{layer}"])
        z = p[f"W{net.n_layers}"] @ A + p[f"b{net.n_layers}"]
        return jnp.mean(losses_of(z, Y))

    def descend(p, state, gradient, i):
        if not task.adam:
            return jax.tree.map(lambda w, g: w - RATE * g, p, gradient), state
        first = jax.tree.map(lambda v, g: 0.9 * v + 0.1 * g, state[0], gradient)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state[1], gradient)
        t = (i + 1).astype(jnp.float32)
        scale, root = RATE / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
        p = jax.tree.map(
            lambda w, v, s: w - scale * v / (jnp.sqrt(s) / root + 1e-8), p, first, second
        )
        return p, (first, second)

    def body(i, carried):
        p, state, costs, X, Y = carried
        value, gradient = jax.value_and_grad(cost)(p, X, Y)
        p, state = descend(p, state, gradient, i)
        return p, state, costs.at[i % len(costs)].set(value), X, Y

    @jax.jit
    def loop(n, p, X, Y):
        # A ring buffer, because the number of steps is not known at compile time.
        zeros = jax.tree.map(jnp.zeros_like, p)
        state = (zeros, zeros) if task.adam else ()
        return jax.lax.fori_loop(0, n, body, (p, state, jnp.zeros(4096, jnp.float32), X, Y))

    X, Y = jnp.asarray(X), jnp.asarray(Y)
    return lambda n: jax.block_until_ready(loop(n, parameters, X, Y))


def scikit_learn(task: Task) -> Contender:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    X, Y, _ = task.data()
    X, y = X.T.copy(), np.squeeze(Y.T)
    make = MLPRegressor if task.output == "identity" else MLPClassifier

    def iterate(n: int) -> list[float]:
        # Disable early stopping, the penalty, momentum and shuffling.
        model = make(
            hidden_layer_sizes=task.sizes[1:-1], activation=task.activation,
            solver="adam" if task.adam else "sgd", batch_size=task.examples,
            learning_rate_init=RATE, momentum=0, alpha=0, shuffle=False,
            max_iter=n, tol=0, n_iter_no_change=n + 1, random_state=0,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return model.fit(X, y).loss_curve_

    return iterate


NUMPY, TORCH, JAX = "NumPy reference", "PyTorch, 1 or 2 threads", "JAX, whole loop jitted"
SKLEARN, BARE = "scikit-learn", "the bare products"
PEERS = {NUMPY: None, TORCH: "torch", JAX: "jax", SKLEARN: "sklearn"}
CONTENDERS = {
    "fastinit": (None, fastinit),
    NUMPY: (None, numpy_reference),
    "PyTorch, 1 thread": ("torch", lambda task: torch_loop(task, 1)),
    "PyTorch, 2 threads": ("torch", lambda task: torch_loop(task, 2)),
    JAX: ("jax", jax_loop),
    SKLEARN: ("sklearn", scikit_learn),
    BARE: (None, bare_products),
}
# Targets: the time of each contender divided by ours. That of the bare products is below 1, because
# they are part of the step.
TASKS = (
    Task((20, 100, 1), 200, targets={NUMPY: 3, TORCH: 6, SKLEARN: 12}),
    Task((64, 64, 64, 1), 256, targets={NUMPY: 2, TORCH: 2.7}),
    Task((784, 128, 10), 128, output="softmax", wide=True,
         targets={NUMPY: 1.3, TORCH: 1.6, BARE: 0.8}),
    Task((784, 512, 512, 10), 128, output="softmax", wide=True,
         targets={TORCH: 1.1, BARE: 0.87}),
    Task((1024, 1024, 1024, 10), 512, output="softmax", wide=True,
         targets={TORCH: 1, BARE: 0.91}),
    Task((4, 32, 16, 4), 10_000, activation="tanh", output="identity", adam=True,
         targets={TORCH: 4, JAX: 3.5}),
)  # fmt: skip
# Widths that are not multiples of a register, where speed must not drop, and large ones.
WIDTHS = (7, 8, 9, 63, 64, 65, 100, 128, 256, 384, 448, 512, 768)
MATRIX = "One step of 64-w-w-1 on 256 examples, for odd and for large widths w"


def whole_fits() -> dict[str, tuple[str | None, Contender]]:
    """200 epochs of Adam with scikit-learn's defaults, including the initialisation."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 1000), dtype=DTYPE)
    Y = (X[:1] * X[1:2] > 0).astype(DTYPE)
    examples = X.T.copy()
    net = fi.Network([20, 100, 1], dtype=DTYPE)
    # scikit-learn divides the penalty by the number of examples in a batch.
    optimizer = fi.Adam(0.001, l2=1e-4 / 200)

    def ours(n: int) -> None:
        for _ in range(n):
            theta = net.initialize("sklearn_mlp", seed=0)
            fi.train(net, theta, X, Y, optimizer=optimizer, batch_size=200, epochs=200)

    def theirs(n: int) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        model = MLPClassifier(
            batch_size=200, max_iter=200, tol=0, n_iter_no_change=1000, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            for _ in range(n):
                model.fit(examples, Y.ravel())

    return {"fastinit": (None, ours), "scikit-learn MLPClassifier": ("sklearn", theirs)}


@pytest.mark.parametrize("task", TASKS, ids=str)
@pytest.mark.parametrize("name", CONTENDERS)
def test_step(benchmark, task, name):
    package, make = CONTENDERS[name]
    needs(package)
    benchmark.group = f"10 steps of {task}"
    benchmark(make(task), 10)


@pytest.mark.parametrize("name", whole_fits())
def test_whole_fit(benchmark, name):
    package, work = whole_fits()[name]
    needs(package)
    benchmark.group = "a whole fit"
    benchmark.pedantic(work, (1,), rounds=3, warmup_rounds=1)


# --- python benches/report.py ---------------------------------------------------------------------


def ratios() -> list[dict]:
    """Return one row per shape and peer, then one per limit."""
    peak = core_peak("float32") * usable_cores()
    return [*(row for task in TASKS for row in rows_of(task, peak)), *rows_of_whole_fit()]


def rows_of(task: Task, peak: float) -> Iterator[dict]:
    found = {
        name: make(task) for name, (package, make) in CONTENDERS.items() if not absent(package)
    }
    # Many steps per turn, so that the set-up is negligible.
    times = in_turns(found, turns=11, seconds=0.4 if task.wide else 0.1, pause=PAUSE)
    measured = {name: ratio(times, name, "fastinit") for name in times}
    if not absent("torch"):
        measured[TORCH] = min(measured[f"PyTorch, {n}"] for n in ("1 thread", "2 threads"))
    for peer, package in PEERS.items():
        row = {"question": f"one step of {task}", "peer": peer}
        if absent(package):
            yield row | {"skipped": absent(package)}
        else:
            yield row | {"target": task.targets.get(peer), "measured": measured[peer]}
    row = {"question": f"one step of {task}", "limit": True}
    if task.wide:
        yield row | {
            "peer": "share of the time that the bare products take alone",
            "target": task.targets.get(BARE),
            "measured": measured[BARE],
        }
    else:
        yield row | {
            "peer": "share of all cores' matrix-product speed that fastinit reaches",
            "measured": task.multiply_adds / median(times["fastinit"]) / peak,
        }


def rows_of_whole_fit() -> Iterator[dict]:
    fits = whole_fits()
    peer = "scikit-learn MLPClassifier"
    question = "a whole fit with scikit-learn's defaults: 20-100-1, 1,000 examples, 200 epochs"
    row = {"question": question, "peer": peer}
    if absent("sklearn"):
        yield row | {"skipped": absent("sklearn")}
    else:
        times = in_turns({name: work for name, (_, work) in fits.items()}, turns=7, pause=PAUSE)
        yield row | {"target": 12, "measured": ratio(times, peer, "fastinit")}


def matrix() -> list[dict]:
    """Return one row per width, compared with width 64 and with the bare products."""
    tasks = {width: Task((64, width, width, 1), 256) for width in WIDTHS}
    rows = []
    for width, task in tasks.items():
        # Width 64 is measured again for each row, because the load of the machine changes.
        times = in_turns(
            {"it": fastinit(task), "64": fastinit(tasks[64]), BARE: bare_products(task)},
            turns=7,
            pause=PAUSE,
        )
        each = np.divide(times["it"], task.multiply_adds)
        narrow = np.divide(times["64"], tasks[64].multiply_adds)
        rows.append(
            {
                "width": str(width),
                "multiply-adds of a step": f"{task.multiply_adds:,}",
                "ps each": f"{median(each) * 1e12:.1f}",
                "against width 64": f"{median(each / narrow):.2f}",
                "the bare products alone": f"{ratio(times, BARE, 'it'):.0%}",
            }
        )
    return rows
