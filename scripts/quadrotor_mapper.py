"""Train the mapper of quadrotors in the coordinates of hovering; see docs/robots.md.

    python scripts/quadrotor_mapper.py --seed 1 --out runs/hovering-1

Then `metamap results run flights --set 'hovering={one: runs/hovering-1}' --out runs/flights-hovering` flies it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from _running import run_script
from metamap_agents.runtime.storage import library_versions, make_folder, write_json
from metamap_envs.seeds import read_seed
from metamap_rl.evaluation.flights import quadrotor_family
from metamap_rl.evaluation.hovering.training import HoverTraining, train_hovering


def main() -> None:
    """Read the arguments, train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="quadrotor-hover")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--rounds", type=int, help="of the reader's training")
    parser.add_argument("--updates", type=int, help="of a round")
    parser.add_argument("--out", type=Path, required=True, help="folder of the mapper")
    args = parser.parse_args()
    seed, chosen = read_seed(args.seed), {"rounds": args.rounds, "updates": args.updates}
    settings = HoverTraining.model_validate({name: value for name, value in chosen.items() if value is not None})
    started = time.process_time()

    def tell(number: int, losses: dict[str, float]) -> None:
        told = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
        print(f"round {number} of {settings.rounds}: {told}; {time.process_time() - started:.0f} s of CPU", flush=True)

    mapper = train_hovering(quadrotor_family(args.family), settings, seed=seed, on_round=tell)
    mapper.save(make_folder(args.out))
    about = {"settings": settings.model_dump(mode="json"), "seed": seed, "versions": library_versions()}
    write_json(args.out / "training.json", {**about, "cpu_seconds": round(time.process_time() - started, 1)})


if __name__ == "__main__":
    run_script(main)
