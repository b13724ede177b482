"""Cell: one configuration of a comparison, and the axes whose combinations form the grid."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastinit.initializers import scheme as registry
from fastinit.initializers.target import Seed, key_of
from fastinit.training.network import Array, Network
from fastinit.validation import as_float, is_sequence

# The axes other than the scheme, in the order of the table's columns.
AXES = ("seed", "depth", "width", "learning_rate", "activation")
# The largest grid: its cells take some gigabytes of memory.
MOST_CELLS = 10**7


@dataclass(frozen=True)
class Cell:
    """One configuration of the grid: scheme, seed, network and learning rate of a run.

    Attributes
    ----------
    scheme : str
    seed : int, SeedSequence or None
        What :meth:`Network.initialize` takes; None is NumPy's global random state, which only
        ``lesson.random`` draws from by default.
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
        """Number of hidden layers."""
        return self.network.n_layers - 1

    @property
    def width(self) -> int | None:
        """Units of each hidden layer; None if they differ or there are no hidden layers."""
        widths = set(self.network.sizes[1:-1])
        return widths.pop() if len(widths) == 1 else None

    @property
    def activation(self) -> str:
        """Activation of the hidden layers."""
        return self.network.activation


def checked_targets(
    network: Network, cost: Any, accuracy: Any
) -> tuple[float | None, float | None]:
    """Return the two targets as floats; raise for one that no training of the network can reach."""
    if cost is not None:
        cost = as_float("target_cost", cost)
        if not math.isfinite(cost):
            raise ValueError(f"target_cost: expected a finite number; got {cost}")
    if accuracy is not None:
        accuracy = as_float("target_accuracy", accuracy)
        if not 0 < accuracy <= 1:
            raise ValueError(f"target_accuracy: expected 0 < accuracy <= 1; got {accuracy}")
        if not network.classifies:
            raise ValueError(
                f"target_accuracy: expected output sigmoid or softmax; got {network.output!r}"
            )
    return cost, accuracy


def checked_test(network: Network, test: Any) -> tuple[Array, Array] | None:
    """Return copies of the pair of test data as the kernels take it."""
    if test is None:
        return None
    if not isinstance(test, (tuple, list)):
        raise TypeError(f"test: expected a pair (X_test, Y_test); got {type(test).__name__}")
    if len(test) != 2:
        raise ValueError(f"test: expected a pair (X_test, Y_test); got {len(test)} entries")
    X_test = network.check_X(test[0], name="X_test").copy()
    return X_test, network.check_Y(test[1], X_test, name="Y_test").copy()


# What the entries of an axis are called in error messages: one of them, and several.
NOUNS = {str: ("a name", "names"), int: ("an integer", "integers"), float: ("a number", "numbers")}


def values_of(name: str, value: Any, kind: type) -> list[Any]:
    """Return the values of one axis as a list.

    ``value`` is one entry or a sequence of entries, each a str, an int or a float as ``kind`` says,
    and each different from the others.
    """
    one, several = NOUNS[kind]
    found = [
        entry.item() if isinstance(entry, np.generic) else entry
        for entry in (value if is_sequence(value) else [value])
    ]
    for entry in found:
        fits = isinstance(entry, (int, float) if kind is float else kind)
        if not fits or isinstance(entry, bool):
            raise TypeError(f"{name}: expected {one} or a sequence of {several}; got {entry!r}")
    if not found:
        raise ValueError(f"{name}: expected at least one {one.split()[1]}; got none")
    if len(set(found)) < len(found):
        raise ValueError(
            f"{name}: expected each {one.split()[1]} once; got {', '.join(map(str, found))}"
        )
    return found


def check_size(axes: Mapping[str, Any]) -> None:
    """Raise if the grid is too large to be built; nothing of the axes is read but their lengths."""
    sizes = {name: _length(value) for name, value in axes.items() if is_sequence(value)}
    # An empty axis is refused later, under its own name.
    cells = math.prod(max(size, 1) for size in sizes.values())
    if cells > MOST_CELLS:
        largest = max(sizes, key=lambda name: sizes[name])
        raise ValueError(
            f"{largest}: expected a grid of at most {MOST_CELLS:,} cells; got {cells:,}"
        )


def _length(value: Any) -> int:
    """Return the length of a sequence; ``len`` fails for a range above ``sys.maxsize``."""
    if isinstance(value, range):
        return max(0, -((value.start - value.stop) // value.step))
    return len(value)


def plain(value: Any) -> Any:
    """Return an array or a sequence as a list, and a NumPy scalar as a Python number.

    Examples
    --------
    >>> plain(range(3)), plain(np.float32(0.5)), plain("relu")
    ([0, 1, 2], 0.5, 'relu')
    """
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return [plain(entry) for entry in value] if is_sequence(value) else value


def as_code(value: Any) -> str:
    """Return the Python expression of an argument of :func:`compare`.

    Examples
    --------
    >>> as_code(range(100)), as_code(np.arange(3)), as_code("relu")
    ('range(0, 100)', '[0, 1, 2]', "'relu'")
    >>> as_code(np.random.SeedSequence(5).spawn(2)[1])
    'np.random.SeedSequence(5, spawn_key=(1,))'
    """
    if isinstance(value, np.random.SeedSequence):
        state = value.state
        arguments = [repr(plain(state["entropy"]))]
        if state["spawn_key"]:
            arguments.append(f"spawn_key={tuple(map(int, state['spawn_key']))!r}")
        if state["pool_size"] != np.random.SeedSequence(0).pool_size:
            arguments.append(f"pool_size={state['pool_size']}")
        return f"np.random.SeedSequence({', '.join(arguments)})"
    return repr(value if isinstance(value, range) else plain(value))


def reproducible(seed: Seed | Sequence[int]) -> Any:
    """Return a seed that gives the same runs every time it is used.

    A Generator or a RandomState advances with each draw, so one 64-bit integer is drawn from it
    here and seeds all schemes. Other seeds are returned unchanged.
    """
    return key_of(seed) if isinstance(seed, (np.random.Generator, np.random.RandomState)) else seed


def seeds_of(schemes: Sequence[str], seed: Any) -> dict[str, list[Seed]]:
    """Return the seeds of each scheme: the same for all, or each scheme's default for None."""
    if seed is None:
        return {scheme: [registry.get(scheme).default_seed] for scheme in schemes}
    several = is_sequence(seed) or isinstance(seed, (int, np.integer))
    seeds: list[Seed] = values_of("seed", seed, int) if several else [seed]
    for scheme in schemes:
        for each in seeds:
            registry.get(scheme).generator_of(each)  # raises if the scheme does not accept it
    return dict.fromkeys(schemes, seeds)


def networks_of(network: Network, depth: Any, width: Any, activation: Any) -> list[Network]:
    """Return one network for each combination of depth, width and activation."""
    shapes = [network.sizes]
    if depth is not None or width is not None:
        hidden = network.sizes[1:-1]
        depths = [len(hidden)] if depth is None else values_of("depth", depth, int)
        widths = list(hidden[:1]) if width is None else values_of("width", width, int)
        if None in (depth, width) and (not hidden or (width is None and len(set(hidden)) > 1)):
            given, missing = ("depth", "width") if width is None else ("width", "depth")
            why = "hidden layers differ in width" if hidden else "network has no hidden layers"
            raise ValueError(
                f"{given}: expected {missing} as well, because the {why}; "
                f"got sizes {list(network.sizes)}"
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
        for each in values_of("activation", activation, str)
    ]
