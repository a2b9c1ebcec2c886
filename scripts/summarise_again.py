"""Compute the aggregates of result documents again from the returns that they keep, and write them back.

What a change of `metamap_rl.common.statistics` asks for: nothing is trained or simulated. Takes documents of
`measure_adaptation.py`, `measure_dmc.py` and `measure_stream.py`; says of each how far a number
has moved at most. Those of `protocol_results.py` are made anew by `protocol_results.py --again`.

    python scripts/summarise_again.py docs/results/cheetah-*.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from measure_dmc import share_of_expert
from measure_stream import summarise
from metamap_agents.runtime.storage import read_json, write_json
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_rl.evaluation.scores import Evaluation


def of_adaptation(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary of `Evaluation`, anew."""
    return summary | Evaluation.from_summary(summary).summary()


def of_dmc(family: str, result: dict[str, Any], episodes: int) -> dict[str, Any]:
    """A family's part of a document of `measure_dmc.py`, anew."""
    returns = {name: np.array(values) for name, values in result["returns"].items()}
    known = get_family(family)
    evaluation = Evaluation(
        tasks=tuple(known.task(parameters) for parameters in result["test_settings"]),
        episodes=episodes,
        random=returns["random"][0],
        base=returns["base"][0],
        expert=returns["expert"][0],
    )
    return result | {"methods": {name: share_of_expert(evaluation, values) for name, values in returns.items()}}


def summarised(document: Any, path: Path) -> dict[str, Any]:
    """The document with new aggregates.

    Raises:
        MetaMapError: it is of another script.
    """
    if isinstance(document, dict) and "losses" in document:
        losses = {
            loss: entry | {"splits": {split: of_adaptation(found) for split, found in entry["splits"].items()}}
            for loss, entry in document["losses"].items()
        }
        return document | {"losses": losses}
    if isinstance(document, dict) and "published" in document:
        episodes = document["settings"]["episodes"]
        families = {name: of_dmc(name, result, episodes) for name, result in document["families"].items()}
        return document | {"families": families}
    if isinstance(document, dict) and "learners" in document and "cells" in document:
        cells = {name: [cell for cell in document["cells"] if cell["learner"] == name] for name in document["learners"]}
        return document | {"learners": {name: summarise(found) for name, found in cells.items()}}
    raise MetaMapError(f"{path}: expected one of measure_adaptation.py, measure_dmc.py or measure_stream.py")


def largest_move(old: Any, new: Any) -> float:
    """Most that a number of two documents of one shape differs by."""
    if isinstance(old, dict):
        return max((largest_move(old[key], new[key]) for key in old if key in new), default=0.0)
    if isinstance(old, list):
        return max((largest_move(*pair) for pair in zip(old, new, strict=True)), default=0.0)
    if isinstance(old, float) and isinstance(new, float):
        return abs(old - new)
    return 0.0 if old == new or isinstance(old, int | float) else float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", nargs="+", type=Path)
    for path in parser.parse_args().documents:
        document = read_json(path)
        new = summarised(document, path)
        write_json(path, new)
        print(f"{path}: moved by {largest_move(document, new):.3f} at most")


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
