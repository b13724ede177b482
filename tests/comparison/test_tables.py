import itertools
import re

import numpy as np
import pytest
from synthetic import synthetic

from fastinit.comparison.tables import MOST_WORD, Table, fitted, rich_table, rounded, shortened

SCHEMES = [
    "he_normal", "he_uniform", "glorot_normal", "glorot_uniform", "lecun_normal", "zeros",
    "orthogonal", "lesson.random", "variance_scaling(scale=2.0, mode='fan_avg')",
    "normal(std=0.1)",
]  # fmt: skip


def summary(**more):
    """A summary of ten schemes and three axes, as wide as they get."""
    rng = np.random.default_rng(0)
    axes = itertools.product(SCHEMES, [2, 16], [0.001, 0.1], ["sgd", "Adam(beta1=0.8)"])
    return Table(
        [
            {
                "scheme": scheme, "depth": depth, "learning rate": rate, "optimizer": optimizer,
                "runs": 20, "train accuracy": rng.random(), "test accuracy": rng.random(),
                "cost 25%": rng.lognormal(-9), "median cost": rng.lognormal(0, 9),
                "cost 75%": np.inf, "iterations to cost 0.1": int(rng.integers(10_000)),
                "converged": rng.random(), "diverged": rng.random(),
            }
            | more
            for scheme, depth, rate, optimizer in axes
        ]
    )  # fmt: skip


def words(text):
    return set(re.findall(r"[^\s(,/]+[(,/]?", text))


def printed(table, width=80, **keywords):
    console = pytest.importorskip("rich.console").Console(width=width, record=True, file=None)
    with console.capture() as capture:
        console.print(rich_table(table, **keywords))
    return capture.get()


@pytest.mark.parametrize("how", ["repr", "rich", "compact"])
def test_eighty_columns_without_a_broken_word(how):
    table = summary()
    text = repr(table) if how == "repr" else printed(table, compact=how == "compact")
    assert max(map(len, text.splitlines())) <= 80
    known = set().union(*(words(cell) for row in table.cells(3) for cell in row))
    known |= words(" ".join(table.columns))
    known |= {"acc.", "conv.", "div.", "iter.", "learn.", "optim.", "In", "all", "rows:"}
    stripped = {word.strip("-.,") for word in words(text)} - {""}
    assert stripped <= {word.strip("-.,") for word in known}


def test_nothing_is_left_out():
    """Every cell is printed; a column of one value is given below the table."""
    text = repr(summary())
    found = " ".join(text.split())
    assert "In all rows: runs 20, cost 75% inf." in found
    for row in summary().cells(3):
        assert all(word in text for cell in row for word in words(cell))


def test_a_narrow_table_is_as_it_is():
    table = Table(
        [{"scheme": "he", "final cost": 0.123456789}, {"scheme": "zeros", "final cost": 2.0}]
    )
    assert repr(table).splitlines() == [
        "scheme  final cost",
        "------  ----------",
        "he      0.123457",
        "zeros   2",
    ]
    assert repr(Table([])) == "(no rows)"
    assert "(no rows)" in printed(Table([]))


def test_blocks_repeat_what_tells_rows_apart():
    names = [f"column number {i}" for i in range(20)]
    table = Table([{"scheme": s} | {n: float(i) for i, n in enumerate(names)} for s in ("a", "b")])
    table = Table([row | {names[0]: k + 0.5} for k, row in enumerate(table)])
    rows = [
        row | {name: k + i * 1e-7 for i, name in enumerate(names)} for k, row in enumerate(table)
    ]
    blocks, notes = fitted(Table(rows), 40)
    assert len(blocks) > 1
    assert not notes
    for block in blocks:
        assert block.headers[0] == ["scheme"]
        assert max(map(len, block.lines())) <= 40
    assert sum(len(block.widths) - 1 for block in blocks) == 20


@pytest.mark.parametrize("width", [40, 60, 100, 200])
def test_rich_fits_the_terminal(width):
    assert max(map(len, printed(summary(), width).splitlines())) <= width


@pytest.mark.parametrize("label", ["a" * 200, "日本語" * 30, "x\ny\x1b[31mz", "_" * 81])
def test_labels_of_users(label):
    rows = [{"scheme": each} | dict(summary()[0]) | {"scheme": each} for each in (label, "he")]
    text = repr(Table(rows))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_word_too_long_is_given_below():
    label = "abc" * 20
    rows = [dict(row) | {"scheme": label} for row in summary()[:2]]
    text = repr(Table([*rows, summary()[20]]))
    assert label in text
    assert "…" in text


def test_text_is_wrapped_inside_its_column():
    verdict = "better than always guessing one class; cost still falling, 50% in the last tenth"
    text = repr(
        Table([{"scheme": each, "final cost": 0.5, "verdict": verdict} for each in SCHEMES])
    )
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("guessing") == len(SCHEMES)


def test_shortened_labels_differ():
    labels = ["a" * 50 + c + "b" * 50 for c in "xyz"] + ["he"]
    found = shortened(labels, MOST_WORD)
    assert len(set(found)) == 4
    assert max(map(len, found)) <= MOST_WORD
    assert found[3] == "he"


def test_values_of_an_axis_have_three_digits_if_these_differ():
    assert rounded([0.010000000000000004, 0.00137936938299795, 1e-4]) == [
        "0.01",
        "0.00138",
        "0.0001",
    ]
    assert rounded([0.12341, 0.12342]) == ["0.12341", "0.12342"]
    assert rounded([0.1, 0.1 + 2**-55]) == ["0.1", "0.10000000000000003"]
    assert rounded([None, 1024, "cosine", 0.5]) == ["", "1024", "cosine", "0.5"]
    assert rounded([0.5, 0.5]) == ["0.5", "0.5"]
    rows = [{"scheme": "he", "learning rate": 0.00137936938299795, "cost": 0.123456789}]
    assert "0.00138 " in repr(Table(rows))
    assert "0.123457" in repr(Table(rows))
    assert ">0.00138<" in Table(rows)._repr_html_()


def test_summary_of_a_large_grid():
    comparison = synthetic(
        SCHEMES[:8], seed=range(3), depth=[1, 2, 4], width=4, learning_rate=[0.1, 0.01],
        optimizer=["sgd", "adam"],
    )  # fmt: skip
    table = comparison.summary("depth", "learning_rate", "optimizer")
    assert len(table) == 96
    assert max(map(len, repr(table).splitlines())) <= 80


def test_no_second_block_for_one_column():
    """Columns that fit with gaps of one space are printed side by side."""
    rows = [{"scheme": "he_normal"} | {f"c{i}": i + 0.123 * k for i in range(10)} for k in (1, 2)]
    table = Table([row | {"diverged": 0.1 * k} for k, row in enumerate(rows)])
    blocks, _ = fitted(table, 72)
    assert len(blocks) == 1
    assert max(map(len, blocks[0].lines())) <= 72
    blocks, notes = fitted(Table([row | {"diverged": 0.0} for row in rows]), 66)
    assert len(blocks) == 1
    assert notes == ["In all rows: diverged 0."]


def test_rows_by_an_axis_compare_the_schemes_of_a_group():
    """The groups in the order of the grid, the schemes of each in that of its ranking."""

    def final(cells):
        worse = cells.code("scheme") ^ cells.code("optimizer")
        return 0.1 * (1 + worse) + 1e-3 * cells.code("seed")

    comparison = synthetic(
        ["zeros", "he_normal"], seed=range(6), optimizer=["sgd", "adam"], final=final
    )
    rows = [(row["optimizer"], row["scheme"]) for row in comparison.summary("optimizer")]
    assert rows == [
        ("sgd", "zeros"), ("sgd", "he_normal"), ("adam", "he_normal"), ("adam", "zeros")
    ]  # fmt: skip
    assert [row["scheme"] for row in comparison.summary()] == ["zeros", "he_normal"]
    verdicts = comparison.verdicts("optimizer")
    assert [(row["optimizer"], row["scheme"]) for row in verdicts] == rows
    assert [row["verdict"] for row in comparison.verdicts()] == [
        comparison.verdict(scheme) for scheme in comparison.schemes
    ]
