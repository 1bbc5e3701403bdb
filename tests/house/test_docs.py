"""The documents are complete, current and lead somewhere; the house keeps its own rules."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import typer.main
from docs import generate, http_reference

from tests.house.tree import ROOT, SOURCE, pages
from tokenschain import cli
from tokenschain.core.errors import ERRORS
from tokenschain.infra.config import declared
from tokenschain.infra.control_telemetry import CONTROL_COUNTERS, CONTROL_GAUGES
from tokenschain.infra.telemetry import COUNTERS, GAUGES, HISTOGRAMS
from tokenschain.semantic.service import JUDGE_METRICS, METRICS

README_LINES_MAX = 120


def _reference(name: str) -> str:
    return (generate.FOLDER / name).read_text("utf-8")


# --- the reference against the running apps ------------------------------------------------


def test_the_reference_has_exactly_the_operations_of_the_running_apps() -> None:
    app = http_reference.control_app()
    admin = http_reference.admin_operations(app.openapi())
    running = [
        *http_reference.gateway_operations(),
        *admin,
        *http_reference.hidden_operations(app),
    ]
    written = re.findall(r"^### ([A-Z]+) (/\S*)$", _reference("http.md"), re.MULTILINE)
    assert sorted(written) == sorted(tuple(operation) for operation in running)
    # A walk that finds nothing must not pass: these were counted by hand.
    assert len(admin) >= 59 and len(running) >= 85


def test_each_admin_operation_says_its_permission_and_has_an_example_that_fits() -> None:
    document = http_reference.control_app().openapi()
    text = _reference("http.md")
    without = []
    for operation, described in http_reference.admin_operations(document).items():
        section = text.split(f"\n### {operation.heading}\n")[1].split("\n### ")[0]
        if "Permission: " not in section or f"```http\n{operation.heading}" not in section:
            without.append(operation.heading)
        if "application/json" in described.get("requestBody", {}).get("content", {}):
            body = http_reference.example_of(document, described)
            assert body is not None, operation.heading
            schema = described["requestBody"]["content"]["application/json"]["schema"]
            jsonschema.validate(body, schema | {"components": document["components"]})
    assert not without
    permissions = [described.get("x-permission") for described in
                   http_reference.admin_operations(document).values()]  # fmt: skip
    assert len([one for one in permissions if one]) >= 50


def test_the_reference_has_each_header_of_the_source() -> None:
    text = "".join(
        path.read_text("utf-8") for path in [*(SOURCE / "gateway").rglob("*.py"),
                                             *(SOURCE / "core").rglob("*.py")]
    )  # fmt: skip
    used = {name.rstrip("-") for name in re.findall(r"x-tc-[a-z-]+", text)}
    listed = {*http_reference.REQUEST_HEADERS, *http_reference.ANSWER_HEADERS}
    assert used == {name for name in listed if name.startswith("x-tc-")}


def test_each_setting_command_metric_and_error_code_has_its_place() -> None:
    settings, commands = _reference("settings.md"), _reference("commands.md")
    metrics, errors = _reference("metrics.md"), _reference("errors.md")
    names = [name for name, _ in declared.settings()]
    assert len(names) > 60
    assert not [name for name in names if f"\n## {name}\n" not in settings]
    for group in generate.SETTINGS_GROUPS.values():
        assert not [name for name in declared.fields_of(group) if f"| `{name}` |" not in settings]
    known = list(_commands(typer.main.get_command(cli.app), ""))
    assert len(known) > 30
    assert not [name for name in known if f"\n## {name}\n" not in commands]
    measured = [f"tokenschain_{name}" for name in (*HISTOGRAMS, *GAUGES)]
    measured += [f"tokenschain_{name}_total" for name in COUNTERS]
    measured += [f"tokenschain_control_{name}" for name in CONTROL_GAUGES]
    measured += [f"tokenschain_control_{name}_total" for name in CONTROL_COUNTERS]
    measured += [*METRICS, *JUDGE_METRICS]
    assert not [name for name in measured if f"| `{name}` |" not in metrics]
    assert not [code for code in ERRORS if f"`{code}`</a>" in errors or f"`{code}`" not in errors]


def _commands(command: object, path: str) -> list[str]:
    found = []
    for name, child in getattr(command, "commands", {}).items():
        full = f"{path} {name}".strip()
        found += _commands(child, full) if hasattr(child, "commands") else [full]
    return found


def test_generated_pages_are_current() -> None:
    stale = [
        name for name, page in generate.PAGES.items() if _reference(name) != generate._NOTE + page()
    ]
    assert not stale, f"run `make docs`: {stale}"


# --- pages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_in_the_docs_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", text):
        if ":" in target:
            continue
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            assert anchor in _anchors(path), f"{target}#{anchor}"
    named = re.findall(r"`((?:src|tests|docs|bench)/[\w./]+)`", text)
    assert not [name for name in named if not (ROOT / name).exists()]
    roots = "cli|control|core|engine|gateway|infra|providers|semantic|simulation|wire|wiring"
    modules = re.findall(rf"`((?:{roots})/[\w./]+\.py)`", text)
    assert not [name for name in modules if not (SOURCE / name).exists()]


def _anchors(path: Path) -> set[str]:
    text = path.read_text("utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r"<a id='([^']+)'>", text))


def test_every_page_is_reached_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    reached = {index}
    todo = [index]
    while todo:
        page = todo.pop()
        for target in re.findall(r"\]\(([^)#\s:]+\.md)", page.read_text("utf-8")):
            path = (page.parent / target).resolve()
            if path not in reached and path.exists():
                reached.add(path)
                todo.append(path)
    decisions = set((ROOT / "docs" / "decisions").glob("*.md"))  # the folder is linked
    assert not set((ROOT / "docs").rglob("*.md")) - reached - decisions


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_the_readme_fits_one_screen(name: str) -> None:
    assert len((ROOT / name).read_text("utf-8").splitlines()) <= README_LINES_MAX


def test_no_host_of_a_package_registry_is_in_the_docs() -> None:
    hosts = re.compile(r"pypi\.org|pythonhosted|pypi\.tuna|mirrors\.\w+\.|npmjs|index-url https?:")
    assert not [page.name for page in pages() if hosts.search(page.read_text("utf-8"))]


# --- the house -----------------------------------------------------------------------------------


def test_every_error_code_is_raised_somewhere() -> None:
    source = "".join(
        path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py") if path.name != "errors.py"
    )
    assert not [code for code in ERRORS if f'"{code}"' not in source]


def test_a_gateway_does_not_load_what_only_control_needs() -> None:
    probe = (
        "import sys, tokenschain.cli, tokenschain.wiring.gateway;"
        "print([n for n in ('sqlalchemy', 'fastapi', 'uvicorn', 'xllamacpp', 'httpx') if n in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_no_secret_and_no_foreign_path_is_in_the_tree() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    suspicious = re.compile(r"tc-[\w-]{43}|tca-[\w-]{43}|sk-[A-Za-z0-9]{32,}|/r[o]ot/|/h[o]me/\w+/")
    found = [
        name
        for name in tracked
        if (ROOT / name).is_file()
        and suspicious.search((ROOT / name).read_text("utf-8", "replace"))
    ]
    assert not found
