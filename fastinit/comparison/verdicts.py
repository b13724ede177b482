"""Verdicts: what the numbers of runs support, in sentences.

The rule of each sentence is in :func:`sentences`, with its source.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.comparison.courses import (
    CODES,
    COURSES,
    FEWEST,
    LEFT,
    NEGLIGIBLE,
    STOPPED,
    Constant,
    constant_costs,
)
from fastinit.comparison.statistics import (
    ALPHA,
    MIN_TEST,
    QUARTILES,
    binomial_interval,
    binomial_tail,
    fisher_tail,
    floats,
    holm,
    quantiles,
    t_tail,
)
from fastinit.comparison.tables import counted, joined
from fastinit.training.network import Array, Network

# An activation is saturated when its derivative is below this share of the largest derivative of
# the function; a sigmoid is saturated below 0.0025 and above 0.9975.
SATURATED = 0.01
# A smaller share of saturated outputs is not worth a sentence.
FEW_SATURATED = 0.1
# A difference between training and test accuracy below this is not called overfitting.
GAP = 0.05
# A ratio of test and training cost (without the lowest possible cost) below this is not either.
RATIO = 1.5
# A training accuracy from here on counts as memorised if the test accuracy is that of guessing.
MEMORISED = 0.99
# The order of the courses in the verdict on several runs, and what they are called there.
_ORDER = [CODES[name] for name in ("converged", "falling", "plateau", "stationary")]
_ORDER += [code for code in CODES.values() if code not in _ORDER]
_IN_RUNS = {
    "falling": "cost still falling",
    "rising": "cost rising",
    "oscillating": "cost oscillating",
    "plateau": "on a plateau",
    "undefined": "cost undefined",
}


def symmetric_layers(network: Network, thetas: Array) -> NDArray[np.bool_]:
    """Return whether all units of each hidden layer are identical, of shape (k, n_layers - 1).

    False for layers of one unit.
    """
    parameters = network.unpack(thetas)
    identical = np.tile(np.array(network.sizes[1:-1], dtype=np.intp) > 1, (len(thetas), 1))
    for name, rows in parameters.items():
        layer = int(name[1:])
        if layer < network.n_layers:
            identical[:, layer - 1] &= (rows[:, :1] == rows).all(axis=(1, 2))
    return identical


def majority(network: Network, Y: Array) -> int:
    """Return how many predictions are correct if each is the most frequent class of its output."""
    if network.output == "softmax":
        return int(np.bincount(Y.argmax(axis=0)).max())
    ones = np.count_nonzero(Y, axis=1)
    return int(np.maximum(ones, Y.shape[1] - ones).sum())


def symmetry_in_words(layers: NDArray[np.bool_]) -> list[str]:
    """Return a sentence about the layers whose units are identical, or an empty list."""
    if not layers.any():
        return []
    return [f"symmetry unbroken: the units of {layers_in_words(layers)} are still identical"]


def layers_in_words(chosen: NDArray[np.bool_]) -> str:
    """Return the numbers of the chosen layers, from 1 on.

    Examples
    --------
    >>> layers_in_words(np.array([True, True, False, True]))
    'layers 1, 2 and 4'
    >>> layers_in_words(np.array([False, True, True, True]))
    'layers 2 to 4'
    """
    numbers = [i for i, yes in enumerate(chosen, start=1) if yes]
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"layers {numbers[0]} to {numbers[-1]}"
    return f"layer{'s' if len(numbers) > 1 else ''} {joined(list(map(str, numbers)))}"


def saturated_shares(network: Network, starts: Array, X: Array) -> NDArray[np.float64]:
    """Return the share of saturated outputs of each network; 0 for outputs other than sigmoid."""
    if network.output != "sigmoid":
        return np.zeros(len(starts))
    outputs = network.predict_proba(starts, X)
    shares: NDArray[np.float64] = (4 * outputs * (1 - outputs) < SATURATED).mean(axis=(1, 2))
    return shares


def saturation_in_words(share: float) -> list[str]:
    """Return a sentence about saturated outputs, or an empty list if less than a tenth is."""
    return [f"{share:.0%} of outputs saturated at the start"] if share >= FEW_SATURATED else []


# --- claims and their tests ---------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """What a verdict needs to know about the data beside the columns of a run.

    Attributes
    ----------
    output : str
        The output of the network.
    n_outputs, n_train, n_test : int
        Numbers of outputs and of examples; ``n_test`` is 0 without test data.
    train_chance, test_chance : float
        Accuracy of always guessing one class on the training and test data; NaN if the network does
        not classify or there are no such data. The class is the most frequent one of these same
        data: a network that always guesses the other class is no better than guessing either.
    train_constant, test_constant : float
        Cost of the best constant output of the training and of the test data. For squared errors
        and counts it is the mean of their labels. On the test data, no constant is better.
    train_lowest, test_lowest : float
        The lowest possible costs.
    """

    output: str
    n_outputs: int
    n_train: int
    n_test: int
    train_chance: float
    test_chance: float
    train_constant: float
    test_constant: float
    train_lowest: float
    test_lowest: float

    @property
    def classifies(self) -> bool:
        """Whether the scores are accuracies."""
        return self.output in ("sigmoid", "softmax")


def evidence_of(
    network: Network,
    Y: Array,
    test: tuple[Array, Array] | None = None,
    *,
    sample_weight: Array | None = None,
) -> Evidence:
    """Return what a verdict needs to know about the data.

    Parameters
    ----------
    network : Network
    Y : ndarray of shape (n_outputs, n_examples)
        The training labels as :meth:`Network.check_Y` returns them.
    test : tuple (X, Y), optional
        The test data, checked likewise.
    sample_weight : ndarray of shape (n_examples,), optional
        Weights of the training examples.

    Returns
    -------
    Evidence

    Examples
    --------
    >>> import fastinit as fi
    >>> evidence = evidence_of(fi.Network([1, 1]), np.array([[0, 0, 0, 1]]))
    >>> evidence.train_chance, evidence.n_test
    (0.75, 0)
    """
    train = constant_costs(network, Y, sample_weight)
    labels = None if test is None else test[1]
    none = Constant(math.nan, math.nan)
    held = none if labels is None else constant_costs(network, labels)
    return Evidence(
        output=network.output,
        n_outputs=network.sizes[-1],
        n_train=Y.shape[1],
        n_test=0 if labels is None else labels.shape[1],
        train_chance=_chance(network, Y),
        test_chance=_chance(network, labels),
        train_constant=train.cost,
        test_constant=held.cost,
        train_lowest=train.lowest,
        test_lowest=held.lowest,
    )


def _chance(network: Network, Y: Array | None) -> float:
    if Y is None or not network.classifies:
        return math.nan
    return majority(network, Y) / (Y.shape[1] if network.output == "softmax" else Y.size)


def _hits(scores: ArrayLike, n: int, rounding: Callable[[Any], Any]) -> NDArray[np.float64]:
    """Return numbers of examples from accuracies; NaN counts as none.

    Several sigmoid outputs of one example are not independent. An example is then counted as one,
    and the sum of its correct shares is rounded to the unfavourable side.
    """
    exact = np.nan_to_num(floats(scores)) * n
    whole = np.rint(exact)
    return np.where(np.abs(exact - whole) < 1e-6 * max(n, 1), whole, rounding(exact))


def _is_trained(columns: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the runs about whose predictions claims are made: trained, and not diverged."""
    done, diverged = np.asarray(columns["iterations"]), np.asarray(columns["diverged_at"])
    return np.atleast_1d((done > 0) & (diverged < 0))


# The columns that :func:`better_p_values` reads.
PREDICTIONS = (
    "iterations", "diverged_at", "train_score", "test_score", "test_cost", "test_gain_error",
)  # fmt: skip


def better_p_values(columns: Mapping[str, Any], evidence: Evidence) -> NDArray[np.float64]:
    """Return the p-value of each run for being better than a constant prediction.

    One-sided. For classifiers, that of the exact binomial test of the accuracy against always
    guessing one class, on the test data, or on the training data if there are none. If predictions
    are independent of the labels, the number of hits varies at most as much as a binomial one. For
    other outputs, that of a paired t statistic: the gain over the best constant output of the test
    data, whose R2 is 0, in standard errors of the gains of the examples; NaN without test data.

    Parameters
    ----------
    columns : mapping of str to array_like of shape (k,)
        At least those of ``PREDICTIONS``.
    evidence : Evidence

    Returns
    -------
    ndarray of shape (k,), float64
        1 for runs that diverged or were not trained.
    """
    trained = _is_trained(columns)
    if evidence.classifies:
        name, n, chance = ("test", evidence.n_test, evidence.test_chance)
        if not n:
            name, n, chance = ("train", evidence.n_train, evidence.train_chance)
        hits = _hits(np.atleast_1d(columns[f"{name}_score"]), n, np.floor)
        return np.where(trained, binomial_tail(hits, n, min(chance, 1.0)), 1.0)
    if evidence.n_test < 2:
        return np.full(len(trained), np.nan)
    cost = np.atleast_1d(floats(columns["test_cost"]))
    error = np.atleast_1d(floats(columns["test_gain_error"]))
    return np.where(trained, t_tail(evidence.test_constant - cost, error, evidence.n_test - 1), 1.0)


def overfitting_p_values(columns: Mapping[str, Any], evidence: Evidence) -> NDArray[np.float64]:
    """Return the p-value of each run for a training score far above the test score.

    For classifiers, that of Fisher's exact test of both accuracies; 1 where they differ by less
    than ``GAP`` (5 points). For other outputs, that of the rank-sum test [1]_ of the losses of test
    and training examples; 1 where the test cost is less than ``RATIO`` (1.5) times the training
    cost, both measured from the lowest possible ones. If a network fits the training examples no
    better than others, both samples of losses have one distribution, and the test is right for any:
    a mean would depend on whether a rare large loss is among the test or the training examples.

    Returns
    -------
    ndarray of shape (k,), float64
        1 for runs that diverged or were not trained, and without test data.

    References
    ----------
    .. [1] Mann and Whitney, "On a test of whether one of two random variables is stochastically
       larger than the other", Ann. Math. Stat. 18, 1947.
    """
    trained = _is_trained(columns)
    if evidence.n_test < 2:
        return np.ones(len(trained))
    if evidence.classifies:
        train, test = (np.atleast_1d(floats(columns[f"{n}_score"])) for n in ("train", "test"))
        trained = trained & (train - test >= GAP)
        p = np.ones(len(trained))
        hits = _hits(train[trained], evidence.n_train, np.floor)
        others = _hits(test[trained], evidence.n_test, np.ceil)
        p[trained] = fisher_tail(hits, evidence.n_train, others, evidence.n_test)
        return p
    cost = np.atleast_1d(floats(columns["test_cost"])) - evidence.test_lowest
    own = np.atleast_1d(floats(columns["final_cost"])) - evidence.train_lowest
    p = np.atleast_1d(floats(columns["losses_p_value"]))
    # A negligible cost on both data is no overfitting.
    far = RATIO * own + NEGLIGIBLE * (evidence.train_constant - evidence.train_lowest)
    return np.where(trained & (cost > far) & ~np.isnan(p), p, 1.0)


@lru_cache(maxsize=1024)
def _cached_interval(hits: float, n: int) -> tuple[float, float]:
    """Return one interval: runs with the same test data have few different accuracies."""
    low, high = binomial_interval(hits, n)
    return float(low), float(high)


# --- sentences -----------------------------------------------------------------------------------


def share_in_words(flags: Sequence[bool] | NDArray[np.bool_]) -> str:
    """Return how many runs have a flag set.

    Examples
    --------
    >>> share_in_words([True, False, True]), share_in_words([True, True])
    ('2 of 3 runs', 'all runs')
    """
    n = np.count_nonzero(flags)
    return "all runs" if n == len(flags) else f"{n:,} of {len(flags):,} runs"


def sentences(row: Mapping[str, Any], evidence: Evidence) -> list[str]:
    """Return the verdict on one run, in short sentences.

    ========================================== ===================================================
    sentence                                   rule
    ========================================== ===================================================
    symmetry unbroken: ...                     all units of these layers are identical
    N% of outputs saturated at the start       a tenth or more; see :func:`saturated_shares`
    better than always guessing one class      lower limit of the exact 95 % interval of the
                                               accuracy [1]_ is above the accuracy of the guess
    worse than always guessing one class       its upper limit is below the lower limit of the
                                               accuracy of the guess, whose class is chosen as the
                                               most frequent one of the same examples
    too few to distinguish from guessing       all correct would not be enough for that
    better than a constant                     paired t statistic of the losses of the test data,
                                               two-sided level 5 %; R2 is positive
    overfits                                   Fisher's exact test [2]_ at 2.5 %, one-sided, and 5
                                               points between the accuracies; or larger losses of
                                               test examples by the rank-sum test [3]_ at 2.5 %, and
                                               a test cost above 1.5 times the training cost
    memorises the training data                overfits, the training accuracy is 99 % or more, and
                                               the test accuracy not above that of guessing
    stopped early after ...                    the tolerance ended the run before its iterations
    the course                                 :func:`judge_courses`
    ========================================== ===================================================

    Parameters
    ----------
    row : mapping of str to scalar
        The columns ``iterations, stopped, diverged_at, course, change, final_cost, train_score,
        test_score, test_cost, test_gain_error, losses_p_value, symmetric, saturated`` of the run.
    evidence : Evidence

    Returns
    -------
    list of str

    References
    ----------
    .. [1] Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of
       the binomial", Biometrika 26, 1934.
    .. [2] Fisher, "The logic of inductive inference", J. R. Stat. Soc. 98, 1935.
    .. [3] Mann and Whitney, "On a test of whether one of two random variables is stochastically
       larger than the other", Ann. Math. Stat. 18, 1947.
    """
    return [
        *symmetry_in_words(_layers(int(row["symmetric"]))),
        *saturation_in_words(float(row["saturated"])),
        *_prediction_in_words(row, evidence),
        *_stop_in_words(row),
        course_in_words(row, evidence),
    ]


def _stop_in_words(row: Mapping[str, Any]) -> list[str]:
    """Return a sentence about a run that its tolerance ended."""
    if int(row["stopped"]) != STOPPED.index("tol"):
        return []
    return [f"stopped early after {counted(int(row['iterations']), 'iteration')}"]


def _layers(bits: int) -> NDArray[np.bool_]:
    return np.array([bits >> place & 1 for place in range(max(bits.bit_length(), 1))], np.bool_)


def _prediction_in_words(row: Mapping[str, Any], evidence: Evidence) -> list[str]:
    """Return sentences about the predictions of a trained run."""
    if not _is_trained(row)[0]:
        return []
    p = float(better_p_values(row, evidence)[0])
    overfits = float(overfitting_p_values(row, evidence)[0]) <= ALPHA / 2
    if evidence.classifies:
        return _accuracy_in_words(row, evidence, p, overfits)
    if not evidence.n_test:
        return [f"R2 {row['train_score']:.3g} on training data (no test data were given)"]
    if evidence.n_test < MIN_TEST:
        return [_too_few(evidence)]
    better = "better" if p <= ALPHA / 2 else "not shown to be better"
    found = [f"{better} than a constant on test data (R2 {row['test_score']:.3g})"]
    if overfits:
        found.append(
            f"overfits: cost {row['final_cost']:.3g} in training, "
            f"{row['test_cost']:.3g} on test data"
        )
    return found


def _accuracy_in_words(
    row: Mapping[str, Any], evidence: Evidence, p: float, overfits: bool
) -> list[str]:
    train, chance = float(row["train_score"]), evidence.test_chance
    found = []
    if not evidence.n_test:
        better = "better" if p <= ALPHA / 2 else "not shown to be better"
        found.append(
            f"{better} than always guessing one class on training data, "
            f"{train:.1%} against {evidence.train_chance:.1%} (no test data were given)"
        )
    elif binomial_tail(evidence.n_test, evidence.n_test, chance) > ALPHA / 2:
        found.append(_too_few(evidence))
    else:
        test, n = float(row["test_score"]), evidence.n_test
        low, high = _cached_interval(float(_hits(test, n, np.floor)), n)
        claim = "not shown to be better"
        if p <= ALPHA / 2:
            claim = "better"
        elif high < _cached_interval(float(_hits(chance, n, np.floor)), n)[0]:
            claim = "worse"
        found.append(
            f"{claim} than always guessing one class on test data, {test:.1%} "
            f"(95% interval {low:.1%} to {high:.1%}) against {chance:.1%}"
        )
        if overfits and claim != "better" and test <= chance and train >= MEMORISED:
            found.append(f"memorises the training data, accuracy {train:.1%}")
        elif overfits:
            found.append(f"overfits: accuracy {train:.1%} in training, {test:.1%} on test data")
        return found
    if train == 1:
        found.append("all training examples are classified correctly")
    return found


def _too_few(evidence: Evidence) -> str:
    if evidence.test_chance == 1:
        return "the test data have one class only, which guessing always finds"
    return (
        f"{counted(evidence.n_test, 'test example')} {'is' if evidence.n_test == 1 else 'are'} too "
        f"few to distinguish from {'guessing' if evidence.classifies else 'a constant'}"
    )


def course_in_words(row: Mapping[str, Any], evidence: Evidence) -> str:
    """Return the course of the training of one run as a sentence."""
    name, change = COURSES[int(row["course"])], float(row["change"])
    if name == "diverged":
        return f"diverged at iteration {int(row['diverged_at']):,}"
    if name == "undefined":
        infinite = math.isinf(float(row["final_cost"]))
        return "cost infinite at the end" if infinite else "cost undefined in the last tenth"
    if name == "too early to tell":
        reason, done = "the cost has hardly left its start", int(row["iterations"])
        if done < FEWEST:
            reason = counted(done, "iteration")
        elif math.isnan(change):
            reason = "too few costs were recorded"
        return f"too early to tell whether it converges: {reason}"
    if name in ("falling", "rising"):
        agrees = change < 0 if name == "falling" else change > 0
        # The trend may be that of the last half, where the tenths are too noisy.
        by = f", {_percent(abs(change))} in the last tenth" if agrees else ""
        return f"cost still {name}{by}"
    if name == "oscillating":
        return "cost oscillates, no trend is shown"
    constant, lowest = evidence.train_constant, evidence.train_lowest
    near = abs(float(row["final_cost"]) - constant) <= LEFT * (constant - lowest)
    at = " the cost of a constant output" if near and constant > lowest else ""
    if name == "plateau":
        return f"on a plateau{' at' if at else ', not converged'}{at}"
    if name == "stationary":
        return f"stationary{' at' if at else ''}{at}: the gradient is zero"
    if name == "converged":
        # A cost that vanishes, as that of separable classes does, falls without end.
        vanished = float(row["final_cost"]) - lowest <= NEGLIGIBLE * (constant - lowest)
        to = " the lowest possible cost, up to 1e-6 of that of a constant" if vanished else at
        return f"converged{' to' if to else ''}{to}"
    return name


def _percent(share: float) -> str:
    return "less than 0.1%" if share < 0.001 else f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def verdict_of(columns: Mapping[str, NDArray[Any]], evidence: Evidence) -> str:
    """Return the verdict on the runs of one scheme.

    A single run has the verdict of :func:`sentences`. For several, it says in how many runs each
    claim holds. The runs share the test examples, so their hits are not added up: each run is
    tested by itself, and the p-values are corrected for the number of runs by :func:`holm`. With a
    probability of 95 %, the claim is true of all runs that are counted.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (k,)
        The columns of :func:`sentences`.
    evidence : Evidence

    Returns
    -------
    str
        Claims that are separated by semicolons.

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, _, _ = fi.lesson.load_dataset()
    >>> result = fi.compare(X, Y, fi.Network([2, 1]), "zeros", seed=[0, 1], iterations=10)
    >>> verdict_of(result.columns(), result.evidence).split("; ")[-2:]
    ['converged in all runs', 'median final cost 0.693']
    """
    k = len(columns["course"])
    if k == 1:
        return "; ".join(sentences({name: own[0] for name, own in columns.items()}, evidence))
    courses = np.asarray(columns["course"])
    parts = []
    symmetric = np.asarray(columns["symmetric"]) != 0
    if symmetric.any():
        parts.append(f"symmetry unbroken in {share_in_words(symmetric)}")
    saturated = np.asarray(columns["saturated"]) >= FEW_SATURATED
    if saturated.any():
        parts.append(f"outputs saturated at the start in {share_in_words(saturated)}")
    if _is_trained(columns).any():
        parts += _predictions_in_words(columns, evidence, k)
    early = np.asarray(columns["stopped"]) == STOPPED.index("tol")
    if early.any():
        parts.append(f"stopped early in {share_in_words(early)}")
    for code in _ORDER:
        here = courses == code
        if here.any():
            parts.append(f"{_IN_RUNS.get(COURSES[code], COURSES[code])} in {share_in_words(here)}")
    if _is_trained(columns).any() or (courses == CODES["diverged"]).any():
        low, median, high = (
            f"{cost:.3g}" if cost < math.inf else "infinite"
            for cost in quantiles(columns["final_cost"], QUARTILES)
        )
        spread = "" if low == high else f", quartiles {low} and {high}"
        parts.append(f"median final cost {median}{spread}")
    return "; ".join(parts)


def caution_of(
    columns: Mapping[str, NDArray[Any]], schemes: NDArray[np.integer[Any]], evidence: Evidence
) -> str:
    """Return a sentence if no run of any scheme is shown to be better than a constant prediction.

    A ranking then orders guesses. The rule is that of :func:`verdict_of`, for each scheme.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (k,)
        Those of ``PREDICTIONS``.
    schemes : ndarray of shape (k,), integers
        The number of the scheme of each run.
    evidence : Evidence

    Returns
    -------
    str
        Empty if a run is better, or if nothing can be said without test data.

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, X_test, Y_test = fi.lesson.load_dataset()
    >>> result = fi.compare(
    ...     X, Y, fi.Network([2, 1]), "zeros", test=(X_test, Y_test), seed=[0, 1], iterations=10
    ... )
    >>> caution_of(result.columns(), np.array([0, 0]), result.evidence)
    'No run is shown to be better than always guessing one class on test data.'
    """
    p = better_p_values(columns, evidence)
    runs = np.bincount(schemes)
    lowest = np.ones(len(runs))
    np.fmin.at(lowest, schemes, p)
    # holm() multiplies the lowest value by the number of runs. All are NaN without test data.
    if np.isnan(p).all() or (lowest <= ALPHA / 2 / np.maximum(runs, 1)).any():
        return ""
    guess, data = _baseline(evidence)
    return f"No run is shown to be better than {guess} on {data}."


def _baseline(evidence: Evidence) -> tuple[str, str]:
    """Return the constant prediction, and the data on which runs are compared with it."""
    guess = "always guessing one class" if evidence.classifies else "a constant"
    without = "training data (no test data were given)"
    return guess, "test data" if evidence.n_test else without


def _predictions_in_words(
    columns: Mapping[str, NDArray[Any]], evidence: Evidence, k: int
) -> list[str]:
    """Return in how many runs the claims about predictions hold."""
    n, (guess, data) = evidence.n_test, _baseline(evidence)
    if not n and not evidence.classifies:
        return ["no test data were given"]
    if n and (
        n < MIN_TEST
        if not evidence.classifies
        else float(binomial_tail(n, n, evidence.test_chance)) > ALPHA / 2
    ):
        return [_too_few(evidence)]
    better = holm(better_p_values(columns, evidence)) <= ALPHA / 2
    parts = [
        f"better than {guess} on {data} in {share_in_words(better)}"
        if better.any()
        else f"not shown to be better than {guess} on {data} in any run"
    ]
    overfits = holm(overfitting_p_values(columns, evidence)) <= ALPHA / 2
    memorises = np.zeros(k, dtype=np.bool_)
    if evidence.classifies and n:
        train, test = (floats(columns[f"{name}_score"]) for name in ("train", "test"))
        # Few test examples may not show that a network is better, although it is.
        guessed = ~better & (test <= evidence.test_chance)
        memorises = overfits & guessed & (train >= MEMORISED)
    for words, here in (
        ("memorises the training data", memorises),
        ("overfits", overfits & ~memorises),
    ):
        if here.any():
            parts.append(f"{words} in {share_in_words(here)}")
    return parts
