"""The report as one self-contained HTML file, without external links or libraries."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from metamap_agents.runtime.storage import read_json, write_bytes
from metamap_envs.yaml_text import dump_yaml
from metamap_rl.bench.environments import KIND
from metamap_rl.bench.replays import Replay
from metamap_rl.bench.report.drawing import ReportFigure, as_inline_svg
from metamap_rl.bench.report.figures import draw_families, draw_stream
from metamap_rl.bench.report.matrices import family_bands
from metamap_rl.bench.report.origins import origins
from metamap_rl.bench.report.pens import LEGEND, pens
from metamap_rl.bench.report.tables import (
    HEADLINE,
    LOWER_IS_BETTER,
    METRIC_NAMES,
    PARTLY,
    TITLES,
    best_of,
    cells_csv,
    in_words,
    number,
    retrained,
    text,
)
from metamap_rl.bench.report.verdict import ONE_SEED, described, verdict
from metamap_rl.bench.result import CellResult, matrix
from metamap_rl.bench.summary import Estimate, Group, Summary, estimate
from metamap_rl.play.page import page_parts
from metamap_rl.stream.metrics import COSTS, FORMULAS

__all__ = ["ReportVideo", "find_videos", "page_asset", "write_report"]

_VIDEO_BYTES = 8_000_000
"""Maximum size of videos in a page in bytes; the others are listed by name."""

_WIDE = 6.5
"""Width in inches from which a figure has its own row."""

_MOST_SPREAD = 12  # machines or versions listed individually


@dataclass(frozen=True)
class ReportVideo:
    """A video of a family, described by its ``.json``."""

    path: Path
    family: str
    caption: str


def find_videos(roots: Iterable[Path]) -> list[ReportVideo]:
    """Videos made by `metamap bench film`, below some folders."""
    found = []
    for root in roots:
        for path in sorted(root.glob("**/videos/*.mp4")):
            about = path.with_suffix(".json")
            document = read_json(about) if about.is_file() else {}
            found.append(
                ReportVideo(path, str(document.get("family", path.stem)), str(document.get("caption", path.stem)))
            )
    return found


def write_report(
    summary: Summary,
    out: Path,
    *,
    title: str,
    command: str,
    videos: Iterable[ReportVideo] = (),
    commands: Mapping[str, str] | None = None,
    replays: Iterable[Replay] = (),
    differences: Iterable[str] = (),
) -> int:
    """Write the report.

    Args:
        summary: summary of the cells.
        out: output file.
        title: heading.
        command: command that made the page.
        videos: videos to embed, up to the maximum size.
        replays: recordings to embed, with their player.
        commands: commands that made the results, by folder.
        differences: differences of versions between the results, as sentences.

    Returns:
        Bytes written.

    Raises:
        MetaMapError: the file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("metamap_rl.bench.report", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown, left_out = _fitting(videos)
    played = list(replays)
    page = environment.get_template("report.html.j2").render(
        title=title,
        style=Markup(page_asset("style.css")),
        script=Markup(page_asset("script.js")),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=command,
        commands=commands or {},
        differences=list(differences),
        summary=summary,
        cells=len(summary.cells),
        headline=HEADLINE,
        names=METRIC_NAMES,
        titles=TITLES,
        lower=LOWER_IS_BETTER,
        verdict=verdict(summary),
        formulas=FORMULAS,
        remarks=[*retrained(summary), *origins(summary)],
        with_environments=any(cell.config.get("stream", {}).get("kind") == KIND for cell in summary.cells),
        partly=PARTLY,
        costs=tuple(COSTS),
        rows=[_row(group, summary) for group in summary.groups],
        learners=list(pens(summary.learners, summary.groups).values()),
        legend=LEGEND,
        one_seed=ONE_SEED if len({cell.seed for cell in summary.cells}) == 1 else "",
        sections=[_section(summary, stream) for stream in summary.streams],
        families=[_family(summary, family, shown, played) for family in summary.families],
        player=Markup(_json(page_parts("replay"))) if played else "",
        recordings=[Markup(_json(replay.document)) for replay in played],
        left_out=left_out,
        configs=_configs(summary),
        versions=_spread(cell.versions for cell in summary.cells),
        environments=_spread(cell.environments for cell in summary.cells),
        machines=_spread(
            {"cpu": str(cell.machine.get("cpu")), "cores": str(cell.machine.get("cores"))} for cell in summary.cells
        ),
        data=Markup(_json(_data(summary))),
        csv=base64.b64encode(cells_csv(summary).encode()).decode(),
    )
    content = page.encode()
    write_bytes(out, content)
    return len(content)


def page_asset(name: str) -> str:
    """A file that pages are made of: "style.css" or "script.js"."""
    return resources.files("metamap_rl.bench.report").joinpath("assets", name).read_text(encoding="utf-8")


def _row(group: Group, summary: Summary) -> dict[str, Any]:
    """A row of the headline table."""
    cells = []
    for name in METRIC_NAMES:
        found = group.metrics.get(name)
        value, interval = text(name, found)
        cells.append(
            {
                "name": name,
                "sort": "" if found is None else repr(found.value),
                "value": value,
                "interval": interval,
                "best": found is not None and found.value == best_of(summary.of_stream(group.stream), name),
            }
        )
    return {
        "stream": group.stream,
        "learner": group.learner,
        "number": summary.learners.index(group.learner),
        "of": in_words(group),
        "cells": cells,
    }


def _section(summary: Summary, stream: str) -> dict[str, Any]:
    groups = summary.of_stream(stream)
    return {
        "stream": stream,
        "id": _slug(stream),
        "about": described(groups),
        "figures": [_figure(drawn) for drawn in draw_stream(groups, summary.learners)],
    }


def _figure(drawn: ReportFigure) -> dict[str, Any]:
    return {
        "name": drawn.name,
        "title": drawn.title,
        "caption": drawn.caption,
        "wide": drawn.figure.get_figwidth() > _WIDE,
        "svg": Markup(as_inline_svg(drawn)),
        "hover": Markup(_json(drawn.hover())),
    }


def _family(summary: Summary, family: str, videos: list[ReportVideo], replays: list[Replay]) -> dict[str, Any]:
    """Section of one family: a table, a figure for each stream, replays, videos."""
    figures = [draw_families(summary.of_stream(stream), summary.learners, family) for stream in summary.streams]
    rows = []
    for group in summary.groups:
        found = {name: _family_score(group, family, name) for name in ("learnt", "final", "held-out")}
        if any(value is not None for value in found.values()):
            scores = [text("AP_final", value) for value in found.values()]
            number = summary.learners.index(group.learner)
            rows.append({"stream": group.stream, "learner": group.learner, "number": number, "scores": scores})
    return {
        "name": family,
        "id": _slug(family),
        "rows": rows,
        "figures": [_figure(drawn) for drawn in figures if drawn is not None],
        "replays": [
            {"number": index, "caption": replay.caption, "learner": replay.learner, "stream": replay.stream}
            for index, replay in enumerate(replays)
            if replay.family == family
        ],
        "videos": [
            {"caption": video.caption, "data": base64.b64encode(video.path.read_bytes()).decode()}
            for video in videos
            if video.family == family
        ],
    }


def _family_score(group: Group, family: str, what: str) -> Estimate | None:
    """Mean score on a family's tasks: just after each was learnt, after the last stage, or on held-out ones."""
    if what == "learnt" and group.every > 1:
        return None  # scores of an older mapper
    values: dict[tuple[int, int], float] = {}
    count = 0
    for cell in group.cells:
        families = cell.held_out if what == "held-out" else cell.families
        chosen = [index for index, name in enumerate(families) if name == family]
        if not chosen:
            continue
        count += 1
        scores = matrix(cell.H if what == "held-out" else cell.R)
        mean = np.mean([scores[index + 1 if what == "learnt" else -1, index] for index in chosen])
        if np.isfinite(mean):
            values[cell.seed, cell.order] = float(mean)
    return estimate(values, of=count)


def _fitting(videos: Iterable[ReportVideo]) -> tuple[list[ReportVideo], list[str]]:
    """Videos that fit into the page, and the names of the others."""
    shown, left_out, size = [], [], 0
    for video in videos:
        own = video.path.stat().st_size
        if size + own <= _VIDEO_BYTES:
            shown.append(video)
            size += own
        else:
            left_out.append(video.path.name)
    return shown, left_out


def _configs(summary: Summary) -> list[dict[str, str]]:
    """The config of the first cell of each group, as YAML."""
    return [
        {
            "name": f"{group.learner} on {group.stream}",
            "yaml": dump_yaml(group.cells[0].config),
        }
        for group in summary.groups
    ]


def _spread(documents: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Distinct values of each key."""
    found: dict[str, dict[str, None]] = {}
    for document in documents:
        for key, value in document.items():
            found.setdefault(key, {})[str(value)] = None
    return {key: ", ".join(list(values)[:_MOST_SPREAD]) for key, values in sorted(found.items())}


def _data(summary: Summary) -> list[dict[str, Any]]:
    """Data of the page's interactive heat maps."""
    return [_cell_data(cell) for cell in summary.cells]


def _cell_data(cell: CellResult) -> dict[str, Any]:
    found = cell.metrics
    return {
        "s": cell.stream,
        "l": cell.learner,
        "o": cell.order,
        "e": cell.seed,
        "f": cell.families,
        "k": family_bands(cell.families),
        "R": [[None if value is None else round(value, 3) for value in row] for row in cell.R],
        "m": {name: number(name, value) for name in HEADLINE if (value := found.get(name)) is not None},
    }


def _json(document: object) -> str:
    """JSON, escaped for a script element."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _slug(words: str) -> str:
    return "".join(sign if sign.isalnum() else "-" for sign in words.lower())
