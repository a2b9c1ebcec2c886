"""What a stream is going to do: its tasks in their order, the tasks held out, and the cache their experts are in."""

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
from metamap_rl.stream.events import Doing, OnStream
from metamap_rl.stream.experts import ExpertCache, bases_of
from metamap_rl.stream.kinds import Arrival, arrivals
from metamap_rl.stream.scoreboard import Scoreboard, embodiment_of
from metamap_rl.stream.seeds import derive, numpy_generator

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """A config with its tasks drawn.

    Attributes:
        config: config of the stream.
        arrivals: what arrives, in order.
        held_out: tasks that are never trained on, of every family of the stream.
        cache: experts and base policies.
    """

    config: StreamConfig
    arrivals: tuple[Arrival, ...]
    held_out: tuple[Task, ...]
    cache: ExpertCache

    @classmethod
    def of(cls, config: StreamConfig, zoo: Path, tasks: Iterable[Task] | None = None) -> Plan:
        """Draw the tasks; nothing is trained or written.

        Args:
            config: config of the stream.
            zoo: folder of the expert cache.
            tasks: the tasks, from Python, in place of ``config.stream``; an iterator is drawn to its end.

        Raises:
            MetaMapError: there are no tasks, or one comes back though the config does not allow it.
        """
        drawn = config.stream.tasks(numpy_generator(config.seeds.stream, 0, "tasks")) if tasks is None else list(tasks)
        if not drawn:
            raise MetaMapError("the stream has no tasks: expected at least one")
        config.check_revisits(drawn)
        return cls.again(config, zoo, tuple(arrivals(drawn)), _held_out(config, {task.family for task in drawn}))

    @classmethod
    def again(cls, config: StreamConfig, zoo: Path, coming: tuple[Arrival, ...], held_out: tuple[Task, ...]) -> Plan:
        """A plan whose tasks were drawn before."""
        families = sorted({arrival.task.family for arrival in coming} | {task.family for task in held_out})
        cache = ExpertCache(
            root=zoo,
            bases=bases_of(families, config.experts.bases),
            overrides={"start": "base", **config.experts.overrides},  # a stream has no family to train a parent over
            base_overrides=config.experts.base_overrides,
        )
        return cls(config, coming, held_out, cache)

    @property
    def tasks(self) -> list[Task]:
        """The tasks that arrive, in order."""
        return [arrival.task for arrival in self.arrivals]

    @property
    def environments(self) -> dict[str, str]:
        """The Gymnasium id of each family, which ends in its version, with a digest where a file declares it."""
        families = {task.family for task in (*self.tasks, *self.held_out)}
        return {name: environment_id(name) for name in sorted(families)}

    def prepare(self, executor: Executor, *, on_event: OnStream | None = None) -> None:
        """Train what is missing in the cache: base policies always, experts where scores or the learner need them.

        Runs that share the cache then only read it.

        Args:
            executor: where experts are trained.
            on_event: told what is going on.

        Raises:
            MetaMapError: a zoo in the cache was made with other settings, or training failed.
        """
        say: OnStream = on_event if on_event is not None else lambda event: None
        for embodiment in dict.fromkeys(map(embodiment_of, self.tasks)):
            self.cache.base(embodiment, lambda done, total, metrics: say(Doing("base policy", done, total)))
        scored = self.config.evaluation.reference
        wanted = self.tasks if scored or self.config.experts.start == "phi-0" else []
        wanted = wanted + (list(self.held_out) if scored else [])
        if wanted:
            self.cache.prepare(
                wanted, executor, on_expert=lambda done, total, expert: say(Doing("experts", done, total))
            )

    def boards(self, num_threads: int) -> tuple[Scoreboard, Scoreboard | None]:
        """The scoreboards of the stream's own tasks and of the held-out ones; the cache must be prepared."""
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
