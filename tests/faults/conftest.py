import pytest


@pytest.fixture(autouse=True)
def _unmeasured_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers here end in ways in which no coverage can be written, or only half of it."""
    for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"):
        monkeypatch.delenv(name, raising=False)
