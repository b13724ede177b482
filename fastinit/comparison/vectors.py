"""Figures for HTML pages: SVG in the colours of the page, and the values of its curves."""

import io
import re
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.layout_engine import TightLayoutEngine
from numpy.typing import NDArray

from fastinit.comparison.plots import MOST_POINTS, MedianLine, Picture, missing_glyphs

# Colours that the page replaces by those of its own style.
INK, PAPER = "#010203", "#fdfeff"
PAD = 0.35  # of the size of the font, around a panel
# Of SVG: elements with attributes, two kinds of these, and the digits of places that are left out:
# hundredths of a point are less than a pixel at any zoom.
TAG, ID, PLACES, DIGITS = map(
    re.compile,
    (r"<[^>]+=[^>]+>", r' id="([^"]*)"', r' (?:d|x|y|points)="[^"]*"', r"(?<=\.\d\d)\d+"),
)


class Curve(NamedTuple):
    """One drawn line, for readers who point at it.

    Attributes
    ----------
    label : str
        In full length.
    x, y : ndarray of shape (n_points,)
    """

    label: str
    x: NDArray[Any]
    y: NDArray[np.float64]


class Vector(NamedTuple):
    """A panel as an element ``<svg>`` of an HTML page.

    Attributes
    ----------
    svg : str
        Its colours are ``currentColor`` and ``var(--paper)``, its text is text, and its ids begin
        with a prefix. The line of a curve has the class "curve", its label "label", both with an
        attribute ``data-k``, the number of the curve.
    curves : dict of int to Curve
        By their numbers.
    names : dict
        What ``x`` and ``y`` of the curves are.
    description : str
        The drawn medians, for readers who cannot see them.
    view : dict
        ``x`` and ``y``: the limits of the axes, and their places in the coordinates of the image;
        ``logx`` and ``logy``.
    """

    svg: str
    curves: dict[int, Curve]
    names: dict[str, str]
    description: str
    view: dict[str, Any]


def vectors(picture: Picture, prefix: str) -> list[Vector]:
    """Return each panel of a picture as an element ``<svg>``.

    Parameters
    ----------
    picture : Picture
    prefix : str
        Of all ids.
    """
    colors = dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    )
    settings: dict[Any, Any] = colors | {
        "axes.facecolor": PAPER, "figure.facecolor": PAPER, "svg.fonttype": "none",
        "svg.hashsalt": prefix, "font.size": 9.0, "axes.titlesize": 10.0, "grid.color": "#808080",
        "path.simplify_threshold": 0.3, "axes.spines.top": False, "axes.spines.right": False,
        # Titles have nothing to avoid, and to look for it takes a quarter of the arrangement.
        "axes.titley": 1.0,
    }  # fmt: skip
    with plt.style.context("default"), plt.rc_context(settings), missing_glyphs():
        return [_vector(picture, k, f"{prefix}{k}-") for k in range(len(picture.panels))]


def _vector(picture: Picture, panel: int, prefix: str) -> Vector:
    title, draw = picture.panels[panel]
    # Text must be legible on a page of 390 pixels.
    size = (3.4, 3.6) if picture.square else (4.4, 0.88 * picture.size[1])
    figure = Figure(figsize=size, layout=TightLayoutEngine(pad=PAD), dpi=72)
    ax = figure.subplots()
    draw(ax)
    if title:
        ax.set_title(title, parse_math=False)
    for artist in filter(_is_heavy, ax.collections):
        artist.set_rasterized(True)
    svg = _inline(_svg(figure), prefix)
    return Vector(svg, _curves(ax), _names(ax), _described(ax), _view(ax))


def _svg(figure: Figure) -> str:
    """Return a figure as an SVG file with a transparent background.

    ``savefig`` draws it twice, and arranges it each time. The arrangement takes as long as drawing.
    """
    file = io.StringIO()
    figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]
    figure.set_layout_engine("none")
    for patch in (figure.patch, *(ax.patch for ax in figure.axes)):
        patch.set_facecolor("none")
        patch.set_edgecolor("none")
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(file, metadata=nothing)
    return file.getvalue()


def _is_heavy(artist: Any) -> bool:
    """Return whether an artist would be large as vectors."""
    if isinstance(artist, ContourSet):
        return True
    offsets = getattr(artist, "get_offsets", None)
    return offsets is not None and len(offsets()) > 1000


def _curves(ax: Axes) -> dict[int, Curve]:
    """Return the curves of axes, thinned, by their numbers."""
    found = {}
    for line in ax.lines:
        if isinstance(line, MedianLine):
            x, y = np.asarray(line.get_xdata()), line.values
            step = -(-len(x) // MOST_POINTS)
            kept = np.unique(np.append(np.arange(0, len(x), step), len(x) - 1))
            found[int(str(line.get_gid())[1:])] = Curve(str(line.get_label()), x[kept], y[kept])
    return found


def _names(ax: Axes) -> dict[str, str]:
    return {"x": ax.get_xlabel(), "y": re.sub(r"[: ]*median and.*", " (median)", ax.get_ylabel())}


def _described(ax: Axes) -> str:
    """Return the last value of each curve, or the text beside each row of dots."""
    curves = _curves(ax).values()
    if curves:
        return ", ".join(f"{curve.label} {curve.y[-1]:.3g}" for curve in curves)
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    texts = [text.get_text() for text in ax.texts]
    if len(names) == len(texts):
        return ", ".join(f"{name} {text}" for name, text in zip(names, texts, strict=True))
    return str(ax.get_title())


def _view(ax: Axes) -> dict[str, Any]:
    height = ax.figure.bbox.height
    box = ax.bbox
    return {
        "x": [*ax.get_xlim(), round(box.x0, 2), round(box.x1, 2)],
        "y": [*ax.get_ylim(), round(height - box.y0, 2), round(height - box.y1, 2)],
        "logx": ax.get_xscale() == "log",
        "logy": ax.get_yscale() == "log",
    }


def _inline(svg: str, prefix: str) -> str:
    """Return an SVG file as an element for an HTML page."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))

    def mended(match: re.Match[str]) -> str:
        tag = match[0]
        if tag.startswith("<svg"):
            box = re.search(r'viewBox="[^"]*"', tag)
            return f"<svg {box[0] if box else ''}>"
        for old, new in (
            ('href="#', f'href="#{prefix}'), ("url(#", f"url(#{prefix}"), ("xlink:href", "href"),
            (INK, "currentColor"), (PAPER, "var(--paper)"),
        ):  # fmt: skip
            tag = tag.replace(old, new)
        tag = ID.sub(lambda m: _identified(m[1], used, prefix), tag)
        return PLACES.sub(lambda m: DIGITS.sub("", m[0]), tag)

    svg = TAG.sub(mended, svg)
    return re.sub(r">\s+<", ">\n<", svg)


def _identified(name: str, used: set[str], prefix: str) -> str:
    """Return the attribute in place of an id: none is kept that nothing refers to."""
    if name in used:
        return f' id="{prefix}{name}"'
    number = re.fullmatch(r"([cl])(\d+)", name)
    if number:
        return f' class="{"curve" if number[1] == "c" else "label"}" data-k="{number[2]}"'
    return ""
