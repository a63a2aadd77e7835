"""The benchmark gate, in a repository of its own: what it compares, and that it finds a loss."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BEFORE = "        news, now = request.messages, ctx.now\n"  # at the start of each post
WORK = "        sum(range(1000))\n"
SLEEP = "        __import__('time').sleep(200e-6)\n"

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


class Repository:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("src", "bench"):
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.json")
            )
        self.posting = folder / "src/sukkal/core/messages.py"
        self.git("init", "--quiet", "--initial-branch", "main")

    def git(self, *args: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(self._folder), *identity, *args], check=True, capture_output=True)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def gate(self, *options: str) -> tuple[int, str]:
        """Exit status and what it says."""
        options = options or ("--starts", "1", "--rounds", "8", "--bursts", "post", "list")
        command = [sys.executable, "bench/gate.py", *options]
        environment = {name: value for name, value in os.environ.items() if name != "BASE"}
        environment["PYTHONPATH"] = str(self._folder / "src")
        done = subprocess.run(
            command, cwd=self._folder, env=environment, capture_output=True, text=True, timeout=280
        )
        return done.returncode, done.stdout + done.stderr


def test_sleep_in_the_path_of_posts_is_found_unless_it_is_meant(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.commit("first")
    assert BEFORE in repository.posting.read_text()
    repository.posting.write_text(repository.posting.read_text().replace(BEFORE, SLEEP + BEFORE))

    status, said = repository.gate()

    rows = [line for line in said.splitlines() if "SLOWER" in line]
    assert status == 1, said
    assert [row.split("|")[1].strip() for row in rows] == ["post", "post"]

    repository.commit("sleep")
    repository.commit("nothing of the code")
    status, said = repository.gate()
    assert status == 1, said  # what came after the last change to the code does not hide it

    repository.git("reset", "--soft", "HEAD~2")
    repository.commit("sleep\n\nSlower: post (somebody wanted it)")
    status, said = repository.gate()
    assert status == 0, said
    assert said.count("slower, as meant") == 2


def test_work_in_the_path_of_posts_is_found_by_instructions(tmp_path: Path) -> None:
    if shutil.which("valgrind") is None:
        reason = "valgrind is not installed: apt-get install valgrind"
        (pytest.fail if os.environ.get("NOTHING_IS_MISSING") else pytest.skip)(reason)
    repository = Repository(tmp_path)
    repository.commit("first")
    repository.posting.write_text(repository.posting.read_text().replace(BEFORE, WORK + BEFORE))

    status, said = repository.gate("--instructions", "--bursts", "post", "get")

    (row,) = [line for line in said.splitlines() if "SLOWER" in line]
    assert status == 1, said
    name, _, _, ratio = [cell.strip() for cell in row.split("|")[1:5]]
    assert name == "post"
    assert 1.03 < float(ratio) < 3
    assert "| get |" in said


def test_nothing_is_compared_without_a_base_or_a_difference(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    assert repository.gate()[0] == 0, "no commit at all"

    repository.commit("first")
    status, said = repository.gate()
    assert status == 0
    assert "none before it" in said

    repository.commit("nothing of the code")
    status, said = repository.gate()
    assert status == 0
    assert "none before it" in said
