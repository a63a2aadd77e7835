"""The command line, without a service behind it: what it passes on, what it says, how it ends."""

import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import sukkal
from sukkal import config
from sukkal.cli import main
from sukkal.config import BadSetting, Settings
from sukkal.errors import StoreInUse, StoreUnavailable


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that servers were asked to serve with; none is really started."""
    asked: list[Settings] = []

    def serve(settings: Settings) -> int:
        asked.append(settings)
        return 0

    answer_with(monkeypatch, serve)
    return asked


def answer_with(monkeypatch: pytest.MonkeyPatch, serve: Callable[[Settings], int]) -> None:
    server = types.ModuleType("sukkal.server")
    server.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sukkal.server", server)
    monkeypatch.setattr(sukkal, "server", server, raising=False)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in config.describe():
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.delenv(config.FILE_VARIABLE, raising=False)


def run(*args: str) -> Result:
    return CliRunner().invoke(main, args)


def test_serve_needs_no_flags(served: list[Settings]) -> None:
    assert run("serve").exit_code == 0
    assert [settings.port for settings in served] == [8888]


def test_flags_become_settings(served: list[Settings]) -> None:
    flags = ["--host", "::", "--port", "0", "--data-dir", "d", "--store", "memory:"]
    assert run("serve", *flags, "--durability", "relaxed", "--log-format", "json").exit_code == 0
    (settings,) = served
    assert (settings.host, settings.port, settings.data_dir) == ("::", 0, Path("d"))
    assert (settings.store, settings.durability, settings.log_format) == ("memory:", "relaxed", "json")


def test_file_and_environment_become_settings(
    served: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sukkal.toml"
    file.write_text("port = 1\nhost = 'file'")
    monkeypatch.setenv("SUKKAL_HOST", "environment")
    assert run("serve", "--config", str(file)).exit_code == 0
    assert (served[0].port, served[0].host) == (1, "environment")


def test_flag_given_twice_counts_as_the_last(served: list[Settings]) -> None:
    """`make run ARGS=…` leans on this."""
    run("serve", "--data-dir", "a", "--data-dir", "b")
    assert served[0].data_dir == Path("b")


def test_bad_setting_is_one_sentence_and_status_2(served: list[Settings]) -> None:
    result = run("serve", "--port", "http")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        "sukkal: port = 'http' from the flag --port is not allowed: "
        "it must be a whole number from 0 to 65535.\n"
    )
    assert not served


def test_missing_file_is_one_sentence_and_status_2(served: list[Settings]) -> None:
    result = run("serve", "--config", "/no/such/file.toml")
    assert result.exit_code == 2
    assert result.stderr == "sukkal: The file /no/such/file.toml cannot be read: No such file or directory.\n"
    assert not served


@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (StoreInUse("Another process works on the data in ./data."), 1),
        (StoreUnavailable("The disk is full."), 1),
        (BadSetting("store", "There is no store called what:."), 2),
    ],
)
def test_store_that_cannot_be_used_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, problem: Exception, status: int
) -> None:
    def serve(settings: Settings) -> int:
        raise problem

    answer_with(monkeypatch, serve)
    result = run("serve")
    assert result.exit_code == status
    assert result.stderr == f"sukkal: {problem}\n"


def test_serve_ends_with_the_servers_status(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, lambda settings: 3)
    assert run("serve").exit_code == 3


def test_bug_is_not_disguised(monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(settings: Settings) -> int:
        raise ZeroDivisionError

    answer_with(monkeypatch, serve)
    assert isinstance(run("serve").exception, ZeroDivisionError)


@pytest.mark.parametrize("args", [("serve", "--ports", "1"), ("serve", "extra"), ("server",)])
def test_unknown_flag_or_command_is_refused(args: tuple[str, ...]) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_help_describes_each_flag_in_the_words_of_its_setting() -> None:
    shown = " ".join(run("serve", "--help").stdout.split())
    for setting in config.describe():
        assert (setting.name in config.FLAGS) == (f"{setting.flag} " in shown)
        if setting.flag:
            assert setting.description.replace("`", "") in shown
    assert "--config" in shown
    assert "full|relaxed" in shown


def test_settings_lists_every_setting() -> None:
    result = run("settings")
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    for setting in config.describe():
        assert f"{setting.name} = {setting.default.replace('`', '')}" in shown
        assert setting.variable in shown
        assert setting.description.replace("`", "") in shown


def test_settings_as_the_page_of_the_documentation() -> None:
    assert run("settings", "--markdown").stdout == config.markdown()


def test_version() -> None:
    assert run("--version").stdout == f"sukkal {sukkal.__version__}\n"


def test_command_alone_shows_help() -> None:
    assert "serve" in run().output


def test_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "sukkal.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"sukkal {sukkal.__version__}\n"


def test_help_loads_neither_the_server_nor_a_store() -> None:
    script = (
        "import sys; from sukkal.cli import main; main(['serve', '--help'], standalone_mode=False)\n"
        "heavy = {'uvicorn', 'apsw', 'structlog', 'cryptography', 'sukkal.server', 'sukkal.core'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
