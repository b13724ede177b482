"""Verdicts on random trainings that are made to break them, counted against fresh data."""

from collections import Counter

import numpy as np
import pytest

import fastinit as fi
from fastinit.comparison.courses import COURSES, constant_costs
from fastinit.comparison.trials import Data, Task, Training, run_task
from fastinit.comparison.verdicts import evidence_of, majority, sentences

scipy_stats = pytest.importorskip("scipy.stats")

OUTPUTS = ("sigmoid", "softmax", "identity", "exponential")
# What is made difficult.
KINDS = (
    "plateau", "noise", "unbalanced", "few iterations", "oscillation", "late divergence",
    "memorising", "few test examples", "mini-batches", "heavy tails",
)  # fmt: skip
FRESH = 3000


def population(rng, kind, output, d, n):
    """Return features and labels of n examples; of noise, they are independent."""
    X = rng.standard_t(3, (d, n)) if kind == "heavy tails" else rng.normal(size=(d, n))
    signal = np.tanh(rng.normal(size=d) @ X) + 0.5 * X[0] * X[-1]
    if kind in ("noise", "memorising", "heavy tails"):
        signal = np.full(n, rng.normal())
    if kind == "unbalanced":
        signal = signal - 1.3
    if output == "sigmoid":
        return X, (rng.random((1, n)) < 1 / (1 + np.exp(-3 * signal))) * 1.0
    if output == "softmax":
        logits = np.stack([signal, -signal, 0.3 * signal**2])
        return X, np.eye(3)[(2 * logits + rng.gumbel(size=(3, n))).argmax(axis=0)].T
    if output == "identity":
        noise = rng.standard_t(2, n) if kind == "heavy tails" else rng.normal(size=n)
        return X, (signal + rng.choice([0.1, 1.0]) * noise)[None]
    means = np.exp(np.clip(signal, -3, 3))
    if kind == "heavy tails":
        means = means * rng.gamma(0.4, 2.5, n)
    return X, rng.poisson(means, (1, n)) * 1.0


def settings_of(rng, kind):
    """Return hidden sizes, optimiser, iterations and batch size."""
    hidden = [int(rng.integers(2, 25)) for _ in range(rng.integers(0, 4))]
    rate = 10 ** rng.uniform(-2.5, -0.5)
    optimizers = fi.GradientDescent(rate), fi.Momentum(rate), fi.Adam(rate / 3)
    optimizer, iterations, batch = (
        optimizers[rng.integers(3)],
        int(10 ** rng.uniform(1.3, 3.3)),
        None,
    )
    if kind == "few iterations":
        iterations = int(rng.integers(1, 30))
    elif kind == "oscillation":
        optimizer = fi.Momentum(10 ** rng.uniform(-0.7, 0.8))
    elif kind == "late divergence":
        optimizer = fi.GradientDescent(10 ** rng.uniform(-0.5, 1.0))
    elif kind == "memorising":
        hidden, optimizer, iterations = [60, 60], fi.Adam(0.01), 1000
    elif kind == "mini-batches":
        batch, iterations = int(rng.integers(1, 40)), min(iterations, 1000)
    return hidden, optimizer, iterations, batch


def claims_of(rng, kind, output):
    """Train one network; yield the claims about it, and whether each is true of fresh data."""
    d, n = int(rng.integers(1, 7)), 60 if kind == "memorising" else int(rng.integers(30, 300))
    m = 5 if kind == "few test examples" else int(rng.integers(10, 200))
    X, Y = population(rng, kind, output, d, n + m + FRESH)
    parts = [
        np.ascontiguousarray(each[:, part])
        for part in (slice(n), slice(n, n + m), slice(n + m, None))
        for each in (X, Y)
    ]
    X, Y, X_test, Y_test, X_fresh, Y_fresh = parts
    hidden, optimizer, iterations, batch = settings_of(rng, kind)
    activation = str(rng.choice(["relu", "tanh", "sigmoid"]))
    net = fi.Network([d, *hidden, len(Y)], activation=activation, output=output)
    scheme = rng.choice(["zeros", "he_normal", "identity", "orthogonal", "normal"])
    start = net.initialize(str(scheme), seed=int(rng.integers(1000)))[None]
    start *= rng.choice([1e-3, 0.05, 0.3]) if kind == "plateau" else 1.0
    data = Data(X, Y, (X_test, Y_test), Training(iterations=iterations))
    block = run_task(Task(net, (optimizer,), batch, start), data, threads=1)
    run = {name: column[0] for name, column in block.columns.items()}
    theta = block.thetas[0]
    evidence = evidence_of(net, Y, data.test)
    said = sentences(run, evidence)

    if any(each.startswith("better than") for each in said):
        if net.classifies:
            chance = majority(net, Y_fresh) / Y_fresh.size * (3 if output == "softmax" else 1)
            yield "better", net.score(theta, X_fresh, Y_fresh) > chance
        else:
            constant = constant_costs(net, Y_fresh).cost
            yield "better", net.cost(theta, X_fresh, Y_fresh) < constant
        assert m > 5, "five examples support no claim"
    if any(each.startswith(("overfits", "memorises")) for each in said):
        if net.classifies:
            yield "overfits", net.score(theta, X_fresh, Y_fresh) < run["train_score"] - 0.02
        else:
            excess = net.cost(theta, X_fresh, Y_fresh) - constant_costs(net, Y_fresh).lowest
            yield "overfits", excess > 1.1 * (run["final_cost"] - evidence.train_lowest)
    again = {"batch_size": batch, "optimizer": optimizer, "threads": 1}
    if "cost still falling" in said[-1] and iterations >= 10:
        more = max(iterations // 5, 5)
        costs = fi.train(net, start[0].copy(), X, Y, iterations=iterations + more, **again).costs
        before = costs[int(0.9 * iterations) : iterations].mean()
        yield "falling", costs[iterations:].mean() <= before + 1e-3 * abs(before)
    if said[-1].startswith("converged"):
        unit = run["final_cost"] - evidence.train_lowest
        unit += 1e-6 * (evidence.train_constant - evidence.train_lowest)
        longer = fi.train(net, theta.copy(), X, Y, iterations=10 * iterations, **again)
        near = theta + 1e-3 * rng.normal(size=theta.size)
        other = fi.train(net, near, X, Y, optimizer=fi.Adam(0.003), iterations=3000, threads=1)
        lowest = min(longer.final_cost, other.final_cost)
        yield "converged", run["final_cost"] - lowest <= 0.05 * unit
    if run["diverged_at"] >= 0:
        yield "diverged", said[-1] == f"diverged at iteration {run['diverged_at']:,}"


@pytest.mark.parametrize("kind", KINDS)
def test_claims_are_true_of_fresh_data(kind):
    made, false = Counter(), Counter()
    for i in range(40):
        rng = np.random.default_rng([2024, KINDS.index(kind), i])
        with np.errstate(over="ignore", invalid="ignore"):
            for claim, true in claims_of(rng, kind, OUTPUTS[i % 4]):
                made[claim] += 1
                false[claim] += not true
    assert made, "no claim at all would be easy"
    for claim, n in made.items():
        # Claims are made at a level of 5 % at most.
        assert false[claim] <= scipy_stats.binom.ppf(0.999, n, 0.05), (claim, n, false[claim])


@pytest.mark.parametrize("iterations", [150, 600])
def test_the_noise_of_mini_batches_is_no_trend(iterations):
    """Trainings that began at the end of a long one: their cost goes up and down."""
    trends = 0
    for i in range(60):
        rng = np.random.default_rng([5, i])
        d, n = int(rng.integers(1, 6)), int(rng.integers(20, 60))
        X = rng.normal(size=(d, n))
        Y = (rng.normal(size=d) @ X + rng.normal(size=n))[None]
        net = fi.Network([d, 1], output="identity")
        optimizer, batch = (
            fi.GradientDescent(10 ** rng.uniform(-2.5, -1.5)),
            int(rng.integers(4, 15)),
        )
        theta = net.initialize("zeros", seed=0)
        for own in (fi.LBFGS(), optimizer):
            size = None if own is not optimizer else batch
            theta = fi.train(
                net, theta, X, Y, optimizer=own, batch_size=size, iterations=3000, threads=1
            ).theta
        data = Data(X, Y, None, Training(iterations=iterations))
        block = run_task(Task(net, (optimizer,), batch, theta[None]), data, threads=1)
        course = COURSES[block.columns["course"][0]]
        trends += course in ("falling", "rising")
    assert trends <= scipy_stats.binom.ppf(0.999, 60, 0.05)
