"""Make docs/results.md, its numbers and its figures from directories of runs of `metamap evaluate`.

Several runs may hold different families; what they share (steps of D, episodes, probe, mapper) must be the same. Writes
the page, and beside it a folder of the page's name with the JSON documents (all raw returns) and the figures; brings
the tables of other pages up to date.

    metamap evaluate scripts/protocol/full.yml --zoo runs/zoo --out runs/protocol
    python scripts/protocol_results.py runs/protocol --out docs/results.md --into docs/adaptation.md
    python scripts/protocol_results.py --again --out docs/results.md --into docs/adaptation.md
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metamap_agents.runtime.storage import read_json, write_bytes, write_json
from metamap_envs.errors import MetaMapError
from metamap_rl.evaluation.protocol import open_run
from metamap_rl.evaluation.protocol.report import summarise_again, summarise_runs
from metamap_rl.evaluation.protocol.results import draw, markdown
from results_table import pages, tables

HEAD = """# Results

Made by `python scripts/protocol_results.py RUN ... --out docs/results.md` from runs of `metamap evaluate`; what the
words mean and how each method is run is in [evaluate.md](evaluate.md). Checkpoints and settings were chosen on
validation tasks, but test-in tasks of some families had been measured before
([adaptation.md](adaptation.md#the-numbers)).
Gap closed is (J - J_phi_0) / (J_expert - J_phi_0), normalised (J - J_random) / (J_expert - J_random).
IQM are interquartile means over seeds and tasks with 95 % bootstrap intervals over both; the worst decile is the mean
of the lowest tenth. A task counts in gap closed where its expert is better than phi_0 in a paired t-test over the same
reset seeds (at 2.5 %, one-sided); tables that are not counted so say it. The ratio of sums, of J - J_phi_0 over
J_expert - J_phi_0, is over all tasks; so is harm, the share of pairs of seed and task in which a method is worse than
phi_0: in the paired test over episodes, or, marked so, by means alone.

"""


def about(summary: dict[str, Any]) -> str:
    """Machines and versions that the numbers come from."""
    machines = list(dict.fromkeys(str(machine.get("cpu", machine)) for machine in summary["machines"]))
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"][0].items())
    zoos = ", ".join(f"{name} {zoo['experts']['train']}" for name, zoo in summary["zoos"].items())
    episodes = summary["configs"][0]["episodes"]
    return (
        f"{episodes} episodes for each task and policy. Training experts: {zoos}. Machine: {'; '.join(machines)}. "
        f"Versions: {versions}.\n\n"
    )


def again(folder: Path) -> dict[str, Any]:
    """The summary of documents that were written before, its aggregates anew.

    Raises:
        MetaMapError: there are none.
    """
    documents = {path.stem: read_json(path) for path in folder.glob("*.json")}
    if "shared" not in documents:
        raise MetaMapError(f"{folder}: expected the documents of an earlier call, with shared.json among them")
    shared = documents.pop("shared")
    return summarise_again({name: documents[name] for name in shared["zoos"]}, shared)


def make(runs: Sequence[Path], out: Path, into: Sequence[Path] = ()) -> None:
    """Write the page, what belongs to it, and other pages; these are all made before anything is written.

    Without runs, from the documents that are there.
    """
    summary = summarise_runs([open_run(run) for run in runs]) if runs else again(out.with_suffix("") / "protocol")
    folder = out.with_suffix("") / "protocol"
    shared = {key: value for key, value in summary.items() if key != "families"}
    documents = {**summary["families"], "shared": shared}
    others = pages(into, tables(out.with_suffix(""), documents))
    for name, document in documents.items():
        write_json(folder / f"{name}.json", document)
    figures = draw(summary, folder)
    text = HEAD + about(summary) + markdown(summary, [path.relative_to(out.parent) for path in figures])
    for path, content in {out: text, **others}.items():
        write_bytes(path, content.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="directories of runs")
    parser.add_argument("--again", action="store_true", help="no runs: aggregates anew from the documents of --out")
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"), help="the page")
    parser.add_argument("--into", nargs="+", type=Path, default=[], help="pages with tables to bring up to date")
    arguments = parser.parse_args()
    if arguments.out.suffix != ".md":
        parser.error(f"--out expects a name that ends in .md, got {arguments.out}")
    if bool(arguments.runs) == arguments.again:
        parser.error("expected directories of runs, or --again without any")
    make(arguments.runs, arguments.out, arguments.into)
    print(arguments.out)


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
