"""Comparisons of any size whose outcomes are given, without a training."""

import numpy as np

import fastinit as fi
from fastinit.comparison.grid import grid_of, labelled
from fastinit.comparison.trials import COLUMNS, Block, Data, Training


def synthetic(
    schemes,
    *,
    network=None,
    n_examples=40,
    iterations=200,
    final=None,
    with_data=True,
    test=True,
    **axes,
):
    """Return a comparison whose costs fall from 1 to a final cost.

    ``final`` takes the grid and returns the final cost of each cell, NaN for a run that diverged;
    by default costs between 0.05 and 0.5, one level for each scheme.
    """
    network = fi.Network([3, 4, 4, 1]) if network is None else network
    rng = np.random.default_rng(0)
    cells = grid_of(network, labelled(schemes), **axes)
    code = cells.code("scheme")
    levels = 0.05 * 10 ** (np.arange(len(cells.values["scheme"])) / len(cells.values["scheme"]))
    costs = levels[code] * rng.uniform(0.8, 1.2, len(cells)) if final is None else final(cells)
    X = rng.standard_normal((network.sizes[0], n_examples))
    Y = (X[:1] > 0).astype(float)
    # A store keeps the labels, but not large features.
    stored = X if with_data else np.full_like(X, np.nan)
    data = Data(stored, Y, (stored, Y) if test else None, Training(iterations=iterations))
    settings = {name: value for name, value in axes.items() if value is not None}
    found = fi.comparison.Comparison(data, cells, network, settings | {"iterations": iterations})
    found._digest = None if with_data else "0" * 64
    names = ("depth", "width", "activation", "batch_size")
    shapes = [list(cells.values).index(name) for name in names]
    _, which = np.unique(cells.codes[:, shapes], axis=0, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(which.ravel()[order])) + 1):
        k, own, cell = len(part), costs[part], cells[int(part[0])]
        points = data.points_of(cell.batch_size)
        columns = {name: np.zeros(k, dtype) for name, dtype in COLUMNS.items()}
        diverged = np.isnan(own)
        end = iterations // 2
        columns |= {
            "iterations": np.where(diverged, end, iterations),
            "diverged_at": np.where(diverged, end, -1),
            "stopped": diverged.astype(np.int8),
            "start_cost": np.ones(k),
            "final_cost": own,
            "train_score": 1 - np.clip(own, 0, 1),
            "test_score": 1 - np.clip(own, 0, 1) if test else np.full(k, np.nan),
            "course": np.full(k, 2, np.int8),
        }
        share = points / max(1, iterations - 1)
        curves = np.where(diverged, 2.0, own)[:, None] ** share
        curves[np.ix_(diverged, points >= end)] = np.nan
        thetas = np.zeros((k, cell.network.n_parameters))
        found.add(part, Block(columns, thetas, thetas, points, curves))
    return found
