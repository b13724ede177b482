import html.parser
import re
import shlex

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit as fi

pytest.importorskip("matplotlib").use("Agg")
report = pytest.importorskip("fastinit.comparison.report")

LESSON = "X, Y, X_test, Y_test = fi.lesson.load_dataset()"


class Page(html.parser.HTMLParser):
    """All tags with their attributes, and the visible text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.hidden = [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.hidden = tag in ("style", "title")

    def handle_endtag(self, tag):
        self.hidden = False

    def handle_data(self, data):
        self.text += "" if self.hidden else data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def lesson(net):
    """The lesson, from the random state that the code of the report starts from."""
    X, Y, X_test, Y_test = fi.lesson.load_dataset()
    return fi.compare(
        X, Y, net, ["zeros", "lesson.random", "lesson.he"], test=(X_test, Y_test), iterations=50
    )


@pytest.fixture
def grid(net, circles):
    return fi.compare(
        *circles[:2], net, ["he_normal", "zeros"], seed=range(3), learning_rate=[0.1, 1e200],
        width=[3, 4], depth=[2], iterations=50, target_cost=0.6,
    )  # fmt: skip


@pytest.fixture
def written(tmp_path):
    def write(comparison, **keywords):
        report.write(comparison, tmp_path / "report.html", **keywords)
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return write


@pytest.mark.parametrize("which", ["lesson", "grid"])
def test_valid_html(request, written, which):
    """Parsed by the rules of the HTML standard; any violation is an error."""
    html5lib = pytest.importorskip("html5lib")
    page = written(request.getfixturevalue(which), data=LESSON, command=["fastinit", "compare"])
    html5lib.HTMLParser(strict=True).parse(page)
    with pytest.raises(html5lib.html5parser.ParseError):
        html5lib.HTMLParser(strict=True).parse(page.replace("</table>", "</tabel>", 1))


def test_content(grid, written):
    page = Page(written(grid))
    assert page.text.count("What does the weight initialisation do?") == 1
    for scheme in grid.schemes:
        assert grid.verdict(scheme) in page.text
    for row in grid.summary().cells(4):
        assert all(cell in page.text for cell in row)
    config = fi.show_config("dicts")
    for name in ("fastinit", "kernels", "numpy", "python"):
        assert str(config[name]) in page.text
    assert str(grid.network) in page.text
    assert "24 runs of up to 50 iterations on 300 examples" in page.text


def test_self_contained(grid, written):
    """There are no scripts and no addresses other than data URLs."""
    text = written(grid)
    page = Page(text)
    addresses = [
        attributes[name]
        for _, attributes in page.tags
        for name in ("src", "href", "srcset", "data", "action")
        if name in attributes
    ]
    assert len(addresses) == 1 + 2 * 6
    assert all(address.startswith("data:") for address in addresses)
    assert not page.all("script")
    assert "url(" not in text
    assert "@import" not in text


def test_accessible(grid, written):
    text = written(grid)
    page = Page(text)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("img")) == 6
    assert all(len(attributes["alt"]) > 20 for attributes in page.all("img"))
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    assert len(page.all("th")) > 10
    assert len(page.all("main")) == len(page.all("h1")) == 1
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    sources = page.all("source")
    assert len(sources) == 6
    for dark, light in zip(sources, page.all("img"), strict=True):
        assert dark["media"] == "(prefers-color-scheme: dark)"
        assert dark["srcset"] != light["src"]


HOSTILE = '<script>alert("&amp;")</script>\'x'


def test_user_input_is_escaped(lesson, written):
    command = ["fastinit", "compare", "--data", HOSTILE]
    text = written(lesson, data=f"X, Y = load({HOSTILE!r})", command=command)
    page = Page(text)
    assert not page.all("script")
    assert shlex.join(command) in page.text
    assert f"X, Y = load({HOSTILE!r})" in page.text


@pytest.mark.parametrize("which", ["lesson", "grid"])
def test_the_code_reproduces_the_comparison(request, which):
    """Run the code in the report, and compare every run bit by bit."""
    comparison = request.getfixturevalue(which)
    names = {}
    data = LESSON if which == "lesson" else LESSON.replace("X_test, Y_test", "_, _")
    state = np.random.get_state()
    try:
        exec(report.code(comparison, data), names)
    finally:
        np.random.set_state(state)
    again = names["result"]
    assert again.cells == comparison.cells
    assert again.target_cost == comparison.target_cost
    for ours, theirs in zip(again.trials, comparison.trials, strict=True):
        assert_array_equal(ours.theta, theirs.theta)
        assert ours.iterations_to_cost == theirs.iterations_to_cost


@pytest.mark.parametrize(
    "keywords",
    [
        {"seed": np.random.default_rng(0)},
        {"seed": np.random.RandomState(0)},
        {"seed": np.random.SeedSequence(5).spawn(2)[1]},
        {"seed": np.random.SeedSequence([3, 4], pool_size=8)},
        {"seed": np.arange(2), "learning_rate": np.array([0.1, 0.2]), "target_cost": np.float32(1)},
        {"seed": range(2), "activation": "tanh", "depth": (1, 2), "width": np.int64(3)},
    ],
    ids=["Generator", "RandomState", "spawned", "SeedSequence", "arrays", "axes"],
)
def test_the_code_has_every_argument(net, keywords):
    """Arguments of any type that compare takes are written as Python that gives the same runs."""
    names = {}
    X, Y, _, _ = fi.lesson.load_dataset()
    comparison = fi.compare(X, Y, net, ["he_normal", "lesson.he"], iterations=12, **keywords)
    exec(report.code(comparison, LESSON), names)
    again = names["result"]
    for ours, theirs in zip(again.trials, comparison.trials, strict=True):
        assert ours.network == theirs.network
        assert_array_equal(ours.start, theirs.start)
        assert_array_equal(ours.theta, theirs.theta)
    assert list(again.summary("seed")) == list(comparison.summary("seed"))


def test_the_data_are_identified_by_their_digest(lesson, circles, net):
    digest = re.search(r"SHA-256 ([0-9a-f]{64})\n", report.code(lesson))[1]
    other = fi.compare(circles[0] + 1e-9, circles[1], net, ["zeros"], iterations=0)
    assert digest not in report.code(other)


def test_data_of_many_features(written):
    X = np.random.default_rng(0).standard_normal((3, 20))
    Y = (X[:1] > 0).astype(int)
    page = Page(written(fi.compare(X, Y, fi.Network([3, 4, 1]), ["lesson.he"], iterations=5)))
    assert len(page.all("img")) == 1


def test_many_schemes(net, circles, written):
    schemes = ["he_normal", "he_uniform", "zeros", "glorot_normal", "glorot_uniform"]
    page = Page(written(fi.compare(*circles[:2], net, schemes, iterations=5)))
    assert len(page.all("dt")) == 5


def test_nothing_finished(net, circles, written):
    comparison = fi.compare(*circles[:2], net, ["zeros"], iterations=1)
    comparison._found.clear()
    with pytest.raises(ValueError, match="comparison: expected at least one finished run"):
        written(comparison)


def test_unfinished(grid, written):
    for place in range(1, 24):
        del grid._found[place]
    assert "; 23 more were not finished" in Page(written(grid)).text


def test_a_failing_report_leaves_the_old_one(lesson, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        report.write(lesson, path)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
    monkeypatch.undo()
    with pytest.raises(OSError, match="absent"):
        report.write(lesson, tmp_path / "absent" / "report.html")
