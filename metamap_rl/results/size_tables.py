"""Tables of policies of different sizes, bodies beside published returns, specialists; see `metamap results run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["bodies_table", "independent_table", "inverted_table", "size_table", "specialists_table"]

_COLUMNS = {
    "base policy of this size": "base",
    "expert of this size": "expert",
    "universal-policy": "universal policy, given the truth",
    "universal-ppo": "the same by PPO",
    "mapper": "mapper",
    "privileged-mapper": "privileged mapper",
    "estimate": "estimate",
    "sysid": "sysid",
    "linear-actuators": "linear actuators",
    "context-policy": "context policy",
    "nearest-expert": "nearest expert",
    "mean-expert": "mean expert",
}


def size_table(*documents: Mapping[str, Any]) -> list[str]:
    """Share of the large gap by family, size and method; then what the mapper has more than one network for all."""
    rows = [
        (f"{document['family']}, 2 x {size}", one) for document in documents for size, one in document["sizes"].items()
    ]
    found = [name for name in _COLUMNS if any(name in one["shares"] for _, one in rows)]
    lines = [
        f"| family, hidden units | zoos | multiply-adds | {' | '.join(_COLUMNS[name] for name in found)} |",
        f"| --- | --- | --- |{' --- |' * len(found)}",
    ]
    for name, one in rows:
        cells = (_share(one["shares"].get(method)) for method in found)
        lines.append(f"| {name} | {len(one['returns'])} | {one['multiply_adds']:,} | {' | '.join(cells)} |")
    others = [name for name in _COLUMNS if any(name in one["differences"] for _, one in rows)]
    lines += [
        "",
        f"| mapper minus | {' | '.join(f'{_COLUMNS[name]} (each zoo)' for name in others)} |",
        f"| --- |{' --- |' * len(others)}",
    ]
    for name, one in rows:
        cells = (_difference(one["differences"].get(method)) for method in others)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _difference(entry: Mapping[str, Any] | None) -> str:
    each = ", ".join(f"{one:+.2f}" for one in entry["zoos"].values()) if entry is not None else ""
    return f"{_share(entry, sign=True)} ({each})" if each else _share(entry, sign=True)


def _share(entry: Mapping[str, Any] | None, *, sign: bool = False) -> str:
    if entry is None or entry["share"] is None:
        return "–"
    form = "+.2f" if sign else ".2f"
    if entry["low"] is None or entry["high"] is None:
        return format(entry["share"], form)
    return f"{entry['share']:{form}} [{entry['low']:{form}}, {entry['high']:{form}}]"


def bodies_table(*documents: Mapping[str, Any]) -> list[str]:
    """One row for each body and recipe: our trainings of all documents, and the published returns of single runs."""
    lines = [
        "| body | PPO here, steps | transitions of an update, batch, learning rate, log std | "
        "return of 1,000 steps: each training | mean [95 %] | late reward a step, 1,000 / 200 | "
        "episodes with a fall | published, 1 M steps | mean / published PPO [95 %] |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for body, trainings in _by_recipe(documents):
        one = trainings[0]
        long, short = (_together(trainings, length) for length in ("1000", "200"))
        published = ", ".join(f"{entry['algorithm']} {entry['return']:,.0f}" for entry in one["published"])
        ppo = [entry["return"] for entry in one["published"] if entry["algorithm"] == "PPO"]
        cells = [
            body,
            f"{one['steps']:,}",
            _ppo_settings(one["recipe"]),
            ", ".join(f"{value:,.0f}" for value in long["returns"]),
            _mean_of_trainings(long["returns"], ",.0f"),
            " / ".join(f"{_mean(part['late_reward']):.2f}" for part in (long, short)),
            f"{_mean(long['fell']):.0%}",
            published or "–",
            _mean_of_trainings([value / ppo[0] for value in long["returns"]], ".2f") if ppo else "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _by_recipe(documents: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Trainings of each body by one recipe, in the order of the documents; a setting of None is as good as absent."""
    found: list[tuple[str, dict[str, Any], list[Mapping[str, Any]]]] = []
    for body, one in ((body, one) for document in documents for body, one in document["bodies"].items()):
        recipe = {name: value for name, value in one["recipe"].items() if value is not None}
        same = next((trainings for name, other, trainings in found if (name, other) == (body, recipe)), None)
        if same is None:
            found.append((body, recipe, [one]))
        else:
            same.append(one)
    return [(body, trainings) for body, _, trainings in found]


def _together(trainings: Sequence[Mapping[str, Any]], length: str) -> dict[str, list[float]]:
    parts = [one["lengths"][length] for one in trainings]
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _mean_of_trainings(values: Sequence[float], form: str) -> str:
    """Mean with Student's 95 % interval; without one for fewer than three trainings."""
    mean = _mean(values)
    if len(values) < 3:
        return f"{mean:{form}}"
    from scipy.stats import sem, t

    half = float(sem(values) * t.ppf(0.975, len(values) - 1))
    return f"{mean:{form}} [{mean - half:{form}}, {mean + half:{form}}]"


def _ppo_settings(recipe: Mapping[str, Any]) -> str:
    """What differs between the recipes of bodies."""
    transitions, noise = recipe["n_envs"] * recipe["n_steps"], recipe["policy_kwargs"]["log_std_init"]
    return f"{transitions:,}, {recipe['batch_size']:,}, {recipe['learning_rate']}, {noise:g}"


def specialists_table(*documents: Mapping[str, Any]) -> list[str]:
    """One row for each zoo and length of episodes: mean returns, and paired differences as shares of |base|."""
    lines = [
        "| family, zoo | PPO steps each | steps of an episode | base | universal, given the truth | expert | "
        "universal minus base | expert minus base | expert minus universal | the same / size of base | "
        "tasks above universal | residual explained, left out |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = [(one, length) for document in documents for one in document["zoos"].values() for length in one["lengths"]]
    lines += [_specialists_row(one, length) for one, length in rows]
    methods = [name for name in _COLUMNS if any(name in one["lengths"][length]["means"] for one, length in rows)]
    if "mapper" not in methods:
        return lines
    others = ["universal", "expert", *(name for name in methods if name != "mapper")]
    lines += [
        "",
        f"| family, zoo | steps of an episode | {' | '.join(_COLUMNS[name] for name in methods)} | "
        f"{' | '.join(f'mapper minus {_COLUMNS.get(name, name)}' for name in others)} |",
        f"| --- | --- |{' --- |' * (len(methods) + len(others))}",
    ]
    return [*lines, *(_methods_row(one, length, methods, others) for one, length in rows)]


def _methods_row(one: Mapping[str, Any], length: str, methods: Sequence[str], others: Sequence[str]) -> str:
    means, differences = one["lengths"][length]["means"], one["lengths"][length]["differences"]
    cells = [f"{means[name]:,.1f}" if name in means else "–" for name in methods]
    cells += [_change(differences[key]) if (key := f"mapper minus {name}") in differences else "–" for name in others]
    return f"| {one['family']}, {one['seed']} | {length} | {' | '.join(cells)} |"


def _specialists_row(one: Mapping[str, Any], length: str) -> str:
    found = one["lengths"][length]
    means, differences, explained = found["means"], found["differences"], one["explained"]
    pairs = zip(found["returns"]["expert"], found["returns"]["universal"], strict=True)
    above = [expert > universal for expert, universal in pairs]
    more, size = differences["expert minus universal"], abs(means["base"])
    best = max((explained[name]["left_out"] for name in ("linear", "quadratic")), default=None) if explained else None
    cells = [
        f"{one['family']}, {one['seed']}",
        f"{one['steps']:,}",
        length,
        *(f"{means[name]:,.1f}" for name in ("base", "universal", "expert")),
        *(
            _change(differences[name])
            for name in ("universal minus base", "expert minus base", "expert minus universal")
        ),
        _change({name: None if value is None else 100 * value / size for name, value in more.items()}) + " %",
        f"{sum(above)} of {len(above)}",
        "–" if best is None else f"{best:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def _change(entry: Mapping[str, float | None]) -> str:
    """A difference with its interval."""
    if entry["low"] is None or entry["high"] is None:
        return f"{entry['mean']:+,.1f}"
    return f"{entry['mean']:+,.1f} [{entry['low']:+,.1f}, {entry['high']:+,.1f}]"


def inverted_table(*documents: Mapping[str, Any]) -> list[str]:
    """Mean returns of experts behind inverses, one row for each family and split."""
    lines = ["| family, split | experts | base | expert |", "| --- | --- | --- | --- |"]
    for document in documents:
        for split, means in document.get("means", {}).items():
            count = document["experts"][split]
            lines.append(f"| {document['family']}, {split} | {count} | {means['base']:,.1f} | {means['expert']:,.1f} |")
    return lines


_INDEPENDENT = {
    "nearest-expert": "nearest expert",
    "nearest by the truth": "nearest expert by the true task",
    "ridge": "ridge from D to weights",
    "universal-policy": "distilled policy, given the truth",
    "estimate": "distilled policy, estimate",
    "mean-expert": "mean expert",
}
_LEAD = ("nearest-expert", "nearest by the truth", "ridge", "universal-policy", "estimate")


def independent_table(*documents: Mapping[str, Any]) -> list[str]:
    """Shares of the gap by number of experts, what mappers have more than rivals, what of experts is predictable."""
    lines: list[str] = []
    for document in documents:
        names = [*document["settings"]["mappers"], *_INDEPENDENT]
        titles = [_INDEPENDENT.get(name, f"mapper: {name}") for name in names]
        lines += [
            f"| {document['family']}: experts | {' | '.join(titles)} | variance of experts that a quadratic of "
            "the true task predicts, left out: weights, aligned | actions in the same states |",
            "| --- |" + " --- |" * (len(names) + 2),
        ]
        for count, one in sorted(document["counts"].items(), key=lambda found: int(found[0])):
            cells = [_share(one["shares"].get(name)) for name in names]
            explained = one["explained"] or {}
            cells += [f"{explained[name]:.2f}" if name in explained else "–" for name in ("weights", "actions")]
            lines.append(f"| {count} | {' | '.join(cells)} |")
        lines += [
            "",
            f"| experts, mapper | {' | '.join(f'minus {_INDEPENDENT[name]}' for name in _LEAD)} |",
            "| --- |" + " --- |" * len(_LEAD),
        ]
        for count, one in sorted(document["counts"].items(), key=lambda found: int(found[0])):
            for name in document["settings"]["mappers"]:
                cells = [_share(one["differences"].get(f"{name} minus {rival}"), sign=True) for rival in _LEAD]
                if name in one["shares"]:
                    lines.append(f"| {count}, {name} | {' | '.join(cells)} |")
        lines.append("")
        if (twins := document.get("twins")) is not None:
            ratio = twins["same task"] / twins["different tasks"]
            ours, theirs = (sum(each) / len(each) for each in twins["returns"])
            lines += [
                f"{twins['tasks']} experts trained once more, with another seed: mean squared difference of actions in "
                f"the same states {twins['same task']:.3f} between experts of one task, {twins['different tasks']:.3f} "
                f"between experts of different tasks ({ratio:.0%}); returns {ours:,.1f} and {theirs:,.1f}.",
                "",
            ]
    return lines[:-1] if lines and not lines[-1] else lines
