"""Output of the commands of experts: rows, summaries, and what an import has lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metamap_rl.cli.console import note, say

if TYPE_CHECKING:
    from metamap_agents.experts.expert import Expert
    from metamap_agents.experts.zoo import Zoo

__all__ = ["expert_row", "print_imported", "print_summary"]


def expert_row(expert: Expert) -> dict[str, Any]:
    """One expert as JSON."""
    imported = expert.record.get("imported")
    return {
        "id": expert.task.id,
        **expert.task.to_json(),
        "base_return": expert.base_returns.mean(),
        "expert_return": expert.returns.mean(),
        "better": expert.better,
        "imported": imported.get("kind") if isinstance(imported, dict) else None,
        "stopped_on_plateau": expert.record.get("stopped_on_plateau"),
        "worse_than_teacher": expert.record.get("worse_than_teacher"),
        "seconds": expert.record.get("seconds"),
    }


def print_summary(zoo: Zoo, *, as_json: bool) -> None:
    """Print number and returns of experts for each split, and how many are better than phi_0."""
    from metamap_envs.parameters import Split
    from metamap_rl.cli.console import print_json, print_table

    experts = zoo.experts()
    by_split = {
        split.value: found for split in Split if (found := [expert for expert in experts if expert.task.split == split])
    }
    means = {
        split: {
            "experts": len(found),
            "base_return": sum(float(expert.base_returns.mean()) for expert in found) / len(found),
            "expert_return": sum(float(expert.returns.mean()) for expert in found) / len(found),
            "better": sum(expert.better for expert in found),
        }
        for split, found in by_split.items()
    }
    if as_json:
        print_json({"zoo": zoo.root, "family": zoo.family.name, "seed": zoo.seed, "splits": means})
        return
    say(f"{zoo.root}: zoo of {zoo.family.name}, seed {zoo.seed}")
    rows = [
        (split, mean["experts"], f"{mean['base_return']:.1f}", f"{mean['expert_return']:.1f}", mean["better"])
        for split, mean in means.items()
    ]
    numbers = ("experts", "base return", "expert return", "better")
    print_table(("split", *numbers), rows, right=numbers)


def print_imported(zoo: Zoo, expert: Expert) -> None:
    """Print what was read, how it was imported, and what was lost."""
    about = expert.record["imported"]
    loss, low, high = about["loss"], about["action_low"], about["action_high"]
    network = about["network"] or {"hidden": "unknown", "activation": "unknown activation"}
    say(f"policy     {about['file']}: {about['kind']}, hidden layers {network['hidden']}, {network['activation']}")
    say(f"actions    {_span(low, high)}, taken as [-1, 1] of the family")
    say(f"normaliser {'none' if about['scaling'] is None else 'of the policy, over its observations'}")
    say(f"task       {expert.task.describe()} ({expert.task.split})")
    if about["method"] == "extract":
        say(f"method     weights taken over; actions differ by at most {about['largest_difference']:.1e}")
    else:
        say(f"method     distilled in {len(about['distillation']['losses'])} rounds: {about['reason']}")
    returns = f"{loss['policy_return']:.1f}, expert {loss['expert_return']:.1f}, base {loss['base_return']:.1f}"
    say(f"returns    policy {returns} ({loss['episodes']} episodes)")
    percent = "" if loss["percent"] is None else f", {loss['percent']:.2f} % of the policy's return"
    say(f"lost       {loss['lost']:.2f} ± {loss['standard_error']:.2f}{percent}")
    say(f"written    {zoo.root / 'experts' / expert.task.id}.json and .safetensors")
    if about["worse_than_base"]:
        note(
            "the policy itself is worse than the base policy: another task, a missing --normalizer or another "
            "--action-range?"
        )
    if about["method"] == "distil" and expert.record["worse_than_teacher"]:
        note("the expert is worse than the policy: more --rounds, --states or --updates may help")


def _span(low: list[float], high: list[float]) -> str:
    spans = dict.fromkeys(f"[{one:g}, {other:g}]" for one, other in zip(low, high, strict=True))
    return ", ".join(spans)
