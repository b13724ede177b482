import functools
import html
import html.parser
import json
import re
import shlex
import shutil
import subprocess
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from synthetic import synthetic

import fastinit as fi
from fastinit.comparison.ranking import Rank, Ranking
from fastinit.comparison.results import RankingTable
from fastinit.comparison.trials import Metric

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
        self.hidden = tag in ("style", "title", "script")

    def handle_endtag(self, tag):
        self.hidden = False

    def handle_data(self, data):
        self.text += "" if self.hidden else data

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

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
    for row in grid.summary().cells(3):
        assert all(cell in page.text for cell in row)
    config = fi.show_config("dicts")
    for name in ("fastinit", "kernels", "numpy", "python"):
        assert str(config[name]) in page.text
    assert str(grid.network) in page.text


def test_the_networks_that_were_run_are_stated(written):
    comparison = synthetic(
        ["zeros", "he_normal"], seed=range(3), depth=[1, 2], width=4, activation=["relu", "tanh"],
        optimizer=["sgd", "adam"], batch_size=[10, None],
    )  # fmt: skip
    text = written(comparison)
    page = Page(text)
    assert (
        "96 runs of 4 networks from 2 initialisations, relu, tanh hidden units, trained by sgd, "
        "adam, in full batches and batches of 10, for up to 200 iterations, on 40 examples."
    ) in page.text
    rows = re.findall(r"<tr><th[^>]*><span>(3-[-0-9]*)</span>.*?<td>(\d+)</td></tr>", text)
    assert sorted(rows) == [("3-4-1", "24")] * 2 + [("3-4-4-1", "24")] * 2


def ranking_of(names):
    """A ranking in this order."""
    rows = [
        Rank(
            scheme=name, place=i + 1, seeds=3, common_seeds=3, runs=3, failed=0, median=0.1 * i,
            low=float("nan"), high=float("nan"), difference=0.1 * i,
            difference_low=0.01, difference_high=0.2, p_value=float("nan") if i == 0 else 0.03,
            seeds_needed=None, margin=float("nan"), paired=True,
            verdict=("best", "not distinguished", "worse")[i],
        )
        for i, name in enumerate(names)
    ]  # fmt: skip
    found = RankingTable(
        Ranking(tuple(rows), False, 3, 3), Metric("final_cost", False, lambda columns: columns)
    )
    found.answer = "b is the best <of all>."
    return found


def test_ranking_comes_first(written, monkeypatch):
    comparison = synthetic({"a": "zeros", "b": "he_normal", "c": "normal"}, seed=range(3))
    monkeypatch.setattr(fi.comparison.Comparison, "ranking", lambda *_, **__: ranking_of("bca"))
    text = written(comparison)
    assert text.index("<h2>Ranking</h2>") < text.index("<h2>Verdicts</h2>") < text.index("<svg")
    assert "b is the best &lt;of all&gt;." in text
    table = text[text.index("<table") : text.index("</table>")]
    assert re.findall(r"<span>(\w)</span>", table) == ["b", "c", "a"]
    assert "0.01 to 0.2" in table


def test_self_contained(grid, written):
    """Nothing is loaded; the only script is the one whose hash the page allows."""
    text = written(grid)
    page = Page(text)
    addresses = [
        attributes[name]
        for _, attributes in page.tags
        for name in ("src", "href", "xlink:href", "srcset", "data", "action")
        if name in attributes
    ]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    scripts = [each for each in page.all("script") if each.get("type") != "application/json"]
    assert len(scripts) == 1
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert "default-src 'none'" in policy
    assert not any(name.startswith("on") for _, a in page.tags for name in a), "no handlers"
    assert "@import" not in text
    assert all(each.startswith("#f") for each in re.findall(r"url\(([^)]*)", text))


def test_ids_are_unique_and_references_resolve(grid, written):
    text = written(grid)
    ids = re.findall(r'<[^>]* id="([^"]*)"', text)
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= set(ids)


def test_one_picture_for_light_and_dark(grid, written):
    """Text and axes have the colour of the page's text."""
    content = written(grid)
    page = Page(content)
    assert not page.all("img")
    assert not page.all("picture")
    texts = page.all("text")
    assert len(texts) > 50
    colors = {
        (re.findall(r"fill: ([^;]*)", each.get("style", "")) or ["#000000"])[0] for each in texts
    }
    assert "currentColor" in colors
    from fastinit.comparison import plots, vectors

    assert colors <= {"currentColor", "#000000", "#ffffff", *(c.lower() for c in plots.COLORS)}
    assert vectors.INK not in content
    assert vectors.PAPER not in content


def test_curves_have_their_values(net, balanced, written):
    grid = fi.compare(
        *balanced, net, ["he_normal", "zeros"], seed=range(3), learning_rate=[0.1, 1e200],
        width=[3, 4], depth=[2], iterations=50,
    )  # fmt: skip
    text = written(grid)
    found = re.findall(r'<script type="application/json">(.*?)</script>', text)
    panels = [json.loads(each) for each in found]
    curves = {curve["label"]: curve for curve in panels[0]["curves"]}
    assert set(curves) == set(grid.schemes)
    median = np.median(grid.curves(learning_rate=0.1)["zeros"], axis=0)
    points = grid.points().tolist()
    assert curves["zeros"]["x"] == points
    np.testing.assert_allclose(curves["zeros"]["y"], median, rtol=1e-3)
    assert [c["y"][-1] for c in panels[1]["curves"] if c["label"] == "he_normal"] == [np.inf]
    for k in (0, 1):
        assert text.count(f'class="curve" data-k="{k}"') >= 2
        assert text.count(f'class="label" data-k="{k}"') >= 2


def test_accessible(grid, written):
    text = written(grid)
    page = Page(text)
    assert page.all("html") == [{"lang": "en"}]
    pictures = page.all("svg")
    assert len(pictures) > 6
    assert all(each["role"] == "img" for each in pictures)
    assert all(len(each["aria-label"]) > 10 for each in pictures)
    assert all(each.get("tabindex") == "0" for each in page.all("figure") if each)
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    assert len(page.all("th")) > 10
    assert len(page.all("main")) == len(page.all("h1")) == 1
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


HOSTILE = '<script>alert("&amp;")</script>\'x'


def test_user_input_is_escaped(lesson, written):
    command = ["fastinit", "compare", "--data", HOSTILE]
    text = written(lesson, data=f"X, Y = load({HOSTILE!r})", command=command)
    page = Page(text)
    assert "<script>alert" not in text
    assert shlex.join(command) in page.text
    assert f"X, Y = load({HOSTILE!r})" in page.text


@pytest.mark.parametrize(
    "label",
    [HOSTILE, "</script><b>", "日本語 ← é", "x" * 1000, "$a_b^$", "a\x00\x0bb", "-->"],
)
def test_labels_are_escaped(label, written):
    """In text, attributes, JSON and SVG, and the page stays valid."""
    html5lib = pytest.importorskip("html5lib")
    text = written(
        synthetic({label: "zeros", "he": "he_normal"}, seed=range(3), depth=[1, 2], width=4)
    )
    html5lib.HTMLParser(strict=True).parse(text)
    page = Page(text)
    assert not page.all("b")
    assert len([s for s in page.all("script") if "type" not in s]) == 1
    found = re.findall(r'<script type="application/json">(.*?)</script>', text)
    assert all(len(json.loads(each)["curves"]) == 2 for each in found)
    assert label.replace("\x00", "\ufffd").replace("\x0b", "\ufffd") in page.text


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
    assert list(again.cells) == list(comparison.cells)
    assert again.data.target_cost == comparison.data.target_cost
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
        {"optimizer": ["adam", fi.optimizers.Momentum(0.1)], "batch_size": [None, 50]},
        {"scale": [0.5, 2.0], "class_weight": "balanced", "tol": 1e-6, "n_iter_no_change": 3},
        {"seed": range(3), "depth": [1, 2], "width": [2, 3], "n_samples": 7},
    ],
    ids=[
        "Generator",
        "RandomState",
        "spawned",
        "SeedSequence",
        "arrays",
        "axes",
        "optimizers",
        "weights",
        "samples",
    ],
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


def test_the_code_of_schemes(net, circles):
    """Names, partials and lists have code; for other schemes the code says what is missing."""
    schemes = ["zeros", functools.partial(fi.normal, std=0.1), ["he_normal", "zeros", "zeros"]]
    comparison = fi.compare(*circles[:2], net, schemes, iterations=3)
    names = {}
    exec(report.code(comparison, LESSON), names)
    for ours, theirs in zip(names["result"].trials, comparison.trials, strict=True):
        assert_array_equal(ours.theta, theirs.theta)
    mapped = fi.compare(
        *circles[:2], net, {"mine": functools.partial(fi.normal, std=0.1), "zeros": "zeros"},
        iterations=3, learning_rate=lambda iteration: 0.1, sample_weight=np.linspace(1, 2, 300),
    )  # fmt: skip
    text = report.code(mapped, LESSON)
    compile(text, "report", "exec")
    assert "{'mine': ..., 'zeros': 'zeros'},  # replace ..." in text
    assert "learning_rate=...,  # no code for" in text
    assert "sample_weight=...,  # no code for [1.0," in text


def test_the_data_are_identified_by_their_digest(lesson, circles, net):
    digest = re.search(r"SHA-256 ([0-9a-f]{64})\n", report.code(lesson))[1]
    other = fi.compare(circles[0] + 1e-9, circles[1], net, ["zeros"], iterations=0)
    assert digest not in report.code(other)


def test_data_of_many_features(written):
    X = np.random.default_rng(0).standard_normal((3, 20))
    Y = (X[:1] > 0).astype(int)
    page = Page(written(fi.compare(X, Y, fi.Network([3, 4, 1]), ["lesson.he"], iterations=5)))
    assert len(page.all("svg")) == 1


def test_many_schemes(net, circles, written):
    schemes = ["he_normal", "he_uniform", "zeros", "glorot_normal", "glorot_uniform"]
    page = Page(written(fi.compare(*circles[:2], net, schemes, iterations=5)))
    assert len(page.all("dt")) == 5


def test_nothing_finished(written):
    comparison = synthetic(["zeros"])
    comparison._blocks.clear()
    with pytest.raises(ValueError, match="comparison: expected at least one finished run"):
        written(comparison)


def test_unfinished(written):
    comparison = synthetic(["zeros", "he_normal"], seed=range(12))
    places, block = comparison._blocks.pop()
    comparison.add(places[:1], block.select([0]))
    text = Page(written(comparison)).text
    assert "1 run of the network 3-4-4-1" in text
    assert "23 of 24 runs are missing: 11 of 12 of zeros, 12 of 12 of he_normal." in text
    assert "No runs of" not in text
    comparison = synthetic(["zeros", "he_normal"], seed=range(2), depth=[1, 2, 3])
    part = type(comparison)(
        comparison.data, comparison.cells, comparison.network, comparison.settings
    )
    for places, block in comparison._blocks:
        if part.cells[int(places[0])].depth == 2:
            part.add(places[:3], block.select(range(3)))
    assert (
        "9 of 12 runs are missing: 4 of 6 of zeros, 5 of 6 of he_normal. No runs of depth 1, 3."
        in (Page(written(part)).text)
    )


def test_the_ranking_at_the_best_values_of_an_axis(written):
    """The page has the ranking that the command line prints for the same options."""
    comparison = synthetic(["zeros", "he_normal"], seed=range(8), learning_rate=[0.01, 0.1, 1.0])
    options = {"metric": "final_cost", "best_of": "learning_rate"}
    ranking = comparison.ranking(options["metric"], best_of=options["best_of"])
    assert ranking.answer != comparison.ranking("final_cost").answer
    page = Page(written(comparison, **options))
    assert ranking.answer in page.text
    grouped = Page(written(comparison, by="seed", **options)).text
    assert comparison.ranking("final_cost", best_of="learning_rate", seed=3).answer in grouped
    with pytest.raises(ValueError, match="metric: expected one of"):
        written(comparison, metric="beauty")
    with pytest.raises(ValueError, match="best_of: expected one of"):
        written(comparison, best_of="seed")


def test_the_code_has_the_validation_data(net, circles):
    X, Y, X_test, Y_test = circles
    comparison = fi.compare(
        X, Y, net, ["he_normal"], iterations=30, validation=(X_test, Y_test), validate_every=5,
        monitor="score", n_iter_no_change=2,
    )  # fmt: skip
    text = report.code(comparison)
    assert "# validation: the pair of arrays" in text
    names = {}
    exec(report.code(comparison, f"{LESSON}\nvalidation = X_test, Y_test"), names)
    assert_array_equal(names["result"].trials[0].theta, comparison.trials[0].theta)


def test_no_data(written):
    """A store does not keep large data."""
    comparison = synthetic(["zeros", "he_normal"], seed=range(3), with_data=False)
    page = Page(written(comparison))
    assert "too large for the store" in page.text
    assert f"# X, Y: the arrays of SHA-256 {'0' * 64}\n" in page.text
    assert len(page.all("svg")) == 3


def test_panels_by_another_axis(written):
    comparison = synthetic(["zeros", "he_normal"], seed=range(2), depth=[1, 2], width=[3, 4])
    assert "width 3</text>" in written(comparison, by="width")
    with pytest.raises(ValueError, match="by: expected one of"):
        written(comparison, by="colour")


def by_optimizer(n_rates=2):
    """One scheme is best by SGD, another by Adam."""

    def final(cells):
        worse = cells.code("scheme") != cells.code("optimizer")
        noise = np.random.default_rng(0).uniform(0, 0.01, len(cells))
        return 0.1 + 0.1 * worse + noise + 0.001 * cells.code("learning_rate")

    rates = [0.010000000000000004, 0.00137936938299795, 1e-4][:n_rates]
    return synthetic(
        ["he_normal", "zeros"], seed=range(12), optimizer=["sgd", "adam"], learning_rate=rates,
        final=final, test=False,
    )  # fmt: skip


def test_a_ranking_and_verdicts_for_each_group(written):
    html5lib = pytest.importorskip("html5lib")
    comparison = by_optimizer()
    text = written(comparison, by="optimizer")
    html5lib.HTMLParser(strict=True).parse(text)
    overview, *rankings = re.findall(r"<table.*?</table>", text, flags=re.DOTALL)[:3]
    best = {"sgd": "he_normal", "adam": "zeros"}
    for name, first in best.items():
        assert f'<th scope="row"><span>{name}</span></th><td class="text">{first}</td>' in overview
    for table, first in zip(rankings, best.values(), strict=True):
        assert re.findall(r"<span>(\w+)</span>", table)[0] == first
    parts = re.findall(r"<details open>\n<summary>(\w+)</summary>(.*?)</details>", text, re.DOTALL)
    assert [name for name, _ in parts] == ["sgd", "adam"] * 2, "rankings, then verdicts"
    for name, part in parts[:2]:
        assert html.escape(comparison.ranking(optimizer=name).answer) in part
    for row, definition in zip(
        comparison.verdicts("optimizer"), re.findall("<dd>(.*?)</dd>", text), strict=True
    ):
        assert html.escape(row["verdict"]) + "." == definition
    # Medians over the rates are said to be so.
    assert "2 learning rates" in Page(text).text


def test_full_batches_are_called_full_in_all_tables(written):
    comparison = synthetic(["he_normal", "zeros"], seed=range(8), batch_size=[None, 10])
    text = written(comparison, by="batch_size")
    tables = [each for each in re.findall(r"<table.*?</table>", text, re.DOTALL)
              if ">batch size<" in each]  # fmt: skip
    assert len(tables) >= 2
    assert all(">full</" in each for each in tables)


def test_many_groups_are_folded(written):
    comparison = by_optimizer(3)
    text = written(comparison, by=["optimizer", "learning_rate"])
    assert "<details open>" not in text
    titles = re.findall("<summary>(.*?)</summary>", text)
    assert titles[:3] == [f"sgd, learning rate {rate}" for rate in ("0.01", "0.00138", "0.0001")]
    assert len(titles) == 12
    shown = Page(text.split("<h2>Reproduce</h2>")[0]).text
    assert "0.0100000" not in shown
    assert "0.001379" not in shown


def test_too_many_groups(written, monkeypatch):
    monkeypatch.setattr(report, "MOST_GROUPS", 3)
    comparison = by_optimizer()
    text = written(comparison, by=["learning_rate", "optimizer"])
    assert "more than 3 groups" in text
    assert html.escape(comparison.ranking().answer) in text


def test_differences_that_are_rounding_errors(written):
    comparison = synthetic(
        ["he_normal", "zeros"], seed=range(8), test=False,
        final=lambda cells: np.where(cells.code("scheme") == 0, 0.3, 0.1 + 0.2),
    )  # fmt: skip
    table = re.search(r"<table.*?</table>", written(comparison), flags=re.DOTALL)[0]
    assert "e-17" not in table


def large():
    """Six schemes, five depths, two optimisers and twenty seeds, of which some diverged."""

    def final(cells):
        costs = np.random.default_rng(0).lognormal(-2, 1, len(cells))
        costs[(cells.code("scheme") == 5) & (cells.code("depth") == 4)] = np.nan
        return costs

    return synthetic(
        ["he_normal", "glorot_uniform", "lecun_normal", "orthogonal", "zeros", "normal"],
        depth=[1, 2, 4, 8, 16], width=10, optimizer=["sgd", "adam"], seed=range(20), final=final,
        iterations=1000,
    )  # fmt: skip


def test_size_and_time(tmp_path):
    """1,200 runs: 3 MB and 10 s of processor time at most."""
    comparison = large()
    began = time.process_time()
    report.write(comparison, tmp_path / "report.html", by=["depth", "optimizer"])
    assert time.process_time() - began < 10
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


def test_a_hundred_thousand_runs(tmp_path):
    """A hundred times the runs do not make the page larger."""
    comparison = synthetic(["he_normal", "zeros"], seed=range(50_000), iterations=50)
    began = time.process_time()
    report.write(comparison, tmp_path / "report.html")
    assert time.process_time() - began < 10
    assert (tmp_path / "report.html").stat().st_size < 500_000


# --- in a browser -------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


def in_browser(page, script, tmp_path, *arguments):
    """Run a script after those of the page, and return the text that it leaves in the document."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    # The page allows no other scripts.
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    ending = (
        "<script>addEventListener('load', () => { let found; try { found = (() => {"
        + script
        + "})(); } catch (error) { found = String(error); }"
        "const out = document.createElement('output'); out.id = 'result';"
        "out.textContent = JSON.stringify(found); document.body.append(out); });</script></body>"
    )
    path = tmp_path / "tested.html"
    path.write_text(page.replace("</body>", ending), encoding="utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
        f"--user-data-dir={tmp_path / 'profile'}", *arguments, path.as_uri(),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("chromium does not answer")
    found = re.search(r'<output id="result">(.*?)</output>', done.stdout)
    if done.returncode != 0 or found is None:
        pytest.skip(f"chromium does not run here: {done.stderr[-200:]}")
    return json.loads(html.unescape(found[1]))


def test_tables_sort_by_a_click(written, tmp_path):
    comparison = synthetic(["he_normal", "glorot_normal", "zeros"], seed=range(5))
    script = """
        const table = [...document.querySelectorAll("table.sortable")]
            .find((each) => each.caption.textContent.startsWith("Medians"));
        const heads = [...table.tHead.rows[0].cells];
        const i = heads.findIndex((head) => head.textContent === "median cost");
        const read = (j) => [...table.tBodies[0].rows].map((row) => row.cells[j].textContent);
        const found = [];
        for (const j of [i, i, i, 0]) {
            heads[j].querySelector("button").click();
            found.push([heads[j].getAttribute("aria-sort"), read(j)]);
        }
        return found;"""
    found = in_browser(written(comparison), script, tmp_path)
    column = [f"{row['median cost']:.3g}" for row in comparison.summary()]
    ascending = sorted(column, key=float)
    assert found == [
        ["ascending", ascending],
        ["descending", ascending[::-1]],
        ["none", column],
        ["ascending", ["glorot_normal", "he_normal", "zeros"]],
    ]


def test_curves_answer_pointer_and_keys(written, tmp_path):
    comparison = synthetic(["he_normal", "zeros"], seed=range(5))
    script = """
        const figure = document.querySelector("figure.curves");
        const readout = figure.querySelector(".readout"), found = [readout.textContent];
        const svg = figure.querySelector("svg");
        const label = svg.querySelector('.label[data-k="1"] text').getBoundingClientRect();
        svg.dispatchEvent(new PointerEvent("pointermove", {
            clientX: label.left - 20, clientY: label.top + label.height / 2 }));
        found.push(readout.textContent);
        found.push([...figure.querySelectorAll(".on")].map((each) => each.dataset.k));
        for (const key of ["ArrowUp", "End", "Escape"]) {
            figure.dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true }));
            found.push(readout.textContent);
        }
        return found;"""
    before, pointed, on, up, same, after = in_browser(written(comparison), script, tmp_path)
    assert before == after == ""
    assert re.fullmatch(r"zeros: iteration 1\d\d, cost \(median\) 0\.\d+", pointed)
    assert set(on) == {"1"}
    assert up.startswith("he_normal: iteration ")
    assert same == up


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_does_not_scroll_sideways(width, written, tmp_path):
    """In a frame of this width, because a window of a browser has a least width."""
    schemes = {"a" * 300: "zeros", "he": "he_normal", "b c" * 40: "normal"}
    page = written(synthetic(schemes, seed=range(3), depth=[1, 2], width=4))
    (tmp_path / "inner.html").write_text(page, encoding="utf-8")
    script = f"""
        const frame = document.createElement("iframe");
        frame.style.width = "{width}px";
        document.body.append(frame);
        frame.contentDocument.write({json.dumps(page).replace("</", "<" + chr(92) + "/")});
        frame.contentDocument.close();
        return frame.contentDocument.documentElement.scrollWidth;"""
    assert in_browser("<!DOCTYPE html><body></body>", script, tmp_path) <= width


def test_a_narrow_screen_shows_what_matters(written, tmp_path):
    """The scheme, its median and its verdict are visible at 390 pixels; no number is broken."""
    page = written(by_optimizer(), by="optimizer")
    script = f"""
        const frame = document.createElement("iframe");
        frame.style.width = "390px";
        document.body.append(frame);
        frame.contentDocument.write({json.dumps(page).replace("</", "<" + chr(92) + "/")});
        frame.contentDocument.close();
        const tables = [...frame.contentDocument.querySelectorAll("details table")];
        const ends = tables.map((t) => t.tHead.rows[0].cells[2].getBoundingClientRect().right);
        const lines = (cell) => {{
            const range = frame.contentDocument.createRange();
            range.selectNodeContents(cell);
            return new Set([...range.getClientRects()].map((box) => box.top)).size;
        }};
        const cells = [...frame.contentDocument.querySelectorAll(".frame td:not(.text)")];
        return [ends, Math.max(...cells.map(lines)),
            [...tables[0].tHead.rows[0].cells].slice(0, 3).map((cell) => cell.textContent)];"""
    ends, lines, names = in_browser("<!DOCTYPE html><body></body>", script, tmp_path)
    assert max(ends) <= 375
    assert lines == 1
    assert names == ["scheme", "median", "against the best"]


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
