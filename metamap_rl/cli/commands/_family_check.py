"""Output of `metamap families init` and `metamap families check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metamap_rl.cli.console import say

if TYPE_CHECKING:
    from metamap_envs.from_gymnasium.candidates import EnvCandidates
    from metamap_envs.sensitivity import ParameterEffect
    from metamap_rl.building.check import CheckerReport

__all__ = ["candidates_document", "print_candidates", "print_checkers", "print_effects"]


def candidates_document(known: EnvCandidates) -> dict[str, Any]:
    """What could be varied, as JSON."""
    rows = [{"name": each.name, "own": each.own, **each.target} for each in known.found.values()]
    return {"environment": known.environment, "time_limit": known.time_limit, "parameters": rows}


def print_candidates(known: EnvCandidates) -> None:
    """Print what could be varied in an environment."""
    from metamap_rl.cli.console import print_table

    limit = "no time limit" if known.time_limit is None else f"a time limit of {known.time_limit} steps"
    say(f"{known.environment}: {len(known.found)} numbers that could be varied, {limit}\n")
    if not known.found:
        return
    rows = [(each.name, _writes(each.target), f"{each.own:g}") for each in known.found.values()]
    print_table(("parameter", "writes", "own value"), rows, right=("own value",))
    some = " ".join(list(known.found)[:2])
    say(f"\nmetamap families init {known.environment} --parameters {some} --out family.yml writes a file to fill in")


def _writes(target: Mapping[str, Any]) -> str:
    kind, name = next(iter(target.items()))
    field = f", {target['field']}" if "field" in target else ""
    index = f"[{target['index']}]" if "index" in target else ""
    return f"{kind} {name}{field}{index}"


def print_checkers(reports: Sequence[CheckerReport]) -> None:
    """Print what the checkers of the libraries say."""
    for report in reports:
        verdict = f"refuses it: {report.error}" if report.error else "passed"
        say(f"checker of {report.checker}: {verdict}")
        for text in report.warnings:
            say(f"  warns: {text}")


def print_effects(effects: Sequence[ParameterEffect]) -> None:
    """Print how much trajectories change with each parameter."""
    from metamap_rl.cli.console import print_table

    say("\nThe same random actions under other values of one parameter; changes in standard deviations:\n")
    rows = [
        (
            each.parameter,
            f"{min(each.values):g} to {max(each.values):g}",
            f"{max(each.observations):.3g}",
            f"{max(each.rewards):.3g}",
            f"{min(each.returns):.4g} to {max(each.returns):.4g}",
        )
        for each in effects
    ]
    numbers = ("observations", "rewards", "return")
    print_table(("parameter", "values", *numbers), rows, right=numbers)
    for each in effects:
        if each.does_nothing:
            say(f"\n{each.parameter} does nothing: neither observations nor rewards change; leave it out")
        elif not max(each.returns) > min(each.returns):
            say(f"\n{each.parameter} changes observations, but no return of random actions")
    say()
