"""Ablation: loss, hypernetwork, encoder, number of training tasks, probe. Resumable; every cell is a file in ``--out``.

Cells train a mapper each from the family's zoo and are measured on its validation tasks; test tasks are left alone.
Writes ``ablation.json`` and the plot ``ablation.png`` beside the cells and prints a table.

    python scripts/ablate.py scripts/ablations/cheetah-actuators.yml --zoo runs/zoo/cheetah-actuators --out runs/abl
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import make_executor
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions, write_json
from metamap_rl.evaluation.ablation import load_ablation, run_ablation, summarise
from metamap_rl.evaluation.ablation_plot import plot_ablation
from metamap_rl.viz.figures import save_figure


def table(rows: list[dict[str, Any]], lengths: list[str]) -> list[str]:
    """The rows as Markdown."""
    lines = [
        "| differs from the default by | seeds | "
        + " | ".join(f"gap closed, {length} steps" for length in lengths)
        + " | validation loss | theta | s |",
        "| --- | --- |" + " --- |" * (len(lengths) + 3),
    ]
    for row in rows:
        gaps = []
        for length in lengths:
            gap = row["gap_closed"].get(length)
            gaps.append(f"{gap['iqm']:.2f} [{gap['low']:.2f}, {gap['high']:.2f}]" if gap else "none")
        lines.append(
            f"| {row['name']} | {row['seeds']} | "
            + " | ".join(gaps)
            + f" | {row['validation_loss']:.4f} | {row['theta']:,} | {row['seconds']:.0f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="YAML file, as in scripts/ablations")
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the cells; the same one goes on")
    parser.add_argument("--executor", default="local")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--ray-address")
    arguments = parser.parse_args()
    config = load_ablation(arguments.config)
    with make_executor(arguments.executor, arguments.workers, arguments.ray_address) as executor:
        documents = run_ablation(
            config,
            Zoo.open(arguments.zoo),
            arguments.out,
            executor,
            on_cell=lambda name: print(f"finished {name}", file=sys.stderr, flush=True),
        )
    rows = summarise(documents)
    lengths = [str(length) for length in config.lengths]
    write_json(
        arguments.out / "ablation.json",
        {
            "config": config.model_dump(mode="json"),
            "rows": rows,
            "machine": describe_machine(torch_threads=1),
            "versions": library_versions(),
        },
    )
    middle = lengths[len(lengths) // 2]
    if any(middle in row["gap_closed"] for row in rows):
        save_figure(plot_ablation(rows, middle, config.family), arguments.out / "ablation.png")
    else:
        print("no plot: no expert is clearly better than the base policy on a validation task", file=sys.stderr)
    print("\n".join(table(rows, lengths)))


if __name__ == "__main__":  # workers import this file again
    from _running import run_script

    run_script(main)
