"""Line plots as SVG; their colours are names, which the style sheet in each explains."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 760, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 170, 34, 44
_LABEL_HEIGHT = 15

Colours = Mapping[str, str]  # by the names that `var(--…)` gives them

LIGHT: Colours = {
    "surface": "#fcfcfb",
    "ink": "#0b0b0b",
    "muted": "#6b6a66",
    "grid": "#e4e3df",
    **{f"c{n}": colour for n, colour in enumerate(("#2a78d6", "#c8502b", "#1a8f5a", "#8a5bd0", "#a8790a"))},
}
DARK: Colours = {
    "surface": "#1a1a19",
    "ink": "#fff",
    "muted": "#a9a8a2",
    "grid": "#383835",
    **{f"c{n}": colour for n, colour in enumerate(("#4a94ee", "#e8754f", "#37b27a", "#ab84ea", "#d3a02c"))},
}
RULES = """
svg.plot .title{fill:var(--ink);font-weight:600;font-size:14px}
svg.plot .tick,svg.plot .axis{fill:var(--muted)}
svg.plot .grid{stroke:var(--grid);stroke-width:1}
svg.plot path{fill:none;stroke-width:2;stroke-linejoin:round}
svg.plot .label{font-weight:600}
"""


def _named(colours: Colours) -> str:
    return "svg.plot{" + ";".join(f"--{name}:{colour}" for name, colour in colours.items()) + "}"


# Inside the picture, so that it can stand alone as a file.
STYLE = (
    f"{_named(LIGHT)}@media(prefers-color-scheme:dark){{{_named(DARK)}}}"
    f"svg.plot{{font:12px system-ui,sans-serif;background:var(--surface)}}{RULES}"
)


class Line(NamedTuple):
    name: str
    points: Sequence[tuple[float, float]]
    colour: int  # 0 … 4


class Axis(NamedTuple):
    """How values become places, and which values are named."""

    name: str
    place: Callable[[float], float]  # 0 … 1
    ticks: Sequence[tuple[float, str]]


def linear(name: str, most: float, *, least: float = 0.0) -> Axis:
    span = (most - least) or 1.0
    step = _round_step(span / 5)
    first = math.ceil(least / step - 1e-9)
    ticks = [number * step for number in range(first, math.floor(most / step + 1e-9) + 1)]
    return Axis(name, lambda value: (value - least) / span, [(tick, number_text(tick)) for tick in ticks])


def logarithmic(name: str, least: float, most: float) -> Axis:
    """From a power of ten to a power of ten around the values."""
    low = math.floor(math.log10(least)) if least > 0 else -3
    high = max(low + 1, math.ceil(math.log10(most) - 1e-9) if most > 0 else 1)
    ticks = [(10.0**power, number_text(10.0**power)) for power in range(low, high + 1)]
    return Axis(name, lambda value: (math.log10(max(value, 10.0**low)) - low) / (high - low), ticks)


def percentiles(name: str, most: float) -> Axis:
    """Percent on a scale that stretches towards 100: each further nine is as wide as the last."""
    nines = math.log10(1 / (1 - most / 100))
    named = [(0.0, "0"), (50.0, "50"), (90.0, "90"), (99.0, "99"), (99.9, "99.9"), (99.99, "99.99")]
    return Axis(
        name,
        lambda value: math.log10(1 / (1 - min(value, most) / 100)) / nines,
        [tick for tick in named if tick[0] <= most],
    )


def plot(title: str, x: Axis, y: Axis, lines: Sequence[Line]) -> str:
    """One picture as SVG."""
    parts = [
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"><style>{STYLE}</style>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="var(--surface)"/>',
        f'<text class="title" x="{_LEFT}" y="18">{escape(title)}</text>',
    ]
    for value, text in y.ticks:
        at = _y(y.place(value))
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{at + 4}" text-anchor="end">{text}</text>')
    for value, text in x.ticks:
        at = _x(x.place(value))
        parts.append(
            f'<text class="tick" x="{at}" y="{HEIGHT - _BOTTOM + 17}" text-anchor="middle">{text}</text>'
        )
    parts.append(
        f'<text class="axis" x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x.name)}</text>"
    )
    parts.append(f'<text class="axis" x="{WIDTH - _RIGHT}" y="18" text-anchor="end">{escape(y.name)}</text>')
    drawn = [line for line in lines if line.points]
    for line in drawn:
        path = "M" + "L".join(f"{_x(x.place(a))},{_y(y.place(b))}" for a, b in line.points)
        dot = f"<title>{escape(line.name)}</title>"
        parts.append(f'<path d="{path}" stroke="var(--c{line.colour})">{dot}</path>')
    parts += _labels(drawn, y)
    return "".join([*parts, "</svg>"])


def _labels(lines: Sequence[Line], y: Axis) -> list[str]:
    """The lines' names at their ends, moved apart where they would touch."""
    wanted = sorted((_y(y.place(line.points[-1][1])), number) for number, line in enumerate(lines))
    places, lowest = [], float(_TOP)
    for at, number in wanted:
        lowest = max(at, lowest)
        places.append((lowest, number))
        lowest += _LABEL_HEIGHT
    over = max(0.0, lowest - _LABEL_HEIGHT - (HEIGHT - _BOTTOM))
    return [
        f'<text class="label" fill="var(--c{lines[number].colour})" x="{WIDTH - _RIGHT + 8}" '
        f'y="{at - over + 4:.1f}">{escape(lines[number].name)}</text>'
        for at, number in places
    ]


def number_text(value: float) -> str:
    """For an axis: short, without digits that say nothing."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _x(place: float) -> float:
    return round(_LEFT + place * (WIDTH - _LEFT - _RIGHT), 1)


def _y(place: float) -> float:
    return round(HEIGHT - _BOTTOM - place * (HEIGHT - _TOP - _BOTTOM), 1)


def _round_step(step: float) -> float:
    """The next of 1, 2, 5, 10 … that is not smaller."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))
