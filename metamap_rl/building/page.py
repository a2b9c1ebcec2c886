"""The page of a build: what was trained, how long it took, and how well generated policies do on unseen tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from metamap_agents.runtime.storage import write_bytes
from metamap_envs.parameters import Parameter
from metamap_envs.registry import get_family
from metamap_rl.bench.report.page import page_asset
from metamap_rl.building.estimate import duration
from metamap_rl.evaluation.score_text import harm_text, interval_text, method_text, ratio_text, rule_text

__all__ = ["FIGURE", "PAGE", "at_length", "write_page"]

FIGURE, PAGE = "results.svg", "index.html"


def at_length(results: Mapping[str, Any], method: str, steps: int) -> Mapping[str, Any] | None:
    """The entry of a method at a length of D; None if it was not measured."""
    return next((one for one in results["methods"] if (one["method"], one["steps"]) == (method, steps)), None)


def write_page(folder: Path, build: Mapping[str, Any], results: Mapping[str, Any] | None) -> Path:
    """Write the page of a build into its folder.

    Args:
        folder: of the build; the figure is read from it.
        build: its document.
        results: the document of the evaluation; None where no mapper was made.

    Raises:
        MetaMapError: the page cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("metamap_rl.building", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    family = get_family(build["plan"]["family"])
    text = environment.get_template("build.html.j2").render(
        style=Markup(page_asset("style.css")),
        family=family,
        parameters=[_parameter(each) for each in family.space.parameters],
        build=build,
        stages=_stages(build),
        total=duration(sum(build["seconds"].values())),
        cpu=duration(build["cpu_seconds"]),
        results=results,
        rows=[] if results is None else [_row(entry) for entry in results["methods"]],
        rule="" if results is None else rule_text(results),
        figure="" if results is None else _figure(folder / FIGURE),
    )
    write_bytes(folder / PAGE, text.encode())
    return folder / PAGE


def _parameter(parameter: Parameter) -> dict[str, str]:
    inside = parameter.train or parameter.train_choices or parameter.choices
    outside = parameter.out or parameter.out_choices
    return {
        "name": parameter.name,
        "unit": parameter.unit,
        "default": f"{parameter.default:g}",
        "train": ", ".join(map(_range, inside)),
        "out": ", ".join(map(_range, outside or ())) or "none",
    }


def _range(value: float | tuple[float, float]) -> str:
    return f"{value[0]:g} to {value[1]:g}" if isinstance(value, tuple) else f"{value:g}"


def _stages(build: Mapping[str, Any]) -> list[dict[str, str]]:
    taken, expected = build["seconds"], build["estimate"]
    return [
        {"name": name, "seconds": duration(taken[name]), "estimate": duration(expected.get(name, 0.0))}
        for name in taken
    ]


def _row(entry: Mapping[str, Any]) -> dict[str, str]:
    return {
        "method": method_text(entry["method"]),
        "steps": "" if entry["steps"] is None else str(entry["steps"]),
        "return": f"{entry['mean_return']:.1f}",
        "gap": interval_text(entry["gap_closed"]),
        "ratio": ratio_text(entry["ratio_of_sums"]),
        "harm": harm_text(entry["harm"]),
    }


def _figure(path: Path) -> Markup:
    """The drawing as part of the page."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return Markup(text[text.find("<svg") :]) if "<svg" in text else Markup("")
