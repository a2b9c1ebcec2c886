"""Measure whether the self-check keeps a generated policy from being worse than the base policy.

Prints one JSON document and writes it to ``--out``. For each length of D: return of the generated policy less that of
the base policy on the same task and reset seeds, with and without the check, on the test tasks of the mapper's family;
on tasks of every other family with the same observations and actions, from D of such a task; and on test tasks from D
that was made useless. Gains are in units of the return; a check that fell back gains exactly 0. A pair of a task and a
D is harmed where the generated policy is worse by a paired test over the reset seeds (`metamap_rl.training.harm`). With
``--before`` the self-check of another folder of the same mapper is measured on the same D and policies.

    python scripts/measure_selfcheck.py cheetah-velocity --out docs/results/selfcheck/cheetah-velocity.json
    python scripts/measure_selfcheck.py walker-dynamics --case test-in --seed 9300000 --before old/walker-dynamics
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_agents.policy.evaluation import evaluate_policies
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import claim_output, library_versions, write_json
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family, list_families
from metamap_envs.rollout import Rollout
from metamap_envs.task import Task
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.mapper.selfcheck import Verdict
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.documents import probe_from_json
from metamap_rl.training.calibration import calibrate
from metamap_rl.training.harm import measure_harm

PROBE_SEED = 8_000_000

Damage = Callable[[Rollout, np.random.Generator], Rollout]


def noise(rollout: Rollout, generator: np.random.Generator) -> Rollout:
    """Independent numbers with the mean and standard deviation that each sensor and the reward have."""

    def drawn(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return generator.normal(values.mean(axis=0), values.std(axis=0), values.shape).astype(np.float32)

    return replace(
        rollout,
        observations=drawn(rollout.observations),
        actions=generator.uniform(-1, 1, rollout.actions.shape).astype(np.float32),
        rewards=drawn(rollout.rewards),
        next_observations=drawn(rollout.next_observations),
    )


def shuffled_time(rollout: Rollout, generator: np.random.Generator) -> Rollout:
    """What followed each step is what followed another one."""
    order, other = generator.permutation(len(rollout)), generator.permutation(len(rollout))
    return replace(
        rollout,
        rewards=rollout.rewards[order],
        next_observations=rollout.next_observations[other],
    )


def permuted_sensors(rollout: Rollout, generator: np.random.Generator) -> Rollout:
    """Every sensor is read at the place of another."""
    drawn = generator.permutation(rollout.observations.shape[1])
    order = np.empty_like(drawn)
    order[drawn] = np.roll(drawn, 1)  # one cycle through all of them: none stays
    return replace(
        rollout, observations=rollout.observations[:, order], next_observations=rollout.next_observations[:, order]
    )


def frozen_sensor(rollout: Rollout, generator: np.random.Generator) -> Rollout:
    """One sensor shows its first value for ever."""
    which = int(generator.integers(rollout.observations.shape[1]))
    seen, following = rollout.observations.copy(), rollout.next_observations.copy()
    seen[:, which] = following[:, which] = seen[0, which]
    return replace(rollout, observations=seen, next_observations=following)


def frozen(rollout: Rollout, generator: np.random.Generator) -> Rollout:
    """All sensors show their first value for ever."""
    first = np.tile(rollout.observations[:1], (len(rollout), 1))
    return replace(rollout, observations=first, next_observations=first)


def far_out(rollout: Rollout, generator: np.random.Generator) -> Rollout:
    """Sensors and reward in other units: three times the number."""
    return replace(
        rollout,
        observations=3 * rollout.observations,
        rewards=3 * rollout.rewards,
        next_observations=3 * rollout.next_observations,
    )


DAMAGES: dict[str, Damage] = {
    "noise": noise,
    "shuffled time": shuffled_time,
    "permuted sensors": permuted_sensors,
    "frozen sensor": frozen_sensor,
    "frozen": frozen,
    "far out": far_out,
}


def families_of_same_shape(name: str) -> list[str]:
    """The other families with observations and actions of the same size."""
    family = get_family(name)
    sizes = (family.observation_size, family.action_size)
    others = [get_family(other) for other in list_families() if other != name]
    return [other.name for other in others if (other.observation_size, other.action_size) == sizes]


def probed(mapper: Mapper, tasks: Sequence[Task], arguments: argparse.Namespace) -> list[list[Rollout]]:
    """R rollouts of each task by the mapper's probe, as the mapper would get them."""
    found = collect(
        probe_from_json(mapper.probe),
        tasks,
        mapper.base,
        steps=max(arguments.lengths),
        repeats=arguments.rollouts,
        seed=PROBE_SEED,
    )
    return [
        [replace(found.rollout(task, repeat), family=mapper.family, task=None) for repeat in range(arguments.rollouts)]
        for task in range(len(tasks))
    ]


def run(
    mapper: Mapper, tasks: Sequence[Task], rollouts: Sequence[Sequence[Rollout]], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Gains with and without the check, length by length."""
    base, before = mapper.base, Mapper.load(arguments.before) if arguments.before else None

    def returns(phis: NDArray[np.float32], repeats: int) -> NDArray[np.float64]:
        where = [task for task in tasks for _ in range(repeats)]
        episodes = evaluate_policies(where, base.policies(phis), episodes=arguments.episodes)
        return episodes.returns.reshape(len(tasks), repeats, -1)

    reference = returns(base.phi, 1)
    noise = np.sqrt(2 * reference.var(axis=-1, ddof=1) / arguments.episodes)
    entries = []
    for steps in arguments.lengths:
        heads = [[rollout.head(steps) for rollout in row] for row in rollouts]
        phis = np.stack([mapper.generate(head) for row in heads for head in row])
        verdicts = [mapper.judge(head) for row in heads for head in row]
        found = returns(phis, arguments.rollouts)
        gains = (found - reference).mean(axis=-1)
        harm = _harm(reference, found, verdicts)
        if before is not None:
            others = [before.judge(head) for row in heads for head in row]
            harm["before"] = _harm(reference, found, others)["served"]
        served = np.array([not verdict.fallback for verdict in verdicts if verdict]).reshape(gains.shape)
        novelty = np.array([verdict.novelty for verdict in verdicts if verdict])
        predicted = np.array(
            [(v.predicted_return or 0.0) - (v.predicted_base_return or 0.0) for v in verdicts if v]
        ).reshape(gains.shape)
        reasons = Counter(_kind(verdict.fallback) for verdict in verdicts if verdict and verdict.fallback)
        entries.append(
            {
                "steps": steps,
                "fallback": float(1 - served.mean()),
                "reasons": dict(reasons),
                "foreign": float((novelty > 1).mean()),
                "novelty": np.quantile(novelty, [0.1, 0.5, 0.9]).tolist(),
                "mean_gain_unchecked": float(gains.mean()),
                "mean_gain": float((gains * served).mean()),
                "worst_gain_unchecked": float(gains.min()),
                "worst_gain": float((gains * served).min()),
                "two_standard_errors": float(2 * noise.mean()),
                "worse_unchecked": float((gains < -2 * noise).mean()),
                "worse": float((gains * served < -2 * noise).mean()),
                "harm": harm,
                "error_of_predicted_gain": float(np.sqrt(np.square(predicted - gains).mean())),
            }
        )
    return entries


def _harm(
    reference: NDArray[np.float64], found: NDArray[np.float64], verdicts: Sequence[Verdict | None]
) -> dict[str, Any]:
    """Harm on all pairs of task and D, and on those whose policy is served (None where there are none).

    Args:
        reference: returns of the base policy [T, 1, E].
        found: of generated policies [T, R, E].
        verdicts: of the self-check, T x R.
    """
    served = np.array([verdict is None or not verdict.fallback for verdict in verdicts])
    base, generated = (array.reshape(-1, array.shape[-1]) for array in np.broadcast_arrays(reference, found))
    return {
        "all": asdict(measure_harm(base, generated)),
        "served": asdict(measure_harm(base[served], generated[served])) if served.any() else None,
    }


def foreign(mapper: Mapper, tasks: Sequence[Task], arguments: argparse.Namespace) -> dict[str, float]:
    """Share of rollouts that count as foreign, by length; nothing is run on them, so there can be many tasks."""
    rollouts = probed(mapper, tasks, argparse.Namespace(**{**vars(arguments), "rollouts": 1}))
    found = {}
    for steps in arguments.lengths:
        verdicts = [mapper.judge(row[0].head(steps)) for row in rollouts]
        found[str(steps)] = float(np.mean([verdict is not None and verdict.novelty > 1 for verdict in verdicts]))
    return found


def _kind(reason: str) -> str:
    for word in ("too few", "not like", "is expected", "at every length"):
        if word in reason:
            return word
    return reason


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all cases."""
    torch.set_num_threads(1)
    mapper, _ = find_mapper(arguments.mapper)
    if mapper.check is None:
        print("the mapper has no self-check: calibrating", file=sys.stderr)
        mapper.check = calibrate(mapper)
    family = get_family(mapper.family)
    cases: dict[str, list[dict[str, Any]]] = {}
    alarms: dict[str, dict[str, float]] = {}
    wanted = arguments.case or ["test-in", "test-out", *DAMAGES, "families"]
    for split in [name for name in ("test-in", "test-out") if name in wanted]:
        try:
            tasks = family.sample(split, arguments.tasks, arguments.seed)
        except MetaMapError:
            continue  # a family without tasks outside its training range
        alarms[split] = foreign(mapper, family.sample(split, arguments.alarm_tasks, arguments.seed), arguments)
        cases[split] = run(mapper, tasks, probed(mapper, tasks, arguments), arguments)
    tasks = family.sample("test-in", arguments.tasks, arguments.seed)
    damages = {name: damage for name, damage in DAMAGES.items() if name in wanted}
    whole = probed(mapper, tasks, arguments) if damages else []
    for name, damage in damages.items():
        generator = np.random.default_rng(arguments.seed)
        cases[name] = run(mapper, tasks, [[damage(one, generator) for one in row] for row in whole], arguments)
    for other in families_of_same_shape(mapper.family) if "families" in wanted else []:
        tasks = get_family(other).sample("test-in", arguments.tasks, arguments.seed)
        cases[f"family {other}"] = run(mapper, tasks, probed(mapper, tasks, arguments), arguments)
    return {
        "mapper": arguments.mapper,
        "family": mapper.family,
        "check": {"least_steps": mapper.check.least_steps, "noise": mapper.check.noise, **mapper.check.record},
        "counted_as_foreign": alarms,
        "cases": cases,
        "settings": {name: value for name, value in vars(arguments).items() if name not in ("out", "before")},
        "machine": describe_machine(),
        "versions": library_versions(),
    }


def print_table(result: dict[str, Any]) -> None:
    """Every case, for people, on standard error."""
    check = result["check"]
    print(f"{result['family']}: least steps {check['least_steps']}, noise {check['noise']:.2f}", file=sys.stderr)
    print(
        f"{'case':<34} steps  fallback foreign  mean gain (unchecked)  worst (unchecked)  worse (unch.)",
        file=sys.stderr,
    )
    for split, shares in result["counted_as_foreign"].items():
        text = ", ".join(f"{share:.3f} at {steps}" for steps, share in shares.items())
        print(f"{split}, counted as foreign: {text}", file=sys.stderr)
    for case, entries in result["cases"].items():
        for entry in entries:
            print(
                f"{case:<34} {entry['steps']:>5}  {entry['fallback']:8.2f} {entry['foreign']:7.2f}"
                f"  {entry['mean_gain']:8.1f} ({entry['mean_gain_unchecked']:8.1f})"
                f"  {entry['worst_gain']:8.1f} ({entry['worst_gain_unchecked']:8.1f})"
                f"  {entry['worse']:.2f} ({entry['worse_unchecked']:.2f})"
                f"  {' '.join(f'{value:.2f}' for value in entry['novelty'])}",
                file=sys.stderr,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mapper", help="folder of a mapper, or the name of a bundled one")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 2, 5, 20, 50], help="steps of D")
    parser.add_argument("--tasks", type=int, default=16, help="of each split and family")
    parser.add_argument("--alarm-tasks", type=int, default=512, help="of either split, to count false alarms on")
    parser.add_argument("--rollouts", type=int, default=3, help="of each task")
    parser.add_argument("--episodes", type=int, default=10, help="of each policy on each task")
    parser.add_argument("--seed", type=int, default=0, help="of the tasks; that of a zoo gives its tasks")
    parser.add_argument(
        "--case", action="append", choices=["test-in", "test-out", *DAMAGES, "families"], help="default: all"
    )
    parser.add_argument(
        "--before", type=Path, help="folder of the same mapper with another self-check, to compare with"
    )
    parser.add_argument("--out", type=Path, help="also write the document here")
    arguments = parser.parse_args()
    if arguments.out is not None:
        claim_output(arguments.out, overwrite=True)  # what cannot be written fails now, not after minutes
    result = measure(arguments)
    print_table(result)
    if arguments.out is not None:
        write_json(arguments.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
