"""Train the guide that the probe `seeking` follows, on a survey of a family's tasks; no experts are needed.

python scripts/train_guide.py runs/zoo/cheetah-actuators --out runs/guides/cheetah-actuators
metamap mapper train runs/zoo/cheetah-actuators --probe seeking --guide runs/guides/cheetah-actuators --out mapper
"""

from __future__ import annotations

import argparse
from pathlib import Path

from metamap_agents.storage import claim_output
from metamap_agents.zoo import Zoo
from metamap_rl.guide import GuideConfig
from metamap_rl.workflow import PROBE_STEPS, SURVEY_TASKS, guide_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path, help="folder of the zoo; only its base policy is used")
    parser.add_argument("--out", type=Path, required=True, help="folder of the guide")
    parser.add_argument("--tasks", type=int, default=SURVEY_TASKS, help="tasks of the survey")
    parser.add_argument("--steps", type=int, default=PROBE_STEPS, help="transitions of each of its rollouts")
    parser.add_argument("--members", type=int, default=GuideConfig().members)
    parser.add_argument("--updates", type=int, default=GuideConfig().updates, help="of each member")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    claim_output(arguments.out)
    config = GuideConfig(members=arguments.members, updates=arguments.updates, seed=arguments.seed)
    guide = guide_of(Zoo.open(arguments.zoo), config=config, tasks=arguments.tasks, steps=arguments.steps)
    guide.save(arguments.out)
    print(f"{arguments.out}: guide of {len(guide.members)} models for {guide.family}")


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
