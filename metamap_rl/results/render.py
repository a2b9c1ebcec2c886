"""Tables of README and docs, rendered from the documents of results. Needs no torch: `make check` runs it.

A page has a place for each of its tables, between ``<!-- NAME -->`` and ``<!-- /NAME -->``. With
``<!-- NAME PATH ... -->`` the table is of other documents than that of its name: paths are relative to the folder of
results, without ``.json``.
``<!-- report FOLDER -->`` takes all tables and figures of a comparison of methods, ``<!-- rivals FOLDER -->`` the one
of the mapper beside what could win, ``<!-- zoos FOLDER -->`` those over several zoos of a family,
``<!-- returns PATH ... -->`` their returns, and ``<!-- numbers -->`` is the README's list of three.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metamap_agents.runtime.storage import read_json, write_bytes
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_rl.common.numbers import without_zeros
from metamap_rl.evaluation.across_tables import across_tables
from metamap_rl.evaluation.protocol_tables import about_runs, headline_table, pooled_table, results_text, rivals_table
from metamap_rl.results.family_tables import OF_FAMILIES, legend, variants_table
from metamap_rl.results.readme_tables import numbers_list, returns_table
from metamap_rl.results.tables import TABLES

__all__ = ["filled", "read_protocol", "render", "tables"]

_PROTOCOL, _REPORT, _RIVALS, _ZOOS = "protocol", "report", "rivals", "zoos"
_RETURNS, _NUMBERS = "returns", "numbers"
_OF_SEVERAL = (*OF_FAMILIES, "variants", _PROTOCOL)
"""Tables that more than one document goes into."""

_PLACE = re.compile(r"<!-- ([a-z-]+)((?: [\w/-]+)*) -->.*?<!-- /\1 -->", re.DOTALL)


def tables(folder: Path) -> dict[str, str]:
    """Every table of a folder of documents by name, but none that would have a header only.

    Those of `OF_FAMILIES`, of variants (measured with other settings: not named as their family is), of methods side by
    side (its folder ``protocol``), and those of `TABLES`.
    """
    documents = {path.stem: read_json(path) for path in sorted(folder.glob("*.json"))}
    families = {name: document for name, document in documents.items() if name not in TABLES and "losses" in document}
    named = {name: document for name, document in families.items() if document["family"] == name}
    variants = {name: document for name, document in families.items() if document["family"] != name}
    made = {name: make(named) for name, make in OF_FAMILIES.items()} | {"variants": variants_table(variants)}
    made |= {name: TABLES[name](documents[name]) for name in TABLES if name in documents}
    if (folder / _PROTOCOL).is_dir():
        made[_PROTOCOL] = _protocol_table(read_protocol(folder / _PROTOCOL))
    return {name: "\n".join(lines).strip() for name, lines in made.items() if _has_rows(lines)}


def read_protocol(folder: Path) -> dict[str, Any]:
    """The summary of a comparison of methods from its documents: one for each family, and what they share.

    Raises:
        MetaMapError: there are none.
    """
    documents = {path.stem: read_json(path) for path in sorted(folder.glob("*.json"))}
    if "shared" not in documents:
        raise MetaMapError(f"{folder}: expected documents of `metamap results table`, with shared.json among them")
    return {**documents.pop("shared"), "families": documents}


def _protocol_table(summary: Mapping[str, Any]) -> list[str]:
    """Methods side by side: by family, and over all families."""
    steps, families = summary["headline_steps"], summary["families"]
    splits = [split for entry in families.values() for split in entry["splits"].values()]
    pooled = pooled_table(summary["pooled"], steps)
    return [*headline_table(families, steps), "", *pooled, "", legend(splits)]


def _has_rows(lines: Sequence[str]) -> bool:
    """Whether there is more than the two lines that a table begins with."""
    return sum(line.startswith("|") for line in lines) > 2


def _report(folder: Path, page: Path) -> str:
    """All tables and figures of a comparison of methods."""
    summary = read_protocol(folder)
    names = ["all", *summary["families"]] if summary["pooled"] else list(summary["families"])
    paths = [folder / f"{name}.png" for name in names if (folder / f"{name}.png").is_file()]
    figures = [Path(os.path.relpath(path, page.parent)) for path in paths]
    return f"{about_runs(summary)}\n\n{results_text(summary, figures)}".strip()


def filled(text: str, made: Mapping[str, str], page: Path = Path(), results: Path = Path()) -> str:
    """A page with all that it has a place for.

    Args:
        text: of the page.
        made: tables by name.
        page: where it is, for links to figures.
        results: folder of the documents.

    Raises:
        MetaMapError: a place for a table that there is not.
    """

    def table(match: re.Match[str]) -> str:
        name, paths = match[1], [results / path for path in match[2].split()]
        if name == _REPORT and len(paths) == 1:
            found = _report(paths[0], page)
        elif name == _RIVALS and len(paths) == 1:
            summary = read_protocol(paths[0])
            found = "\n".join(rivals_table(summary["families"], summary["headline_steps"]))
        elif name == _ZOOS and len(paths) == 1:
            summary = read_protocol(paths[0])
            found = "\n".join(across_tables(summary.get("across_zoos", {}), summary["headline_steps"])).strip()
        elif name == _RETURNS and paths:
            found = "\n".join(returns_table(paths))
        elif name == _NUMBERS:
            found = "\n".join(numbers_list(results))
        elif name in TABLES and paths:
            found = "\n".join(TABLES[name](*(read_json(f"{path}.json") for path in paths))).strip()
        elif name in {*TABLES, *_OF_SEVERAL} - made.keys():
            raise MetaMapError(f"table {name!r}: the folder of results has no documents to make it of")
        elif name not in made:
            raise unknown_name("table", name, made)
        else:
            found = made[name]
        return f"{match[0].partition('-->')[0]}-->\n\n{without_zeros(found)}\n\n<!-- /{name} -->"

    return _PLACE.sub(table, text)


def render(pages: Sequence[Path], results: Path, *, check: bool = False) -> list[Path]:
    """Bring pages up to date; all are made before one is written.

    Args:
        pages: Markdown files.
        results: folder of the documents.
        check: write nothing.

    Returns:
        The pages that differed.

    Raises:
        MetaMapError: no documents, or a place in a page for a table that there is not.
    """
    made = tables(results)
    if not made:
        raise MetaMapError(f"{results}: no documents of results in this folder")
    changed = {}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        try:
            found = filled(text, made, page, results)
        except MetaMapError as error:
            raise MetaMapError(f"{page}: {error}") from error
        except (KeyError, TypeError) as error:
            raise MetaMapError(f"{page}: a document of its tables has another structure ({error!r})") from error
        if found != text:
            changed[page] = found
    if not check:
        for page, text in changed.items():
            write_bytes(page, text.encode())
    return list(changed)
