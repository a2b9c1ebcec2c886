"""A session of the player: lanes with one task, which a user changes while they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.family import Family
from metamap_envs.schedule import Change, TaskSchedule
from metamap_envs.scheduled import check_schedule
from metamap_envs.seeds import read_seed
from metamap_envs.task import CUSTOM_SPLIT, Task
from metamap_envs.vector import FamilyVectorEnv
from metamap_rl.adaptation.bundled import PRETRAINED, load_experts
from metamap_rl.adaptation.one_shot import AdaptedPolicy, adapt
from metamap_rl.adaptation.plain import PlainPolicy
from metamap_rl.adaptation.service.adapter import Adapter
from metamap_rl.adaptation.service.config import AdapterConfig
from metamap_rl.adaptation.service.serving import ActionLimits, family_of
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.play.describing import PROBE_STEPS, belief_json, one_shot_json, setup_of
from metamap_rl.play.lanes import BaseLane, ExpertLane, GeneratedLane, Lane, Outcome
from metamap_rl.play.recording import Frame, Recording
from metamap_rl.play.scene import scene_of
from metamap_rl.viz.joints import conditions_of, joints_of, with_condition

__all__ = ["PlaySession"]

_ENDLESS = 1_000_000_000  # steps: a policy in service is not interrupted by a time limit
_KEPT_SECONDS = 60.0  # of the recording
_NEWS_EVERY = 5  # steps between two beliefs that are sent while nothing else happens


class PlaySession:
    """Lanes for base policy, generated policy and expert: same start, same task, side by side.

    Args:
        mapper: the mapper.
        source: folder or name that it was loaded from, for the lines of Python; a bundled one has experts.
        task: first task; default the family's defaults.
        config: settings of the adapter.
        seed: of the start and of probes.

    Attributes:
        mapper: the mapper.
        family: its family.
        task: the present task.
        recording: the latest minute.
    """

    def __init__(
        self,
        mapper: Mapper,
        *,
        source: str | Path = "",
        task: Task | None = None,
        config: AdapterConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.seed = read_seed(seed)
        self.mapper, self.family, self.source = mapper, family_of(mapper), str(source)
        self.task = task or self.family.task()
        self.joints = joints_of(self.family)
        self.live = _changes_live(self.family)
        self._generated = GeneratedLane(Adapter(mapper, config))
        limits = self._generated.adapter.limits
        experts = _expert_lanes(mapper, self.family, self.source, limits)
        self.lanes: tuple[Lane, ...] = (BaseLane(mapper, limits), self._generated, *experts)
        self._env = FamilyVectorEnv(
            [self.task] * len(self.lanes), num_threads=1, autoreset_mode="disabled", horizon=_ENDLESS
        )
        self.recording = Recording(max(2, round(_KEPT_SECONDS / self.family.step_seconds)))
        self.scenes: dict[int, dict[str, Any]] = {}
        self._look()
        self._step = 0
        self._one_shot_swaps = 0
        self._episodes = [0] * len(self.lanes)
        self._told: dict[str, Any] = {}
        self.restart()

    # what a user does -------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Start all lanes anew from one state; what the adapter knows stays."""
        count = len(self.lanes)
        self._observations, _ = self._env.reset(seed=[self.seed] * count, options={"tasks": [self.task] * count})
        for lane, observation in zip(self.lanes, self._observations, strict=True):
            lane.change_task(self.task)
            lane.reset(observation)
        self._episodes = [episode + 1 for episode in self._episodes]
        self._returns = np.zeros(count)
        self._rewards = np.zeros(count)

    def set_parameters(self, parameters: Mapping[str, float]) -> None:
        """Change some parameters of the task in all lanes, in mid-run where the family allows it.

        Raises:
            MetaMapError: an unknown parameter, or a value that is not admitted; nothing is changed then.
        """
        self._change(self.family.task({**dict(self.task.parameters), **parameters}))

    def set_joint(self, name: str, condition: str) -> None:
        """Change the condition of a joint.

        Raises:
            MetaMapError: an unknown joint, or a condition that it has not.
        """
        known = {joint.name: joint for joint in self.joints}
        if name not in known:
            raise unknown_name("joint", name, known)
        if condition not in known[name].conditions:
            raise unknown_name("condition", condition, known[name].conditions, of=f"joint {name!r}")
        self._change(with_condition(self.family, self.task, known[name], condition))

    def heal(self) -> None:
        """Go back to the family's defaults."""
        self._change(self.family.task())

    def probe(self) -> None:
        """Collect D with a fresh robot of the present task, map it, and start all lanes with the result."""
        env = gym.make(self.family.gym_id, parameters=dict(self.task.parameters))
        try:
            self._serve(adapt(self.mapper, env, steps=PROBE_STEPS, seed=self.seed))
        finally:
            env.close()
        self.restart()

    def set_length(self, steps: int) -> None:
        """Map the first transitions of the latest probe's D.

        Raises:
            MetaMapError: there is no probe, or it has not as many.
        """
        policy = self._generated.one_shot
        if policy is None or policy.rollout is None:
            raise MetaMapError("length: expected a probe before")
        whole = policy.rollout
        served = adapt(self.mapper, whole, steps=min(steps, len(whole)))
        self._serve(AdaptedPolicy(served.base, served.phi, served.adaptation, rollout=whole))

    def serve(self) -> None:
        """Go back from a one-shot policy to the adapter in service."""
        self._serve(None)

    def _serve(self, policy: AdaptedPolicy | None) -> None:
        if policy is not None or self._generated.one_shot is not None:
            self._one_shot_swaps += 1
        self._generated.serve(policy)

    def _change(self, task: Task) -> None:
        if task == self.task:
            return
        self.task = task
        self._look()
        if not self.live:
            self.restart()
            return
        self._env.set_tasks([task] * len(self.lanes))
        for lane in self.lanes:
            lane.change_task(task)
        self._returns = np.zeros(len(self.lanes))

    # steps ------------------------------------------------------------------------------------------------------------

    def step(self) -> Frame:
        """Advance all lanes by one step; lanes whose episode ended start a new one."""
        actions = np.stack([lane.act(seen) for lane, seen in zip(self.lanes, self._observations, strict=True)])
        after, rewards, terminated, truncated, infos = self._env.step(actions)
        sound = ~infos.get("diverged", np.zeros(len(self.lanes), dtype=np.bool_))
        for index, lane in enumerate(self.lanes):
            ends = bool(terminated[index]), bool(truncated[index])
            lane.observe(Outcome(float(rewards[index]), after[index], *ends, bool(sound[index])))
        self._step += 1
        self._rewards, self._returns = rewards, self._returns + rewards
        frame = self._frame()
        self._observations = self._next_episodes(after, terminated | truncated)
        self.recording.add(frame)
        return frame

    def _next_episodes(self, after: NDArray[Any], ended: NDArray[np.bool_]) -> NDArray[Any]:
        if not ended.any():
            return after
        found, _ = self._env.reset(options={"reset_mask": ended})
        for index in np.flatnonzero(ended):
            self._episodes[index] += 1
            self.lanes[index].reset(found[index])
        return np.where(ended[:, None], found, after)

    def _frame(self) -> Frame:
        belief = self._generated.adapter.belief
        one_shot = self._generated.one_shot is not None
        return Frame(
            self._step,
            list(self._env.simulator.state().qpos),
            self._rewards.tolist(),
            self._returns.tolist(),
            tuple(self._episodes),
            max(self.scenes),
            self._generated.surprise,
            0 if one_shot else belief.window,
            belief.swaps + self._one_shot_swaps,
            belief.changes,
            self._news(),
        )

    def _news(self) -> dict[str, Any]:
        """The state, where it has changed since it was last told; beliefs by themselves every few steps."""
        now = self.state()
        changed = {name: value for name, value in now.items() if self._told.get(name) != value}
        if set(changed) <= {"belief"} and self._step % _NEWS_EVERY:
            return {}
        self._told = now
        return changed

    # what is shown ----------------------------------------------------------------------------------------------------

    def setup(self) -> dict[str, Any]:
        """What never changes, as JSON values."""
        return setup_of(self.family, self.joints, [lane.key for lane in self.lanes])

    def state(self) -> dict[str, Any]:
        """What changes now and then, as JSON values."""
        return {
            "task": dict(self.task.parameters),
            "conditions": self._conditions,
            "titles": [lane.title for lane in self.lanes],
            "belief": self._belief(),
            "code": self.code(),
        }

    def _belief(self) -> dict[str, Any]:
        policy = self._generated.one_shot
        return belief_json(self._generated.adapter.belief) if policy is None else one_shot_json(policy.adaptation)

    def _look(self) -> None:
        """Conditions and scene of the present task; scenes that no frame shows any more are forgotten."""
        self._conditions = conditions_of(self.family, self.task, self.joints)
        scene, latest = scene_of(self.family.model(self.task)), max(self.scenes, default=-1)
        if latest >= 0 and scene == self.scenes[latest]:
            return
        oldest = self.recording.frames[0].scene if self.recording.frames else latest
        self.scenes = {index: one for index, one in self.scenes.items() if index >= oldest} | {latest + 1: scene}

    # sharing ----------------------------------------------------------------------------------------------------------

    def code(self) -> str:
        """Lines of Python that do the same."""
        values = ", ".join(
            f'"{one.name}": {self.task[one.name]:g}'
            for one in self.family.space.parameters
            if self.task[one.name] != one.default
        )
        name = Path(self.source).name if Path(self.source).parent == PRETRAINED else self.source
        head = f"import gymnasium as gym\nimport metamap_envs, metamap_rl\n\nmapper = metamap_rl.load({name!r})\n"
        policy = self._generated.one_shot
        if policy is not None:
            return (
                f'{head}env = gym.make("{self.family.gym_id}", parameters={{{values}}})\n'
                f"policy = mapper.adapt(env, steps={policy.adaptation.steps}, seed={self.seed})\n"
                'print(policy.explain())\npolicy.save_sb3("policy.zip")\n'
            )
        return (
            f'{head}env = gym.make("{self.family.gym_id}", max_episode_steps=2000)\n'
            f"observation, info = env.reset(seed={self.seed})\n"
            "adapter = metamap_rl.Adapter(mapper)\nadapter.reset(observation)\n"
            "for step in range(1000):\n"
            "    if step == 200:\n"
            f"        env.unwrapped.set_task(env.unwrapped.family.task({{{values}}}))\n"
            "    action = adapter.act(observation)\n"
            "    observation, reward, terminated, truncated, info = env.step(action)\n"
            "    adapter.observe(reward, observation, terminated, truncated)\n"
            "print(adapter.belief.sentence())\n"
        )

    def save_policy(self, path: Path) -> None:
        """Write the policy of the generated lane as a zip for ``PPO.load``.

        Raises:
            MetaMapError: the name does not end in .zip, or the file cannot be written.
        """
        title = f"policy for {self.family.name}"
        PlainPolicy.of(self.family.name, self.mapper.base, self._generated.phi, title=title).save_sb3(path)

    def document(self) -> dict[str, Any]:
        """The latest minute, as JSON values for a replay."""
        return {"setup": self.setup(), "scenes": self.scenes, "recording": self.recording.to_json()}


def _changes_live(family: Family) -> bool:
    """Whether tasks can change in mid-episode."""
    everything = Change(step=1, parameters=dict(family.task().parameters))
    try:
        check_schedule(TaskSchedule(split=CUSTOM_SPLIT, changes=(everything,)), family)
    except MetaMapError:
        return False
    return True


def _expert_lanes(mapper: Mapper, family: Family, source: str, limits: ActionLimits) -> Sequence[Lane]:
    """One, or none for a mapper with neither a universal policy nor experts beside it."""
    bundled = Path(source) == PRETRAINED / family.name
    experts = load_experts(family.name) if bundled and mapper.universal is None else []
    if mapper.universal is None and not experts:
        return ()
    return (ExpertLane(mapper, limits, family, experts),)
