"""Tables of single documents, as Markdown; none of them needs torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from metamap_rl.results.bundle_tables import bundles_table
from metamap_rl.results.export_tables import export_table
from metamap_rl.results.flight_tables import flights_table
from metamap_rl.results.import_tables import import_table
from metamap_rl.results.service_tables import in_service_table
from metamap_rl.results.size_tables import (
    bodies_table,
    independent_table,
    inverted_table,
    size_table,
    specialists_table,
)
from metamap_rl.results.sources_tables import reading_table, sources_table
from metamap_rl.results.stream_tables import (
    environments_table,
    expert_steps_table,
    interval,
    learners_table,
    long_table,
    memory_table,
    shift_table,
    stream_table,
    update_time_table,
)
from metamap_rl.results.text_tables import text_table
from metamap_rl.results.walk_tables import walks_table

__all__ = [
    "TABLES",
    "ablation_table",
    "alarms_table",
    "cases_table",
    "functions_table",
    "predictability_table",
    "recovery_table",
    "selfcheck_table",
]


def spread(entry: dict[str, float], digits: int = 2) -> str:
    return f"{entry['median']:,.{digits}f} ({entry['min']:,.{digits}f}-{entry['max']:,.{digits}f})"


def engine_table(result: dict[str, Any]) -> list[str]:
    """Speed of the simulator and its ratios."""
    lines = ["| simulator, HalfCheetah | environment steps/s | ours divided by it |", "| --- | --- | --- |"]
    for name, speed in result["steps_per_second"].items():
        ratio = result["ours_divided_by"].get(name)
        count = speed["num_envs"]
        lines.append(f"| {name}, {count} environments | {spread(speed, 0)} | {spread(ratio) if ratio else '1'} |")
    return [*lines, ""]


def training_table(result: dict[str, Any]) -> list[str]:
    """Speed of PPO."""
    lines = ["| SB3 PPO over | environments | steps/s | times SubprocVecEnv |", "| --- | --- | --- | --- |"]
    for family, entry in result["families"].items():
        for name, speed in entry["steps_per_second"].items():
            ratio = entry["times_of_subproc"][name]
            lines.append(f"| {name}, {family} | {entry['recipe']['n_envs']} | {spread(speed, 0)} | {ratio:.1f} |")
    return [*lines, ""]


def mapping_table(result: dict[str, Any]) -> list[str]:
    """Milliseconds from transitions to weights."""
    lines = [f"| {result['steps']} transitions to weights, 1 thread | weights | ms, median | ms, 95 % of calls under |"]
    lines.append("| --- | --- | --- | --- |")
    for entry in result["families"]:
        times = entry["milliseconds"]
        lines.append(
            f"| {entry['family']} | {entry['weights']} | {times['median']:.2f} | {times['95th percentile']:.2f} |"
        )
    return [*lines, ""]


def service_speed_table(result: dict[str, Any]) -> list[str]:
    """Milliseconds of a step of the adapter, the quickest of all replays and of any, and of a mapping within it."""
    lines = [
        f"| adapter, 1 thread, ms | step: median | 99 % under | 99 % under, any of {result['repeats']} replays "
        "| mapping: median | 99 % under |",
        "| --- |" + " --- |" * 5,
    ]
    for entry in result["families"]:
        step, mapping, every = (entry[f"{what}, clock{more}"] for what, more in _SPEEDS)
        cells = step["median"], step[_P99], every[_P99], mapping["median"], mapping[_P99]
        lines.append(f"| {entry['family']} | {' | '.join(f'{cell:.1f}' for cell in cells)} |")
    return [*lines, ""]


_SPEEDS, _P99 = (("step", ""), ("mapping", ""), ("step", ", all replays")), "99th percentile"


def policies_table(result: dict[str, Any]) -> list[str]:
    """Microseconds of a call of many policies, by the way it is computed."""
    shapes = result["shapes"]
    heads = [f"{shape['policies']} x {shape['episodes']}" for shape in shapes]
    lines = [f"| policies x observations, microseconds | {' | '.join(heads)} |", "| --- |" + " --- |" * len(shapes)]
    for name in shapes[0]["microseconds"]:
        cells = [f"{shape['microseconds'][name]['min']:,.0f}" for shape in shapes]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def executors_table(result: dict[str, Any]) -> list[str]:
    """Seconds of a batch of experts on each executor."""
    lines = [
        f"| {result['experts']} experts of {result['family']}, {result['workers']} workers | s, the batch "
        "| s, with start and end |",
        "| --- | --- | --- |",
    ]
    for name, parts in result["seconds"].items():
        lines.append(f"| {name} | {spread(parts['batch'], 1)} | {spread(parts['with start and end'], 1)} |")
    ratio = result["ray_over_local"]
    lines.append(f"| Ray / local | {ratio['batch']:.2f} | {ratio['with start and end']:.2f} |")
    return [*lines, ""]


def functions_table(result: Mapping[str, Any]) -> list[str]:
    """One table for each family of functions: methods in rows, numbers of points K in columns."""
    lines = []
    for name, entry in result["families"].items():
        rows: dict[str, dict[str, dict[str, Any]]] = {}
        for row in sorted(
            entry["rows"], key=lambda row: [int(number) for number in re.findall(r"\d+", row["condition"])]
        ):
            points, _, steps = row["condition"].partition(", ")
            rows.setdefault(f"{row['method']}, {steps}" if steps else row["method"], {})[points] = row
        columns = list(dict.fromkeys(points for by_points in rows.values() for points in by_points))
        methods = list(dict.fromkeys(row["method"] for row in entry["rows"]))
        rows = dict(sorted(rows.items(), key=lambda item: methods.index(next(iter(item[1].values()))["method"])))
        lines += [
            f"**{name}**: {entry['score']}, mean [95 % interval] and median",
            "",
            "| | seeds | " + " | ".join(columns) + " | ms per adaptation |",
            "| --- | --- |" + " --- |" * (len(columns) + 1),
        ]
        for label, by_points in rows.items():
            found = list(by_points.values())
            cells = [
                f"{row['mean']:.3g} [{row['mean_low']:.3g}, {row['mean_high']:.3g}]; {row['median']:.3g}"
                if row
                else "–"
                for row in (by_points.get(points) for points in columns)
            ]
            times = [row["ms_per_adaptation"] for row in found if row["ms_per_adaptation"] is not None]
            milliseconds = f"{max(times):.2f}" if times else "–"
            lines.append(f"| {label} | {found[0]['seeds']} | " + " | ".join(cells) + f" | {milliseconds} |")
        lines.append("")
    return lines


def ablation_table(*results: Mapping[str, Any]) -> list[str]:
    """What differs from the first row in rows, gap closed by steps of D in columns; documents of the same lengths."""
    lengths = [str(length) for length in results[0]["config"]["lengths"]]
    heads = " | ".join(f"gap closed, {length} steps" for length in lengths)
    lines = [f"| differs by | seeds | {heads} | validation loss | theta | s |"]
    lines.append("| --- | --- |" + " --- |" * (len(lengths) + 3))
    for row in (row for result in results for row in result["rows"]):
        first = results[0]["rows"][0]["choices"]
        changed = [f"{name}={value}" for name, value in row["choices"].items() if value != first.get(name)]
        name = ", ".join(changed) or f"({row['name'].replace('+', ', ')})"
        gaps = " | ".join(interval(row["gap_closed"].get(length), 2) for length in lengths)
        lines.append(
            f"| {name} | {row['seeds']} | {gaps} | {row['validation_loss']:.4f} | {row['theta']:,} "
            f"| {row['seconds']:.0f} |"
        )
    return lines


def predictability_table(*results: Mapping[str, Any]) -> list[str]:
    """One row for each family; medians, and quartiles in brackets."""
    lines = [
        "| experts | explained, linear | quadratic | lost halfway | lost with the neighbour's expert "
        "| error of a privileged mapper |",
        "| --- | --- | --- | --- | --- | --- |",
    ]

    def lost(entry: Mapping[str, float]) -> str:
        low, median, high = (round(entry[key], 2) + 0.0 for key in ("quarter", "median", "three_quarters"))
        return f"{median:.2f} ({low:.2f}-{high:.2f})"

    for entry in (entry for result in results for entry in result.get("families", {"": result}).values()):
        explained, barrier, errors = (
            entry["explained_variance"],
            entry["interpolation"],
            entry["told_error"]["held_out"],
        )
        lines.append(
            f"| {entry['family']} | {explained['linear']['left_out']:.2f} | {explained['quadratic']['left_out']:.2f} "
            f"| {lost(barrier['barrier'])} | {lost(barrier['crossed_loss'])} | {sum(errors) / len(errors):.2f} |"
        )
    return lines


def alarms_table(result: Mapping[str, Any]) -> list[str]:
    """Share of D that the self-checks notice: alterations in rows, families in columns; first and third length of D."""
    families = result["foreign"]
    lengths = [str(length) for length in result["settings"]["lengths"]][::2]
    lines = [
        f"| share noticed, D of {' / '.join(lengths)} transitions | {' | '.join(families)} |",
        "| --- |" + " --- |" * len(families),
    ]
    for name in next(iter(families.values())):
        cells = [" / ".join(f"{found[name][length]:.2f}" for length in lengths) for found in families.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def selfcheck_table(*results: Mapping[str, Any]) -> list[str]:
    """Harm on test-in tasks, of all D and of those that the self-check serves."""
    lines = [
        "| | transitions | harmed | mean gain | worst tenth | harmed, served | served |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        for entry in result["cases"]["test-in"]:
            every, served = entry["harm"]["all"], entry["harm"]["served"]
            harmed = "–" if served is None else f"{served['rate']:.2f}"
            lines.append(
                f"| {result['family']} | {entry['steps']} | {every['rate']:.2f} | {every['mean']:.1f} "
                f"| {every['worst_decile']:.1f} | {harmed} | {1 - entry['fallback']:.2f} |"
            )
    return lines


def cases_table(result: Mapping[str, Any]) -> list[str]:
    """All cases of a self-check: gains over the base policy with and without it, harm among the policies served."""
    lines = [
        f"| {result['family']} | transitions | served | mean gain (unchecked) | worst (unchecked) | harmed, served |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for case, entry in ((case, entry) for case, entries in result["cases"].items() for entry in entries):
        served = entry["harm"]["served"]
        lines.append(
            f"| {case} | {entry['steps']} | {1 - entry['fallback']:.2f} "
            f"| {entry['mean_gain'] + 0.0:.1f} ({entry['mean_gain_unchecked']:.1f}) "
            f"| {entry['worst_gain'] + 0.0:.1f} ({entry['worst_gain_unchecked']:.1f}) "
            f"| {'–' if served is None else format(served['rate'], '.2f')} |"
        )
    return lines


_DMC_METHODS = {
    "mapper": "mapper",
    "nearest expert": "nearest expert, by D",
    "shuffled": "another setting's D",
    "base": "base policy",
    "mean expert": "mean expert",
    "oracle": "privileged mapper (given the setting)",
    "parent, told": "universal policy given the setting",
    "expert": "experts, PPO on each setting",
}


def dmc_table(*results: Mapping[str, Any]) -> list[str]:
    """Mean return and share of the experts' return; of documents after the first, the mapper only."""
    (family, first), *_ = results[0]["families"].items()
    lines = [
        f"| {family}, {len(first['test_settings'])} test settings | seeds | mean return "
        "| share of the experts' return [95 % interval] |",
        "| --- | --- | --- | --- |",
    ]
    for number, result in enumerate(results):
        for method, label in _DMC_METHODS.items():
            entry = result["families"][family]["methods"].get(method)
            if entry is None or (number and method != "mapper"):
                continue
            about = (
                f"{label}, {'' if result['settings'].get('bottleneck') else 'no '}bottleneck"
                if method == "mapper"
                else label
            )
            seeds = len(result["families"][family]["returns"][method])
            share = f"{entry['of_expert']:.2f} [{entry['low']:.2f}, {entry['high']:.2f}]"
            lines.append(f"| {about} | {seeds} | {entry['return']:.0f} | {share} |")
    return lines


def recovery_table(document: Mapping[str, Any]) -> list[str]:
    """Returns of each policy of each zoo, undisturbed and after so many steps of a wrong policy."""
    steps = [str(count) for count in document["settings"]["wrong_steps"]]
    lines = [
        f"| zoo | policy | wrong policy | undisturbed | {' | '.join(f'{count} wrong steps' for count in steps)} |",
        f"| --- | --- | --- | --- | {' | '.join('---' for _ in steps)} |",
    ]
    for zoo, policies in document["zoos"].items():
        for policy, found in policies.items():
            for origin, returns in found.items():
                if origin == "undisturbed":
                    continue
                cells = [found["undisturbed"], *(returns[count] for count in steps)]
                row = " | ".join(f"{one['mean']:.0f} ± {one['error']:.0f} ({one['worst_decile']:.0f})" for one in cells)
                lines.append(f"| {zoo} | {policy} | {origin} | {row} |")
    return lines


TABLES: dict[str, Callable[..., list[str]]] = {
    "engine": engine_table,
    "training": training_table,
    "mapping": mapping_table,
    "policies": policies_table,
    "service-speed": service_speed_table,
    "stream": stream_table,
    "stream-long": long_table,
    "expert-steps": expert_steps_table,
    "environments": environments_table,
    "learners": learners_table,
    "memory": memory_table,
    "update-time": update_time_table,
    "shift": shift_table,
    "executors": executors_table,
    "functions": functions_table,
    "text": text_table,
    "ablation": ablation_table,
    "alarms": alarms_table,
    "sources": sources_table,
    "bundles": bundles_table,
    "reading": reading_table,
    "dmc": dmc_table,
    "predictability": predictability_table,
    "recovery": recovery_table,
    "flights": flights_table,
    "walks": walks_table,
    "selfcheck": selfcheck_table,
    "in-service": in_service_table,
    "export": export_table,
    "import": import_table,
    "deployed-size": size_table,
    "bodies": bodies_table,
    "specialists": specialists_table,
    "independent-experts": independent_table,
    "inverted-experts": inverted_table,
}
"""By the name of the place in a page; the document is the one of that name, or those that the place names."""
