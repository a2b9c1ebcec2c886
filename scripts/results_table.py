"""Print the tables of README and docs, as Markdown, from the documents in ``docs/results``, or bring pages up to date.

python scripts/measure_adaptation.py FAMILY --out docs/results/FAMILY.json
python scripts/results_table.py
python scripts/results_table.py --into README.md docs/adaptation.md docs/measurements.md
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from family_tables import OF_FAMILIES, legend, variants_table
from metamap_agents.runtime.storage import read_json, write_bytes
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_rl.evaluation.protocol.tables import headline_table, pooled_table


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


def policies_table(result: dict[str, Any]) -> list[str]:
    """Microseconds of a call of many policies, by the way it is computed."""
    shapes = result["shapes"]
    heads = [f"{shape['policies']} x {shape['episodes']}" for shape in shapes]
    lines = [f"| policies x observations, microseconds | {' | '.join(heads)} |", "| --- |" + " --- |" * len(shapes)]
    for name in shapes[0]["microseconds"]:
        cells = [f"{shape['microseconds'][name]['min']:,.0f}" for shape in shapes]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def interval(entry: dict[str, float] | None, digits: int = 3) -> str:
    """An interquartile mean with its interval; a dash where there is none."""
    if entry is None:
        return "–"
    if "low" not in entry:
        return f"{entry['iqm']:.{digits}f}"
    return f"{entry['iqm']:.{digits}f} [{entry['low']:.{digits}f}, {entry['high']:.{digits}f}]"


STREAM_COLUMNS = ("AP_final", "F_last", "BWT_families", "FWT_zs", "GEN_first", "GEN_final", "gap_closed_held_out")


def stream_table(result: dict[str, Any]) -> list[str]:
    """Learners in rows, metrics by formula name in columns."""
    lines = [
        "| learner | runs | " + " | ".join(STREAM_COLUMNS) + " | s per update |",
        "| --- | --- |" + " --- |" * (len(STREAM_COLUMNS) + 1),
    ]
    for name, entry in result["learners"].items():
        cells = [cell for cell in result["cells"] if cell["learner"] == name]
        seconds = sum(cell["update_seconds"]["last"] for cell in cells) / len(cells)
        stale = name == "joint"  # between its retrainings its scores are those of an older mapper
        columns = [
            "–" if stale and column in ("F_last", "FWT_zs", "BWT_families") else interval(entry[column])
            for column in STREAM_COLUMNS
        ]
        lines.append(f"| {name} | {entry['runs']} | " + " | ".join(columns) + f" | {seconds:.1f} |")
    return [*lines, ""]


def long_table(result: dict[str, Any]) -> list[str]:
    """First against last stages of a long stream."""
    lines = ["| 100 tasks | first ten | last ten | last / first |", "| --- | --- | --- | --- |"]
    cell = result["cells"][0]
    for label, key, scale, digits in (
        ("seconds per update", "update_seconds", 1, 2),
        ("MB of memory", "memory_bytes", 1e6, 2),
    ):
        first, last = cell[key]["first"] / scale, cell[key]["last"] / scale
        lines.append(f"| {label} | {first:.{digits}f} | {last:.{digits}f} | {last / first:.2f} |")
    final = cell["AP_final"]
    lines.append(f"| AP_final | | {'–' if final is None else f'{final:.3f}'} | |")
    return [*lines, ""]


def expert_steps_table(result: dict[str, Any]) -> list[str]:
    """Steps of PPO to 95 % of the expert's score, by where it starts."""
    lines = [
        "| PPO steps to a score of 0.95, mean | tasks | from scratch | from phi_0 | from phi_hat | at once "
        "| scratch / phi_hat |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, entry in {**result["families"], "all": result["all"]}.items():
        steps = " | ".join(
            f"{'at least ' if entry['reached'][start] < entry['tasks'] else ''}{entry['mean_steps'][start]:,.0f}"
            for start in ("scratch", "phi-0", "phi-hat")
        )
        lines.append(f"| {name} | {entry['tasks']} | {steps} | {entry['at_once']} | {scratch_ratio(entry)} |")
    return [*lines, ""]


def scratch_ratio(entry: dict[str, Any]) -> str:
    """Steps from scratch over those from phi_hat; a dash where those from phi_hat are a lower bound themselves."""
    if entry["reached"]["phi-hat"] < entry["tasks"]:
        return "–"
    least = "at least " if entry["reached"]["scratch"] < entry["tasks"] else ""
    return f"{least}{entry['scratch_over_phi_hat']:.1f}"


def shift_table(result: dict[str, Any]) -> list[str]:
    """False alarms and hits of the shift detector."""
    lines = [
        "| shift detector | false alarms | hits | by distance of the tasks, quarters |",
        "| --- | --- | --- | --- |",
    ]
    for entry in result["families"]:
        quarters = ", ".join(f"{value:.2f}" for value in entry["hits_by_distance"])
        lines.append(f"| {entry['family']} | {entry['false_alarms']:.2f} | {entry['hits']:.2f} | {quarters} |")
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


def functions_table(result: dict[str, Any]) -> list[str]:
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


TABLES = {
    "engine": engine_table,
    "training": training_table,
    "mapping": mapping_table,
    "policies": policies_table,
    "stream": stream_table,
    "stream-long": long_table,
    "expert-steps": expert_steps_table,
    "shift": shift_table,
    "executors": executors_table,
    "functions": functions_table,
}


MADE_OF_SEVERAL = (*OF_FAMILIES, "variants", "protocol")
"""Tables that more than one document goes into."""


def protocol_table(documents: dict[str, dict[str, Any]]) -> list[str]:
    """Methods side by side: by family, and over all families; nothing without what families share."""
    families = {name: documents[name] for name in sorted(documents) if name != "shared"}
    if "shared" not in documents:
        return []
    steps = documents["shared"]["headline_steps"]
    summaries = [summary for entry in families.values() for summary in entry["splits"].values()]
    return [
        *headline_table(families, steps),
        "",
        *pooled_table(documents["shared"]["pooled"], steps),
        "",
        legend(summaries),
    ]


def tables(folder: Path, protocol: dict[str, dict[str, Any]] | None = None) -> dict[str, str]:
    """Every table of a folder of documents by name, but none that would have a header only.

    Those of `OF_FAMILIES`, of variants (measured with other settings: not named as their family is), of methods
    side by side (what `scripts/protocol_results.py` writes), and those of `TABLES`.

    Args:
        folder: the documents.
        protocol: by name, documents of methods side by side that are yet to be written there.
    """
    documents = {path.stem: read_json(path) for path in sorted(folder.glob("*.json"))}
    families = {name: document for name, document in documents.items() if name not in TABLES and "losses" in document}
    named = {name: document for name, document in families.items() if document["family"] == name}
    variants = {name: document for name, document in families.items() if document["family"] != name}
    made = {name: make(named) for name, make in OF_FAMILIES.items()} | {"variants": variants_table(variants)}
    made |= {name: TABLES[name](documents[name]) for name in TABLES if name in documents}
    side_by_side = {path.stem: read_json(path) for path in (folder / "protocol").glob("*.json")}
    made["protocol"] = protocol_table({**side_by_side, **(protocol or {})})
    return {name: "\n".join(lines).strip() for name, lines in made.items() if _has_rows(lines)}


def _has_rows(lines: list[str]) -> bool:
    """Whether there is more than the two lines that a table begins with."""
    return sum(line.startswith("|") for line in lines) > 2


def filled(text: str, made: dict[str, str]) -> str:
    """A page with each table that it has a place for: between ``<!-- NAME -->`` and ``<!-- /NAME -->``.

    Raises:
        MetaMapError: a place for a table that there is not.
    """

    def table(match: re.Match[str]) -> str:
        name = match[1]
        if name in {*TABLES, *MADE_OF_SEVERAL} - made.keys():
            raise MetaMapError(f"table {name!r}: the folder of results has no documents to make it of")
        if name not in made:
            raise unknown_name("table", name, made)
        return f"<!-- {name} -->\n\n{made[name]}\n\n<!-- /{name} -->"

    return re.sub(r"<!-- ([a-z-]+) -->.*?<!-- /\1 -->", table, text, flags=re.DOTALL)


def pages(paths: Sequence[Path], made: dict[str, str]) -> dict[Path, str]:
    """What pages are to say, by path.

    Raises:
        MetaMapError: as `filled`, of one of the pages.
    """
    found = {}
    for path in paths:
        text = path.read_text(encoding="utf-8")
        try:
            found[path] = filled(text, made)
        except MetaMapError as error:
            raise MetaMapError(f"{path}: {error}") from error
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument(
        "--into", nargs="+", type=Path, default=[], help="pages to bring up to date, instead of printing"
    )
    arguments = parser.parse_args()
    made = tables(arguments.results)
    if not made:
        raise MetaMapError(f"{arguments.results}: no documents of results in this folder")
    for path, text in pages(arguments.into, made).items():  # all are made before one is written
        write_bytes(path, text.encode())
    if not arguments.into:
        print("\n\n".join(made.values()))


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
