import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit as fi
from fastinit import comparison


def test_every_scheme_starts_alike(net, circles):
    """The order of the schemes changes nothing, and the global state stays where it was."""
    X, Y, _, _ = circles
    before = np.random.get_state()
    first = fi.compare(X, Y, net, ["random", "he", "zeros"], iterations=20)
    second = fi.compare(X, Y, net, ["zeros", "random", "he"], iterations=20)
    after = np.random.get_state()
    assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    for scheme in ("zeros", "random", "he"):
        assert_array_equal(first.starts[scheme], second.starts[scheme])
        assert_array_equal(first.runs[scheme].costs, second.runs[scheme].costs)
    assert_array_equal(first.starts["he"], net.initialize("he", seed=3))
    assert_array_equal(first.starts["random"], net.initialize("random"))
    assert_array_equal(first.runs["zeros"].theta[:20], np.zeros(20))


def test_seed_is_that_of_every_scheme(net, circles):
    X, Y, _, _ = circles
    result = fi.compare(X, Y, net, ["he", "random", "he_normal"], seed=8, iterations=1)
    for scheme in result.runs:
        assert_array_equal(result.starts[scheme], net.initialize(scheme, seed=8))


def test_table(net, circles):
    X, Y, X_test, Y_test = circles
    result = fi.compare(X, Y, net, ["zeros", "he"], test=(X_test, Y_test), iterations=50)
    table = result.table()
    assert table.columns == ["scheme", "train accuracy", "test accuracy", "final cost", "verdict"]
    assert len(table) == 2
    assert table[1]["train accuracy"] == net.accuracy(result.runs["he"].theta, X, Y)
    assert table[1]["test accuracy"] == net.accuracy(result.runs["he"].theta, X_test, Y_test)
    lines = repr(table).splitlines()
    assert len(lines) == 4
    assert lines[0].split()[0] == "scheme"
    assert repr(result) == repr(table)
    page = result._repr_html_()
    assert page.count("<tr>") == 3
    assert '<th scope="col">train accuracy</th>' in page


def test_without_test_data(net, circles):
    table = fi.compare(*circles[:2], net, ["he"], iterations=1).table()
    assert table[0]["test accuracy"] is None


def test_table_escapes():
    table = fi.Table([{"<b>": "<script>"}])
    assert "<script>" not in table._repr_html_()
    assert "&lt;script&gt;" in table._repr_html_()
    assert repr(fi.Table([])) == "(no rows)"


@pytest.mark.parametrize(
    ("scheme", "keywords", "expected"),
    [
        ("zeros", {"iterations": 500}, "symmetry unbroken: the units of layers 1 and 2"),
        ("zeros", {"iterations": 500}, "; no better than always guessing one class; converged"),
        ("he", {"iterations": 0}, "not trained"),
        ("he", {"iterations": 9}, "; too short a run to tell whether it converged"),
        ("he", {"learning_rate": 1e200, "iterations": 50}, "diverged at iteration"),
        ("random", {"iterations": 100}, "% of outputs saturated at the start"),
        ("random", {"learning_rate": 0, "iterations": 20}, "; cost infinite to the end"),
        ("he", {"learning_rate": 0, "iterations": 20}, "; converged"),
        ("he", {"learning_rate": 0.1, "iterations": 500}, "; cost still falling, "),
    ],
)
def test_verdicts_follow_the_run(lesson_net, circles, scheme, keywords, expected):
    seed = 3 if scheme == "random" else None
    result = fi.compare(*circles[:2], lesson_net, [scheme], seed=seed, **keywords)
    assert expected in result.verdict(scheme)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ([np.inf] * 20, "cost infinite to the end"),
        ([np.inf] * 19 + [1.0], "cost infinite until the last tenth"),
        ([1.0] * 10 + [np.inf] * 10, "cost infinite to the end"),
        ([0.0] * 20, "converged"),
        ([1.0] * 18 + [1.5, 2.0], "cost still rising, 100% in the last tenth"),
        ([1.0] * 18 + [0.7, 0.5], "cost still falling, 50% in the last tenth"),
    ],
)
def test_pace(costs, expected):
    assert comparison._pace(np.array(costs)) == expected


def test_callback_names_the_scheme(net, circles):
    seen = []
    fi.compare(
        *circles[:2], net, ["zeros", "he"], iterations=10,
        callback=lambda scheme, run: seen.append((scheme, run.iterations)),
    )  # fmt: skip
    assert [scheme for scheme, _ in seen if scheme == "zeros"]
    assert seen[-1] == ("he", 10)


@pytest.mark.parametrize(
    ("schemes", "error", "message"),
    [
        ("he", TypeError, "schemes: expected a sequence of names; got the string 'he'"),
        ([], ValueError, "schemes: expected at least one name; got none"),
        (["he", "he"], ValueError, "schemes: expected each name once; got he, he"),
        (["he", "xavier"], ValueError, "got 'xavier'"),
    ],
)
def test_bad_schemes(net, circles, schemes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        fi.compare(*circles[:2], net, schemes)


def test_bad_test_data(net, circles):
    X, Y, X_test, Y_test = circles
    with pytest.raises(ValueError, match=r"Y_test: expected shape \(1, 100\) to match X_test"):
        fi.compare(X, Y, net, ["he"], test=(X_test, Y_test[0]))
    with pytest.raises(ValueError, match=r"X_test: expected shape \(2, n_examples\)"):
        fi.compare(X, Y, net, ["he"], test=(X_test.T, Y_test))


def test_not_a_network(circles):
    with pytest.raises(TypeError, match="network: expected a Network; got list"):
        fi.compare(*circles[:2], [2, 1], ["he"])


def test_generator_is_one_seed_for_all(net, circles):
    result = fi.compare(
        *circles[:2], net, ["he_normal", "he"], iterations=1, seed=np.random.default_rng(0)
    )
    seed = int(np.random.default_rng(0).integers(2**32))
    for scheme in result.runs:
        assert_array_equal(result.starts[scheme], net.initialize(scheme, seed=seed))
