"""Draw frames around a change of both robots of docs/robots.md, one strip below the other.

    python scripts/robot_pictures.py --go1 runs/zoo/go1-uneven --out docs/robots.webp

Above, a quadrotor whose rotor gets weak, flown by its controller with what least squares find out in flight. Below, a
Go1 on uneven ground whose joint dies, with the universal policy of a zoo that is given it, and with the base policy.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from metamap_agents.experts.zoo import Zoo
from metamap_envs import Task, get_family
from metamap_rl.adaptation.service.trial import Controller, PolicyController, run_trial
from metamap_rl.evaluation.flights import GivenController, IdentifiedController, quadrotor_family
from metamap_rl.viz.drawing import Picture, make_drawer

_SIZE = 240, 200  # pixels of a frame
_BAR = 22  # pixels above it


def frames(
    name: str, controller: Controller, before: Task, after: Task, *, change_at: int, shown: Sequence[int], seed: int
) -> Picture:
    """Frames at some steps of an episode, in which the task changes, side by side with captions."""
    family = get_family(before.family)
    steps = max(shown)
    tasks = [[before]] * change_at + [[after]] * (steps - change_at)
    trial = run_trial(controller, tasks, seeds=[seed], positions=True)
    fell = int(trial.ended[:, 0].argmax()) + 1 if trial.ended.any() else steps + 1
    drawers = {task: make_drawer(family.model(task), *_SIZE) for task in (before, after)}
    font = ImageFont.load_default(12)
    row = Image.new("RGB", (_SIZE[0] * len(shown), _SIZE[1] + _BAR), (24, 28, 34))
    pen = ImageDraw.Draw(row)
    for place, step in enumerate(shown):
        drawer = drawers[before if step <= change_at else after]
        row.paste(Image.fromarray(drawer.draw(trial.positions[step][0])), (place * _SIZE[0], _BAR))
        seconds = (step - change_at) * family.step_seconds
        text = f"{name}, {seconds:+.2f} s" + (", fallen" if step >= fell else "")
        pen.text((place * _SIZE[0] + 6, 4), text, (245, 245, 245), font)
    for drawer in drawers.values():
        drawer.close()
    return np.asarray(row)


def quadrotor() -> list[Picture]:
    """A Crazyflie whose front right rotor loses a fifth of its thrust; its least-squares pilot."""
    family = quadrotor_family("quadrotor-hover")
    before = family.task({"thrust_to_weight": 2.5})
    after = family.task({"thrust_to_weight": 2.5, "rotor_1": 0.8})
    pilot = IdentifiedController(family, GivenController(family))
    return [frames("rotor weak", pilot, before, after, change_at=200, shown=(190, 205, 215, 230, 260, 400), seed=1)]


def go1(zoo: Zoo, seed: int) -> list[Picture]:
    """A Go1 with a knee that dies, and the two policies of a zoo."""
    before = zoo.family.task({"friction": 1.0})
    after = zoo.family.task({"friction": 1.0, "weak_joint": 2, "joint_strength": 0.0})
    pilots = {
        "universal": PolicyController(zoo.base, 1, zoo.universal.expert_for),
        "base": PolicyController(zoo.base, 1),
    }
    return [
        frames(name, pilot, before, after, change_at=150, shown=(145, 155, 165, 180, 220, 300), seed=seed)
        for name, pilot in pilots.items()
    ]


def main() -> None:
    """Read the arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--go1", type=Path, help="zoo of go1-uneven; without it only the quadrotor is drawn")
    parser.add_argument("--seed", type=int, default=0, help="of the Go1's start")
    parser.add_argument("--out", type=Path, required=True, help="picture")
    args = parser.parse_args()
    rows = quadrotor() + (go1(Zoo.open(args.go1), args.seed) if args.go1 else [])
    Image.fromarray(np.concatenate(rows)).save(args.out, quality=85)


if __name__ == "__main__":
    main()
