from pathlib import Path

from flowworker.bench.processes import environment


def test_a_measured_process_gets_no_setting_but_the_database() -> None:
    inherited = {"PATH": "/bin", "FLOWWORKER_MAX_CONCURRENCY": "3", "FLOWWORKER_DATABASE_URL": "postgresql://other"}
    made = environment(inherited, dsn="postgresql://bench", byte_code=Path("cache"))
    assert {name: value for name, value in made.items() if name.startswith("FLOWWORKER_")} == {
        "FLOWWORKER_DATABASE_URL": "postgresql://bench"
    }
    assert made["PATH"] == "/bin"


def test_a_measured_process_keeps_its_byte_code_whatever_our_environment_says() -> None:
    made = environment({"PYTHONDONTWRITEBYTECODE": "1"}, dsn="postgresql://bench", byte_code=Path("cache"))
    assert "PYTHONDONTWRITEBYTECODE" not in made
    assert made["PYTHONPYCACHEPREFIX"] == "cache"
