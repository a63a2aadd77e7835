"""Writes the pages that are generated: `python docs/generate.py`, which is what `make docs` does.

`--check` writes nothing and ends with 1 when a page is not what it would write. The same source gives the
same pages, byte for byte.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from protocol_page import protocol

from sukkal import config

FOLDER = Path(__file__).parent

PAGES: dict[str, Callable[[], str]] = {
    "protocol.md": lambda: asyncio.run(protocol()),
    "settings.md": config.markdown,
}


def stale() -> dict[Path, str]:
    """The pages that differ from what is on the disk, with the text they should have."""
    wanted = {FOLDER / name: make() for name, make in PAGES.items()}
    return {
        path: text
        for path, text in wanted.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def main() -> int:
    options = argparse.ArgumentParser(description="Write the generated pages of the documentation.")
    options.add_argument("--check", action="store_true", help="only tell which pages are stale")
    check = options.parse_args().check
    pages = stale()
    for path, text in pages.items():
        if check:
            print(f"docs/{path.name} is stale: run `make docs`.", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote docs/{path.name}")
    return 1 if check and pages else 0


if __name__ == "__main__":
    sys.exit(main())
