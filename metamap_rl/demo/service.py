"""Demonstration of adaptation in service: the adapter beside its rivals, live, as curves and as a film."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.runtime.storage import library_versions
from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.registry import get_family
from metamap_envs.schedule import TaskSchedule
from metamap_envs.scheduled import ScheduleRun
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_rl.adaptation.service.config import AdapterConfig
from metamap_rl.adaptation.service.surprise import Surprise
from metamap_rl.adaptation.service.trial import AdapterController, Controller, PolicyController, Trial, run_trial
from metamap_rl.adaptation.service.vector import VectorAdapter
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.play.page import write_replay
from metamap_rl.play.trials import replay_of
from metamap_rl.viz.film import Banner, Take, write_film
from metamap_rl.viz.frames import Lane
from metamap_rl.viz.joints import joints_of
from metamap_rl.viz.marks import task_words
from metamap_rl.viz.reels import Reel
from metamap_rl.viz.service import Curve, plot_service

__all__ = ["FILMED_SECONDS", "ServiceDemo", "tasks_of"]

FILMED_SECONDS = 20.0
"""Length of a film; it begins some seconds before the first change, or with the run."""

_EVERY = 200  # steps between changes, without a schedule
_RECENT = 20  # steps over which the live view averages rewards
_SHOWN = 4  # parameters in the live view
_BEFORE = 5.0  # s of a film before the first change
_ALARM = 1.0  # s for which a change is framed in red, unless new weights come sooner
_TOLD = 4  # parts of a task that a film's line tells
_LANES = {
    "base": Lane("base", "base policy"),
    "adapter": Lane("generated", "adapter in service"),
    "oracle": Lane("expert", "oracle: given the task at once"),
}


def tasks_of(family: Family, schedule: Path | None, first: Task | None, steps: int, seed: int) -> list[Task]:
    """The task of each step [n].

    Args:
        family: the family.
        schedule: YAML file; None for another task of test-in every 200 steps.
        first: first task; None for the defaults with a schedule, or a task of test-in without.
        steps: n.
        seed: of what the schedule draws.

    Raises:
        MetaMapError: an invalid schedule, or one that does not fit the family.
    """
    seed = read_seed(seed)
    if schedule is None:
        drawn = family.sample("test-in", -(-steps // _EVERY), np.random.default_rng(seed))
        drawn = [first or drawn[0], *drawn[1:]]
        return [drawn[step // _EVERY] for step in range(steps)]
    read = TaskSchedule.read(schedule)
    try:
        run = ScheduleRun(read, family)
    except MetaMapError as error:
        raise MetaMapError(f"{schedule}: {error}") from None
    task = first or family.task()
    run.begin(task, seed)
    found = []
    for _ in range(steps):
        task = run.next(task)
        found.append(task)
    return found


class ServiceDemo:
    """A run of the adapter and its rivals through one sequence of tasks.

    Args:
        mapper: the mapper.
        tasks: task of each step [n].
        config: settings of the adapter.
        seed: of the first state.
        source: where the mapper came from, for the document.
        keep_positions: record positions, for `film`.
    """

    def __init__(
        self,
        mapper: Mapper,
        tasks: Sequence[Task],
        config: AdapterConfig,
        *,
        seed: int = 0,
        source: str = "",
        keep_positions: bool = False,
    ) -> None:
        seed = read_seed(seed)
        self.mapper, self.tasks, self.config = mapper, list(tasks), config
        self.seed, self.source, self._keep = seed, source, keep_positions
        self.changes = [step for step in range(1, len(tasks)) if tasks[step] != tasks[step - 1]]
        self.trials: dict[str, Trial] = {}
        self.surprises: list[float | None] = []
        self._news: tuple[int, int] = (0, 0)

    def _controllers(self) -> dict[str, Controller]:
        base = self.mapper.base
        found: dict[str, Controller] = {"base": PolicyController(base, 1)}
        found["held"] = AdapterController(VectorAdapter(self.mapper, 1, self.config), hold=True)
        if self.mapper.universal is not None:
            found["oracle"] = PolicyController(base, 1, self.mapper.universal.expert_for)
        return found

    def run(self, on_step: Callable[[int], None] = lambda step: None) -> None:
        """Run the rivals, then the adapter step by step."""
        for name, controller in self._controllers().items():
            self.trials[name] = self._trial(controller)
        adapter = _WatchedController(self.mapper, self.config, self.surprises)

        def shown(step: int, trial: Trial) -> None:
            self.trials["adapter"] = trial
            on_step(step)

        self._trial(adapter, shown)

    def _trial(self, controller: Controller, on_step: Callable[[int, Trial], None] | None = None) -> Trial:
        tasks = [[task] for task in self.tasks]
        return run_trial(controller, tasks, seeds=[self.seed], positions=self._keep, on_step=on_step)

    # the live view ----------------------------------------------------------------------------------------------------

    def is_news(self, step: int) -> bool:
        """Whether the task, the window or the served policy has just changed, after so many steps."""
        belief = self.trials["adapter"].beliefs[-1][0]
        before, self._news = self._news, (belief.changes, belief.served == "generated")
        return before != self._news or step in self.changes

    def lines(self, step: int) -> list[str]:
        """The live view after so many steps, at most 80 columns wide; the first line by itself is a summary."""
        belief = self.trials["adapter"].beliefs[-1][0]
        recent = slice(max(0, step - _RECENT), step)
        rewards = "  ".join(f"{name} {trial.rewards[recent].mean():.2f}" for name, trial in self._ordered().items())
        confidence = "" if belief.confidence is None else f"  confidence {belief.confidence:.2f}"
        window = f"window {belief.window:>3}  changes found {belief.changes}"
        found = [f"step {step:>5}  {belief.served:<9}  {window}{confidence}", f"because  {belief.reason}"]
        found.append(f"reward   {rewards}  (last {_RECENT} steps)")
        true = dict(self.tasks[min(step, len(self.tasks)) - 1].parameters)
        first = dict(self.tasks[0].parameters)
        changing = {name for at in self.changes for name, value in self.tasks[at].parameters if value != first[name]}
        for name, value in sorted(true.items(), key=lambda one: one[0] not in changing)[:_SHOWN]:
            read = f", estimated {belief.parameters[name]:.3g}" if name in belief.parameters else ""
            found.append(f"{name:<24} {value:.3g}{read}")
        return [line[:80] for line in found]

    def _ordered(self) -> dict[str, Trial]:
        names = [name for name in ("adapter", "oracle", "held", "base") if name in self.trials]
        return {name: self.trials[name] for name in names}

    # results ----------------------------------------------------------------------------------------------------------

    def returns(self) -> dict[str, float]:
        """Sum of rewards of each."""
        return {name: float(trial.rewards.sum()) for name, trial in self._ordered().items()}

    def share(self, name: str) -> float | None:
        """Share of the return between base policy and oracle; None without a gap."""
        returns = self.returns()
        gap = returns.get("oracle", returns["base"]) - returns["base"]
        return (returns[name] - returns["base"]) / gap if gap > 0 else None

    def table(self) -> list[str]:
        """Human-readable results."""
        found = [f"{'policy':<9}{'return':>10}{'share':>8}"]
        for name, value in self.returns().items():
            share = self.share(name)
            found.append(f"{name:<9}{value:>10.1f}{'' if share is None else f'{share:.2f}':>8}")
        belief = self.trials["adapter"].beliefs[-1][0]
        found.append(f"changes of the task: {len(self.changes)}, found: {belief.changes}, swaps: {belief.swaps}")
        return found

    def document(self) -> dict[str, Any]:
        """Everything but positions, as JSON values."""
        beliefs = [row[0] for row in self.trials["adapter"].beliefs]
        segments = [0, *self.changes]
        return {
            "mapper": self.source,
            "family": self.mapper.family,
            "seed": self.seed,
            "steps": len(self.tasks),
            "adapter": asdict(self.config),
            "tasks": [{"step": step, **self.tasks[step].to_json()} for step in segments],
            "returns": self.returns(),
            "share": {name: self.share(name) for name in self._ordered()},
            "rewards": {name: trial.rewards[:, 0].tolist() for name, trial in self._ordered().items()},
            "ended": {name: np.flatnonzero(trial.ended[:, 0]).tolist() for name, trial in self._ordered().items()},
            "window": [belief.window for belief in beliefs],
            "age": [belief.age for belief in beliefs],
            "served": ["generated" if belief.served == "generated" else "base" for belief in beliefs],
            "confidence": [belief.confidence for belief in beliefs],
            "reason": [belief.reason for belief in beliefs],
            "parameters": _by_name([belief.parameters for belief in beliefs]),
            "versions": library_versions(),
        }

    def plot(self, path: Path) -> None:
        """Draw rewards, window and served policy over steps."""
        curves = [Curve(name, trial.rewards[:, 0]) for name, trial in self._ordered().items()]
        beliefs = [row[0] for row in self.trials["adapter"].beliefs]
        windows = np.array([belief.window for belief in beliefs])
        generated = np.array([belief.served == "generated" for belief in beliefs])
        plot_service(path, self.mapper.family, curves, windows, generated, self.changes)

    def film(self, path: Path, on_frame: Callable[[int, int], None] | None = None) -> None:
        """Film base policy, adapter and, if the mapper has a universal policy, oracle: *run, break, recover*.

        The film has `FILMED_SECONDS`, beginning shortly before the first change.

        Raises:
            MetaMapError: positions were not recorded, or the film cannot be written.
        """
        if not self._keep:
            raise MetaMapError("film: expected a run with keep_positions=True")
        family = get_family(self.mapper.family)
        begin = max(0, (self.changes or [0])[0] - round(_BEFORE / family.step_seconds))
        part = slice(begin, min(len(self.tasks), begin + round(FILMED_SECONDS / family.step_seconds)))
        names = [name for name in _LANES if name in self.trials]
        reels = [_reel(self.trials[name], part) for name in names]
        take = Take(self.tasks[part], reels, self._banners(family, part))
        write_film(path, family, [_LANES[name] for name in names], [take], on_frame=on_frame)

    def _banners(self, family: Family, part: slice) -> list[Banner]:
        """What happens in a part of the run."""
        beliefs, joints = [row[0] for row in self.trials["adapter"].beliefs], joints_of(family)
        found = [Banner(0, "run")]
        for change in (step for step in self.changes if part.start <= step < part.stop):
            before, after = (task_words(family, self.tasks[step], joints) for step in (change - 1, change))
            told = [text for text, colour in after if (text, colour) not in before]
            more = f" and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
            text = f"break: {', '.join(told[:_TOLD]) or 'all joints healthy'}{more}"
            found.append(Banner(change - part.start, text, "alarm"))
            later = range(change, min([part.stop, *(step for step in self.changes if step > change)]))
            swap = next((step for step in later if beliefs[step].swaps > beliefs[change - 1].swaps), None)
            calm = change + round(_ALARM / family.step_seconds)
            if calm < (later.stop if swap is None else swap):
                found.append(Banner(calm - part.start, text))
            if swap is not None:
                what = "generated weights" if beliefs[swap].served == "generated" else "back to the base policy"
                seconds = (swap + 1 - change) * family.step_seconds
                found.append(Banner(swap + 1 - part.start, f"recover: {what} {seconds:.2f} s after the change", "good"))
        return found

    def replay(self, path: Path) -> None:
        """Write a replay of base policy, adapter and oracle as one HTML file.

        Raises:
            MetaMapError: positions were not recorded, or the file cannot be written.
        """
        if not self._keep:
            raise MetaMapError("replay: expected a run with keep_positions=True")
        write_replay(path, replay_of(get_family(self.mapper.family), self.tasks, self.trials, self.surprises))


class _WatchedController(AdapterController):
    """An adapter whose surprise is recorded at every step."""

    def __init__(self, mapper: Mapper, config: AdapterConfig, surprises: list[float | None]) -> None:
        super().__init__(VectorAdapter(mapper, 1, config))
        self._adapter, self._surprises = self.adapters.adapters[0], surprises
        self._surprise = Surprise(self._adapter)

    def observe(self, step: dict[str, NDArray[Any]]) -> None:
        """See `Controller`."""
        known = self._adapter.window
        super().observe(step)
        self._surprises.append(self._surprise(known, self._adapter.window))


def _reel(trial: Trial, part: slice) -> Reel:
    """Part of a trial's first environment."""
    positions = np.stack(trial.positions[part.start : part.stop + 1])[:, 0]
    captions = tuple(f"{row[0].served} policy, window {row[0].window}" for row in trial.beliefs[part] if row)
    return Reel(positions, trial.rewards[part, 0], trial.ended[part, 0], captions)


def _by_name(read: Sequence[Mapping[str, float]]) -> dict[str, list[float | None]]:
    names = dict.fromkeys(name for row in read for name in row)
    return {name: [row.get(name) for row in read] for name in names}
