"""Measure the structure of the source: lines, functions, imports, floors. Prints JSON.

A *room* is a package or a loose module directly inside ``metamap_rl``; its *floor* is the length of the longest chain
of rooms below it that import one another, cycles condensed. Imports inside functions and under ``TYPE_CHECKING``
count like any other.

::

    python scripts/measure_house.py                    this tree
    python scripts/measure_house.py --tree ../before   another checkout, for instance of an earlier commit
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import statistics
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = {"metamap_envs": "envs/metamap_envs", "metamap_agents": "agents/metamap_agents", "metamap_rl": "metamap_rl"}
Graph = Mapping[str, set[str]]


def main() -> None:
    """Print the measurements of one tree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=Path(__file__).resolve().parents[1], help="checkout to measure")
    print(json.dumps(measure(parser.parse_args().tree), indent=1))


def measure(tree: Path) -> dict[str, Any]:
    """All measurements of a checkout."""
    sources = {name: path for package, folder in PACKAGES.items() for name, path in modules(package, tree / folder)}
    parsed = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in sources.items()}
    lengths = {str(path.relative_to(tree)): line_count(path) for path in sources.values()}
    graph = import_graph(parsed, {name for name, path in sources.items() if path.name == "__init__.py"})
    top = [path for path in (tree / "metamap_rl").glob("*.py") if path.name != "__init__.py"]
    rooms = condensed({name: found for name, found in graph.items() if room(name)})
    floors = depths(rooms)
    groups = {"source": tuple(PACKAGES.values()), "scripts": ("scripts",), "tests": ("tests",)}
    return {
        "lines": {
            group: sum(line_count(path) for folder in folders for path in (tree / folder).rglob("*.py"))
            for group, folders in groups.items()
        },
        "scripts": len(list((tree / "scripts").glob("*.py"))),
        "modules at the top of metamap_rl": len(top),
        "rooms": len(rooms),
        "arrows between rooms": sum(len(found) for found in rooms.values()),
        "floors": max(floors.values()),
        "import cycles": [sorted(found) for found in components(graph) if len(found) > 1],
        "cycles of rooms": [sorted(found) for found in components(rooms) if len(found) > 1],
        "files over 400 lines": {path: count for path, count in sorted(lengths.items()) if count > 400},
        "functions": functions(parsed),
    }


def modules(package: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Dotted name and file of every module of a package."""
    for path in sorted(folder.rglob("*.py")):
        parts = [package, *path.relative_to(folder).with_suffix("").parts]
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def line_count(path: Path) -> int:
    """Lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def import_graph(parsed: Mapping[str, ast.Module], packages: set[str]) -> dict[str, set[str]]:
    """What each module imports of the others.

    A package that a module is part of is not counted: importing ``a.b`` runs ``a`` first whatever ``b`` does.
    """
    return {
        name: {
            found
            for node in ast.walk(tree)
            for found in imported(node, parsed, packages)
            if found != name and not name.startswith(f"{found}.")
        }
        for name, tree in parsed.items()
    }


def imported(node: ast.AST, known: Mapping[str, object], packages: set[str]) -> Iterator[str]:
    """Modules of the tree that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (item.name for item in node.names if item.name in known)
    elif isinstance(node, ast.ImportFrom) and node.module in known:
        for item in node.names:
            whole = f"{node.module}.{item.name}"
            yield whole if node.module in packages and whole in known else str(node.module)


def room(module: str) -> str | None:
    """The room of metamap_rl that a module is in."""
    parts = module.split(".")
    return parts[1] if parts[0] == "metamap_rl" and len(parts) > 1 else None


def condensed(graph: Graph) -> dict[str, set[str]]:
    """The same between rooms."""
    found: dict[str, set[str]] = {}
    for name, others in graph.items():
        here = str(room(name))
        there = {inner for other in others if (inner := room(other))}
        found[here] = (found.get(here, set()) | there) - {here}
    return found


def components(graph: Graph) -> list[frozenset[str]]:
    """Sets of nodes that reach one another."""

    @cache
    def reached(start: str) -> frozenset[str]:
        seen, todo = set(), [start]
        while todo:
            for other in graph.get(todo.pop(), ()):
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
        return frozenset(seen)

    groups = {frozenset({name, *(other for other in reached(name) if name in reached(other))}) for name in graph}
    return sorted(groups, key=sorted)


def depths(graph: Graph) -> dict[str, int]:
    """The floor of each node, counted from 1; nodes of one cycle share a floor."""
    group = {name: found for found in components(graph) for name in found}

    @cache
    def depth(nodes: frozenset[str]) -> int:
        below = {group[other] for name in nodes for other in graph[name]} - {nodes}
        return 1 + max((depth(found) for found in below), default=0)

    return {name: depth(group[name]) for name in graph}


def functions(parsed: Mapping[str, ast.Module]) -> dict[str, Any]:
    """Lengths and parameters of all functions and methods, docstring and decorators not counted."""
    lengths, wide = [], {}
    for module, tree in parsed.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths.append(body_length(node))
                count, public = parameter_count(node), not node.name.startswith("_")
                if count > (8 if public else 12):
                    wide[f"{module}.{node.name}"] = count
    lengths.sort()
    return {
        "count": len(lengths),
        "median lines": statistics.median(lengths),
        "95th percentile lines": lengths[math.ceil(0.95 * len(lengths)) - 1],
        "longest": lengths[-1],
        "too many parameters": dict(sorted(wide.items())),
    }


def body_length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body without its docstring."""
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def parameter_count(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters of a function, ``self`` and ``cls`` not counted."""
    args = node.args
    named = [one.arg for one in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
    return len([name for name in named if name not in ("self", "cls")])


if __name__ == "__main__":
    main()
