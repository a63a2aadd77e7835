"""The documents are true: generated pages are fresh, links lead somewhere, and the tours run as they say."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from server_process import ServerProcess

from sukkal import config
from sukkal.core import attributes
from sukkal.limits import Limits
from sukkal.operations import TABLE

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
TIMEOUT = 60

ADDRESS = "http://127.0.0.1:8888"  # where the pages say the service is
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ID = re.compile(r"\b[0-9a-f]{32}\b")
# What differs from run to run, or from store to store: ages, times and markers.
VARYING = re.compile(r'("age":)\d+|("created":)"[0-9TZ:.-]+"|(marker=)\d+')

page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(text_of(path)) if kind == language]


def prose_of(path: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", text_of(path))


# --- generated pages ------------------------------------------------------------------------------------


def test_generated_pages_are_fresh() -> None:
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)

    assert ended.returncode == 0, ended.stderr


def test_stale_pages_are_told_and_written(tmp_path: Path) -> None:
    for path in DOCS.glob("*.py"):
        shutil.copy(path, tmp_path)
    (tmp_path / "settings.md").write_text("old")
    generate = [sys.executable, str(tmp_path / "generate.py")]

    told = subprocess.run([*generate, "--check"], capture_output=True, text=True, timeout=TIMEOUT)
    assert told.returncode == 1
    assert "docs/protocol.md is stale" in told.stderr
    assert "docs/settings.md is stale" in told.stderr
    assert (tmp_path / "settings.md").read_text() == "old"

    subprocess.run(generate, capture_output=True, check=True, timeout=TIMEOUT)
    for name in ("protocol.md", "settings.md"):
        assert text_of(tmp_path / name) == text_of(DOCS / name)


@pytest.mark.parametrize("operation", TABLE, ids=lambda operation: operation.name)
def test_every_operation_is_documented(operation) -> None:
    if operation.like is not None:
        route, policy = " ".join(operation.http), operation.policy
        row = f"| `{operation.name}` | `{route}` | `{policy}` | [{operation.like}](#"
        assert row in text_of(DOCS / "protocol.md")
        return
    _, _, section = text_of(DOCS / "protocol.md").partition(f"### {operation.name}\n")
    section = section.partition("\n### ")[0]

    assert f"`{' '.join(operation.http)}`" in section
    assert f"`{operation.policy}`" in section
    for name in operation.query:
        assert f"| `{name}` | query |" in section
    assert "```http\n" in section


def test_every_setting_is_documented() -> None:
    text = text_of(DOCS / "settings.md")
    for setting in config.describe():
        assert f"| `{setting.name}` | `{setting.variable}`" in text


def test_every_reserved_attribute_is_documented() -> None:
    text = text_of(DOCS / "states.md")
    for name, default in attributes.defaults(Limits()).items():
        shown = json.dumps(default)
        row = next((line for line in text.splitlines() if line.startswith(f"| `{name}` |")), "")
        assert f"| {shown} |" in row, f"{name} with default {shown} is not in docs/states.md"


def test_settings_that_pages_speak_of_exist() -> None:
    known = {setting.variable for setting in config.describe()} | {config.FILE_VARIABLE}
    for path in PAGES:
        for variable in re.findall(r"\bSUKKAL_[A-Z_]+\b", text_of(path)):
            assert variable in known, f"{path.name}: {variable}"


# --- links and names ------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """What the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.*)$", prose_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@page
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(prose_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}"


def test_every_page_can_be_reached_from_the_first() -> None:
    reached, pending = set(), [ROOT / "README.md"]
    while pending:
        path = pending.pop()
        if path in reached:
            continue
        reached.add(path)
        files = (target.partition("#")[0] for target in LINK.findall(prose_of(path)) if ":" not in target)
        pending += [(path.parent / file).resolve() for file in files if file.endswith(".md")]
    assert set(PAGES) <= reached


@page
def test_no_page_names_a_registry_or_a_place_on_somebodys_machine(page: Path) -> None:
    text = text_of(page)
    registry = re.search(
        r"\b(pypi\.org|pythonhosted\.org|npmjs\.|crates\.io|docker\.io|ghcr\.io|quay\.io|index-url)", text
    )
    assert registry is None, registry
    place = re.search(r"(?<![\w./-])/(work|home|root|Users|tmp)/", text)
    assert place is None, place
    assert not re.search(r"(?<![\w./-])" + re.escape(f"{ROOT}/"), text)


# --- tours ----------------------------------------------------------------------------------------------


def commands(block: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what it is said to print."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        length = next(i for i, line in enumerate(lines) if not line.endswith("\\")) + 1
        yield "\n".join(lines[:length]), "\n".join(lines[length:])


class Reader:
    """Somebody who types what a page says, and uses the ids that come back instead of those on the page."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._before = "set -eu\n"  # definitions made so far
        self._ids: dict[str, str] = {}  # on the page to really

    def type(self, command: str, expected: str) -> None:
        typed = ID.sub(lambda match: self._ids.get(match[0], match[0]), command).replace(ADDRESS, self._url)
        ended = subprocess.run(
            ["bash", "-c", self._before + typed], capture_output=True, text=True, timeout=TIMEOUT
        )
        assert ended.returncode == 0, f"{typed}\n{ended.stderr}"
        if not expected and not ended.stdout:
            self._before += typed + "\n"
            return
        self._learn_ids(expected, ended.stdout)
        wanted = ID.sub(lambda match: self._ids[match[0]], expected)
        assert bare(ended.stdout) == bare(wanted), f"{typed}\nreally prints\n{ended.stdout}"

    def _learn_ids(self, expected: str, printed: str) -> None:
        for shown, real in itertools.zip_longest(ID.findall(expected), ID.findall(printed)):
            assert shown is not None, f"an id more than the page shows:\n{printed}"
            assert real is not None, f"an id less than the page shows:\n{printed}"
            assert self._ids.setdefault(shown, real) == real
        assert len(set(self._ids.values())) == len(self._ids), "two ids of the page are one"


def bare(text: str) -> str:
    """A text without what differs from run to run, and without the blanks that wrap it."""
    return VARYING.sub(lambda match: match[match.lastindex or 0], re.sub(r"\s+", "", text))


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="needs curl and bash")
@pytest.mark.parametrize("store", ["memory:", "sqlite:"])
def test_tour_with_curl_runs_as_shown(start_server: Callable[..., ServerProcess], store: str) -> None:
    server = start_server("--store", store)
    reader = Reader(server.url)
    tour = [step for block in blocks(ROOT / "README.md", "console") for step in commands(block)]
    assert len(tour) >= 8

    for command, expected in tour:
        reader.type(command, expected)
    server.check()


def test_tour_with_the_sdk_runs_as_shown(start_server: Callable[..., ServerProcess]) -> None:
    server = start_server()
    (program,) = blocks(ROOT / "README.md", "python")
    (printed,) = blocks(ROOT / "README.md", "text")
    assert ADDRESS in program

    ended = subprocess.run(
        [sys.executable, "-c", program.replace(ADDRESS, server.url)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == printed


def test_example_settings_are_accepted(tmp_path: Path) -> None:
    found = [block for path in PAGES for block in blocks(path, "toml")]
    assert found
    for block in found:
        file = tmp_path / "sukkal.toml"
        file.write_text(block)
        config.load(file, {}, {})


def test_make_targets_that_pages_speak_of_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    for path in PAGES:
        for target in re.findall(r"`make ([a-z]+)", text_of(path)):
            assert target in targets, f"{path.name}: make {target}"
