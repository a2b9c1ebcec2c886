"""Tables of pages are those of the documents of results; links and anchors exist; the README is short."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import metamap_agents
import metamap_envs
import metamap_rl
from metamap_envs.errors import MetaMapError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FILLED = [path for path in PAGES if "<!-- /" in path.read_text(encoding="utf-8")]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results_table", ROOT / "scripts" / "results_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))  # scripts import one another
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", FILLED, ids=lambda path: path.name)
def test_tables_are_those_of_the_documents(script: ModuleType, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert script.filled(text, script.tables(ROOT / "docs" / "results")) == text, (
        f"out of date: python scripts/results_table.py --into {page}"
    )


def test_a_page_keeps_what_is_around_its_tables(script: ModuleType) -> None:
    text = "before\n<!-- a -->old<!-- /a -->\nbetween <!-- b --> <!-- /a -->\n"
    assert script.filled(text, {"a": "new"}) == (
        "before\n<!-- a -->\n\nnew\n\n<!-- /a -->\nbetween <!-- b --> <!-- /a -->\n"
    )
    with pytest.raises(MetaMapError, match="unknown table 'enginee': did you mean 'engine'"):
        script.filled("<!-- enginee --><!-- /enginee -->", {"engine": ""})


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_relative_links_and_anchors_exist(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken, f"{page.name}: {broken}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES[2:] if page.name != "index.md" and f"({page.name})" not in index] == []


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").stat().st_size <= 8000


@pytest.mark.parametrize("package", [metamap_rl, metamap_agents, metamap_envs], ids=lambda package: package.__name__)
def test_the_api_page_lists_the_public_names(package: ModuleType) -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    _, _, section = text.partition(f"\n## {package.__name__}\n")
    rows = re.findall(r"^\| (`.+?`) \|", section.partition("\n## ")[0], flags=re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted(package.__all__)
    assert all(hasattr(package, name) for name in listed)
