"""Draws where the time of a post goes: `python bench/picture.py [RESULTS.json] > docs/where-time-goes.svg`.

From the figures that the scenario `redis-where` has measured.
"""

import json
import sys
from pathlib import Path

WIDTH, BAR, LEFT = 640, 36, 8
COLOURS = {"HTTP": "#4c78a8", "core": "#72b7b2", "driver": "#f2b134", "Redis": "#d1495b"}


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("results.json")
    results = json.loads(path.read_text())["results"]
    if "redis-where" not in results:
        sys.exit(f"{path} has no figures of it: run bench/run.py redis-where first.")
    sys.stdout.write(drawn(results["redis-where"]["figures"]))


def drawn(figures: dict[str, float]) -> str:
    """One bar, each part as long as the time it takes, with a line of words below."""
    total = sum(figures.values())
    title = f"CPU time of a post of one message on Redis (everysec): {total:.0f} µs"
    scale = (WIDTH - 2 * LEFT) / total
    parts, at = [], float(LEFT)
    for number, (name, spent) in enumerate(figures.items()):
        length = max(0.0, spent * scale)
        parts.append(
            f'<rect x="{at:.1f}" y="30" width="{length:.1f}" height="{BAR}" fill="{COLOURS[name]}"/>'
        )
        key = LEFT + number * (WIDTH - 2 * LEFT) / len(figures)
        parts.append(f'<rect x="{key:.1f}" y="80" width="12" height="12" fill="{COLOURS[name]}"/>')
        parts.append(f'<text x="{key + 18:.1f}" y="91">{name} {spent:.0f} µs ({spent / total:.0%})</text>')
        at += length
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 104" width="{WIDTH}" height="104" '
        'font-family="sans-serif" font-size="13" role="img">\n'
        f"<title>{title}</title>\n"
        f'<rect width="{WIDTH}" height="104" fill="#ffffff"/>\n'
        f'<text x="{LEFT}" y="20">{title}</text>\n' + "\n".join(parts) + "\n</svg>\n"
    )


if __name__ == "__main__":
    main()
