"""Tables and files become the arrays that are trained on; an error names file, column and row."""

import html
import io
import os
import re
import subprocess
import sys
import textwrap
import zipfile
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastinit as fi
from fastinit.comparison import readers
from fastinit.comparison.data import from_table, read

CSV = "a,b,c\n" + "1,2.5,x\n3,4.5,y\n" * 4


@pytest.fixture
def pd():
    return pytest.importorskip("pandas")


@pytest.fixture
def pq():
    pytest.importorskip("pandas")
    return pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def datasets():
    return pytest.importorskip("sklearn.datasets")


@pytest.fixture
def frame(pd):
    """Twelve rows with a column of each type."""
    return pd.DataFrame(
        {
            "age": np.arange(20, 32),
            "height": np.linspace(1.5, 2, 12),
            "city": ["Rome", "Oslo", "Paris", "Rome"] * 3,
            "smoker": [True, False, False] * 4,
            "species": ["cat", "dog", "eel"] * 4,
        }
    )


def refused(message, function, *arguments, error=ValueError, **options):
    with pytest.raises(error) as caught:
        function(*arguments, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def is_refused(*arguments):
    """Return whether a file is refused, with its name and in one line."""
    try:
        read(*arguments)
    except ValueError as error:
        message = str(error)
    else:
        return False
    assert message.startswith(f"{str(arguments[0])!r}: ")
    assert "\n" not in message
    return True


# --- tables ---------------------------------------------------------------------------------------


def test_a_data_frame_becomes_arrays(frame):
    found = from_table(frame, target="species", test_size=3)
    assert found.features == (
        "age", "height", "city=Oslo", "city=Paris", "city=Rome", "smoker",
    )  # fmt: skip
    assert (found.target, found.classes, found.output) == (
        "species",
        ("cat", "dog", "eel"),
        "softmax",
    )
    assert (found.X.shape, found.X.dtype) == ((6, 9), np.float64)
    assert (found.Y.shape, found.Y.dtype) == ((9,), np.int64)
    assert (found.test[0].shape, found.test[1].shape) == ((6, 3), (3,))
    assert sorted(found.test[1]) == [0, 1, 2]
    assert found.notes == (
        "target 'species': 3 classes (cat, dog, eel)",
        "column 'city': 3 categories, one-hot encoded",
        "3 of 12 rows held out for testing, stratified by class, seed 0",
        "features standardised with the means and standard deviations of the training rows",
    )
    assert repr(found).splitlines() == [
        "Dataset: 9 rows for training, 3 for testing, 6 features, output softmax",
        *(f"  {note}" for note in found.notes),
    ]
    assert all(html.escape(note) in found._repr_html_() for note in found.notes)
    assert found._repr_html_().startswith("<table>")


def test_values_without_split_and_standardising(frame):
    found = from_table(frame, "species", test_size=0, standardize=False)
    assert found.test is None
    assert_array_equal(found.X[0], frame["age"])
    assert_array_equal(found.X[1], frame["height"])
    for row, city in zip(found.X[2:5], ["Oslo", "Paris", "Rome"], strict=True):
        assert_array_equal(row, frame["city"] == city)
    assert_array_equal(found.X[5], frame["smoker"])
    assert_array_equal(np.array(found.classes)[found.Y], frame["species"])
    assert_array_equal(found.mean, np.zeros(6))
    assert_array_equal(found.scale, np.ones(6))
    assert "no rows held out for testing" in found.notes


def test_arrays_cannot_be_written_to(frame):
    found = from_table(frame, "species")
    for array in (found.X, found.Y, *found.test, found.mean, found.scale):
        assert not array.flags.writeable
        assert array.flags.c_contiguous
    with pytest.raises(AttributeError):
        found.X = None


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("load_iris", "softmax"),
        ("load_wine", "softmax"),
        ("load_breast_cancer", "sigmoid"),
        ("load_digits", "softmax"),
        ("load_diabetes", "identity"),
    ],
)
def test_datasets_of_scikit_learn(datasets, name, output):
    """Arrays and frames give the same; the moments are those of StandardScaler; it trains."""
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    bunch = getattr(datasets, name)()
    found = from_table(bunch.data, bunch.target)
    assert found.output == output
    framed = getattr(datasets, name)(as_frame=True).frame
    again = from_table(framed, target="target")
    assert again.features == tuple(bunch.feature_names)
    assert_array_equal(again.X, found.X)
    assert_array_equal(again.Y, found.Y)

    raw = from_table(bunch.data, bunch.target, standardize=False)
    scaler = preprocessing.StandardScaler().fit(raw.X.T)
    assert_allclose(found.mean, scaler.mean_, rtol=1e-12)
    assert_allclose(found.scale, scaler.scale_, rtol=1e-12)
    assert_allclose(found.X, scaler.transform(raw.X.T).T, atol=1e-9)
    assert_allclose(found.test[0], scaler.transform(raw.test[0].T).T, atol=1e-9)
    if output == "identity":
        assert_allclose(found.Y * found.target_scale + found.target_mean, raw.Y, rtol=1e-12)
        assert found.Y.mean() == pytest.approx(0, abs=1e-12)
        assert found.Y.std() == pytest.approx(1)

    net = found.network([4])
    assert net.sizes[-1] == (len(found.classes) if output == "softmax" else 1)
    result = fi.compare(found.X, found.Y, net, "he_normal", test=found.test, iterations=300)
    costs = result.trials[0].costs
    assert costs[-1] < costs[0]


@pytest.mark.parametrize(
    ("values", "kind", "output", "classes"),
    [
        (["no", "yes"], None, "sigmoid", ("no", "yes")),
        (["b", "a", "c"], None, "softmax", ("a", "b", "c")),
        ([True, False], None, "sigmoid", (False, True)),
        ([0, 1], None, "sigmoid", (0, 1)),
        ([-1.0, 1.0], None, "sigmoid", (-1, 1)),
        ([5, 3, 7], None, "softmax", (3, 5, 7)),
        (list(range(20)), None, "softmax", tuple(range(20))),
        (list(range(21)), None, "identity", None),
        (list(range(21)), "classes", "softmax", tuple(range(21))),
        ([0, 1, 2], "numbers", "identity", None),
        ([0, 1, 2], "counts", "exponential", None),
        ([0.5, 1], None, "identity", None),
        ([Decimal("0.5"), 1], None, "identity", None),
        ([10**30, 1], "numbers", "identity", None),
    ],
)
def test_classes_and_numbers(values, kind, output, classes):
    values = values * 4
    found = from_table(np.eye(len(values)), values, kind=kind, test_size=0, standardize=False)
    assert (found.output, found.classes) == (output, classes)
    decoded = found.Y.reshape(-1).tolist()
    if classes is not None:
        decoded = [classes[int(code)] for code in decoded]
    if classes is None:
        values = [float(each) for each in values]
    assert decoded == values
    assert found.network(3, activation="tanh").sizes == (
        len(values), 3, len(classes) if output == "softmax" else 1,
    )  # fmt: skip


def test_integers_that_occur_once_are_numbers():
    found = from_table(np.eye(5), [1, 1, 2, 2, 3])
    assert found.output == "identity"
    assert found.notes[0] == (
        "target 'y': numbers; 3 different integers are treated as numbers, kind='classes' treats "
        "them as classes"
    )
    assert from_table(np.eye(6), [1, 1, 2, 2, 3, 3]).notes[0] == (
        "target 'y': 3 classes (1, 2, 3); 3 different integers are treated as classes, "
        "kind='numbers' treats them as numbers"
    )


def test_counts_stay_counts():
    found = from_table(np.eye(4), [0, 3, 1, 7], kind="counts", test_size=0)
    assert_array_equal(found.Y, [[0, 3, 1, 7]])
    assert (found.target_mean, found.target_scale) == (0, 1)


def test_types_of_pandas(pd):
    frame = pd.DataFrame(
        {
            "Int64": pd.array([1, 2, 3, 4], dtype="Int64"),
            "Float32": pd.array([1.5, 2, 3, 4], dtype="Float32"),
            "boolean": pd.array([True, False, True, False], dtype="boolean"),
            "string": pd.array(["u", "v", "u", "v"], dtype="string"),
            "objects": np.array([1, 2.5, np.float32(3), np.int8(4)], dtype=object),
            "category": pd.Categorical(["1", "0", "1", "0"]),
            "interval": pd.cut([1, 2, 3, 4], 2),
            "sparse": pd.arrays.SparseArray([0.0, 0.0, 1.0, 0.0]),
            7: np.array([1, 2, 3, 4], dtype=np.uint64),
            "y": pd.Categorical(["lo", "hi", "lo", "hi"], categories=["lo", "mid", "hi"]),
        }
    )
    found = from_table(frame, "y", test_size=0, standardize=False)
    assert found.classes == ("lo", "hi"), "in the order of the categories, of those that occur"
    assert found.features == (
        "Int64", "Float32", "boolean", "string=u", "string=v", "objects", "category=0",
        "category=1", "interval=(0.997, 2.5]", "interval=(2.5, 4.0]", "sparse", "7",
    )  # fmt: skip
    assert_array_equal(found.X[1], [1.5, 2, 3, 4])
    assert_array_equal(found.X[5], [1, 2.5, 3, 4])
    assert_array_equal(found.X[7], [1, 0, 1, 0])
    assert from_table(frame, 7).target == "7"
    for y in (frame["y"], frame[["y"]], frame["y"].array):
        assert from_table(frame[["Int64"]], y).classes == ("lo", "hi")
    assert from_table(frame[["Int64"]], frame["y"]).target == "y"


def test_types_of_pyarrow_in_pandas(pd):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(
        {"i": [1, 2, 3, 4], "s": ["u", "v", "u", "v"], "y": [0.5, 1, 2, 3]}
    ).convert_dtypes(dtype_backend="pyarrow")
    assert from_table(frame, "y").features == ("i", "s=u", "s=v")
    frame.loc[2, "i"] = None
    refused("column 'i', row 2: expected a finite number or text", from_table, frame, "y")


def test_other_data_frames(frame):
    class Other:
        def to_pandas(self):
            return frame

    assert from_table(Other(), "species").features == from_table(frame, "species").features


# --- standardising --------------------------------------------------------------------------------


def test_constant_columns_become_zero_and_are_noted():
    X = np.column_stack([np.full(12, 0.1), np.arange(12), np.full(12, 1e300)])
    found = from_table(X, np.arange(12) % 2)
    assert_array_equal(found.X[[0, 2]], 0)
    assert "constant in the training rows, and 0 there after standardising: x0, x2" in found.notes


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1.0, 1e200, 1e306])
def test_no_scale_overflows(scale):
    found = from_table(np.arange(12)[:, None] * scale, np.arange(12) % 2)
    assert found.X.std() == pytest.approx(1, rel=1e-2 if scale == 1e-320 else 1e-12)


def test_numbers_that_cannot_be_standardised():
    X = np.array([[1.7e308], [-1.7e308]] * 6)
    refused("column 'x0': expected numbers that can be standardised", from_table, X, [0, 1] * 6)


def test_test_rows_have_no_part_in_the_moments():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), np.arange(40) % 2
    changed = X.copy()
    raw = from_table(X, y, standardize=False)
    held_out = [any((row == other).all() for other in raw.test[0].T) for row in X]
    changed[held_out] *= 1000
    assert_array_equal(from_table(changed, y).X, from_table(X, y).X)


# --- the split ------------------------------------------------------------------------------------


def rows_of(found):
    """Return the rows for training and testing of a table whose feature is the row's number."""
    return found.X[0].astype(int), found.test[0][0].astype(int)


def split(y, **options):
    return rows_of(
        from_table(np.arange(len(y))[:, None], y, standardize=False, kind="classes", **options)
    )


def test_proportions_are_those_of_scikit_learn():
    hypothesis = pytest.importorskip("hypothesis")
    selection = pytest.importorskip("sklearn.model_selection")
    st = hypothesis.strategies

    @hypothesis.given(
        counts=st.lists(st.integers(2, 60), min_size=2, max_size=6),
        test_size=st.floats(0.05, 0.6),
        seed=st.integers(0, 2**63 - 1),
    )
    @hypothesis.settings(deadline=None, max_examples=50)
    def check(counts, test_size, seed):
        y = np.repeat(np.arange(len(counts)), counts)
        n = len(y)
        n_test = int(np.ceil(test_size * n))
        hypothesis.assume(len(counts) <= n_test <= n - 2 * len(counts))
        train, test = split(y, test_size=test_size, seed=seed)
        assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(n))
        assert len(test) == n_test
        assert_array_equal(train, np.sort(train))
        _, theirs = selection.train_test_split(
            np.arange(n), test_size=test_size, stratify=y, random_state=0
        )
        assert len(theirs) == n_test
        ours = np.bincount(y[test], minlength=len(counts))
        # Both round every share up or down; scikit-learn settles equal remainders at random.
        quota = n_test * np.array(counts) / n
        assert (np.abs(ours - quota) < 1).all()
        assert (np.abs(ours - np.bincount(y[theirs], minlength=len(counts))) <= 1).all()
        assert (np.bincount(y[train]) >= 1).all()

    check()


def test_exact_shares_where_there_are_any():
    _, test = split(np.repeat([0, 1, 2], [40, 80, 120]), test_size=0.25)
    assert_array_equal(np.bincount(np.repeat([0, 1, 2], [40, 80, 120])[test]), [10, 20, 30])


def test_equal_remainders_go_to_the_larger_class():
    """Two of eight rows are half a row of the first class and one and a half of the second."""
    for order in ([0, 1], [1, 0]):
        y = np.repeat(order, [2, 6])
        _, test = split(y, test_size=2)
        assert_array_equal(y[test], order[1])


def test_a_target_of_another_type_is_no_label(pd):
    """True == 1 == 1.0, but a column 1 was not meant by True."""
    frame = pd.DataFrame(np.eye(6), columns=[0, 1, 2, 3, 4, 5])
    assert from_table(frame, 1).target == "1"
    for target in (True, 1.0):
        with pytest.raises(ValueError, match="target: expected one of the columns"):
            from_table(frame, target)


def test_split_is_reproducible_and_seeded():
    y = np.arange(24) % 2
    # The bits of PCG64 and SeedSequence are guaranteed, so these rows are too.
    assert split(y, seed=0)[1].tolist() == [4, 6, 9, 15, 21, 22]
    assert split(y, seed=1)[1].tolist() != split(y, seed=0)[1].tolist()


def test_the_rows_for_validation_have_random_bits_of_their_own():
    rows = np.arange(20.0)
    data = from_table(
        rows[:, None], rows**2, test_size=8, validation_size=4, seed=5, standardize=False
    )
    left = np.setdiff1d(rows, data.test[0])
    order = np.argsort(np.random.PCG64([5, 0, 1]).random_raw(12))
    assert_array_equal(data.validation[0][0], np.sort(left[order[:4]]))


def test_split_does_not_depend_on_the_order_of_the_classes():
    """Of each class the same examples, whether its rows are together or not."""
    apart = np.arange(24) % 2
    together = np.sort(apart)
    _, test_apart = split(apart)
    _, test_together = split(together)
    rank = np.concatenate([np.flatnonzero(apart == 0), np.flatnonzero(apart == 1)])
    assert_array_equal(np.sort(rank[test_together]), test_apart)


def test_a_class_with_one_example_is_trained_with_it():
    y = ["rare", *["a", "b"] * 10]
    found = from_table(np.eye(21), y)
    assert np.count_nonzero(found.Y == 2) == 1
    assert "classes without test rows: rare" in found.notes


@pytest.mark.parametrize("test_size", [0, 0.0, None])
def test_no_split(test_size):
    assert from_table(np.eye(8), [0, 1] * 4, test_size=test_size).test is None


def test_sizes_of_the_split():
    for test_size, n_test in [(1, 1), (5, 5), (np.int64(5), 5), (0.1, 3), (0.34, 7)]:
        found = from_table(np.eye(20), np.arange(20) / 3, test_size=test_size)
        expected = n_test if test_size != 0.1 else 2
        assert found.test[0].shape == (20, expected)


def test_validation_rows():
    """Taken from the training rows by class; the test rows are those of a split without them."""
    y = np.repeat([0, 1], [20, 60])
    X = np.arange(80.0)[:, None]
    plain = from_table(X, y, standardize=False)
    assert plain.validation is None
    found = from_table(X, y, validation_size=0.2, standardize=False)
    assert_array_equal(found.test[0], plain.test[0])
    parts = [found.X[0], found.validation[0][0], found.test[0][0]]
    assert_array_equal(np.sort(np.concatenate(parts)), X[:, 0])
    assert [np.bincount(Y[0].astype(int)).tolist() for Y in (found.validation[1], found.Y)] == [
        [3, 9],
        [12, 36],
    ]
    note = "12 of 60 training rows held out for validation, stratified by class, seed 0"
    assert note in found.notes
    assert repr(found).startswith(
        "Dataset: 48 rows for training, 12 for validation, 20 for testing"
    )
    other = from_table(X, y, validation_size=0.2, seed=1, standardize=False)
    assert not np.array_equal(other.validation[0], found.validation[0])
    # Like the test rows, they do not take part in the means.
    scaled = from_table(X, y, validation_size=12)
    assert scaled.mean == pytest.approx(found.X.mean())
    assert_allclose(scaled.validation[0], (found.validation[0] - scaled.mean) / scaled.scale)
    given = from_table(X, y, test=(X[:4], y[:4]), validation_size=8)
    assert given.validation[1].shape == (1, 8)
    assert given.test[1].shape == (1, 4)
    refused("validation_size: expected a share in [0, 1)", from_table, X, y, validation_size=1.0)
    refused("validation_size: expected at most 58 of 60 rows", from_table, X, y, validation_size=59)


def test_many_numbers_as_classes_are_doubted():
    """In one line, also if many of them have no test row."""
    y = np.repeat(np.arange(40), 2)
    found = from_table(np.eye(80), y, kind="classes")
    assert "40 different numbers are many for classes, kind='numbers'" in found.notes[0]
    assert sum("test rows" in note for note in found.notes) == 1
    assert any(note.endswith("(20 in all)") for note in found.notes)


def test_given_test_rows(frame):
    found = from_table(frame[:9], "species", test=(frame[9:], "species"))
    assert_array_equal(found.test[1], [0, 1, 2])
    assert "3 rows for testing, as given" in found.notes
    X, y = np.arange(12.0).reshape(6, 2), np.arange(6) % 2
    found = from_table(X, y, test=(X[:2] + 1, y[:2]), standardize=False)
    assert_array_equal(found.test[0], X[:2].T + 1)
    assert_array_equal(found.X, X.T)
    refused("test: expected the features x0, x1; got x0", from_table, X, y, test=(X[:, :1], y))
    refused("test: expected classes of the training", from_table, X, y, test=(X, [0, 1, 2] * 2))
    refused("test: expected numbers or text as in", from_table, X, y, test=(X, ["a"] * 6))
    refused("test: expected a pair", from_table, X, y, test=X, error=TypeError)
    refused(
        "target, row 1 of the test rows: expected a count >= 0; got -1",
        from_table, X, y, test=(X[:2], [1, -1]), kind="counts",
    )  # fmt: skip


# --- what is refused ------------------------------------------------------------------------------


def test_the_target_must_be_a_column(frame):
    columns = "target: expected one of the columns age, height, city, smoker, species; got "
    refused(columns + "None", from_table, frame)
    refused(columns + "'specis' (did you mean species?)", from_table, frame, "specis")
    refused(columns + "4", from_table, frame, 4)
    refused("target: expected an array, or the name", from_table, np.eye(3), "x", error=TypeError)
    refused("target: expected an array, or the name", from_table, np.eye(3), error=TypeError)
    wide = type(frame)(np.zeros((2, 500)), columns=[f"pixel{i}" for i in range(500)])
    refused("pixel9, ... (500 in all); got 'label'", from_table, wide, "label")


def test_column_names_must_differ(frame):
    frame.columns = ["age", "age", "city", "smoker", "species"]
    refused("columns: expected every name once; got 'age' twice", from_table, frame, "species")
    frame.columns = ["city=Rome", "height", "city", "smoker", "species"]
    refused("columns: expected every name once; got 'city=Rome'", from_table, frame, "species")


@pytest.mark.parametrize("value", [None, np.nan, np.inf, -np.inf, "NA"])
@pytest.mark.parametrize("column", ["age", "height", "city", "smoker", "species"])
def test_missing_values_are_refused_with_their_place(pd, frame, column, value):
    if value == "NA":
        value = pd.NA
    frame[column] = frame[column].astype(object)
    frame.loc[7, column] = value
    message = f"column {column!r}, row 7: expected a finite number or text; got "
    refused(message, from_table, frame, "species")
    if column in ("age", "height") and value is not pd.NA and value is not None:
        frame[column] = frame[column].astype(float)
        found = "infinity" if np.isinf(value) else "a missing value"
        refused(message + found, from_table, frame, "species")
    frame.loc[9, "height"] = np.nan
    refused("; 2 values are missing or infinite, in ", from_table, frame, "species")
    refused(
        "or fill them in, for example with pandas.DataFrame.dropna", from_table, frame, "species"
    )


def test_data_frames_with_text_are_referred_to_from_table(pd, frame):
    for X in (frame.T, frame["city"]):
        with pytest.raises(TypeError, match=r"^X: .*fastinit\.comparison\.from_table encodes"):
            fi.compare(X, np.zeros((1, 12)), fi.Network([5, 2, 1]), "zeros")
    assert fi.comparison.from_table is from_table
    assert fi.comparison.read is read


def test_missing_values_in_arrays():
    X = np.ones((4, 3))
    X[2, 1] = np.nan
    message = "table, column 1, row 2: expected a finite number or text; got a missing value"
    refused(message, from_table, X, [0, 1] * 2)
    refused("target, row 1: expected a finite", from_table, np.eye(4), [0.5, np.inf, 1, 2])
    refused("target, row 3: expected a finite", from_table, np.eye(4), ["a", "b", "a", None])
    refused("target, row 3: expected a finite", from_table, np.eye(4), ["a", "b", "a", " "])
    table = [["a", 1], ["b", float("nan")]]
    refused("table, column 1, row 1: expected a finite", from_table, table, [1, 2])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array(["2020-01-01"] * 12, "M8[s]"), "got dates or times"),
        (np.arange(12).astype("m8[s]"), "got dates or times"),
        ([date(2020, 1, 1)] * 12, "row 0: expected a number or text; got a date or a time"),
        ([datetime(2020, 1, 1)] * 12, "row 0: expected a number or text; got a date or a time"),
        (["2020-01-01", "2020-01-02"] * 6, "got dates, such as '2020-01-01'"),
        (["1/2/2020", "13.12.99"] * 6, "got dates, such as '1/2/2020'"),
        ([f"name {i}" for i in range(51)], "at most 50 categories; got 51, such as 'name 0'"),
        (["1", "2", "3"] * 4, "got numbers as text, such as '1'"),
        (["1,5", "2", "3"] * 4, "got numbers as text, such as '1,5'"),
        (["1", "2", "?"] * 4, "row 2: expected a number, as in most rows; got '?'"),
        ([1, "a"] * 6, "row 1: expected a number, as in row 0; got text"),
        ([True, 2] * 6, "row 1: expected a bool, as in row 0; got a number"),
        ([b"x"] * 12, "row 0: expected a number or text; got an object of type bytes"),
        ([{}] * 12, "row 0: expected a number or text; got an object of type dict"),
        (np.full(12, 1j), "expected numbers or text; got dtype complex128"),
        ([10**400] * 12, "expected finite float64 numbers"),
    ],
)
def test_columns_that_are_no_features(pd, values, message):
    frame = pd.DataFrame({"when": pd.Series(values, dtype=getattr(values, "dtype", object))})
    frame["y"] = np.arange(len(frame)) / 2
    refused(message, from_table, frame, "y")
    with pytest.raises(ValueError, match=r"^column 'when'"):
        from_table(frame, "y")


def test_dates_with_a_zone_and_periods(pd):
    when = pd.date_range("2020-01-01", periods=6, tz="UTC")
    refused("a date or a time", from_table, pd.DataFrame({"when": when, "y": range(6)}), "y")
    when = pd.period_range("2020-01", periods=6, freq="M")
    refused("type Period", from_table, pd.DataFrame({"when": when, "y": range(6)}), "y")


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.eye(3), ["a"] * 3, "target: expected at least two classes; got ('a',)"),
        (np.eye(3), [0.5] * 3, "target: expected at least two different numbers; got 0.5 alone"),
        (np.eye(4), list("abcd"), "expected classes of at least two examples on average; got 4"),
        (np.ones((1, 2)), [1], "expected at least two examples; got 1"),
        (np.ones((0, 2)), [], "expected at least two examples; got 0"),
        (np.ones((3, 0)), [0, 1, 2], "table: expected at least one feature; got none"),
        (np.ones((2, 30)), np.arange(30), "to match target (30,); got (2, 30): transposed?"),
        (np.ones((2, 30)), np.arange(29), "to match target (29,); got (2, 30)"),
        (np.ones(3), [0, 1, 2], "table: expected shape (n_examples, n_features); got (3,)"),
        (np.ones((3, 2)), np.ones((1, 3)), "target: expected shape (n_examples,); got (1, 3)"),
        (np.ones((3, 2)), np.ones((3, 2)), "target: expected shape (n_examples,); got (3, 2)"),
        ([[1, 2], [3]], [0, 1], "table: expected an array"),
        (np.eye(2), [0, 1.5], None),
        (np.eye(2), [True, False], "test_size: expected at most 0 of 2 rows, because one row of"),
    ],
)
def test_shapes_that_do_not_match(X, y, message):
    if message is None:
        assert from_table(X, y).test[0].shape == (2, 1)
    else:
        refused(message, from_table, X, y)


def test_a_transposed_frame(frame, pd):
    numbers = frame[["age", "height"]]
    message = "to match target (12,); got (2, 12): transposed?"
    refused(message, from_table, numbers.T, frame["species"])
    assert from_table(numbers, np.arange(12)[:, None] / 7).Y.shape == (1, 9)


def test_sparse_and_masked_arrays():
    sparse = pytest.importorskip("scipy.sparse")
    refused("use its toarray()", from_table, sparse.csr_array(np.eye(3)), [1, 2], error=TypeError)
    masked = np.ma.masked_array(np.eye(3))
    refused("got a masked array", from_table, masked, [0, 1, 2], error=TypeError)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kind": "class"}, ValueError, "kind: expected one of classes, numbers, counts"),
        ({"kind": 1}, TypeError, "kind: expected a string"),
        ({"test_size": 1.0}, ValueError, "test_size: expected a share in [0, 1); got 1.0"),
        ({"test_size": -0.1}, ValueError, "test_size: expected a share in [0, 1)"),
        ({"test_size": float("nan")}, ValueError, "test_size: expected a share in [0, 1)"),
        ({"test_size": -1}, ValueError, "test_size: expected an integer from 0"),
        ({"test_size": 12}, ValueError, "test_size: expected at most 9 of 12 rows"),
        ({"test_size": "x"}, TypeError, "test_size: expected an integer"),
        ({"test_size": True}, TypeError, "test_size: expected an integer"),
        ({"seed": -1}, ValueError, "seed: expected an integer from 0"),
        ({"seed": None}, TypeError, "seed: expected an integer"),
        ({"standardize": 1}, TypeError, "standardize: expected True or False"),
        ({"kind": "numbers"}, ValueError, "column 'species': expected numbers for kind='numbers'"),
    ],
)
def test_options(frame, tmp_path, options, error, message):
    refused(message, from_table, frame, "species", error=error, **options)
    frame.to_csv(tmp_path / "a.csv", index=False)
    refused(message, read, tmp_path / "a.csv", "species", error=error, **options)


def test_targets_for_a_kind():
    refused("target, row 1: expected integers, text or bools as classes; got 1.5",
            from_table, np.eye(4), [1, 1.5, 2, 2], kind="classes")  # fmt: skip
    refused("target, row 2: expected a count >= 0; got -2",
            from_table, np.eye(4), [1, 1, -2, 2], kind="counts")  # fmt: skip
    refused("target: expected numbers for kind='counts'; got bools",
            from_table, np.eye(4), [True, False] * 2, kind="counts")  # fmt: skip


# --- files ----------------------------------------------------------------------------------------


def same(one, two):
    assert one.features == two.features
    assert (one.target, one.classes, one.output) == (two.target, two.classes, two.output)
    assert_array_equal(one.X, two.X)
    assert_array_equal(one.Y, two.Y)
    assert_array_equal(one.test[0], two.test[0])
    assert_array_equal(one.test[1], two.test[1])


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".CSV"])
def test_files_hold_what_the_frame_held(frame, tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    same(read(path, "species"), from_table(frame, "species"))
    same(read(str(path), target="height"), from_table(frame, "height"))


def test_every_number_comes_back(pd, tmp_path):
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    pyarrow = pytest.importorskip("pyarrow")
    assert pyarrow
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    labels = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=5)

    @hypothesis.given(
        st.lists(st.tuples(numbers, numbers), min_size=4, max_size=20),
        labels,
        st.sampled_from([".csv", ".tsv", ".parquet", ".npz"]),
    )
    @hypothesis.settings(deadline=None, max_examples=100)
    def check(rows, label, suffix):
        X = np.array(rows)
        y = np.array([f"u{label}", f"v{label}"])[np.arange(len(X)) % 2]
        path = tmp_path / f"table{suffix}"
        frame = pd.DataFrame(X, columns=["a", "b"]).assign(y=y)
        if suffix == ".npz":
            np.savez(path, X=X, y=y)
        elif suffix == ".parquet":
            frame.to_parquet(path)
        else:
            frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
        found = read(path, "y", test_size=0, standardize=False)
        assert_array_equal(found.X, X.T)
        assert [found.classes[int(code)] for code in found.Y[0]] == y.tolist()

    check()


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        (CSV, []),
        ("\ufeff" + CSV, []),
        (CSV.replace("\n", "\r\n"), []),
        ("\n" + CSV.replace("\n", "\n\n") + "\n  \n", []),
        (CSV.replace(",", ", "), []),
        (CSV.replace("a,b", '"a","b"'), []),
        (CSV.replace(",", ";"), ["separator: ';'"]),
        (CSV.replace(",", "\t"), ["separator: '\\t'"]),
        (CSV.replace(",", ";").replace(".", ","), ["separator: ';'", "decimal mark: ','"]),
    ],
)
def test_dialects(pd, tmp_path, text, notes):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    found = read(path, "c", test_size=0, standardize=False)
    assert found.features == ("a", "b")
    assert_array_equal(found.X, [[1, 3] * 4, [2.5, 4.5] * 4])
    assert found.classes == ("x", "y")
    assert list(found.notes[: len(notes)]) == notes
    assert len(found.notes) == 2 + len(notes)


def test_a_row_that_the_sample_cuts_does_not_change_the_separator(pd, tmp_path):
    """A quoted field has a line break after the last line of the sample; commas fit as well."""
    rows = ["length, m;colour;kind", *['1,5;"red";a', '2,5;"blue";b'] * 100]
    rows[readers.SAMPLE - 1] = '9,5;"red\nand blue";a'
    path = tmp_path / "a.csv"
    path.write_text("\n".join(rows))
    found = read(path, "kind", test_size=0)
    assert found.features[0] == "length, m"
    assert found.notes[:2] == ("separator: ';'", "decimal mark: ','")


def test_row_numbers_of_pandas_are_left_out(frame, tmp_path):
    frame.to_csv(tmp_path / "a.csv")
    found = read(tmp_path / "a.csv", "species")
    same(found, from_table(frame, "species"))
    assert found.notes[0] == "column 0, which has no name and numbers the rows, left out"
    frame.set_index("age").to_csv(tmp_path / "a.csv", index_label="")
    refused("expected a name for every column; got none for column 0", read, tmp_path / "a.csv")


def test_an_index_in_parquet_is_left_out_and_noted(frame, pq, tmp_path):
    frame.set_index("age").to_parquet(tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet", "species")
    assert found.notes[0] == "index of the data frame left out"
    assert found.features[0] == "height"


def test_columns_may_be_called_by_numbers(pd, tmp_path):
    (tmp_path / "a.csv").write_text("label,0,1\n" + "5,1,2\n7,2,3\n" * 3)
    assert read(tmp_path / "a.csv", "label").features == ("0", "1")


BAD_CSV = {
    "missing": (CSV + "1,,x\n", "column 'b', row 8 (line 10 of the file): expected a finite"),
    "NA": (CSV + "1,NA,x\n", "column 'b', row 8 (line 10 of the file): expected a finite"),
    "no class": (CSV + "1,2,\n", "column 'c', row 8 (line 10 of the file): expected a finite"),
    "inf": (CSV + "1,-inf,x\n", "row 8 (line 10 of the file): expected a finite number or text; "
            "got infinity"),
    "blank lines": (CSV + "\n\n1,,x\n", "column 'b', row 8 (line 12 of the file)"),
    "quoted lines": (CSV + '1,2,"x\ny"\n1,,x\n', "column 'b', row 9 (line 12 of the file)"),
    "first row": ("a,b,c\n1,,x\n" + CSV[6:], "column 'b', row 0 (line 2 of the file)"),
    "text": (CSV + "1,oops,x\n", "column 'b', row 8 (line 10 of the file): expected a number, as "
             "in most rows; got 'oops'"),
    "short": (CSV + "1,2\n", "column 'c', row 8 (line 10 of the file): expected a finite"),
    "long": (CSV + "1,2,x,4\n", "Expected 3 fields in line 10, saw 4"),
    "all long": ("a,b,c\n" + "1,2,x,4\n" * 5, "expected 3 fields in every line, as in the first"),
    "trailing": ("a,b,c\n" + "1,2,x,\n" * 5, "expected 3 fields in every line, as in the first"),
    "open quote": (CSV + '1,2,"x\n', "EOF inside string"),
    "no header": ("1,2.5,3\n" * 5, "a first line with the names of the columns; got numbers: 1, 2"),
    "no header, text": ("1,2.5,x\n" * 5, "a first line with the names of the columns; got numbers"),
    "twice": ("a,a,c\n" + "1,2,x\n" * 5, "columns: expected every name once; got 'a' twice"),
    "no name": ("a,,c\n" + "1,2,x\n" * 5, "expected a name for every column; got none for column "
                "1"),
    "one column": ("c\n" + "x\ny\n" * 5, "at least two columns, separated by commas, semicolons"),
    "pipes": (CSV.replace(",", "|"), "got ['a|b|c']"),
    "empty": ("", "expected data; got an empty file"),
    "blank": ("\n\n", "expected the names of at least two columns"),
    "header alone": ("a,b,c\n", "expected at least two examples; got 0"),
    "dates": ("a,b,c\n" + "2020-01-01,2,x\n2020-01-02,3,y\n" * 5, "got dates, such as '2020-01-0"),
    "UTF-16": (CSV.encode("utf-16"), "line 1: expected text in UTF-8; got the byte 0xff"),
    "Latin-1": ((CSV + "1,é,x\n").encode("latin-1"), "line 10: expected text in UTF-8; got the by"),
    "half": (CSV.encode() + "é".encode()[:1], "line 10: expected text in UTF-8; got half a char"),
    "NUL": (CSV + "1,\0,x\n", "line 10: expected text; got the byte 0x00"),
    "garbage": (np.random.default_rng(0).bytes(100_000), "line 1: expected text"),
    "long line": ("a" * 3_000_000, "line 1: expected at most 1,048,576 characters; got more"),
    "commas": ("," * 1_000_000, "columns: expected every name once; got '' twice"),
    "long field": (CSV.replace("2.5", "z" * 200_000), "'a.csv': "),
    "no target": (CSV.replace("c", "d"), "target: expected one of the columns a, b, d; got 'c'"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD_CSV.values(), ids=BAD_CSV)
def test_bad_csv(pd, tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    refused(message, read, "a.csv", "c")
    with pytest.raises(ValueError, match=r"^'a\.csv': "):
        read("a.csv", "c")


def test_wide_tables(pd, tmp_path):
    """Also wider than the longest field that the csv module takes."""
    names = [f"pixel{i}" for i in range(20_000)]
    row = ",".join(["1.5"] * 20_000)
    text = "\n".join([",".join(["label", *names]), *[f"{c},{row}" for c in "abab"]])
    (tmp_path / "a.csv").write_text(text)
    assert len(read(tmp_path / "a.csv", "label").features) == 20_000


def test_tabs_alone_in_tsv(pd, tmp_path):
    (tmp_path / "a.tsv").write_text(CSV)
    refused("at least two columns, separated by tabs; got ['a,b,c']", read, tmp_path / "a.tsv")


def test_parquet_of_other_types(pq, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"

    def write(**columns):
        pq.write_table(pyarrow.table(columns | {"c": ["x", "y"] * 3}), path)

    write(a=[Decimal("1.5"), Decimal(2)] * 3, b=["long" * 10**5] * 3 + ["short"] * 3)
    found = read(path, "c", test_size=0)
    assert len(found.features) == 3
    for values, message in [
        ([[1]] * 6, "got an object of type ndarray"),
        ([b"1"] * 6, "got an object of type bytes"),
        ([date(2020, 1, 1)] * 6, "got a date or a time"),
        ([1, 2, None, 4, 5, 6], "column 'a', row 2: expected a finite number or text"),
        (["u", "v", None, "u", "v", "u"], "column 'a', row 2: expected a finite number or text"),
    ]:
        write(a=values)
        refused(message, read, path, "c")
        refused(repr(str(path)), read, path, "c")
    columns = [pyarrow.array([1, 2])] * 2
    pq.write_table(pyarrow.Table.from_arrays(columns, names=["a", "a"]), path)
    refused("columns: expected every name once; got 'a' twice", read, path, "a")


def test_damaged_parquet(frame, pq, tmp_path):
    """Whatever bytes are changed: a dataset, or an error that names the file."""
    path = tmp_path / "a.parquet"
    frame.to_parquet(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    cut = [whole[:length] for length in range(0, len(whole), 97)]
    spoiled = []
    for _ in range(100):
        changed = bytearray(whole)
        changed[int(rng.integers(4, len(whole) - 8))] = int(rng.integers(256))
        spoiled.append(bytes(changed))
    garbage = [b"PAR1", b"PAR1" + rng.bytes(1000) + b"PAR1", rng.bytes(1000)]
    n_refused = 0
    for content in [*cut, *garbage, *spoiled]:
        path.write_bytes(content)
        n_refused += is_refused(path, "species")
    assert n_refused >= len(cut) + len(garbage)


# --- npz ------------------------------------------------------------------------------------------


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {"X": rng.normal(size=(30, 2)), "y": np.array(["u", "v", "w"] * 10)}


def test_npz(tmp_path, arrays):
    np.savez_compressed(tmp_path / "a.npz", **arrays, other=np.zeros(3))
    same(read(tmp_path / "a.npz"), from_table(arrays["X"], arrays["y"]))
    np.savez(tmp_path / "a.npz", X=np.asfortranarray(arrays["X"]), price=np.arange(30) / 7)
    assert read(tmp_path / "a.npz", "price").target == "price"
    np.savez(tmp_path / "a.npz", **arrays, X_test=arrays["X"][:3] + 1, y_test=arrays["y"][:3])
    found = read(tmp_path / "a.npz", standardize=False)
    assert_array_equal(found.test[0], arrays["X"][:3].T + 1)
    assert_array_equal(found.test[1], [0, 1, 2])
    assert "3 rows for testing, as given" in found.notes


NAN = np.where(np.arange(60).reshape(30, 2) == 7, np.nan, 1.0)
BAD_NPZ = {
    "transposed": ({"X": np.ones((2, 30))}, "X: expected shape (n_examples, n_features) to match y "
                   "(30,); got (2, 30): transposed?"),
    "no y": ({"y": None}, "expected arrays X and y, and X_test and y_test or none of these; got X"),
    "no X": ({"X": None}, "expected arrays X and y, and X_test and y_test or none of these; got y"),
    "half": ({"X_test": np.ones((3, 2))}, "got X, X_test, y"),
    "missing": ({"X": NAN}, "X, column 1, row 3: expected a finite number or text"),
    "missing test": ({"X_test": NAN, "y_test": np.array(["u"] * 30)}, "X_test, column 1, row 3: "),
    "objects": ({"X": np.ones((30, 2), object)}, "X.npy: expected numbers or text; got objects"),
    "object labels": ({"y": np.array(["u"] * 30, object)}, "y.npy: expected numbers or text; got"),
    "records": ({"X": np.ones(30, [("a", "O")])}, "X.npy: expected numbers or text; got objects"),
    "structured": ({"X": np.ones((30, 2), [("a", "f8")])}, "expected numbers or text; got dtype"),
    "bytes": ({"y": np.array([b"u", b"v"] * 15)}, "y: expected numbers or text; got dtype |S1"),
    "complex": ({"X": np.ones((30, 2)) * 1j}, "expected numbers or text; got dtype complex128"),
    "dates": ({"X": np.zeros((30, 2), "M8[D]")}, "expected numbers or text; got dates or times"),
    "rank": ({"X": np.ones(30)}, "X: expected shape (n_examples, n_features); got (30,)"),
    "scalar": ({"y": np.array(1)}, "y: expected shape (n_examples,); got ()"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BAD_NPZ.values(), ids=BAD_NPZ)
def test_bad_arrays(tmp_path, arrays, changes, message):
    kept = {name: value for name, value in (arrays | changes).items() if value is not None}
    np.savez(tmp_path / "a.npz", **kept)
    refused(message, read, tmp_path / "a.npz")
    refused(repr(str(tmp_path / "a.npz")), read, tmp_path / "a.npz")


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(**fields):
    file = io.BytesIO()
    fields = {"descr": "<f8", "fortran_order": False, "shape": (30, 2)} | fields
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue()


def zipped(path, X, *, compression=zipfile.ZIP_STORED, name="X.npy"):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("y.npy", npy(np.arange(30) % 3))
        archive.writestr(name, X)


X_NPY = npy(np.random.default_rng(0).normal(size=(30, 2)))
BAD_MEMBERS = {
    "too few bytes": X_NPY[:-8],
    "too many bytes": X_NPY + bytes(8),
    "nothing": b"",
    "no npy": b"x" * 1000,
    "huge shape": header(shape=(1 << 40, 2)) + bytes(480),
    "huge product": header(shape=(1 << 62, 4)) + bytes(480),
    "negative shape": header(shape=(-30, -2)) + bytes(480),
    "huge header": b"\x93NUMPY\1\0\xff\xff" + b"(" * 65535,
    "deep header": b"\x93NUMPY\1\0\x00\x20" + b"(" * 8192,
    "version 3": b"\x93NUMPY\3\0" + X_NPY[8:],
    "empty text": header(descr="<U0") + bytes(480),
    "subarrays": header(descr=("<f8", (2,)), shape=(30, 1)) + bytes(480),
}


@pytest.mark.parametrize("member", BAD_MEMBERS.values(), ids=BAD_MEMBERS)
def test_bad_members(tmp_path, member):
    path = tmp_path / "a.npz"
    zipped(path, X_NPY)
    read(path)
    zipped(path, member)
    refused(repr(str(path)), read, path)


def test_members_of_one_name_and_other_compressions(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("X.npy", "y.npy", "X"):
            archive.writestr(name, X_NPY)
    refused("arrays: expected every name once; got 'X' twice", read, path)
    zipped(path, X_NPY, compression=zipfile.ZIP_BZIP2)
    refused("expected no compression or deflate; got method 12", read, path)
    zipped(path, X_NPY, name="\u00e9.npy")
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xfe"))
    refused(repr(str(path)), read, path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_npz(tmp_path, compression):
    path = tmp_path / "a.npz"
    zipped(path, X_NPY, compression=compression)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        refused(repr(str(path)), read, path)
    n_refused = 0
    for _ in range(300):
        changed = bytearray(whole)
        changed[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        n_refused += is_refused(path)
    assert n_refused > 100


class Trap:
    sprung = False

    def __setstate__(self, state):
        Trap.sprung = True


def test_pickles_stay_closed(tmp_path):
    trap = Trap()
    trap.baited = True
    np.savez(tmp_path / "a.npz", X=np.array([[trap]], object), y=np.zeros(1))
    refused("X.npy: expected numbers or text; got objects", read, tmp_path / "a.npz")
    assert not Trap.sprung


# --- files that are too large, or none ------------------------------------------------------------


def read_with_little(path, target="c", seconds=60):
    """Read a file in a process that may allocate 1 GB; return the error."""
    pytest.importorskip("resource")
    script = """
        import resource, sys
        from fastinit.comparison.data import read
        resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))
        try:
            read(sys.argv[1], sys.argv[2] or None)
        except ValueError as error:
            print(error)
    """
    result = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(script), path, target or ""],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds,
    )
    return result.stdout


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (5 * 10**6, "GB of numbers; got 8.6 GB"),
        (10**6, "X.npy: expected a size that the file can hold"),
    ],
)
def test_npz_bomb(tmp_path, length, message):
    """A file of 10 MB that declares 8.6 GB is refused before anything is decompressed."""
    path = tmp_path / "a.npz"
    noise = np.random.default_rng(0).bytes(length)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", noise)
        archive.writestr("y.npy", noise)
    content = bytearray(path.read_bytes())
    for name in (b"X.npy", b"y.npy"):
        entry = content.rindex(name) - 46  # in the directory, at the end of the file
        content[entry + 24 : entry + 28] = (2**32 - 2).to_bytes(4, "little")
    path.write_bytes(content)
    printed = read_with_little(path, None)
    assert printed.startswith(f"{str(path)!r}: ")
    assert message in printed


def test_npz_that_opens_to_a_hundred_times_its_size(tmp_path):
    """Within the limit it is read."""
    X = np.zeros((10**5, 10))
    X[:, 0] = np.arange(10**5)
    np.savez_compressed(tmp_path / "a.npz", X=X, y=np.arange(10**5) % 2)
    assert read_with_little(tmp_path / "a.npz", None) == ""


def test_parquet_bomb(pq, tmp_path):
    """Values that are all the same take no space in the file, but in memory."""
    pyarrow = pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    block = pyarrow.table({"a": pyarrow.nulls(10**8), "c": pyarrow.nulls(10**8)})
    with pq.ParquetWriter(path, block.schema) as writer:
        for _ in range(3):
            writer.write_table(block)
    assert path.stat().st_size < 2 * 10**6
    assert "GB of numbers; got 4.8 GB" in read_with_little(path)


def test_long_texts_that_many_rows_share(pq, tmp_path):
    """As text of its own in each row, this one would take 20 GB."""
    pyarrow = pytest.importorskip("pyarrow")
    n = 20_000
    text = pyarrow.DictionaryArray.from_arrays(np.zeros(n, np.int32), ["L" * 10**6])
    columns = {"a": text, "b": np.arange(n), "c": ["x", "y"] * (n // 2)}
    pq.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    assert read_with_little(tmp_path / "a.parquet") == ""


def test_csv_that_is_too_large(pd, tmp_path):
    path = tmp_path / "a.csv"
    with open(path, "wb") as file:
        file.truncate(1 << 33)  # takes no space on the disk
    printed = read_with_little(path)
    assert "GB of numbers; got 34.4 GB" in printed


def test_memory_that_is_available(pd, tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text(CSV)
    monkeypatch.setattr(readers, "_available_memory", lambda: 100)
    refused("GB of numbers; got", read, tmp_path / "a.csv", "c")


@pytest.mark.parametrize("suffix", readers.SUFFIXES)
def test_no_files(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with pytest.raises(FileNotFoundError, match=re.escape(path.name)):
        read(path, "c")
    path.touch()
    refused(f"{str(path)!r}: expected data; got an empty file", read, path, "c")
    path.unlink()
    path.mkdir()
    refused(f"{str(path)!r}: expected a file; got a folder", read, path, "c")
    path.rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
        refused("expected a regular file; got a pipe", read, path, "c")
        path.unlink()
        path.symlink_to("/dev/zero")
        refused("expected a regular file; got a pipe, a device", read, path, "c")
        path.unlink()
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        path.write_text(CSV)
        path.chmod(0)
        with pytest.raises(PermissionError, match=re.escape(path.name)):
            read(path, "c")


def test_paths(tmp_path):
    refused("path: expected a str or a path; got int", read, 5, error=TypeError)
    refused("path: expected a name in .csv, .tsv, .parquet, .npz; got 'a.xlsx'", read, "a.xlsx")
    refused("path: expected a name in .csv, .tsv, .parquet, .npz; got 'a.csv.gz'", read, "a.csv.gz")
    refused("target: expected the name of a column", read, "a.csv", 3, error=TypeError)
    refused("embedded null", read, "a\0.csv")


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes")
def test_names_that_are_not_utf8(pd, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n.csv")
    with open(path, "w") as file:
        file.write(CSV + "1,,x\n")
    refused("\\udcff\\n.csv': column 'b', row 8", read, path, "c")
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read(path, "c")
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("suffix", "package"), [(".csv", "pandas"), (".parquet", "pandas"), (".parquet", "pyarrow")]
)
def test_packages_are_asked_for_by_name(tmp_path, monkeypatch, suffix, package):
    pytest.importorskip("pandas")
    path = tmp_path / f"a{suffix}"
    path.write_text(CSV)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.parquet", None)
    refused(f"requires {package}; install with: pip install 'fastinit-nn[data]'", read, path, "c")


def test_arrays_need_no_pandas(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.eye(4), y=np.array(["a", "b"] * 2))
    script = """
        import sys
        sys.modules["pandas"] = None
        from fastinit.comparison.data import from_table, read
        print(read(sys.argv[1]).classes, from_table([["a", 1], ["b", 2]] * 2, [0, 1] * 2).features)
        try:
            from_table([["a", 1], ["b", None]] * 2, [0, 1] * 2)
        except ValueError as error:
            print(error)
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(script), tmp_path / "a.npz"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("('a', 'b') ('x0=a', 'x0=b', 'x1')\ntable, column 1, row 1: ")
