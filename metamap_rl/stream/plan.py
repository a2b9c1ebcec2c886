"""Plan of a stream: its tasks in order, the held-out tasks, and the expert cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from metamap_agents.runtime.executors import Executor
from metamap_envs.errors import MetaMapError
from metamap_envs.identity import environment_id
from metamap_envs.registry import get_family
from metamap_envs.task import Task
from metamap_rl.probing.documents import probe_from_json
from metamap_rl.stream.config import StreamConfig
from metamap_rl.stream.events import Activity, OnStream
from metamap_rl.stream.experts import ExpertCache, bases_of
from metamap_rl.stream.kinds import Arrival, arrivals
from metamap_rl.stream.scoreboard import Scoreboard, embodiment_of
from metamap_rl.stream.seeds import derive, numpy_generator

__all__ = ["StreamPlan"]


@dataclass(frozen=True)
class StreamPlan:
    """A config with drawn tasks.

    Attributes:
        config: config of the stream.
        arrivals: arrivals in order.
        held_out: held-out tasks of every family of the stream, never trained on.
        cache: experts and base policies.
    """

    config: StreamConfig
    arrivals: tuple[Arrival, ...]
    held_out: tuple[Task, ...]
    cache: ExpertCache

    @classmethod
    def of(cls, config: StreamConfig, zoo: Path, tasks: Iterable[Task] | None = None) -> StreamPlan:
        """Draw the tasks, without training or writing anything.

        Args:
            config: config of the stream.
            zoo: folder of the expert cache.
            tasks: tasks in place of ``config.stream``; an iterator is exhausted.

        Raises:
            MetaMapError: no tasks, or a task comes back and the config does not allow it.
        """
        drawn = config.stream.tasks(numpy_generator(config.seeds.stream, 0, "tasks")) if tasks is None else list(tasks)
        if not drawn:
            raise MetaMapError("the stream has no tasks: expected at least one")
        drawn = drawn[: config.stop_after]
        config.check_revisits(drawn)
        return cls.again(config, zoo, tuple(arrivals(drawn)), _held_out(config, {task.family for task in drawn}))

    @classmethod
    def again(
        cls, config: StreamConfig, zoo: Path, coming: tuple[Arrival, ...], held_out: tuple[Task, ...]
    ) -> StreamPlan:
        """A plan with tasks drawn before."""
        families = sorted({arrival.task.family for arrival in coming} | {task.family for task in held_out})
        cache = ExpertCache(
            root=zoo,
            bases=bases_of(families, config.experts.bases),
            overrides={"start": "base", **config.experts.overrides},  # a stream has no family for a universal policy
            base_overrides=config.experts.base_overrides,
        )
        return cls(config, coming, held_out, cache)

    @property
    def tasks(self) -> list[Task]:
        """Tasks of the arrivals, in order."""
        return [arrival.task for arrival in self.arrivals]

    @property
    def environments(self) -> dict[str, str]:
        """The Gymnasium id of each family, ending in its version, with a hash for declared families."""
        families = {task.family for task in (*self.tasks, *self.held_out)}
        return {name: environment_id(name) for name in sorted(families)}

    def prepare(self, executor: Executor, *, on_event: OnStream | None = None) -> None:
        """Train missing base policies, and missing experts if scores or the learner need them.

        Runs that share the cache then only read it.

        Args:
            executor: executor for training experts.
            on_event: callback for events.

        Raises:
            MetaMapError: a zoo in the cache was made with other settings, or training failed.
        """
        say: OnStream = on_event if on_event is not None else lambda event: None
        for embodiment in dict.fromkeys(map(embodiment_of, self.tasks)):
            self.cache.base(embodiment, lambda done, total, metrics: say(Activity("base policy", done, total)))
        scored = self.config.evaluation.reference
        wanted = self.tasks if scored or self.config.experts.start == "phi-0" else []
        wanted = wanted + (list(self.held_out) if scored else [])
        if wanted:
            self.cache.prepare(
                wanted, executor, on_expert=lambda done, total, expert: say(Activity("experts", done, total))
            )

    def boards(self, num_threads: int) -> tuple[Scoreboard, Scoreboard | None]:
        """Scoreboards of the stream's tasks and of the held-out tasks; the cache must be prepared."""
        config = self.config
        stream = Scoreboard(
            tasks=tuple(self.tasks),
            split="stream",
            cache=self.cache,
            probe=probe_from_json(config.probe),
            steps=config.map_steps,
            episodes=config.evaluation.episodes,
            lengths=config.evaluation.lengths,
            seed=config.seeds.evaluation,
            num_threads=num_threads,
            with_experts=config.evaluation.reference,
        )
        return stream, replace(stream, tasks=self.held_out, split="held-out") if self.held_out else None


def _held_out(config: StreamConfig, families: set[str]) -> tuple[Task, ...]:
    count = config.evaluation.held_out
    if not count:
        return ()
    seed = derive(config.seeds.evaluation, 0, "held-out")
    return tuple(
        task for name in sorted(families) for task in get_family(name).sample(config.evaluation.split, count, seed)
    )
