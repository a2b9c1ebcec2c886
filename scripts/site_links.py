"""Links of the site that leave docs/: to pages of the root of the repository, source files, folders and lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

__all__ = ["ROOT", "ROOT_PAGES", "lines_with", "linked_sources", "resolved", "source_pages"]

ROOT = Path(__file__).resolve().parents[1]
ROOT_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CITATION.cff": "source/CITATION.cff.md",
    "LICENSE": "source/LICENSE.md",
}
"""Pages of the site by the file of the repository's root that they are."""

_LINK = re.compile(r"(\[(?P<text>[^\]\[]*)\])\((?P<target>[^)\s]+)\)")
_SHOWN = (".py", ".yml", ".yaml", ".md", ".toml", ".cff", ".txt", ".sh", ".xml", "")
"""Suffixes of the files that become pages; others stay out of listings."""
_SERVED = (".json", ".png", ".html")
_UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n"
_LANGUAGES = {".py": "python", ".yml": "yaml", ".yaml": "yaml", ".cff": "yaml", ".toml": "toml", ".sh": "bash"}


def resolved(markdown: str, page: str) -> str:
    """Markdown of a page of the site whose links lead to pages of the site.

    Args:
        markdown: as it stands in the repository.
        page: its path in docs/.
    """
    home = _home(page)

    def link(found: re.Match[str]) -> str:
        path, _, anchor = found["target"].partition("#")
        target = _target(path, home)
        if target is None:
            return found[0]
        uri = relpath(_uri(target), str(PurePosixPath(page).parent))
        anchor = f"#{anchor}" if anchor else ""
        return f"{found[1]}({uri}{anchor}){_line(target, found['text'])}"

    return _LINK.sub(link, markdown)


def linked_sources(pages: Mapping[str, str]) -> list[str]:
    """Files and folders of the repository, outside docs/*.md, that pages link; ``pages`` by path in the repository."""
    found = set()
    for page, text in pages.items():
        for link in _LINK.finditer(text):
            target = _target(link["target"].partition("#")[0], _home(page.removeprefix("docs/")))
            if target is not None and _uri(target).startswith("source/"):
                found.add(target)
    return sorted(found)


def source_pages(targets: Iterable[str]) -> dict[str, str]:
    """A page for each file, with numbered lines, and for each folder, with links to its files; by path in docs/."""
    made: dict[str, str] = {}
    for target in targets:
        if (ROOT / target).is_file():
            made[_uri(target)] = _listing(target)
            continue
        names = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / target).rglob("*")) if _is_shown(path)]
        made |= {_uri(name): _listing(name) for name in names if _uri(name).startswith("source/")}
        rows = "\n".join(f"- [{name}]({relpath(_uri(name), f'source/{target}')})" for name in names)
        made[f"source/{target}/index.md"] = f"{_UNSEARCHED}# {target}\n\n{rows}\n"
    return made


def lines_with(target: str, code: str) -> list[int]:
    """Numbers of the lines of a file of the repository that contain ``code``; of a name, those that define it."""
    lines = list(enumerate((ROOT / target).read_text(encoding="utf-8").splitlines(), start=1))
    defines = re.compile(rf"\s*(?:def|class) {re.escape(code)}\b")
    defined = [number for number, line in lines if defines.match(line)]
    return defined or [number for number, line in lines if code in line]


def _home(page: str) -> str:
    """Folder of the repository that a page's links are relative to."""
    return "" if page in ROOT_PAGES.values() and page != "index.md" else str(PurePosixPath("docs", page).parent)


def _target(path: str, home: str) -> str | None:
    """Path in the repository of a link that must be changed; None for all others."""
    if not path or re.match(r"[a-z]+:", path):
        return None
    target = normpath(f"{home}/{path}" if home else path)
    if not (ROOT / target).exists():
        return None
    return None if home and (ROOT / target).is_file() and _is_served(target) else target


def _uri(target: str) -> str:
    """Path in docs/ of the page of a file or folder."""
    if target in ROOT_PAGES:
        return ROOT_PAGES[target]
    if (ROOT / target).is_file() and _is_served(target):
        return target.removeprefix("docs/")
    return f"source/{target}/index.md" if (ROOT / target).is_dir() else f"source/{target}.md"


def _line(target: str, text: str) -> str:
    """Attribute of a link whose text quotes a line of a Python file, for `on_page_content`."""
    code = text.strip("`")
    if not target.endswith(".py") or code == text or code.endswith(".py"):
        return ""
    found = lines_with(target, code)
    return f'{{ data-line="{found[0]}" }}' if found else ""


def _is_shown(path: Path) -> bool:
    """Whether a listing has a file: sources, and below docs/ what the site has."""
    suffixes = _SERVED if _is_served(path.relative_to(ROOT).as_posix()) else _SHOWN
    return path.is_file() and path.suffix in suffixes and "__pycache__" not in path.parts


def _is_served(target: str) -> bool:
    """Whether the site has the file itself, not a page of its lines."""
    return target.startswith("docs/") and not target.startswith("docs/examples/")


def _listing(target: str) -> str:
    """Page of one file."""
    path = ROOT / target
    language = _LANGUAGES.get(path.suffix, "text")
    text = path.read_text(encoding="utf-8").rstrip()
    return f'{_UNSEARCHED}# {target}\n\n``````{language} linenums="1"\n{text}\n``````\n'
