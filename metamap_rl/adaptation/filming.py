"""Film of an adaptation: the probe, the mapping, and the policies side by side."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from metamap_agents.runtime.seeds import EVALUATION_SEED
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_rl.adaptation.one_shot import AdaptedPolicy, adapt
from metamap_rl.adaptation.service.serving import ServedPolicy
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.viz.drawing import Renderer
from metamap_rl.viz.film import Banner, Take, write_film
from metamap_rl.viz.frames import Lane
from metamap_rl.viz.reels import Act, FilmedEnv, Reel, record_reel
from metamap_rl.viz.video import OnFrame, Video

__all__ = ["film_adaptation"]

_SECONDS = 6.0  # for which the policies are shown
_STILL = 1.5  # s for which the mapping is shown
_GENERATED = 1  # index of its lane


def film_adaptation(
    path: str | Path,
    mapper: Mapper,
    task: Task,
    *,
    steps: int = 50,
    expert: NDArray[np.float32] | None = None,
    seed: int = EVALUATION_SEED,
    check: bool = True,
    renderer: Renderer = "auto",
    on_frame: OnFrame | None = None,
) -> Video:
    """Film *probe, mapping, run*: base policy, generated policy and expert, from the same starts.

    Args:
        path: must end in ``.mp4``; written whole or not at all.
        mapper: the mapper.
        task: hidden from base policy and mapper.
        steps: transitions of the probe.
        expert: weights phi* [P]; None for the universal policy given the task, if the mapper has one.
        seed: of the probe, and of the first episode that is compared.
        check: whether the self-check may serve the base policy.
        renderer: see `metamap_rl.viz.drawing`.
        on_frame: progress.

    Raises:
        MetaMapError: the film cannot be written, or no seed.
    """
    seed = read_seed(seed)
    family = get_family(task.family)
    if expert is None and mapper.universal is not None:
        expert = mapper.universal.expert_for(task)
    env = FilmedEnv(task.family, task)
    policy = adapt(mapper, TimeLimit(env, family.horizon), steps=steps, seed=seed, check=check)
    probe = env.reel()
    phis = [mapper.base.phi, policy.phi, *([] if expert is None else [expert])]
    shown = math.ceil(_SECONDS / family.step_seconds)
    runs = [record_reel(task, _acting(mapper, phi), seed=seed, steps=shown) for phi in phis]
    lanes = [Lane("base", "base policy"), Lane("generated", f"from {steps} transitions"), Lane("expert", "expert")]
    begin = [_still(run) for run in runs]
    probing = [probe if index == _GENERATED else one for index, one in enumerate(begin)]
    mapped = [_still(probe, last=True) if index == _GENERATED else one for index, one in enumerate(begin)]
    others = frozenset(range(len(phis))) - {_GENERATED}
    collected = f"1. probe: the base policy with noise, {steps} transitions of the hidden task"
    takes = [
        Take([task], probing, [Banner(0, collected)], others),
        Take([task], mapped, [Banner(0, _mapping(mapper, policy), "good")], others, hold=_STILL),
        Take([task], runs, [Banner(0, f"3. run: {_served(policy)}, no gradient step; {{seconds}}")]),
    ]
    return write_film(path, family, lanes[: len(phis)], takes, renderer=renderer, on_frame=on_frame)


def _acting(mapper: Mapper, phi: NDArray[np.float32]) -> Act:
    served = ServedPolicy(mapper.base, phi, generated=False)

    def act(observation: NDArray[Any]) -> NDArray[Any]:
        return np.clip(served(observation), -1.0, 1.0)

    return act


def _still(reel: Reel, *, last: bool = False) -> Reel:
    """A reel of one place: the first or the last of another."""
    place = reel.positions[-1:] if last else reel.positions[:1]
    return Reel(place, np.zeros(0), np.zeros(0, dtype=np.bool_))


def _mapping(mapper: Mapper, policy: AdaptedPolicy) -> str:
    """What the mapper did, timed once more, as the first pass of a process is slow."""
    about = policy.adaptation
    assert policy.rollout is not None, "it was mapped from one"
    again = adapt(mapper, policy.rollout).adaptation.milliseconds if about.steps else 0.0
    return f"2. one forward pass: {about.steps} transitions to {policy.phi.size:,} weights in {again:.1f} ms"


def _served(policy: AdaptedPolicy) -> str:
    generated = policy.adaptation.served == "generated"
    return "the generated policy" if generated else "the self-check serves the base policy"
