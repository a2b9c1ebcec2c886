"""Hooks of MkDocs: pages made of the code, links to source files, formulas as MathML, a check that nothing is remote.

MkDocs calls the functions by their names (`hooks` in mkdocs.yml).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from site_links import ROOT, linked_sources, resolved, source_pages
from site_pages import generated_pages

log = logging.getLogger("mkdocs.hooks.site")

_FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)
_INTERVAL = re.compile(r"(\[[-+.,%\d]+), ([-+.,%\d]+\])")
_LINE = re.compile(r'href="([^"#]+)"([^>]*?) data-line="(\d+)"')
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\ssrc=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link\b[^>]*\brel=["']?(?:stylesheet|preconnect|preload|icon)[^>]*\bhref=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|url\(\s*["']?(?:https?:)?//[^)]+|@import\s+["'](?:https?:)?//[^"']+"""
)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made of the code, those of the root of the repository, and the linked source files."""
    from mkdocs.structure.files import File

    made: dict[str, str | bytes] = dict(generated_pages())
    pages = {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    pages |= {f"docs/{name}": text for name, text in made.items() if isinstance(text, str)}
    made |= source_pages(linked_sources(pages))
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point links that leave docs/ to the pages made of their targets."""
    return markdown if page.file.src_uri.startswith("source/") else resolved(markdown, page.file.src_uri)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Turn formulas into MathML, which needs no script, links to lines into anchors, and keep intervals on one line."""
    html = _INTERVAL.sub("\\1,&nbsp;\\2", html)
    html = _LINE.sub(r'href="\1#__codelineno-0-\3"\2', html)
    return _FORMULA.sub(lambda found: _mathml(found[1], found[2]), html)


def on_post_build(config: Any) -> None:
    """Warn, which ends a strict build, of anything that a page would load from elsewhere."""
    for name, address in _remote(Path(config["site_dir"])):
        log.warning("%s loads %s", name, address)


def _mathml(kind: str, formula: str) -> str:
    from html import unescape

    from latex2mathml.converter import convert

    text = unescape(formula).strip()[2:-2]  # without \( \) or \[ \]
    return str(convert(text, display="inline" if kind == "span" else "block"))


def _remote(site: Path) -> Iterator[tuple[str, str]]:
    """(File, address) of what the pages of a site load from other hosts; plain links are none of them."""
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css")]):
        if (ROOT / "docs" / path.relative_to(site)).is_file():
            continue
        for found in _LOADED.finditer(path.read_text(encoding="utf-8")):
            yield str(path.relative_to(site)), found[0][-120:]
