"""PyTorch as an oracle: the same parameters, the same batches, the same optimisers."""

import numpy as np
import pytest
from rounding import draw, labels

import fastinit as fi
from fastinit import kernels
from fastinit.training.loop import SHUFFLES

torch = pytest.importorskip("torch")

STEPS, M, BATCH = 100, 130, 32
# The same settings for both libraries. PyTorch's weight_decay is l2, except for AdamW.
OPTIMIZERS = {
    "SGD": (fi.GradientDescent(0.1, l2=0.01), torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.01}),
    "momentum": (
        fi.Momentum(0.02, 0.9, l2=0.01),
        torch.optim.SGD,
        {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.01},
    ),
    "nesterov": (
        fi.Momentum(0.02, 0.9, nesterov=True),
        torch.optim.SGD,
        {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0},
    ),
    "Adam": (
        fi.Adam(0.01, 0.8, 0.99, 1e-6, l2=0.01),
        torch.optim.Adam,
        {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.01},
    ),
    "AdamW": (
        fi.AdamW(0.01, weight_decay=0.1),
        torch.optim.AdamW,
        {"lr": 0.01, "weight_decay": 0.1},
    ),
}
# Sizes, activation, the module of the activation, and output.
NETWORKS = {
    "sigmoid": ([3, 8, 5, 2], "tanh", torch.nn.Tanh, "sigmoid"),
    "softmax, wide": ([20, 65, 9, 4], "gelu", torch.nn.GELU, "softmax"),
    "identity": ([3, 7, 1], "silu", torch.nn.SiLU, "identity"),
    "exponential": ([3, 7, 2], "selu", torch.nn.SELU, "exponential"),
}
FUNCTIONS = {
    "sigmoid": lambda z, y: torch.nn.functional.binary_cross_entropy_with_logits(z, y) * z.shape[1],
    "softmax": lambda z, y: torch.nn.functional.cross_entropy(z, y.argmax(1)),
    "identity": lambda z, y: torch.nn.functional.mse_loss(z, y) * z.shape[1] / 2,
    "exponential": lambda z, y: torch.nn.functional.poisson_nll_loss(z, y) * z.shape[1],
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Use one thread: networks of this size are slower with two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def by_torch(net, theta, X, Y, module, optimizer, settings):
    """Train with PyTorch on the batches of fastinit's shuffling; return theta and the costs."""
    layers = []
    for n_in, n_out in zip(net.sizes, net.sizes[1:], strict=False):
        layers += [torch.nn.Linear(n_in, n_out, dtype=torch.float64), module()]
    model = torch.nn.Sequential(*layers[:-1])
    values = [torch.tensor(value) for value in net.unpack(theta).values()]
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(value.reshape(parameter.shape))
    weights = [p for p in model.parameters() if p.ndim == 2]
    biases = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    stepper = optimizer(groups, **settings)
    X, Y = torch.tensor(X.T.copy()), torch.tensor(Y.T.copy())
    costs, batches = [], -(-M // BATCH)
    for step in range(STEPS):
        epoch, k = divmod(step, batches)
        order = np.empty(M, np.intp)
        kernels.random.permutation(order, 5, SHUFFLES + epoch)
        batch = order[k * BATCH : (k + 1) * BATCH]
        stepper.zero_grad()
        cost = FUNCTIONS[net.output](model(X[batch]), Y[batch])
        cost.backward()
        stepper.step()
        costs.append(cost.item())
    return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]), costs


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_trains_as_torch_does(network, optimizer):
    sizes, hidden, module, output = NETWORKS[network]
    ours, theirs, settings = OPTIMIZERS[optimizer]
    net = fi.Network(sizes, activation=hidden, output=output)
    start = net.initialize("lecun_normal", seed=1)
    X = draw(2, (sizes[0], M), float)
    Y = labels(3, (sizes[-1], M), net.loss, float)

    def train(theta):
        return fi.train(
            net, theta, X, Y, optimizer=ours, iterations=STEPS, batch_size=BATCH, seed=5
        )

    run = train(start.copy())
    theta, costs = by_torch(net, start, X, Y, module, theirs, settings)
    # The growth of a small perturbation of the start. The rounding error of a step, a few eps of
    # numbers below 10, does not grow more than that.
    moved = train(start + 1e-9 * draw(4, start.size, float))
    growth = max(1.0, np.abs(moved.theta - run.theta).max() / 1e-9)
    bound = STEPS * 16 * np.finfo(float).eps * growth
    assert bound < 1e-8
    np.testing.assert_allclose(run.theta, theta, rtol=0, atol=bound)
    np.testing.assert_allclose(run.costs, costs, rtol=0, atol=10 * bound)
