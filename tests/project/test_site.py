"""The documentation as a site: what its build takes for granted. `make docs` builds it, and any warning ends that."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

import metamap_rl
from metamap_envs.registry import get_family, list_families
from metamap_envs.reward_text import reward_text

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of scripts/."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module


def test_every_line_that_the_algorithm_quotes_is_there_once(site: Any) -> None:
    links = site("site_links")
    text = (ROOT / "docs" / "algorithm.md").read_text(encoding="utf-8")
    quotes = re.findall(r"\[`([^`]+)`\]\(\.\./([\w/]+\.py)\)", text)
    assert len(quotes) >= 7
    assert {quote: 1 for quote, _ in quotes} == {quote: len(links.lines_with(path, quote)) for quote, path in quotes}


def test_every_page_has_a_place_in_the_navigation(site: Any) -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    made = {"reference-commands.md", "reference-families.md", "gallery.md"}
    made |= {f"reference-metamap-{name}.md" for name in ("rl", "agents", "envs")}
    made |= {page for page in site("site_links").ROOT_PAGES.values() if "/" not in page}
    assert sorted(re.findall(r": ([\w-]+\.md)", nav)) == sorted(pages | made)


@pytest.mark.parametrize(
    ("link", "page", "expected"),
    [
        ("[a](../README.md)", "overview.md", "[a](index.md)"),
        ("[a](../CHANGELOG.md#x)", "overview.md", "[a](changelog.md#x)"),
        ("[a](../metamap_rl/cli/app.py)", "overview.md", "[a](source/metamap_rl/cli/app.py.md)"),
        ("[a](../metamap_rl/cli)", "overview.md", "[a](source/metamap_rl/cli/index.md)"),
        ("[a](examples/serve.py)", "service.md", "[a](source/docs/examples/serve.py.md)"),
        ("[a](glossary.md#scores)", "overview.md", "[a](glossary.md#scores)"),
        ("[a](results/small)", "bench.md", "[a](source/docs/results/small/index.md)"),
        ("[a](docs/service.md)", "security.md", "[a](service.md)"),
        ("[a](https://example.org/docs)", "overview.md", "[a](https://example.org/docs)"),
        ("[a](nowhere.md)", "overview.md", "[a](nowhere.md)"),
    ],
)
def test_links_that_leave_the_documentation_stay_on_the_site(site: Any, link: str, page: str, expected: str) -> None:
    assert site("site_links").resolved(link, page) == expected


def test_a_link_that_quotes_a_name_leads_to_its_definition(site: Any) -> None:
    links = site("site_links")
    line = links.lines_with("metamap_rl/stream/loop.py", "run_stream")
    assert len(line) == 1
    resolved = links.resolved("[`run_stream`](../metamap_rl/stream/loop.py)", "streams.md")
    assert resolved.endswith(f'{{ data-line="{line[0]}" }}')


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        "<style>body { background: url(https://example.org/x.png) }</style>",
        '<img alt="" src=https://example.org/x.png>',
    ],
)
def test_what_a_page_would_load_from_elsewhere_is_found(site: Any, html: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text('<a href="https://example.org">a link is fine</a><img src="x.png">')
    assert list(site("site_hooks")._remote(tmp_path)) == []
    (tmp_path / "page.html").write_text(html)
    assert [name for name, _ in site("site_hooks")._remote(tmp_path)] == ["page.html"]


def test_the_citation_is_of_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {metamap_rl.__version__}\n" in text


@pytest.mark.parametrize("name", list_families())
def test_every_family_tells_its_reward(name: str) -> None:
    text = reward_text(get_family(name))
    assert len(text) > 10
    assert not text.startswith("that of MetaMap")


def test_a_card_of_the_gallery_has_its_replay(site: Any) -> None:
    gallery = site("site_gallery")
    card = gallery._card(get_family("cheetah-velocity"))
    assert 'src="gallery/cheetah-velocity.html#embedded" loading="lazy"' in card
    assert {"**Reward**", "**Served from**", "**Limits**"} <= set(re.findall(r"\*\*.+?\*\*", card))
    html = gallery._replay("cheetah-velocity")
    data = json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', html, re.DOTALL)[1])  # type: ignore[index]
    assert data["setup"]["lanes"] == ["base", "generated", "expert"]
    assert len({one["task"]["target_velocity"] for one in data["recording"]["news"] if "task" in one}) == 2
    assert len(html) < 200_000
