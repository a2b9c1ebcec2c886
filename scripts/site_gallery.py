"""The gallery of the site: a card for each bundled mapper, with a replay of its adapter in service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from metamap_envs.family import Family
from metamap_envs.parameters import Parameter
from metamap_envs.registry import get_family
from metamap_envs.reward_text import reward_text
from metamap_rl.adaptation.bundled import bundled_families, find_mapper, pretrained_folder
from metamap_rl.common.numbers import without_zeros
from metamap_rl.evaluation.score_text import harm_text, interval_text
from metamap_rl.play.page import page
from metamap_rl.play.session import PlaySession
from metamap_rl.results.bundle_tables import published_evaluations
from metamap_rl.results.family_tables import row_of, served_from
from site_links import ROOT

__all__ = ["gallery_files", "parameter_table", "prose"]

_LENGTHS = (5, 20, 50)
_SECONDS = (4.0, 8.0)  # of a replay, before and after the change
_MOST_STEPS = 600
_SEED = 0  # of the start, and of the two tasks


def gallery_files() -> Iterator[tuple[str, str | bytes]]:
    """(Path in docs/, content) of the page and its replays."""
    yield "gallery.md", _gallery()
    for name in bundled_families():
        yield f"gallery/{name}.html", _replay(name).encode()


def parameter_table(family: Family) -> str:
    """A family's parameters, as Markdown."""
    rows = [
        f"| `{one.name}` | {prose(one.description)} | {prose(one.unit)} | {_range(one)} | {_range(one, outside=True)} |"
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


def prose(text: str) -> str:
    """Text of docstrings as Markdown: double backticks are code, too; bars would end a cell."""
    return text.replace("``", "`").replace("|", r"\|") if "`" not in text else text.replace("``", "`")


def _gallery() -> str:
    intro = (
        "The mappers of the package: `metamap_rl.load(NAME)`. A replay shows base policy, generated policy (the "
        "[adapter in service](service.md)) and expert on two tasks of test-in, the first ones that seed 0 draws: "
        "after the first seconds the first becomes the second, in mid-run. What its elements mean: [Play](play.md). "
        "Scores are gap closed on test-in tasks (0: base policy, 1: expert), interquartile mean with 95 % interval, of "
        "generated policies whether served or not, over whole episodes after one mapping; in mid-run mappers do worse "
        "where that was [measured](service.md). Those with D of the probe and of a policy in service are [of the "
        "mapper itself](adaptation.md#the-bundled-mappers), the others of five mappers of the same zoo and recipe. "
        "What they do not show: [limits](adaptation.md#what-the-numbers-do-not-show)."
    )
    return "\n\n".join(["# Gallery", intro, *(_card(get_family(name)) for name in bundled_families())]) + "\n"


def _card(family: Family) -> str:
    address = f"gallery/{family.name}.html"
    return "\n\n".join(
        [
            f"## {family.name}",
            f"{family.description}. `{family.gym_id}` · [replay on a page of its own]({address})",
            f'<iframe class="replay" src="{address}#embedded" loading="lazy" title="{family.name}: replay"></iframe>',
            f"**Reward** {prose(reward_text(family))}",
            parameter_table(family),
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
    return without_zeros("\n".join([*header, *rows]))


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


def _replay(name: str) -> str:
    """A page with a run in service, in which one task of test-in becomes another."""
    mapper, folder = find_mapper(name)
    family = get_family(name)
    first, second = family.sample("test-in", 2, _SEED)
    session = PlaySession(mapper, source=folder, task=first, seed=_SEED)
    before, after = (round(seconds / family.step_seconds) for seconds in _SECONDS)
    share = min(1.0, _MOST_STEPS / (before + after))
    for step in range(round(share * (before + after))):
        if step == round(share * before):
            session.set_parameters(dict(second.parameters))
        session.step()
    return page(f"{name}: replay", replay=session.document())
