"""Grid: the axes of a comparison and the cells that they form."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from fastinit import initializers
from fastinit.calls import calls_of, check_settings
from fastinit.initializers import scheme as registry
from fastinit.initializers.scheme import Scheme, called
from fastinit.initializers.target import Seed, key_of
from fastinit.training.internals import variant
from fastinit.training.network import Network
from fastinit.training.optimizers import (
    LBFGS,
    OPTIMIZERS,
    Adam,
    AdamW,
    GradientDescent,
    LearningRate,
    Momentum,
    Optimizer,
)
from fastinit.validation import as_float, check_integer, check_name, is_sequence

# The axes other than the scheme, in the order of the table's columns.
AXES = (
    "seed", "depth", "width", "activation", "optimizer", "learning_rate", "batch_size", "scale",
)  # fmt: skip
# The largest depth: the signal of a deeper network has no use, and its description takes long.
MOST_LAYERS = 10_000
# The largest grid: its codes take 360 MB.
MOST_CELLS = 10**7
# The optimisers by the names that people use for their default settings.
PRESETS: dict[str, Optimizer] = {
    "sgd": GradientDescent(),
    "momentum": Momentum(),
    "nesterov": Momentum(nesterov=True),
    "adam": Adam(),
    "adamw": AdamW(),
    "lbfgs": LBFGS(),
}
# What Network.initialize takes.
AnyScheme = str | Scheme | Callable[..., Any] | Sequence[Any]


@dataclass(frozen=True)
class Cell:
    """One configuration of the grid: all that distinguishes a run from the other runs.

    Attributes
    ----------
    scheme : str
        The label of the scheme.
    seed : int, SeedSequence or None
        What :meth:`Network.initialize` takes; None is NumPy's global random state, which only
        ``lesson.random`` draws from by default.
    network : Network
    optimizer : Optimizer
        With the learning rate of the cell.
    batch_size : int or None
        Examples per update; None for full batches.
    scale : float
        The factor by which the initial weights are multiplied.

    Examples
    --------
    >>> cell = Cell("he_normal", 0, Network([2, 10, 10, 1]), GradientDescent(0.1))
    >>> cell.depth, cell.width, cell.activation, cell.learning_rate
    (2, 10, 'relu', 0.1)
    """

    scheme: str
    seed: Seed
    network: Network
    optimizer: Optimizer
    batch_size: int | None = None
    scale: float = 1.0

    @property
    def depth(self) -> int:
        """Number of hidden layers."""
        return depth_of(self.network)

    @property
    def width(self) -> int | None:
        """Units of each hidden layer; None if they differ or there are no hidden layers."""
        return width_of(self.network)

    @property
    def activation(self) -> str:
        """Activation of the hidden layers."""
        return self.network.activation

    @property
    def learning_rate(self) -> LearningRate | None:
        """The learning rate of the optimiser; None for :class:`fastinit.LBFGS`."""
        return getattr(self.optimizer, "learning_rate", None)


class Grid(Sequence[Cell]):
    """The cells of a comparison. Each is stored as integer codes and created when it is read.

    Parameters
    ----------
    values : mapping of str to sequence
        The values of "scheme" (labels) and of the axes :data:`AXES`.
    codes : ndarray of shape (n_cells, 1 + len(AXES)), int32
        For each cell the index of its value on each axis, in the order of ``values``.
    networks : mapping of tuple of int to Network
        By the codes of depth, width and activation.

    Attributes
    ----------
    values : dict of str to tuple
    codes : ndarray of shape (n_cells, 1 + len(AXES)), int32
    """

    def __init__(
        self,
        values: Mapping[str, Sequence[Any]],
        codes: NDArray[np.int32],
        networks: Mapping[tuple[int, ...], Network],
    ) -> None:
        self.values = {name: tuple(found) for name, found in values.items()}
        self.codes = codes
        self.networks = dict(networks)
        # Created when they are read, because a sample may have as many learning rates as cells.
        self._optimizers: dict[tuple[int, int], Optimizer] = {}

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> Cell: ...
    @overload
    def __getitem__(self, index: slice) -> "Grid": ...
    def __getitem__(self, index: int | slice) -> "Cell | Grid":
        if isinstance(index, slice):
            return Grid(self.values, self.codes[index], self.networks)
        return self._cell(self.codes[index].tolist())

    def __iter__(self) -> Iterator[Cell]:
        return map(self._cell, self.codes.tolist())

    def _cell(self, codes: list[int]) -> Cell:
        scheme, seed, depth, width, activation, optimizer, rate, batch_size, scale = codes
        values = self.values
        return Cell(
            values["scheme"][scheme],
            values["seed"][seed],
            self.networks[depth, width, activation],
            self._optimizer(optimizer, rate),
            values["batch_size"][batch_size],
            values["scale"][scale],
        )

    def _optimizer(self, optimizer: int, rate: int) -> Optimizer:
        """Return the optimiser with a learning rate; the same object for the same codes."""
        found = self._optimizers.get((optimizer, rate))
        if found is None:
            values = self.values["optimizer"][optimizer], self.values["learning_rate"][rate]
            # Two threads agree on one object.
            found = self._optimizers.setdefault((optimizer, rate), with_rate(*values))
        return found

    def code(self, axis: str) -> NDArray[np.int32]:
        """Return the code of each cell on one axis, "scheme" included; shape (n_cells,)."""
        return self.codes[:, list(self.values).index(axis)]

    def groups(self, *axes: str, places: NDArray[np.intp] | None = None) -> list[NDArray[np.intp]]:
        """Partition cells by their values on some axes.

        Parameters
        ----------
        *axes : str
            Axes, or "scheme".
        places : ndarray of shape (n,), intp, optional
            Indices of the cells to partition; all by default.

        Returns
        -------
        list of ndarray of intp
            For each group its positions in `places`, in ascending order. The groups are in the
            order of the values of the axes.
        """
        return partition(*self.numbers(*axes, places=places))

    def numbers(
        self, *axes: str, places: NDArray[np.intp] | None = None
    ) -> tuple[NDArray[np.intp], int]:
        """Return the number of the group of each cell, and the number of groups.

        Parameters
        ----------
        *axes, places
            As in :meth:`groups`, whose order the numbers have.

        Returns
        -------
        numbers : ndarray of shape (n,), intp
        n_groups : int
        """
        chosen: Any = slice(None) if places is None else places
        found, n = np.zeros(len(self) if places is None else len(places), np.intp), 1
        for axis in axes:
            length = len(self.values[axis])
            if length > 1:
                found *= length
                found += self.code(axis)[chosen]
                # Products of the lengths of all axes may exceed the range of the integers.
                found, n = dense(found, n * length)
        return (found, n) if len(found) else (found, 0)

    def labels(self, axis: str) -> list[Any]:
        """Return the values of an axis as they are shown in tables: numbers, names or None."""
        found = self.values[axis]
        if axis == "optimizer":
            return optimizer_labels(found)
        if axis == "learning_rate" and found == (None,):
            # One row of the table may have several optimisers, each with its own rate.
            optimizers = self.values["optimizer"]
            return [None if len(optimizers) > 1 else rate_label(optimizers[0])]
        if axis == "learning_rate":
            return [each if isinstance(each, float) else repr(each) for each in found]
        if axis == "seed":
            return [e if e is None or isinstance(e, int) else as_code(e) for e in found]
        return list(found)


def dense(numbers: NDArray[np.intp], n: int) -> tuple[NDArray[np.intp], int]:
    """Replace numbers below n by 0, 1, 2, ... in the same order, and return how many there are.

    Examples
    --------
    >>> dense(np.array([7, 3, 7]), 9)
    (array([1, 0, 1]), 2)
    """
    if n > 4 * len(numbers) + 1000:
        known, inverse = np.unique(numbers, return_inverse=True)
        return inverse, len(known)
    # Much faster than sorting.
    used = np.zeros(n, np.bool_)
    used[numbers] = True
    if used.all():
        return numbers, n
    order = np.cumsum(used, dtype=np.int32) - 1
    return order[numbers].astype(np.intp), int(order[-1]) + 1


def partition(numbers: NDArray[np.intp], n: int) -> list[NDArray[np.intp]]:
    """Return the positions of each of the numbers 0, ..., n - 1, in ascending order.

    Examples
    --------
    >>> partition(np.array([1, 0, 1]), 2)
    [array([1]), array([0, 2])]
    """
    # NumPy sorts integers of 16 bits in linear time.
    keys = numbers.astype(np.uint16) if n <= 2**16 else numbers
    order = np.argsort(keys, kind="stable")
    return np.split(order, np.cumsum(np.bincount(numbers, minlength=n))[:-1]) if n else []


def depth_of(network: Network) -> int:
    """Return the number of hidden layers."""
    return network.n_layers - 1


def width_of(network: Network) -> int | None:
    """Return the common number of units of the hidden layers; None if there is none."""
    widths = set(network.sizes[1:-1])
    return widths.pop() if len(widths) == 1 else None


def with_rate(optimizer: Optimizer, rate: Any) -> Optimizer:
    """Return the optimiser with a learning rate; None keeps its own."""
    return optimizer if rate is None else replace(optimizer, learning_rate=rate)  # type: ignore[type-var]


def rate_label(optimizer: Optimizer) -> Any:
    """Return the learning rate of an optimiser as a number or as text; None if it has none."""
    rate = getattr(optimizer, "learning_rate", None)
    return rate if rate is None or isinstance(rate, float) else repr(rate)


def optimizer_labels(optimizers: Sequence[Optimizer]) -> list[str]:
    """Return different labels of different optimisers: with the learning rate where it is needed.

    Examples
    --------
    >>> optimizer_labels([GradientDescent(0.1), GradientDescent(0.03), Adam()])
    ['sgd(learning_rate=0.1)', 'sgd(learning_rate=0.03)', 'adam']
    """
    plain_labels = [optimizer_label(each) for each in optimizers]
    found = []
    for label, optimizer in zip(plain_labels, optimizers, strict=True):
        if plain_labels.count(label) > 1:
            name, _, settings = label.rstrip(")").partition("(")
            rate = f"learning_rate={getattr(optimizer, 'learning_rate', None)!r}"
            label = f"{name}({', '.join(filter(None, [rate, settings]))})"
        found.append(label)
    return found


def optimizer_label(optimizer: Optimizer) -> str:
    """Return the name of an optimiser, with the settings that are not the defaults.

    Examples
    --------
    >>> optimizer_label(Momentum(0.1, nesterov=True)), optimizer_label(Adam(0.1, beta1=0.8))
    ('nesterov', 'Adam(beta1=0.8)')
    """
    for name, known in PRESETS.items():
        rate = getattr(known, "learning_rate", None)
        if type(known) is type(optimizer) and with_rate(optimizer, rate) == known:
            return name
    defaults = {f.name: f.default for f in fields(optimizer)}  # type: ignore[arg-type]
    changed = [
        f"{name}={getattr(optimizer, name)!r}"
        for name, default in defaults.items()
        if name != "learning_rate" and getattr(optimizer, name) != default
    ]
    return f"{type(optimizer).__name__}({', '.join(changed)})"


# --- schemes --------------------------------------------------------------------------------------


def labelled(schemes: Any) -> dict[str, Any]:
    """Return the schemes by their labels.

    Parameters
    ----------
    schemes : scheme, sequence of schemes, or mapping of str to scheme
        A scheme is what :meth:`Network.initialize` takes: a name, an initialiser, a
        ``functools.partial`` of one, or a list with one of these per layer. The keys of a mapping
        are the labels.

    Returns
    -------
    dict of str to scheme

    Raises
    ------
    TypeError, ValueError
        For an unknown scheme, two of one label, or none.

    Examples
    --------
    >>> import fastinit as fi
    >>> list(labelled(["he_normal", partial(fi.normal, std=0.1), ["he_normal", "zeros"]]))
    ['he_normal', 'normal(std=0.1)', 'he_normal/zeros']
    """
    if isinstance(schemes, Mapping):
        for label in schemes:
            if not isinstance(label, str):
                raise TypeError(f"schemes: expected labels that are strings; got {label!r}")
            # Half a surrogate pair could be neither printed nor written to a file.
            if any("\ud800" <= character <= "\udfff" for character in label):
                raise ValueError(f"schemes: expected labels that are valid Unicode; got {label!r}")
        pairs = list(schemes.items())
    else:
        entries = list(schemes) if is_sequence(schemes) else [schemes]
        pairs = [(scheme_label(entry), entry) for entry in entries]
    if not pairs:
        raise ValueError("schemes: expected at least one scheme; got none")
    found: dict[str, Any] = {}
    for label, entry in pairs:
        if is_sequence(entry) and not len(entry):
            raise ValueError("schemes: expected a scheme for each layer in a list; got none")
        for each in entry if is_sequence(entry) else [entry]:
            registry.get(each)  # raises for an unknown one
        if label in found:
            raise ValueError(
                f"schemes: expected each scheme once; got two labelled {label!r} (pass a mapping "
                f"of labels to schemes)"
            )
        found[label] = entry
    return found


def scheme_label(scheme: Any) -> str:
    """Return the label of a scheme: its name, the settings of a partial, or one for each layer."""
    if is_sequence(scheme):
        return "/".join(scheme_label(each) for each in scheme)
    if isinstance(scheme, str):
        return str(scheme)
    if isinstance(scheme, partial):
        settings = [*map(repr, scheme.args)]
        settings += [f"{name}={value!r}" for name, value in scheme.keywords.items()]
        return f"{scheme_label(scheme.func)}({', '.join(settings)})"
    return registry.get(scheme).name


def default_seed(scheme: Any) -> Seed:
    """Return the seed of a scheme if none is given; of several, that of the first layer."""
    return registry.get(scheme[0] if is_sequence(scheme) else scheme).default_seed


# --- schemes and optimisers as text --------------------------------------------------------------


def schemes_in(text: str) -> list[Any]:
    """Return the schemes of a text such as ``he_normal,normal(std=0.1),he_normal/zeros``.

    The label of a scheme in tables is such a text, too.

    Examples
    --------
    >>> schemes_in("he_normal,he_normal/zeros")
    ['he_normal', ['he_normal', 'zeros']]
    """
    found = []
    for layers in calls_of(text, "he_normal,normal(std=0.1),he_normal/zeros"):
        entry = [called(call) for call in layers]
        found.append(entry if len(entry) > 1 else entry[0])
    return found


def optimizers_in(text: str) -> list[Any]:
    """Return the optimisers of a text such as ``sgd,adam(l2=0.001)``.

    Examples
    --------
    >>> optimizers_in("sgd(l2=0.1)")
    [GradientDescent(learning_rate=0.01, l2=0.1, l2_by_batch=False)]
    """
    found = []
    for layers in calls_of(text, "sgd,adam(l2=0.001)"):
        if len(layers) > 1:
            raise ValueError(f"expected one optimiser for all layers; got {len(layers)}")
        [call] = layers
        optimizer = PRESETS[check_name("optimizer", call.name, PRESETS)]
        check_settings("optimizer", call, [field.name for field in fields(optimizer)])  # type: ignore[arg-type]
        found.append(replace(optimizer, **call.settings))  # type: ignore[type-var]
    return found


def scheme_code(label: str) -> str | None:
    """Return the Python expression of a scheme by its label; None if it has none.

    Examples
    --------
    >>> scheme_code("normal(std=0.1)/zeros")
    "[functools.partial(fi.normal, std=0.1), 'zeros']"
    >>> scheme_code("my scheme")
    """
    try:
        [found] = schemes_in(label)
        return as_code(found)
    except (TypeError, ValueError):
        return None


# --- axes -----------------------------------------------------------------------------------------

# What the entries of an axis are called in error messages: one of them, and several.
NOUNS = {str: ("a name", "names"), int: ("an integer", "integers"), float: ("a number", "numbers")}


def values_of(name: str, value: Any, kind: type) -> list[Any]:
    """Return the values of one axis as a list.

    ``value`` is one entry or a sequence of entries, each a str, an int or a float as ``kind`` says,
    and each different from the others.
    """
    one, several = NOUNS[kind]
    if kind is int and isinstance(value, range) and len(value):
        return list(value)
    found = [
        entry.item() if isinstance(entry, np.generic) else entry
        for entry in (value if is_sequence(value) else [value])
    ]
    for entry in found:
        fits = isinstance(entry, (int, float) if kind is float else kind)
        if not fits or isinstance(entry, bool):
            raise TypeError(f"{name}: expected {one} or a sequence of {several}; got {entry!r}")
    if kind is float:
        found = [as_float(name, entry) for entry in found]
    return _distinct(name, found, one.split()[1])


def _distinct(
    name: str, found: list[Any], noun: str, text: Callable[[Any], Any] = repr
) -> list[Any]:
    """Return the values of an axis; raise if there is none, or one twice by its ``text``."""
    if not found:
        raise ValueError(f"{name}: expected at least one {noun}; got none")
    seen: set[Any] = set()
    for each in found:
        # Numbers and strings need no text: there may be ten million seeds.
        key = each if type(each) in (int, float, str) else text(each)
        if key in seen:
            raise ValueError(f"{name}: expected each {noun} once; got {text(each)} twice")
        seen.add(key)
    return found


def optimizers_of(optimizer: Any) -> list[Optimizer]:
    """Return the values of the axis ``optimizer``."""
    found = []
    for each in optimizer if is_sequence(optimizer) else [optimizer]:
        if isinstance(each, str):
            each = PRESETS[check_name("optimizer", each, PRESETS)]
        if type(each) not in OPTIMIZERS:
            raise TypeError(f"optimizer: expected a name or an Optimizer; got {each!r}")
        found.append(each)
    return _distinct("optimizer", found, "optimizer")


def rates_of(learning_rate: Any, optimizers: Sequence[Optimizer]) -> list[Any]:
    """Return the values of the axis ``learning_rate``; None stands for that of the optimiser."""
    if learning_rate is None:
        return [None]
    if any(isinstance(each, LBFGS) for each in optimizers):
        raise ValueError(f"learning_rate: expected none with LBFGS; got {learning_rate!r}")
    found = []
    for each in learning_rate if is_sequence(learning_rate) else [learning_rate]:
        if is_sequence(each):
            raise TypeError(
                "learning_rate: expected numbers or callables, and rates for each layer in an "
                f"optimizer; got {each!r}"
            )
        # Raises for an invalid rate.
        rate = each if callable(each) else values_of("learning_rate", each, float)[0]
        found.append(GradientDescent(rate).learning_rate)
    bare = [with_rate(each, 0.0) for each in optimizers]
    if len(set(bare)) < len(bare):
        raise ValueError(
            "optimizer: expected optimisers that differ in more than the learning rate, which "
            "learning_rate replaces; got two that do not"
        )
    return _distinct("learning_rate", found, "number")


def batch_sizes_of(batch_size: Any) -> list[int | None]:
    """Return the values of the axis ``batch_size``; None stands for full batches."""
    entries = batch_size if is_sequence(batch_size) else [batch_size]
    return _distinct(
        "batch_size",
        [None if e is None else check_integer("batch_size", e, 1) for e in entries],
        "integer",
    )


def scales_of(scale: Any) -> list[float]:
    """Return the values of the axis ``scale``."""
    found = values_of("scale", scale, float)
    for each in found:
        if not 0 <= each < math.inf:
            raise ValueError(f"scale: expected finite numbers >= 0; got {each}")
    return found


def seeds_of(schemes: Mapping[str, Any], seed: Any) -> dict[str, list[Seed]]:
    """Return the seeds of each scheme: the same for all, or each scheme's default for None."""
    if seed is None:
        return {label: [default_seed(scheme)] for label, scheme in schemes.items()}
    seeds: list[Seed]
    if isinstance(seed, (int, np.integer)) or not is_sequence(seed):
        seeds = values_of("seed", seed, int) if isinstance(seed, (int, np.integer)) else [seed]
    elif any(isinstance(each, np.random.SeedSequence) for each in seed):
        # As SeedSequence.spawn returns them.
        for each in seed:
            if not isinstance(each, np.random.SeedSequence):
                raise TypeError(f"seed: expected only SeedSequence in the sequence; got {each!r}")
        seeds = _distinct("seed", list(seed), "SeedSequence", as_code)
    else:
        seeds = values_of("seed", seed, int)
    # The integers that a generator takes are a range, so the smallest and the largest are enough.
    ends = {min(seeds), max(seeds)} if isinstance(seeds[0], int) else seeds  # type: ignore[type-var]
    kinds = {
        registry.get(each).generator_of
        for scheme in schemes.values()
        for each in (scheme if is_sequence(scheme) else [scheme])
    }
    for generator_of in kinds:
        for each in ends:
            generator_of(each)  # raises if the schemes do not accept it
    return dict.fromkeys(schemes, seeds)


def networks_of(
    network: Network, depth: Any, width: Any, activation: Any
) -> tuple[dict[str, list[Any]], dict[tuple[int, ...], Network]]:
    """Return the values of depth, width and activation, and a network for each combination."""
    hidden = network.sizes[1:-1]
    shapes = {(0, 0): network.sizes}
    depths: list[Any] = [depth_of(network)]
    widths: list[Any] = [width_of(network)]
    if depth is not None or width is not None:
        one = depth is None or width is None
        if one and (not hidden or (width is None and len(set(hidden)) > 1)):
            given, missing = ("depth", "width") if width is None else ("width", "depth")
            why = "hidden layers differ in width" if hidden else "network has no hidden layers"
            raise ValueError(
                f"{given}: expected {missing} as well, because the {why}; "
                f"got sizes {list(network.sizes)}"
            )
        depths = depths if depth is None else values_of("depth", depth, int)
        widths = [hidden[0]] if width is None else values_of("width", width, int)
        for name, found, least in (("depth", depths, 0), ("width", widths, 1)):
            if min(found) < least:
                raise ValueError(f"{name}: expected at least {least}; got {min(found)}")
        if max(depths) > MOST_LAYERS:
            raise ValueError(f"depth: expected at most {MOST_LAYERS:,}; got {max(depths)}")
        if 0 in depths and len(widths) > 1:
            raise ValueError("width: expected one value for depth 0; got several")
        shapes = {
            (i, j): (network.sizes[0], *[each_width] * each_depth, network.sizes[-1])
            for i, each_depth in enumerate(depths)
            for j, each_width in enumerate(widths)
        }
    activations = values_of(
        "activation", network.activation if activation is None else activation, str
    )
    networks: dict[tuple[int, ...], Network] = {
        (*place, k): variant(network, sizes=sizes, activation=each)
        for place, sizes in shapes.items()
        for k, each in enumerate(activations)
    }
    return {"depth": depths, "width": widths, "activation": activations}, networks


def grid_of(
    network: Network,
    schemes: Mapping[str, Any],
    *,
    seed: Any = None,
    depth: Any = None,
    width: Any = None,
    activation: Any = None,
    optimizer: Any = None,
    learning_rate: Any = None,
    batch_size: Any = None,
    scale: Any = 1.0,
    n_samples: int | None = None,
) -> Grid:
    """Return the grid of all combinations, or a quasi-random sample of it.

    Parameters
    ----------
    network : Network
    schemes : mapping of str to scheme
        As :func:`labelled` returns it.
    seed, depth, width, activation, optimizer, learning_rate, batch_size, scale
        As in :func:`fastinit.compare`.
    n_samples : int, optional
        The number of cells to sample.

    Returns
    -------
    Grid
    """
    seeds = seeds_of(schemes, seed)
    optimizers = optimizers_of("sgd" if optimizer is None else optimizer)
    distributions = {
        name: value
        for name, value in (("learning_rate", learning_rate), ("scale", scale))
        if hasattr(value, "ppf")
    }
    if distributions and n_samples is None:
        name = next(iter(distributions))
        raise ValueError(f"{name}: expected n_samples as well for a distribution; got none")
    if "learning_rate" in distributions:
        rates_of(0.0, optimizers)  # raises if an optimiser has none
    shapes, networks = networks_of(network, depth, width, activation)
    unique_seeds, seed_codes = _seed_codes(seeds)
    n_seeds = seed_codes.shape[1]
    values: dict[str, list[Any]] = {
        "scheme": list(schemes),
        "seed": unique_seeds,
        **shapes,
        "optimizer": optimizers,
        "learning_rate": (
            [None] if "learning_rate" in distributions else rates_of(learning_rate, optimizers)
        ),
        "batch_size": batch_sizes_of(batch_size),
        "scale": [1.0] if "scale" in distributions else scales_of(scale),
    }
    lengths = [len(values[axis]) for axis in AXES[1:]]
    outer = math.prod(lengths)
    cells = outer * len(schemes) * n_seeds
    if n_samples is None:
        others = np.indices(lengths, np.int32).reshape(len(lengths), outer).T
        codes = np.empty((outer, len(schemes), n_seeds, 2 + len(lengths)), np.int32)
        codes[..., 2:] = others[:, None, None]
        codes[..., 0] = np.arange(len(schemes))[:, None]
        codes[..., 1] = seed_codes
        return Grid(values, codes.reshape(cells, 2 + len(lengths)), networks)
    n_samples = check_integer("n_samples", n_samples, 1, MOST_CELLS + 1)
    if not distributions and n_samples > cells:
        raise ValueError(f"n_samples: expected at most the {cells:,} cells; got {n_samples:,}")
    combinations = -(-n_samples // len(schemes))
    sampled, drawn = _sampled(lengths, n_seeds, distributions, combinations)
    for name, found in drawn.items():
        values[name] = rates_of(found, optimizers) if name == "learning_rate" else scales_of(found)
    codes = np.empty((combinations, len(schemes), 2 + len(lengths)), np.int32)
    codes[..., 2:] = sampled[:, None, 1:]
    codes[..., 0] = np.arange(len(schemes))
    codes[..., 1] = seed_codes[:, sampled[:, 0]].T
    return Grid(values, codes.reshape(-1, 2 + len(lengths))[:n_samples], networks)


def _seed_codes(seeds: Mapping[str, Sequence[Seed]]) -> tuple[list[Seed], NDArray[np.int32]]:
    """Return all seeds once, and for each scheme the codes of its seeds, (n_schemes, n_seeds)."""
    first = next(iter(seeds.values()))
    if all(own is first for own in seeds.values()):
        return list(first), np.tile(np.arange(len(first), dtype=np.int32), (len(seeds), 1))
    found: list[Seed] = []  # of the defaults, one for each scheme
    for own in seeds.values():
        found += [seed for seed in own if seed not in found]
    codes = [[found.index(seed) for seed in own] for own in seeds.values()]
    return found, np.array(codes, np.int32)


def _sampled(
    lengths: Sequence[int], n_seeds: int, distributions: Mapping[str, Any], n: int
) -> tuple[NDArray[np.int32], dict[str, list[float]]]:
    """Return n different combinations of the seeds and the other axes, spread evenly.

    Returns
    -------
    codes : ndarray of shape (n, len(AXES)), int32
        The index of the seed, then the codes of the other axes.
    drawn : dict of str to list of float
        The n values of each axis that is a distribution.
    """
    sizes = [n_seeds, *lengths]
    if not distributions:
        found = np.zeros((n, len(sizes)), np.int32)
        several = [i for i, size in enumerate(sizes) if size > 1]
        if several:
            found[:, several] = _sampled_integers([sizes[i] for i in several], n)
        return found, {}
    # Axes of one value take no dimension, because fewer dimensions are filled more evenly.
    columns = [i for i, name in enumerate(AXES) if sizes[i] > 1 or name in distributions]
    points = quasi_random(n, len(columns))
    found = np.zeros((n, len(sizes)), np.int32)
    found[:, columns] = points * np.array(sizes)[columns]
    drawn = {}
    for name, distribution in distributions.items():
        column = AXES.index(name)
        numbers = np.asarray(distribution.ppf(points[:, columns.index(column)]), np.float64)
        if numbers.shape != (n,):
            raise ValueError(f"{name}: expected ppf to return shape ({n},); got {numbers.shape}")
        # A discrete distribution returns a number several times.
        codes: dict[float, int] = {}
        found[:, column] = [codes.setdefault(each, len(codes)) for each in numbers.tolist()]
        drawn[name] = list(codes)
    return found, drawn


def _sampled_integers(sizes: Sequence[int], n: int) -> NDArray[np.int32]:
    """Return the codes of the first n different combinations, of shape (n, n_axes).

    Several points may fall into one combination; the first one counts. After four points for each
    combination, those that got none follow in a fixed order. The first combinations do not depend
    on n.
    """
    total = math.prod(sizes)
    n_points = 0
    found = np.empty((0, len(sizes)), np.int32)
    while len(found) < n and n_points < 4 * total:
        n_points = min(max(4 * n, 2 * n_points), 4 * total)
        codes = (quasi_random(n_points, len(sizes)) * sizes).astype(np.int32)
        _, first = np.unique(codes, axis=0, return_index=True)
        found = codes[np.sort(first)]
    if len(found) < n:
        taken = np.zeros(total, bool)
        taken[np.ravel_multi_index(tuple(found.T), sizes)] = True
        order = shuffled(total)
        rest = np.unravel_index(order[~taken[order]], sizes)
        found = np.concatenate([found, np.stack(rest, axis=1).astype(np.int32)])
    return found[:n]


def shuffled(n: int) -> NDArray[np.intp]:
    """Return the integers below n in the order of their hashes by SplitMix64 [1]_.

    The order is the same on every machine and with every version of NumPy, unlike that of a
    permutation by a Generator.

    References
    ----------
    .. [1] Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA, 2014.

    Examples
    --------
    >>> shuffled(8)
    array([2, 4, 6, 5, 1, 7, 0, 3])
    """
    found = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        found = (found ^ (found >> np.uint64(shift))) * np.uint64(factor)
    return np.argsort(found, kind="stable")


def quasi_random(n: int, dimensions: int) -> NDArray[np.float64]:
    """Return the first n points of an additive recurrence in the unit cube [1]_.

    The points fill the cube evenly for every n, and the first points do not depend on n.

    Parameters
    ----------
    n : int
    dimensions : int

    Returns
    -------
    ndarray of shape (n, dimensions), float64
        In [0, 1).

    References
    ----------
    .. [1] Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018.

    Examples
    --------
    >>> quasi_random(4, 1).ravel().round(3)
    array([0.5  , 0.118, 0.736, 0.354])
    """
    # The real root above 1 of x ** (dimensions + 1) = x + 1, by a contraction.
    root = 2.0
    for _ in range(64):
        root = (1 + root) ** (1 / (dimensions + 1))
    steps = root ** -np.arange(1, dimensions + 1)
    return (0.5 + np.arange(n)[:, None] * steps) % 1


@dataclass(frozen=True)
class LogUniform:
    """The distribution whose logarithm is uniform between those of two numbers.

    It has the one method of ``scipy.stats.loguniform`` that :func:`fastinit.compare` calls.

    Parameters
    ----------
    low, high : float
        ``0 < low < high < inf``.

    Examples
    --------
    >>> float(LogUniform(0.01, 1.0).ppf(0.5).round(12))
    0.1
    """

    low: float
    high: float

    def __repr__(self) -> str:
        return f"fi.comparison.LogUniform({self.low!r}, {self.high!r})"

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"expected 0 < low < high < inf; got {self.low}:{self.high}")

    def ppf(self, share: Any) -> Any:
        """Return the quantiles of an array of shares in [0, 1]."""
        low, high = math.log(self.low), math.log(self.high)
        # Rounding must not leave the range.
        return np.clip(np.exp(low + np.asarray(share) * (high - low)), self.low, self.high)


# --- size, code and reproducibility ---------------------------------------------------------------


def check_size(axes: Mapping[str, Any], sampled: bool = False) -> None:
    """Raise if the grid is too large to be built; only the lengths of the axes are read.

    If the grid is ``sampled``, only the length of each axis is limited.
    """
    sizes = {
        name: _length(value)
        for name, value in axes.items()
        if is_sequence(value) or isinstance(value, Mapping)
    }
    largest = max(sizes, key=lambda name: sizes[name], default="seed")
    # An empty axis is refused later, with its own message.
    lengths = [max(size, 1) for size in sizes.values()]
    cells = max(lengths, default=1) if sampled else math.prod(lengths)
    if cells > MOST_CELLS:
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
    if isinstance(value, Optimizer):
        return f"fi.{value!r}"
    if isinstance(value, partial):
        name, _, rest = scheme_label(value).partition("(")
        if not hasattr(initializers, name):
            raise ValueError(f"expected an initialiser of fastinit; got {value.func!r}")
        return f"functools.partial(fi.{name}, {rest}"
    if hasattr(value, "ppf") and hasattr(value, "dist"):
        settings = [*map(repr, value.args), *(f"{k}={v!r}" for k, v in value.kwds.items())]
        return f"scipy.stats.{value.dist.name}({', '.join(settings)})"
    if isinstance(value, (list, tuple)) and not all(map(_is_plain, value)):
        return f"[{', '.join(map(as_code, value))}]"
    return repr(value if isinstance(value, range) else plain(value))


def _is_plain(value: Any) -> bool:
    objects = (Optimizer, partial, np.random.SeedSequence)
    return not (isinstance(value, objects) or hasattr(value, "ppf"))


def reproducible(seed: Seed | Sequence[int]) -> Any:
    """Return a seed that gives the same runs every time it is used.

    A Generator or a RandomState advances with each draw, so one 64-bit integer is drawn from it
    here and seeds all schemes. Other seeds are returned unchanged.
    """
    return key_of(seed) if isinstance(seed, (np.random.Generator, np.random.RandomState)) else seed
