"""Tables of pages are those of the documents of results; links and anchors exist; the README is short."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import metamap_agents
import metamap_envs
import metamap_rl
from metamap_envs.errors import MetaMapError
from metamap_rl.cli import main
from metamap_rl.results.render import filled, render

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FILLED = [path for path in PAGES if "<!-- /" in path.read_text(encoding="utf-8")]


def test_tables_of_pages_are_those_of_the_documents(capsys: pytest.CaptureFixture[str]) -> None:
    results = ["--results", str(ROOT / "docs" / "results")]
    assert main(["results", "render", "--check", *map(str, FILLED), *results]) == 0, capsys.readouterr().err


def test_scripts_that_left_are_named_with_a_commit_that_holds_them() -> None:
    for page in (page for page in PAGES if page.name != "CHANGELOG.md"):
        lines = page.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            for script in re.findall(r"\bscripts/[\w/-]+\.(?:py|yml)", line):
                near = "\n".join(lines[max(0, number - 6) : number + 2])
                held = re.search(r"(?:commit|checkout) [0-9a-f]{7}", near)
                assert (ROOT / script).is_file() or held, f"{page.name}:{number + 1}: {script} is not there"


def test_rendering_needs_no_torch() -> None:
    code = "import sys, metamap_rl.results.render; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_page_keeps_what_is_around_its_tables() -> None:
    text = "before\n<!-- a -->old<!-- /a -->\nbetween <!-- b --> <!-- /a -->\n"
    assert filled(text, {"a": "new"}) == "before\n<!-- a -->\n\nnew\n\n<!-- /a -->\nbetween <!-- b --> <!-- /a -->\n"
    with pytest.raises(MetaMapError, match="unknown table 'enginee': did you mean 'engine'"):
        filled("<!-- enginee --><!-- /enginee -->", {"engine": ""})


def test_a_page_that_differs_is_reported_and_then_brought_up_to_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = ["--results", str(ROOT / "docs" / "results")]
    page, before = tmp_path / "page.md", "<!-- mapping -->old<!-- /mapping -->\n"
    page.write_text(before)
    assert main(["results", "render", "--check", str(page), *results]) == 1
    assert str(page) in capsys.readouterr().err
    assert main(["results", "render", "--into", str(page), str(tmp_path / "nope.md"), *results]) == 2
    assert "nope.md" in capsys.readouterr().err
    assert page.read_text() == before, "all pages are made before one is written"
    assert main(["results", "render", "--into", str(page), *results]) == 0
    assert "| --- |" in page.read_text()
    assert main(["results", "render", "--check", str(page), *results]) == 0


def test_a_folder_without_documents_overwrites_no_table(tmp_path: Path) -> None:
    page, good = tmp_path / "page.md", "<!-- families -->\n\n| good |\n\n<!-- /families -->\n"
    page.write_text(good)
    with pytest.raises(MetaMapError, match="no documents of results"):
        render([page], tmp_path)
    times = {"median": 1, "95th percentile": 2}
    mapping = {"steps": 200, "families": [{"family": "a", "weights": 1, "milliseconds": times}]}
    (tmp_path / "mapping.json").write_text(json.dumps(mapping))
    with pytest.raises(MetaMapError, match=r"page\.md: table 'families': the folder of results has no documents"):
        render([page], tmp_path)
    assert page.read_text() == good


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
