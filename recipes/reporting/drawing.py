"""Small figures as SVG inside the page: text stays text, and colours are the page's, so that they change with it.

matplotlib draws with stand-ins for the colours of style.css, which are put in their place afterwards.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from recipes.reporting.curves import Line, Panel, curves_of
from recipes.reporting.run_folder import RunFolder
from recipes.reporting.text import visible

WIDTH, HEIGHT = 330, 176  # of the picture; about as many pixels on a phone
SERIES = 8  # colours, from --series-1 in style.css
STAND_INS = {
    "ink": "#010101",
    "muted": "#020202",
    "rule": "#030303",
    "card": "#040404",
    "held-out": "#050505",
    **{f"series-{number}": f"#0{number}0{number}0{number + 1}" for number in range(1, SERIES + 1)},
}
DASHES = ["solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2))]
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.size": 11.5,
    "path.simplify": True,
    "text.parse_math": False,
    "axes.unicode_minus": True,
}


def drawn_curves(run: RunFolder, numbers: Iterator[int]) -> tuple[list[dict], list[tuple[str, str]]]:
    """The figures of a run, and what was constant; `numbers` makes their names unique on the page."""
    panels, constant = curves_of(run)
    return [drawn(panel, f"c{next(numbers)}") for panel in panels], [(title, short(value)) for title, value in constant]


def drawn(panel: Panel, name: str, places: list[int] | None = None) -> dict:
    """A figure with what stands around it: where a single line began and ended, or the labels of several."""
    places = list(range(len(panel.lines))) if places is None else places
    is_single = len(panel.lines) == 1 and not panel.lines[0].label
    ends = [[short(end) for end in line.ends] for line in panel.lines]
    labels = [
        (line.label, " \N{RIGHTWARDS ARROW} ".join(told), place)
        for line, told, place in zip(panel.lines, ends, places, strict=True)
    ]
    return {
        "panel": panel,
        "svg": draw_panel(panel, name, places),
        "ends": ends[0] if is_single else [],
        "labels": [] if is_single else labels,
    }


def draw_panel(panel: Panel, name: str, places: list[int] | None = None) -> Markup:
    """The figure of a panel; `name` is unique on the page, `places` are those of its lines' colours and dashes."""
    places = list(range(len(panel.lines))) if places is None else places
    with drawing(name, describe(panel)) as (axes, finished):
        for place, line in zip(places, panel.lines, strict=True):
            draw_line(axes, line, f"series-{place % SERIES + 1}", DASHES[place % len(DASHES)])
        limit(axes, panel)
    return finished[0]


def draw_line(axes: Axes, line: Line, colour: str, dashes="solid") -> None:
    stand_in = STAND_INS[colour]
    if line.low is not None:
        axes.fill_between(line.steps, line.low, line.high, color=stand_in, alpha=0.13, linewidth=0)
    axes.plot(line.steps, line.raw, color=stand_in, alpha=0.3, linewidth=1)
    axes.plot(line.steps, line.mean, color=stand_in, linewidth=2.2, linestyle=dashes)
    alone = is_alone(line.mean)
    axes.plot(line.steps[alone], line.mean[alone], "o", color=stand_in, markersize=4)
    for dot in line.dots:
        if dot.low is not None:
            axes.plot([dot.step] * 2, [dot.low, dot.high], color=STAND_INS["held-out"], linewidth=1.6, clip_on=False)
        fill, size, alpha = (STAND_INS["card"], 4.4, 0.75) if dot.few else (STAND_INS["held-out"], 6.5, 1)
        looks = {"color": STAND_INS["held-out"], "markerfacecolor": fill, "markersize": size, "alpha": alpha}
        axes.plot(dot.step, dot.value, "o", **looks, markeredgewidth=0.9, clip_on=False, zorder=4)


def is_alone(values: np.ndarray) -> np.ndarray:
    """Which values have a gap on both sides, so that no line would show them."""
    known = np.concatenate([[False], ~np.isnan(values), [False]])
    return known[1:-1] & ~known[:-2] & ~known[2:]


def limit(axes: Axes, panel: Panel) -> None:
    """From 0 where nothing is below; to 1 for a share; no further down than -1 for an explained variance."""
    seen = [line.raw for line in panel.lines] + [line.low for line in panel.lines if line.low is not None]
    lowest, highest = (float(find(np.concatenate(seen))) for find in (np.nanmin, np.nanmax))
    if panel.is_share and lowest >= 0 and highest <= 1:
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_locator(MultipleLocator(0.25))
    elif lowest >= 0:
        axes.set_ylim(bottom=0)
    elif panel.title == "Explained variance":
        axes.set_ylim(bottom=max(lowest, -1))


@contextmanager
def drawing(name: str, description: str, size=(WIDTH, HEIGHT), x_label: str = "step") -> Iterator[tuple[Axes, list]]:
    """Axes to draw on, and a list that holds the finished SVG afterwards."""
    finished: list[Markup] = []
    with matplotlib.rc_context(SETTINGS):
        width, height = size
        figure = Figure(figsize=(width / 72, height / 72))
        axes = figure.add_axes((46 / width, 34 / height, (width - 56) / width, (height - 44) / height))
        axes.patch.set_visible(False)
        figure.patch.set_visible(False)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(STAND_INS["rule"])
        axes.tick_params(length=0, labelcolor=STAND_INS["muted"], labelsize=11.5, pad=5)
        axes.grid(axis="y", color=STAND_INS["rule"], linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel(x_label, color=STAND_INS["muted"], fontsize=11.5, labelpad=2)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: short(value, small=3)))
        yield axes, finished
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    finished.append(for_the_page(file.getvalue(), name, description))


def for_the_page(svg: str, name: str, description: str) -> Markup:
    """matplotlib's file as an element of the page: no ids but those it refers to, no style of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    for colour, stand_in in STAND_INS.items():
        svg = svg.replace(stand_in, f"var(--{colour})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), svg)
    view = re.search(r'viewBox="([^"]*)"', svg)[1]
    head = f'<svg class="plot" viewBox="{view}" role="img" aria-label="{escape(visible(description))}">'
    return Markup(re.sub(r"\s*\n\s*", " ", head + svg[svg.index(">") + 1 :]))


def describe(panel: Panel) -> str:
    """The figure in words."""
    told = []
    for line in panel.lines:
        first, last = line.ends
        steps = line.steps[~np.isnan(line.mean)]
        words = f"{short(first)} at step {steps[0]:.0f}"
        if len(steps) > 1:
            words = f"from {words} to {short(last)} at step {steps[-1]:.0f}"
            words += f", between {short(np.nanmin(line.raw))} and {short(np.nanmax(line.raw))}"
        dots = ", ".join(f"{short(dot.value)} at step {dot.step:.0f}" for dot in line.dots)
        told.append((f"{line.label} " if line.label else "") + words + (f"; held-out {dots}" if dots else ""))
    return f"{panel.title}: {'; '.join(told)}."


def short(value: float, small: int = 2) -> str:
    """A number in few characters: 0.001, 12.5, 1,500, 2e-5; one below 0.1 has `small` significant digits."""
    sign, size = "\N{MINUS SIGN}" if value < 0 else "", abs(value)
    if 0 < size < 0.001:
        return sign + f"{size:.1e}".replace(".0e", "e").replace("e-0", "e-")
    if size < 0.1:
        return sign + f"{size:.{small}g}"
    text = f"{size:,.{0 if size >= 100 else 1 if size >= 10 else 2}f}"
    return sign + (text.rstrip("0").rstrip(".") if "." in text else text)
