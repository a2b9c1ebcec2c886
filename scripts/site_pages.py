"""Pages of the site that are made of the code and of the documents of results: commands, families, names, gallery."""

from __future__ import annotations

import importlib
import io
import json
import os
from collections.abc import Iterator
from itertools import groupby
from typing import Any
from unittest import mock

from metamap_envs.family import Family
from metamap_envs.parameters import Parameter
from metamap_envs.registry import get_family, list_families
from metamap_envs.reward_text import reward_text
from metamap_rl.adaptation.bundled import bundled_families, pretrained_folder
from metamap_rl.evaluation.score_text import harm_text, interval_text
from metamap_rl.results.bundle_tables import published_evaluations
from metamap_rl.results.family_tables import row_of, served_from
from site_links import ROOT, ROOT_PAGES

__all__ = ["generated_pages"]

_PICTURE = (480, 270)
_LENGTHS = (5, 20, 50)
_PACKAGES = ("metamap_rl", "metamap_agents", "metamap_envs")


def generated_pages() -> Iterator[tuple[str, str | bytes]]:
    """(Path in docs/, content) of every page and picture that is made."""
    yield "reference-commands.md", _commands()
    yield "reference-families.md", _families()
    for package in _PACKAGES:
        yield f"reference-{package.replace('_', '-')}.md", _names(package)
    yield "gallery.md", _gallery()
    for name in bundled_families():
        yield f"gallery/{name}.png", _picture(get_family(name))
    for source, page in ROOT_PAGES.items():
        if "/" not in page and page != "index.md":
            yield page, (ROOT / source).read_text(encoding="utf-8")


# commands -------------------------------------------------------------------------------------------------------------


def _commands() -> str:
    """The help of every command, as at 80 columns."""
    from metamap_rl.cli.overview import command_help, overview

    with mock.patch.dict(os.environ, COLUMNS="80"):
        first, helps = overview(), list(command_help())
    parts = ["# Command line", "What `metamap --help` and the help of each command print.", _block(first)]
    for group, commands in groupby(helps, key=lambda one: one[0].split()[0]):
        parts.append(f"## {group}")
        for words, text in commands:
            parts += [f"### metamap {words}" if " " in words else "", _block(text)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(text: str) -> str:
    return f"```text\n{text.strip()}\n```"


# families -------------------------------------------------------------------------------------------------------------


def _families() -> str:
    """Every family that is installed: sizes, reward, parameters."""
    intro = "Every family of the package, as registered. How they were chosen, and your own: [families](families.md)."
    return "\n\n".join(["# Families", intro, *(_family(get_family(name)) for name in list_families())]) + "\n"


def _family(family: Family, level: str = "##") -> str:
    facts = (
        f"`{family.gym_id}`, physics of {family.base_id}; observation {family.observation_size}, "
        f"action {family.action_size}, horizon {family.horizon}."
    )
    reward = f"**Reward** {_text(reward_text(family))}"
    return "\n\n".join([f"{level} {family.name}", family.description + ".", facts, reward, _parameters(family)])


def _parameters(family: Family) -> str:
    rows = [
        f"| `{one.name}` | {_text(one.description)} | {_text(one.unit)} | {_range(one)} | {_range(one, outside=True)} |"
        for one in family.space.parameters
    ]
    header = ["| parameter | meaning | unit | training range | test-out |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*header, *rows])


def _range(parameter: Parameter, *, outside: bool = False) -> str:
    if parameter.choices:
        choices = (parameter.out_choices if outside else parameter.train_choices) or parameter.choices
        return ", ".join(f"{choice:g}" for choice in choices)
    intervals = parameter.out if outside else parameter.train
    return " or ".join(f"{low:.4g} to {high:.4g}" for low, high in intervals) or "none"


def _text(text: str) -> str:
    """Text of docstrings as Markdown: double backticks are code, too; bars would end a cell."""
    return text.replace("``", "`").replace("|", r"\|") if "`" not in text else text.replace("``", "`")


# names ----------------------------------------------------------------------------------------------------------------


def _names(package: str) -> str:
    """Every public name of a package, for mkdocstrings."""
    module = importlib.import_module(package)
    objects = [(name, getattr(module, name)) for name in module.__all__ if not name.startswith("__")]
    found = [f"::: {one.__module__}.{name}" for name, one in objects if getattr(one, "__name__", None) == name]
    intro = "Docstrings of the [public names](api.md): shapes, units, errors."
    return "\n\n".join([f"# {package}", intro, *found]) + "\n"


# gallery --------------------------------------------------------------------------------------------------------------


def _gallery() -> str:
    """A card for each bundled mapper."""
    intro = (
        "The mappers of the package: `metamap_rl.load(NAME)`. Scores are gap closed on test-in tasks (0: base "
        "policy, 1: expert), interquartile mean with 95 % interval, of generated policies whether served or not. "
        "Those with D of the probe and of a policy in service are [of the mapper itself](adaptation.md#the-bundled-"
        "mappers), the others of five mappers of the same zoo and recipe. What they do not show: "
        "[limits](adaptation.md#what-the-numbers-do-not-show)."
    )
    return "\n\n".join(["# Gallery", intro, *(_card(get_family(name)) for name in bundled_families())]) + "\n"


def _card(family: Family) -> str:
    picture = f"![{family.description}](gallery/{family.name}.png){{ width=480 loading=lazy }}"
    return "\n\n".join(
        [
            f"## {family.name}",
            picture,
            f"{family.description}. `{family.gym_id}`",
            f"**Reward** {_text(reward_text(family))}",
            _parameters(family),
            _scores(family.name),
            f"**Served from** {_served(family.name)}",
            f"**Limits** {_limits(family.name)}",
        ]
    )


def _scores(name: str) -> str:
    """The published evaluations at some lengths of D."""
    rows = []
    for origin, summary in published_evaluations(name, ROOT / "docs" / "results").items():
        for steps in _LENGTHS:
            if row := row_of(summary, "mapper", steps):
                gap = row["gap_closed"]
                worst = "–" if gap is None else f"{gap['worst_decile']:.2f}"
                harm = harm_text(row.get("harm"))
                rows.append(f"| {origin} | {steps} | {interval_text(gap)} | {worst} | {harm} |")
    header = [
        "| D from | transitions | gap closed, IQM [95 %] | worst decile | harm |",
        "| --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*header, *rows])


def _served(name: str) -> str:
    least = served_from(name)
    if least == "never":
        return "never: the self-check serves the base policy, whatever D is."
    return f"{least} transitions, if D looks as in training."


def _limits(name: str) -> str:
    """Where the bundled mapper ends: its parameters' ranges, its experts, its actors."""
    manifest: dict[str, Any] = json.loads((pretrained_folder(name) / "mapper.json").read_text(encoding="utf-8"))
    actors = "a mix of actors" if manifest.get("actors") else "the probe only: D of another policy may be misread"
    return f"inside the ranges above; trained on D of {actors}; experts are one universal policy given the parameters."


def _picture(family: Family) -> bytes:
    """A drawing of the robot at the start of an episode, in software."""
    import numpy as np
    from PIL import Image

    from metamap_rl.viz.drawing import PlanarDrawer

    task = family.task({})
    drawer = PlanarDrawer(family.model(task), *_PICTURE)
    qpos, _ = family.initial_state(task, np.random.default_rng(0))
    buffer = io.BytesIO()
    Image.fromarray(drawer.draw(np.asarray(qpos, dtype=np.float64))).quantize(64).save(buffer, "png", optimize=True)
    return buffer.getvalue()
