"""Cell: one place of a comparison's grid, and the axes whose combinations make the grid."""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastinit.initializers import scheme as registry
from fastinit.initializers.target import Seed
from fastinit.training.network import Network
from fastinit.validation import is_sequence

# The axes other than the scheme, in the order of the columns.
AXES = ("seed", "depth", "width", "learning_rate", "activation")


@dataclass(frozen=True)
class Cell:
    """One place of the grid: all that sets a run apart from the others.

    Attributes
    ----------
    scheme : str
    seed : int, SeedSequence or None
        None is NumPy's global random state, for ``lesson.random``.
    network : Network
    learning_rate : float

    Examples
    --------
    >>> cell = Cell("he_normal", 0, Network([2, 10, 10, 1]), 0.01)
    >>> cell.depth, cell.width, cell.activation
    (2, 10, 'relu')
    """

    scheme: str
    seed: Seed
    network: Network
    learning_rate: float

    @property
    def depth(self) -> int:
        """Hidden layers."""
        return self.network.n_layers - 1

    @property
    def width(self) -> int | None:
        """Units of each hidden layer; None where they differ or there is none."""
        widths = set(self.network.sizes[1:-1])
        return widths.pop() if len(widths) == 1 else None

    @property
    def activation(self) -> str:
        """Activation of the hidden layers."""
        return self.network.activation


def check_targets(network: Network, cost: Any, accuracy: Any) -> None:
    """Raise for targets that no training of this network can reach."""
    for name, target in (("target_cost", cost), ("target_accuracy", accuracy)):
        if target is not None:
            values_of(name, [target], "number", float)
    if cost is not None and not math.isfinite(cost):
        raise ValueError(f"target_cost: expected a finite cost; got {cost}")
    if accuracy is not None and not 0 < accuracy <= 1:
        raise ValueError(f"target_accuracy: expected 0 < accuracy <= 1; got {accuracy}")
    if accuracy is not None and not network.classifies:
        raise ValueError(
            f"target_accuracy: expected output sigmoid or softmax; got {network.output!r}"
        )


def values_of(name: str, value: Any, what: str, kind: type) -> list[Any]:
    """Return the values of one axis, checked: one value, or several of one type, each once."""
    several = value if is_sequence(value) else [value]
    found = [each.item() if isinstance(each, np.generic) else each for each in several]
    for each in found:
        if isinstance(each, bool) or not isinstance(each, (kind, int) if kind is float else kind):
            raise TypeError(f"{name}: expected {what}s; got {each!r}")
    if not found:
        raise ValueError(f"{name}: expected at least one {what}; got none")
    if len(set(found)) < len(found):
        raise ValueError(f"{name}: expected each {what} once; got {', '.join(map(str, found))}")
    return found


def plain(value: Any) -> Any:
    """Return an argument as it would be written in Python."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return list(value) if isinstance(value, Sequence) and not isinstance(value, range) else value


def seeds_of(schemes: Sequence[str], seed: Any) -> dict[str, list[Seed]]:
    """Return the seeds of each scheme: every scheme starts from the same ones if any is given."""
    if seed is None:
        return {scheme: [registry.get(scheme).default_seed] for scheme in schemes}
    if is_sequence(seed) or isinstance(seed, (int, np.integer)):
        seeds: list[Seed] = values_of("seed", seed, "integer", int)
    elif isinstance(seed, np.random.Generator):
        seeds = [int(seed.integers(2**32))]  # once: a generator advances when it is asked
    else:
        seeds = [seed]
    for scheme in schemes:
        for each in seeds:
            registry.get(scheme).generator_of(each)  # raises for a seed that it cannot take
    return dict.fromkeys(schemes, seeds)


def networks_of(network: Network, depth: Any, width: Any, activation: Any) -> list[Network]:
    """Return the network in all depths, widths and activations."""
    shapes = [network.sizes]
    if depth is not None or width is not None:
        hidden = network.sizes[1:-1]
        depths = [len(hidden)] if depth is None else values_of("depth", depth, "integer", int)
        widths = list(set(hidden)) if width is None else values_of("width", width, "integer", int)
        if width is None and len(widths) != 1:
            raise ValueError(
                f"depth: expected width as well, because the hidden layers have no single width; "
                f"got {list(hidden)}"
            )
        if min(depths) < 0:
            raise ValueError(f"depth: expected at least 0; got {min(depths)}")
        shapes = [
            (network.sizes[0], *[each_width] * each_depth, network.sizes[-1])
            for each_depth in depths
            for each_width in widths
        ]
    if activation is None:
        activation = network.activation
    settings = {name: getattr(network, name) for name in inspect.signature(Network).parameters}
    return [
        Network(**settings | {"sizes": sizes, "activation": each})
        for sizes in shapes
        for each in values_of("activation", activation, "name", str)
    ]
