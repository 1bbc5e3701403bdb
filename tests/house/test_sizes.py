"""Files and functions stay readable: the limits, and the exceptions with their reasons."""

from __future__ import annotations

from tests.house.tree import functions, modules, name_of

FILE_LINES_MAX = 700
LONG_FILES: dict[str, tuple[int, str]] = {
    "cli/audit_verify.py": (890, "auditors carry it away: it has to stand alone, as one file"),
}
FUNCTION_LINES_MAX = 70
LONG_FUNCTIONS: dict[str, str] = {
    "infra/migrations/versions/0001_first_tables.py:upgrade": "a list of tables",
    "infra/migrations/versions/0003_tenants_and_money.py:_new_tables": "a list of tables",
}


def test_no_file_is_too_long() -> None:
    lines = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in modules()}
    limits = {name: limit for name, (limit, _) in LONG_FILES.items()}
    assert not {n: count for n, count in lines.items() if count > limits.get(n, FILE_LINES_MAX)}
    short = {name for name in limits if lines[name] <= FILE_LINES_MAX}
    assert not short, "no longer long: take it off the list"


def test_no_function_is_too_long_but_the_named_ones() -> None:
    long = {name for name, count in functions() if count > FUNCTION_LINES_MAX}
    assert long - LONG_FUNCTIONS.keys() == set()
    assert LONG_FUNCTIONS.keys() - long == set(), "no longer long: take it off the list"
