"""Datasets: tables of numbers, text and categories as arrays for training.

:func:`from_table` takes arrays in scikit-learn's orientation and data frames, :func:`read` takes
files. Both return a :class:`Dataset`: the arrays, the names, and notes on what was decided.
"""

from __future__ import annotations

import math
import numbers
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastinit.comparison.readers import (
    SUFFIXES,
    Where,
    check_names,
    is_number,
    length_of,
    listed,
    read_npz,
    read_parquet,
    read_text,
)
from fastinit.comparison.tables import counted
from fastinit.markup import html_table
from fastinit.training.network import Array, Network
from fastinit.validation import as_float, check_bool, check_integer, check_name, is_sequence

Floats = NDArray[np.float64]
FilePath = str | os.PathLike[str]
Kind = Literal["classes", "numbers", "counts"]

KINDS = ("classes", "numbers", "counts")
# A feature of text becomes one feature per category, up to this number.
MOST_CATEGORIES = 50
# Integers are classes if there are at most this many different ones and each occurs twice.
MOST_INTEGER_CLASSES = 20
# Types of columns of numbers, by the kind of their dtype.
NUMERIC: dict[str, Any] = {"f": np.float64, "i": np.int64, "u": np.uint64, "b": np.bool_}

DATE = re.compile(r"\s*(\d{4}-\d\d?-\d\d?|\d\d?[/.]\d\d?[/.](\d\d|\d{4}))([T ].*)?\s*")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Arrays for training and their meaning, as :func:`from_table` and :func:`read` return them.

    The arrays are in the orientation of the kernels, examples last, and cannot be written to.

    Attributes
    ----------
    X : ndarray of shape (n_features, n_examples), float64
        The features of the training rows.
    Y : ndarray
        The targets of the training rows in the format of the network's output: shape
        (1, n_examples), float64; for "softmax" shape (n_examples,), int64.
    test : tuple of ndarray, or None
        ``(X_test, Y_test)`` of the rows that were held out for testing.
    validation : tuple of ndarray, or None
        ``(X_validation, Y_validation)`` of the rows that were held out for early stopping.
    features : tuple of str
        The name of each feature.
    target : str
        The name of the target.
    classes : tuple or None
        The labels; ``Y`` has their positions. None for numbers and counts.
    output : {"sigmoid", "softmax", "identity", "exponential"}
        The output of :meth:`network`: "sigmoid" for two classes, "softmax" for more, "identity"
        for numbers, "exponential" for counts.
    mean, scale : ndarray of shape (n_features,), float64
        A feature is ``(value - mean) / scale``: 0 and 1 if it was not standardised.
    target_mean, target_scale : float
        The same for the target; 0 and 1 unless it holds numbers that were standardised.
    notes : tuple of str
        What was decided, a sentence each.

    Examples
    --------
    >>> import fastinit as fi
    >>> from fastinit.comparison.data import from_table
    >>> rng = np.random.default_rng(0)
    >>> data = from_table(rng.normal(size=(40, 3)), ["cat", "dog"] * 20)
    >>> data
    Dataset: 30 rows for training, 10 for testing, 3 features, output sigmoid
      target 'y': 2 classes (cat, dog)
      10 of 40 rows held out for testing, stratified by class, seed 0
      features standardised with the means and standard deviations of the training rows
    >>> result = fi.compare(
    ...     data.X, data.Y, data.network([5]), ["zeros", "he_normal"], test=data.test, iterations=50
    ... )
    >>> len(result)
    2
    """

    X: Floats
    Y: Array
    test: tuple[Floats, Array] | None
    validation: tuple[Floats, Array] | None
    features: tuple[str, ...]
    target: str
    classes: tuple[Any, ...] | None
    output: str
    mean: Floats
    scale: Floats
    target_mean: float
    target_scale: float
    notes: tuple[str, ...]

    def network(self, hidden: int | Sequence[int], **settings: Any) -> Network:
        """Return a network for these data.

        Parameters
        ----------
        hidden : int or sequence of int
            Number of units of each hidden layer.
        **settings
            As for :class:`fastinit.Network`, without ``output``.

        Returns
        -------
        Network

        Raises
        ------
        TypeError, ValueError
            As for :class:`fastinit.Network`.

        Examples
        --------
        >>> from_table(np.eye(6), list("aabbcc")).network([10, 5], activation="tanh")
        Network([6, 10, 5, 3], activation='tanh', output='softmax', dtype='float64')
        """
        layers: Any = hidden if is_sequence(hidden) else [hidden]
        n_outputs = len(self.classes or ()) if self.output == "softmax" else 1
        sizes = [len(self.features), *layers, n_outputs]
        return Network(sizes, output=self.output, **settings)

    def _parts(self) -> list[str]:
        held_out = {"validation": self.validation, "testing": self.test}
        return [
            f"{self.X.shape[1]:,} rows for training",
            *(f"{rows[0].shape[1]:,} for {use}" for use, rows in held_out.items() if rows),
            counted(len(self.features), "feature"),
            f"output {self.output}",
        ]

    def __repr__(self) -> str:
        return "\n  ".join([f"Dataset: {', '.join(self._parts())}", *self.notes])

    def _repr_html_(self) -> str:
        return html_table([[note] for note in self.notes], caption=", ".join(self._parts()))


def from_table(
    table: Any,
    target: Any = None,
    *,
    test: tuple[Any, Any] | None = None,
    kind: Kind | None = None,
    test_size: float | int | None = 0.25,
    validation_size: float | int | None = None,
    seed: int = 0,
    standardize: bool = True,
) -> Dataset:
    """Return the data of a table: ``from_table(X, y)`` or ``from_table(frame, "column")``.

    Parameters
    ----------
    table : DataFrame, or array_like of shape (n_examples, n_features)
        One row per example, as scikit-learn has it. Features are numbers, booleans (0 and 1), and
        text or categories, which are one-hot encoded. Other data frames than those of pandas are
        converted with their ``to_pandas``. The index of a data frame is not used.
    target : label of a column, or array_like of shape (n_examples,)
        The column of the data frame that is to be predicted, or the targets themselves: numbers,
        booleans, text or categories.
    test : tuple, optional
        ``(table, target)`` of the test rows, in the same forms; `test_size` is not used then. If
        `target` is a label, the second entry is that label too.
    kind : {"classes", "numbers", "counts"}, optional
        What the target holds. By default text, booleans and categories are classes; numbers with
        fractions are numbers; integers are classes if at most 20 different ones occur, each at
        least twice, and numbers otherwise. Counts, for a Poisson regression, must be asked for.
    test_size : float, int or None, default 0.25
        The share, or the number, of the rows to hold out for testing; 0 or None for none. A share
        is rounded up to whole rows, as in scikit-learn.
    validation_size : float, int or None, optional
        The share, or the number, of the remaining rows to hold out for early stopping: pass
        ``data.validation`` to :func:`fastinit.compare`. By default none.
    seed : int, default 0
        Selects the rows to hold out. The selection is the same with every version of NumPy. For
        classes it is stratified: each has its share of the rows (rounded by largest remainder),
        and at least one row for training. It does not depend on the order of the classes in the
        table, only on the order of the rows within each class.
    standardize : bool, default True
        Standardise the features and a target of numbers, with the means and standard deviations of
        the training rows. A feature that is constant there becomes 0.

    Returns
    -------
    Dataset

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If a value is missing or infinite, or is a date or another object; the message names the
        place, with rows counted from 0 as in pandas. If a feature of text has more than 50
        categories. If there are fewer than two examples or two different targets. If the shapes do
        not match, a column does not exist, or two columns have the same name.

    Examples
    --------
    >>> X = [["red", 1.0], ["blue", 2.5], ["red", 3.0], ["blue", 0.5]]
    >>> data = from_table(X, [10.5, 20.0, 31.0, 40.5], test_size=1, standardize=False)
    >>> data.features
    ('x0=blue', 'x0=red', 'x1')
    >>> data.X.shape, data.Y.shape, data.output
    ((3, 3), (1, 3), 'identity')

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"size": [1, 2, 3, 4], "kind": ["a", "a", "b", "b"]})
    >>> from_table(frame, target="kind", test_size=2).notes[0]
    "target 'kind': 2 classes (a, b)"
    """
    options = _Options.checked(kind, test_size, validation_size, seed, standardize)
    main = _examples(table, target)
    held_out = None
    if test is not None:
        if not isinstance(test, (tuple, list)) or len(test) != 2:
            raise TypeError(f"test: expected a pair of table and target; got {type(test).__name__}")
        held_out = _examples(*test, words=("test table", "test target"))
    return _dataset(main, held_out, options, [])


def read(
    path: FilePath,
    target: str | None = None,
    *,
    kind: Kind | None = None,
    test_size: float | int | None = 0.25,
    validation_size: float | int | None = None,
    seed: int = 0,
    standardize: bool = True,
) -> Dataset:
    """Return the data of a file.

    Parameters
    ----------
    path : path-like
        The suffix selects the format:

        - ``.csv``, ``.tsv``: text in UTF-8 whose first line has the names of the columns. In a
          ``.csv`` file the separator is a comma, a semicolon or a tab; numbers may have a decimal
          comma if the separator is another. Read with pandas.
        - ``.parquet``: read with pandas and pyarrow.
        - ``.npz``: arrays ``X`` of shape (n_examples, n_features) and ``y`` of shape (n_examples,),
          as scikit-learn has them; optionally ``X_test`` and ``y_test``, which replace the split.
          Arrays of objects are refused, because their pickle could contain code.
    target : str
        The column that is to be predicted. In an ``.npz`` file, the name of the array; "y" by
        default.
    kind, test_size, validation_size, seed, standardize
        As for :func:`from_table`.

    Returns
    -------
    Dataset

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        As for :func:`from_table`, with the line of a CSV file; if the file is damaged or no regular
        file; if its data need more than 4 GB or than the memory that is available; or if pandas or
        pyarrow is not installed. The message names the file.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> lines = ["length,colour,kind", *["1.5,red,a", "2.5,blue,b"] * 4]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "flowers.csv")
    ...     size = path.write_text(os.linesep.join(lines))
    ...     data = read(path, target="kind", test_size=2)
    >>> data.features
    ('length', 'colour=blue', 'colour=red')
    """
    options = _Options.checked(kind, test_size, validation_size, seed, standardize)
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: expected a str or a path; got {type(path).__name__}")
    if target is not None and not isinstance(target, str):
        raise TypeError(f"target: expected the name of a column; got {type(target).__name__}")
    text = os.fspath(path)
    suffix = os.path.splitext(text)[1].lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"path: expected a name in {', '.join(SUFFIXES)}; got {text!r}")
    try:
        length = length_of(text)
        if suffix == ".npz":
            main, *others = [
                _examples(X, y, words=words)
                for words, X, y in read_npz(text, length, target or "y")
            ]
            main = main._replace(target_name=target or "y")
            return _dataset(main, others[0] if others else None, options, [])
        if suffix == ".parquet":
            frame, notes = read_parquet(text)
            main = _examples(frame, target)
        else:
            frame, where, notes = read_text(text, length, suffix)
            main = _examples(frame, target, where=where)
        return _dataset(main, None, options, notes)
    # The parsers raise errors of many types on damaged files, zlib.error and MemoryError included.
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{text!r}: {message}") from error


# --- tables ---------------------------------------------------------------------------------------


class _Options(NamedTuple):
    kind: Kind | None
    test_size: float | int
    validation_size: float | int
    seed: int
    standardize: bool

    @classmethod
    def checked(
        cls, kind: Any, test_size: Any, validation_size: Any, seed: Any, standardize: Any
    ) -> _Options:
        if kind is not None:
            check_name("kind", kind, KINDS)
        return cls(
            kind,
            _checked_size("test_size", test_size),
            _checked_size("validation_size", validation_size),
            check_integer("seed", seed),
            check_bool("standardize", standardize),
        )


def _checked_size(name: str, size: Any) -> float | int:
    if size is None:
        return 0
    if not isinstance(size, (float, np.floating)):
        return check_integer(name, size)
    share = as_float(name, size)
    if not 0 <= share < 1:
        raise ValueError(f"{name}: expected a share in [0, 1); got {share}")
    return share


@dataclass(frozen=True, eq=False)
class _Labels:
    """Text or categories: the labels, and the position of each value's label; -1 is missing."""

    names: tuple[Any, ...]
    codes: NDArray[np.int64]
    is_text: bool

    def __len__(self) -> int:
        return len(self.codes)


# Values of a column: float64, int64, uint64 or bool; objects, before they are checked; or labels.
_Values = Array | _Labels


class _Examples(NamedTuple):
    """The columns of a table, checked, with the target apart from the features."""

    names: list[str]
    features: list[_Values]
    target_name: str
    target: _Values
    # What messages call each feature and the target, such as "column 'price'", and a row.
    subjects: list[str]
    subject: str
    where: Where


def _row(row: int) -> str:
    return f"row {row}"


def _examples(
    table: Any, target: Any, *, words: tuple[str, str] = ("table", "target"), where: Where = _row
) -> _Examples:
    of_table, of_target = words
    if hasattr(table, "to_pandas"):
        table = table.to_pandas()
    framed = _is_pandas(table, "DataFrame")
    if framed:
        names = [str(label) for label in table.columns]
        check_names(names)
        columns = [_series_values(series) for _, series in table.items()]
        subjects = [f"column {name!r}" for name in names]
    else:
        columns = _array_columns(of_table, table)
        names = [f"x{i}" for i in range(len(columns))]
        subjects = [f"{of_table}, column {i}" for i in range(len(columns))]
    if not isinstance(target, str) and (is_sequence(target) or hasattr(target, "__array__")):
        y, target_name = _vector(of_target, target)
        subject = of_target
    elif framed:
        found = [i for i, label in enumerate(table.columns) if _is_label(target, label)]
        if not found:
            close = get_close_matches(str(target), names, 3, 0.6)
            hint = f" (did you mean {' or '.join(close)}?)" if close else ""
            raise ValueError(
                f"{of_target}: expected one of the columns {listed(names)}; got {target!r}{hint}"
            )
        position = found[0]
        y, target_name = columns.pop(position), names.pop(position)
        subject = subjects.pop(position)
    else:
        raise TypeError(
            f"{of_target}: expected an array, or the name of a column of a data frame; got "
            f"{target!r}"
        )
    if not columns:
        raise ValueError(f"{of_table}: expected at least one feature; got none")
    if len(y) != len(columns[0]):
        hint = ": transposed?" if len(y) == len(columns) else ""
        raise ValueError(
            f"{of_table}: expected shape (n_examples, n_features) to match {of_target} "
            f"({len(y)},); got ({len(columns[0])}, {len(columns)}){hint}"
        )
    _check_missing([*zip(subjects, columns, strict=True), (subject, y)], where)
    features = [
        _cleaned(each, column, where) for each, column in zip(subjects, columns, strict=True)
    ]
    y = _cleaned(subject, y, where)
    return _Examples(names, features, target_name, y, subjects, subject, where)


def _is_pandas(value: Any, name: str) -> bool:
    """Return whether a value is of a class of pandas, which is not imported for this."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, getattr(pandas, name))


def _is_label(target: Any, label: Any) -> bool:
    # Both of one type, because True == 1 == 1.0, and a bool is an int.
    same = isinstance(target, type(label)) and isinstance(target, bool) == isinstance(label, bool)
    return same and bool(target == label)


def _array_columns(name: str, table: Any) -> list[_Values]:
    if hasattr(table, "toarray"):
        raise TypeError(
            f"{name}: expected a dense array; got {type(table).__name__}; use its toarray()"
        )
    array = _array(name, table)
    if array.ndim != 2:
        raise ValueError(f"{name}: expected shape (n_examples, n_features); got {array.shape}")
    # The rows of this copy are contiguous, unlike the columns of the array.
    return list(np.ascontiguousarray(array.T))


def _vector(name: str, target: Any) -> tuple[_Values, str]:
    """Return the targets, in one dimension, and their name."""
    if _is_pandas(target, "DataFrame") and target.shape[1] == 1:
        target = target.iloc[:, 0]
    if _is_pandas(target, "Series"):
        return _series_values(target), "y" if target.name is None else str(target.name)
    if _is_pandas(target, "Categorical"):
        return _series_values(sys.modules["pandas"].Series(target)), "y"
    array = _array(name, target)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"{name}: expected shape (n_examples,); got {array.shape}")
    return array, "y"


def _array(name: str, value: Any) -> Array:
    """Return an array of numbers, or of objects if there is anything else in it."""
    if np.ma.isMaskedArray(value):
        raise TypeError(f"{name}: expected every value; got a masked array")
    try:
        found: Array = np.asarray(value)
        # NumPy turns a list of numbers and text into text.
        if found.dtype.kind in "US" and not isinstance(value, np.ndarray):
            found = np.asarray(value, dtype=object)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: expected an array; {error}") from None
    if found.dtype.kind == "f":
        with np.errstate(over="ignore"):  # a long double that overflows becomes infinite
            return found.astype(np.float64, copy=False)
    return found.astype(object) if found.dtype.kind in "UT" else found


def _series_values(series: Any) -> _Values:
    """Return the values of a Series; missing numbers are NaN."""
    if type(series.dtype).__name__ == "CategoricalDtype":
        labels = tuple(map(_plain, series.cat.categories))
        return _Labels(labels, series.cat.codes.to_numpy(np.int64), is_text=False)
    kind = series.dtype.kind
    # Extension types alone have missing values other than NaN.
    if kind in NUMERIC and not isinstance(series.dtype, np.dtype) and series.isna().any():
        values: Array = series.to_numpy(np.float64, na_value=np.nan)
    else:
        values = series.to_numpy(NUMERIC.get(kind, None if kind in "mMc" else object))
    return values


def _plain(label: Any) -> Any:
    """Return a label as bool, int, float or text."""
    label = label.item() if isinstance(label, np.generic) else label
    return label if isinstance(label, (bool, int, float)) else str(label)


def _check_missing(columns: Sequence[tuple[str, _Values]], where: Where) -> None:
    """Raise an error that names the first missing or infinite value, and how many there are."""
    first, n_values, n_columns = "", 0, 0
    for subject, values in columns:
        missing = _missing(values)
        n_missing = int(np.count_nonzero(missing))
        if n_missing and not first:
            row = int(missing.argmax())
            value = None if isinstance(values, _Labels) else values[row]
            infinite = isinstance(value, numbers.Real) and math.isinf(value)
            found = "infinity" if infinite else "a missing value"
            first = f"{subject}, {where(row)}: expected a finite number or text; got {found}"
        n_values, n_columns = n_values + n_missing, n_columns + bool(n_missing)
    if first:
        more = f"; {n_values:,} values are missing or infinite, in {counted(n_columns, 'column')}"
        raise ValueError(
            f"{first}{more if n_values > 1 else ''} (rows are counted from 0, as in pandas); "
            "remove these rows or fill them in, for example with pandas.DataFrame.dropna or fillna"
        )


def _missing(values: _Values) -> NDArray[np.bool_]:
    """Return which values are missing or infinite."""
    if isinstance(values, _Labels):
        return values.codes < 0
    kind = values.dtype.kind
    if kind == "f":
        return ~np.isfinite(values)
    if kind in "mM":
        return np.isnat(values)
    if kind != "O":
        return np.zeros(len(values), dtype=bool)
    # NA and NaT are missing as well, and exist only if pandas was imported.
    pandas = sys.modules.get("pandas")
    known = np.zeros(len(values), dtype=bool) if pandas is None else pandas.isna(values)
    return np.array(
        [
            bool(is_na)
            or value is None
            or (isinstance(value, str) and not value.strip())
            or (isinstance(value, (float, np.floating)) and not math.isfinite(value))
            for is_na, value in zip(known, values, strict=True)
        ],
        dtype=bool,
    )


def _cleaned(subject: str, values: _Values, where: Where) -> _Values:
    """Return numbers, bools or labels; raise an error for anything else. No value is missing."""
    if isinstance(values, _Labels):
        used, codes = np.unique(values.codes, return_inverse=True)
        return _Labels(tuple(values.names[i] for i in used), codes, is_text=False)
    kind = values.dtype.kind
    if kind in NUMERIC:
        return values.astype(NUMERIC[kind], copy=False)
    if kind in "mM":
        raise ValueError(f"{subject}: expected numbers or text; got dates or times")
    if kind != "O":
        raise ValueError(f"{subject}: expected numbers or text; got dtype {values.dtype}")
    found = [_type_of(value) for value in values]
    for row, name in enumerate(found):
        if name not in ("a bool", "a number", "text"):
            raise ValueError(f"{subject}, {where(row)}: expected a number or text; got {name}")
        if name != found[0]:
            raise ValueError(
                f"{subject}, {where(row)}: expected {found[0]}, as in {where(0)}; got {name}"
            )
    if found[:1] == ["text"]:
        names = sorted({str(value) for value in values})
        position = {name: code for code, name in enumerate(names)}
        codes = np.array([position[str(value)] for value in values], dtype=np.int64)
        return _Labels(tuple(names), codes, is_text=True)
    if found[:1] == ["a bool"]:
        return values.astype(bool)
    integers = all(isinstance(value, numbers.Integral) for value in values)
    if integers and all(-(2**63) <= value < 2**63 for value in values):
        return values.astype(np.int64)
    try:
        floats: Array = values.astype(np.float64)
    except OverflowError:
        floats = np.array([math.inf])
    if not np.isfinite(floats).all():
        raise ValueError(f"{subject}: expected finite float64 numbers; got another one")
    return floats


def _type_of(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, (bool, np.bool_)):
        return "a bool"
    if isinstance(value, (numbers.Real, Decimal)):
        return "a number"
    if isinstance(value, (date, time, timedelta, np.datetime64, np.timedelta64)):
        return "a date or a time"
    return f"an object of type {type(value).__name__}"


def _joined(subject: str, train: _Values, test: _Values) -> _Values:
    """Return the values of the training rows and, below them, those of the test rows."""
    if isinstance(train, _Labels) and isinstance(test, _Labels):
        names = dict.fromkeys([*train.names, *test.names])
        position = {name: code for code, name in enumerate(names)}
        codes = np.array([position[name] for name in test.names], dtype=np.int64)[test.codes]
        return _Labels(tuple(names), np.concatenate([train.codes, codes]), train.is_text)
    if isinstance(train, _Labels) or isinstance(test, _Labels):
        got = "text" if isinstance(test, _Labels) else "numbers"
        raise ValueError(
            f"test: expected numbers or text as in the training rows of {subject}; got {got}"
        )
    return np.concatenate([train, test])


# --- features and target --------------------------------------------------------------------------


def _dataset(
    main: _Examples, held_out: _Examples | None, options: _Options, notes: Sequence[str]
) -> Dataset:
    """Return the dataset of one table, which is split, or of one for training and one to test."""
    n = len(main.target)
    if held_out is not None:
        main = _with_test_rows(main, held_out)
    total = len(main.target)
    if n < 2:
        raise ValueError(f"expected at least two examples; got {n}")
    output, classes, Y, target_note = _target(main, options.kind)
    X, features, feature_notes = _features(main)
    notes = [*notes, target_note, *feature_notes]

    if held_out is None:
        is_test, note = _split(
            "test_size", options.test_size, Y, classes, options.seed, (), "rows", "testing"
        )
    else:
        is_test = np.arange(total) >= n
        note = f"{counted(total - n, 'row')} for testing, as given"
        for code, label in enumerate(classes or ()):
            if not (Y[:n] == code).any():
                raise ValueError(f"test: expected classes of the training rows; got {label!r}")
    notes.append(note)
    train, n_test = ~is_test, np.count_nonzero(is_test)
    is_validation = np.zeros(total, dtype=bool)
    if options.validation_size:
        # A sequence of its own, so that the rows do not depend on those of the test.
        is_validation[train], note = _split(
            "validation_size", options.validation_size, Y[train], classes, options.seed, (1,),
            "training rows", "validation",
        )  # fmt: skip
        notes.append(note)
        train &= ~is_validation
    untested = [
        str(label) for code, label in enumerate(classes or ()) if not (Y[is_test] == code).any()
    ]
    if n_test and untested:
        notes.append(f"classes without test rows: {listed(untested)}")

    mean, scale = np.zeros(len(X)), np.ones(len(X))
    target_mean, target_scale = 0.0, 1.0
    if options.standardize:
        mean, scale, constant = _moments(X[:, train], features)
        X = X - mean[:, None]
        X /= scale[:, None]
        notes.append(
            "features standardised with the means and standard deviations of the training rows"
        )
        if constant:
            notes.append(
                f"constant in the training rows, and 0 there after standardising: "
                f"{listed(constant)}"
            )
        if output == "identity":
            (target_mean,), (target_scale,), _ = _moments(Y[None, train], [main.target_name])
            target_mean, target_scale = float(target_mean), float(target_scale)
            Y = (Y - target_mean) / target_scale
            notes.append(
                f"target {main.target_name!r} standardised like the features (mean "
                f"{target_mean:.6g}, standard deviation {target_scale:.6g}); costs are in units of "
                "its variance"
            )
    Y = Y if output == "softmax" else Y[None]
    rows = (train, is_test, is_validation)
    arrays = [*(X[:, chosen] for chosen in rows), *(Y[..., chosen] for chosen in rows), mean, scale]
    arrays = [np.ascontiguousarray(array) for array in arrays]
    for array in arrays:
        array.setflags(write=False)
    X, X_test, X_validation, Y, Y_test, Y_validation, mean, scale = arrays
    return Dataset(
        X=X,
        Y=Y,
        test=(X_test, Y_test) if n_test else None,
        validation=(X_validation, Y_validation) if is_validation.any() else None,
        features=tuple(features),
        target=main.target_name,
        classes=classes,
        output=output,
        mean=mean,
        scale=scale,
        target_mean=target_mean,
        target_scale=target_scale,
        notes=tuple(notes),
    )


def _with_test_rows(main: _Examples, held_out: _Examples) -> _Examples:
    """Return the examples of two tables, those for testing below the others."""
    if main.names != held_out.names:
        raise ValueError(
            f"test: expected the features {listed(main.names)}; got {listed(held_out.names)}"
        )
    n, train_where, test_where = len(main.target), main.where, held_out.where
    return main._replace(
        where=lambda row: (
            train_where(row) if row < n else f"{test_where(row - n)} of the test rows"
        ),
        features=[
            _joined(subject, train, test)
            for subject, train, test in zip(
                main.subjects, main.features, held_out.features, strict=True
            )
        ],
        target=_joined(main.subject, main.target, held_out.target),
    )


def _target(
    examples: _Examples, kind: Kind | None
) -> tuple[str, tuple[Any, ...] | None, Array, str]:
    """Return the output of the network, the classes, the targets in one dimension, and a note."""
    values, name = examples.target, f"target {examples.target_name!r}"
    chosen, reason = kind, ""
    if isinstance(values, _Labels) or values.dtype == bool:
        if kind not in (None, "classes"):
            got = "text or categories" if isinstance(values, _Labels) else "bools"
            raise ValueError(f"{examples.subject}: expected numbers for kind={kind!r}; got {got}")
        chosen = "classes"
    else:
        distinct, counts = np.unique(values, return_counts=True)
        whole = bool((distinct == np.floor(distinct)).all())
        if kind is None:
            few = len(distinct) <= MOST_INTEGER_CLASSES and counts.min() >= 2
            chosen = "classes" if whole and few else "numbers"
            other = "numbers" if chosen == "classes" else "classes"
            if whole:
                reason = (
                    f"; {len(distinct):,} different integers are treated as {chosen}, "
                    f"kind={other!r} treats them as {other}"
                )
        elif kind == "classes" and len(distinct) > MOST_INTEGER_CLASSES:
            reason = (
                f"; {len(distinct):,} different numbers are many for classes, kind='numbers' "
                "treats them as numbers"
            )
        if chosen == "classes" and not whole:
            row = int((values != np.floor(values)).argmax())
            raise ValueError(
                f"{examples.subject}, {examples.where(row)}: expected integers, text or bools as "
                f"classes; got {values[row]}"
            )
    if chosen != "classes":
        return _numeric_target(examples, np.asarray(values), chosen, f"{name}: {chosen}{reason}")

    if isinstance(values, _Labels):
        classes, codes = values.names, values.codes
    else:
        distinct, codes = np.unique(values, return_inverse=True)
        classes = tuple(bool(v) if distinct.dtype == bool else int(v) for v in distinct)
    if len(classes) < 2:
        raise ValueError(f"{examples.subject}: expected at least two classes; got {classes}")
    if len(classes) > 2 and 2 * len(classes) > len(codes):
        raise ValueError(
            f"{examples.subject}: expected classes of at least two examples on average; got "
            f"{len(classes):,} different values in {len(codes):,} rows"
        )
    note = f"{name}: {len(classes):,} classes ({listed([str(label) for label in classes])}){reason}"
    if len(classes) == 2:
        return "sigmoid", classes, codes.astype(np.float64), note
    return "softmax", classes, codes.astype(np.int64), note


def _numeric_target(
    examples: _Examples, values: Array, kind: str | None, note: str
) -> tuple[str, None, Floats, str]:
    numbers_ = values.astype(np.float64)
    if (numbers_ == numbers_[0]).all():
        raise ValueError(
            f"{examples.subject}: expected at least two different numbers; got {numbers_[0]} alone"
        )
    if kind == "numbers":
        return "identity", None, numbers_, note
    if (numbers_ < 0).any():
        row = int((numbers_ < 0).argmax())
        raise ValueError(
            f"{examples.subject}, {examples.where(row)}: expected a count >= 0; got {values[row]}"
        )
    return "exponential", None, numbers_, note


def _features(examples: _Examples) -> tuple[Floats, list[str], list[str]]:
    """Return the features, shape (n_features, n_examples), with their names, and notes."""
    rows: list[Array] = []
    names: list[str] = []
    notes: list[str] = []
    for i, (name, values) in enumerate(zip(examples.names, examples.features, strict=True)):
        if not isinstance(values, _Labels):
            rows.append(values)
            names.append(name)
            continue
        _check_categories(examples.subjects[i], values, examples.where)
        rows.extend(values.codes == code for code in range(len(values.names)))
        names.extend(f"{name}={label}" for label in values.names)
        n_labels = len(values.names)
        notes.append(
            f"column {name!r}: {n_labels} categor{'y' if n_labels == 1 else 'ies'}, one-hot encoded"
        )
    check_names(names)
    X = np.empty((len(rows), len(examples.target)))
    for own, row in zip(X, rows, strict=True):
        own[:] = row
    return X, names, notes


def _check_categories(subject: str, labels: _Labels, where: Where) -> None:
    """Raise an error if text stands for numbers or dates, or has too many different values."""
    names = labels.names
    if labels.is_text:
        numeric = np.array([is_number(name) for name in names])
        if numeric.all():
            raise ValueError(
                f"{subject}: expected numbers or categories; got numbers as text, such as "
                f"{names[0]!r}"
            )
        if 2 * np.count_nonzero(numeric) >= len(names):
            row = int((~numeric)[labels.codes].argmax())
            raise ValueError(
                f"{subject}, {where(row)}: expected a number, as in most rows; got "
                f"{names[labels.codes[row]]!r}"
            )
        if all(map(DATE.fullmatch, names)):
            raise ValueError(
                f"{subject}: expected numbers or categories; got dates, such as {names[0]!r}; turn "
                "them into numbers, or remove the column"
            )
    if len(names) > MOST_CATEGORIES:
        raise ValueError(
            f"{subject}: expected numbers or at most {MOST_CATEGORIES} categories; got "
            f"{len(names):,}, such as {str(names[labels.codes[0]])!r}; remove the column if it "
            "names the rows"
        )


def _moments(X: Floats, names: Sequence[str]) -> tuple[Floats, Floats, list[str]]:
    """Return mean and standard deviation of each row; of constant rows the value and 1."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = X.mean(axis=1)
        centred = X - mean[:, None]
        # Squares of numbers in [-1, 1] cannot overflow, and do not all underflow.
        peak = np.maximum(centred.max(axis=1), -centred.min(axis=1))
        constant = X.max(axis=1) == X.min(axis=1)
        peak[constant] = 1
        centred /= peak[:, None]
        scale = np.sqrt(np.square(centred, out=centred).mean(axis=1)) * peak
    # Exactly: the mean of equal numbers may be rounded.
    mean[constant], scale[constant] = X[constant, 0], 1
    bad = ~np.isfinite(mean) | ~np.isfinite(scale) | (scale == 0)
    if bad.any():
        name, largest = names[int(bad.argmax())], np.abs(X[bad][0]).max()
        raise ValueError(
            f"column {name!r}: expected numbers that can be standardised; got up to {largest:.6g}"
        )
    return mean, scale, [name for name, same in zip(names, constant, strict=True) if same]


# --- training and test rows -----------------------------------------------------------------------


def _split(
    name: str,
    size: float | int,
    Y: Array,
    classes: Sequence[Any] | None,
    seed: int,
    stream: tuple[int, ...],
    rows: str,
    use: str,
) -> tuple[NDArray[np.bool_], str]:
    """Return which rows are held out, and a note. Y has codes of classes, or numbers."""
    n = len(Y)
    n_held_out = size if isinstance(size, int) else math.ceil(size * n)
    strata = np.zeros(n, dtype=np.int64) if classes is None else Y.astype(np.int64)
    counts = np.bincount(strata)
    most = int((counts - 1).sum())
    if n_held_out > most:
        what = "one row" if classes is None else "one row of each class"
        raise ValueError(
            f"{name}: expected at most {most} of {n} rows, because {what} is needed for "
            f"training; got {n_held_out}"
        )
    is_held_out = np.zeros(n, dtype=bool)
    if not n_held_out:
        return is_held_out, f"no rows held out for {use}"
    for stratum, share in enumerate(_shares(n_held_out, counts)):
        # Raw bits, because NumPy guarantees their sequence, unlike that of shuffles. A sequence of
        # its own for each class, so that none depends on the others.
        bits = np.random.PCG64([seed, stratum, *stream]).random_raw(int(counts[stratum]))
        members = np.flatnonzero(strata == stratum)
        is_held_out[members[np.argsort(bits, kind="stable")[:share]]] = True
    how = "" if classes is None else "stratified by class, "
    note = f"{n_held_out:,} of {n:,} {rows} held out for {use}, {how}seed {seed}"
    return is_held_out, note


def _shares(n_test: int, counts: NDArray[np.int64]) -> list[int]:
    """Return how many test rows each class gets: by largest remainder, and never all of its rows.

    Equal remainders go to the larger class first, then to the first.
    """
    n = int(counts.sum())
    products = [n_test * int(count) for count in counts]
    shares = [product // n for product in products]
    order = sorted(range(len(counts)), key=lambda i: (-(products[i] % n), -int(counts[i]), i))
    while sum(shares) < n_test:
        for i in order:
            if sum(shares) < n_test and shares[i] < counts[i] - 1:
                shares[i] += 1
    return shares
