"""A result as one picture that stands alone, to be put into a document or a message: SVG, or PNG made of it.

Its colours are fixed: it may be looked at where style sheets are not understood.
"""

import re
import textwrap
from collections.abc import Sequence
from html import escape

from sukkal.bench import plots, report
from sukkal.bench.result import Result

# By their names: what makes PNGs does not know which one `sans-serif` is.
FONTS = (
    "Inter,Helvetica Neue,Helvetica,Segoe UI,Roboto,Noto Sans,Open Sans,Ubuntu,Cantarell,Arial,"
    "Liberation Sans,DejaVu Sans,Verdana,sans-serif"
)
SCALE = 2  # pixels of a PNG to one of the SVG, for screens with many
_MARGIN = 24
_LINE = 18
_CHARACTERS = 108  # of a line below the title
_TILES = 58  # height

_STYLE = f"""
svg{{font-family:{FONTS};font-size:12px}}
.name{{fill:var(--ink);font-weight:700;font-size:20px}}
.sub{{fill:var(--muted)}}
.warning{{fill:var(--c1);font-weight:600}}
.figure{{fill:var(--ink);font-weight:700;font-size:20px}}
.tile{{fill:none;stroke:var(--grid)}}
"""


class CannotDraw(Exception):
    """A PNG cannot be made here; the text says what to do."""


def svg(result: Result) -> str:
    """The headline, its figures and all plots, below each other."""
    width, y = plots.WIDTH + 2 * _MARGIN, _MARGIN + 20
    parts = [f'<text class="name" x="{_MARGIN}" y="{y}">{escape(report.title(result))}</text>']
    said = [("sub", report.described(result)), *(("warning", each) for each in report.warnings(result))]
    y += 4
    for kind, text in said:
        for line in _lines(text):
            y += _LINE
            parts.append(f'<text class="{kind}" x="{_MARGIN}" y="{y}">{escape(line)}</text>')
    y += _LINE
    parts += _tiles(report.headline(result), y)
    y += _TILES + _MARGIN
    for plot in report.pictures(result).values():
        alone = plot.replace(f"<style>{plots.STYLE}</style>", "")
        size = f'x="{_MARGIN}" y="{y}" width="{plots.WIDTH}" height="{plots.HEIGHT}"'
        parts.append(alone.replace("<svg", f"<svg {size}", 1))
        y += plots.HEIGHT + _MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}" '
        f'role="img"><title>{escape(report.title(result))}</title><style>{_STYLE}{plots.RULES}</style>'
        f'<rect width="{width}" height="{y}" fill="var(--surface)"/>'
    )
    return re.sub(r"var\(--(\w+)\)", lambda name: plots.LIGHT[name[1]], "".join([head, *parts, "</svg>"]))


def _lines(text: str) -> list[str]:
    """What fits on a line each, broken between parts where it has parts."""
    whole = text.replace(" ", "\N{NO-BREAK SPACE}") if " · " in text else text
    lines = textwrap.wrap(whole.replace("\N{NO-BREAK SPACE}·\N{NO-BREAK SPACE}", " · "), _CHARACTERS)
    return [line.replace("\N{NO-BREAK SPACE}", " ").removesuffix(" ·") for line in lines]


def _tiles(figures: Sequence[tuple[str, str]], y: int) -> list[str]:
    gap = 12
    width = (plots.WIDTH - gap * (len(figures) - 1)) / len(figures)
    parts = []
    for number, (value, name) in enumerate(figures):
        x = _MARGIN + number * (width + gap)
        parts += [
            f'<rect class="tile" x="{x + 0.5:.1f}" y="{y + 0.5}" width="{width - 1:.1f}" '
            f'height="{_TILES - 1}" rx="6"/>',
            f'<text class="figure" x="{x + 10:.1f}" y="{y + 27}">{value}</text>',
            f'<text class="sub" x="{x + 10:.1f}" y="{y + 46}">{name}</text>',
        ]
    return parts


def check_png() -> None:
    """Raise CannotDraw unless PNGs can be made here."""
    if _drawn(_LETTER.format("A")) == _drawn(_LETTER.format("")):
        raise CannotDraw("A PNG needs a font, and none that is known is installed: install DejaVu Sans.")


def png(picture: str) -> bytes:
    """The same as pixels. Raises CannotDraw."""
    return _drawn(picture)


_LETTER = (
    f'<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20" font-family="{FONTS}">'
    '<text y="18">{}</text></svg>'
)


def _drawn(picture: str) -> bytes:
    try:
        import resvg_py
    except ImportError as exc:
        raise CannotDraw(
            f"A PNG needs resvg_py ({exc}): install sukkal[bench], or name a file that ends with .svg."
        ) from exc
    return resvg_py.svg_to_bytes(svg_string=picture, zoom=SCALE)
