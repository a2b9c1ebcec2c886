"""Where learners come from, how their settings were chosen, and what scores of environments refer to, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metamap_rl.bench.environments import KIND
from metamap_rl.bench.summary import Group, Summary
from metamap_rl.bench.tuning import TUNING

__all__ = ["origins"]

_CARRIED = {
    "weights": "its replay buffer emptied at each arrival",
    "nothing": "made anew at each arrival",
    "per-task": "one for each task, told which",
}
_MOST_REFERENCES = 12


def origins(summary: Summary) -> list[str]:
    """Sentences on learners from elsewhere, tuned settings, and the scale of environments; each once."""
    groups, several = summary.groups, len(summary.streams) > 1
    found = [*map(_scale, groups), *(_learner(group, several) for group in groups), *map(_tuned, groups)]
    return list(dict.fromkeys(sentence for sentence in found if sentence))


def _learner(group: Group, several_streams: bool) -> str:
    settings: Mapping[str, Any] = group.cells[0].config.get("learner", {})
    algorithm, entry = settings.get("sb3"), settings.get("entry")
    if not algorithm and not entry:
        return ""
    what = f"{algorithm} of Stable-Baselines3" if algorithm else str(entry)
    carried = _CARRIED.get(str(settings.get("carry")))
    where = f" on {group.stream}" if several_streams else ""
    return f"{group.learner}{where}: {what}, {settings['steps']:,} steps a task{f'; {carried}' if carried else ''}."


def _tuned(group: Group) -> str:
    record = group.cells[0].config.get(TUNING)
    if not record:
        return ""
    chosen = ", ".join(f"{key} {value}" for key, value in record["chosen"].items())
    tasks = "arrival" if record["arrivals"] == 1 else "arrivals"
    tried, steps = len(record["candidates"]), f"{record['environment_steps']:,}"
    return (
        f"{group.learner} on {group.stream}: {chosen}, chosen among {tried} settings on the first {record['arrivals']} "
        f"{tasks} of {record['seeds']} seeds, with {steps} environment steps."
    )


def _scale(group: Group) -> str:
    config = group.cells[0].config
    stream: Mapping[str, Any] = config.get("stream", {})
    if stream.get("kind") != KIND:
        return ""
    reference, scales = stream["reference"], config.get("references", {})
    returns = [f"{name} {scale['random']:,.4g} to {scale['single_task']:,.4g}" for name, scale in scales.items()]
    more = f" and {len(returns) - _MOST_REFERENCES} more" if len(returns) > _MOST_REFERENCES else ""
    alone = f"{reference['sb3']} after {reference['steps']:,} steps on that environment alone"
    shown = f" (returns: {'; '.join(returns[:_MOST_REFERENCES])}{more})" if returns else ""
    return f"Scores on {group.stream}: 0 is uniform random actions, 1 is {alone} unless the config states it{shown}."
