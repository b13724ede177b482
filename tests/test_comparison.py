import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit as fi


@pytest.fixture
def net():
    return fi.Network([2, 10, 5, 1])


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
    ("schemes", "keywords", "expected"),
    [
        ("zeros", {"iterations": 500}, "symmetry unbroken: the units of layers 1 and 2"),
        ("zeros", {"iterations": 500}, "learned nothing, converged"),
        ("he", {"iterations": 0}, "not trained"),
        ("he", {"learning_rate": 1e200, "iterations": 50}, "diverged at iteration"),
        ("random", {"iterations": 100}, "% of outputs saturated at the start"),
        ("he", {"learning_rate": 0.5, "iterations": 20_000}, "learned, "),
    ],
)
def test_verdicts_follow_the_run(net, circles, schemes, keywords, expected):
    state = np.random.get_state()
    np.random.seed(3)
    try:
        result = fi.compare(*circles[:2], net, [schemes], **keywords)
    finally:
        np.random.set_state(state)
    assert expected in result.verdict(schemes)


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
    with pytest.raises(ValueError, match="Y: expected shape"):
        fi.compare(X, Y, net, ["he"], test=(X_test, Y_test[0]))
