"""`metamap build`: all stages from a family to a mapper, with a record of time and a page of results."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.storage import read_json, write_json
from metamap_rl.building.estimate import RESULTS as RESULTS_CONFIG
from metamap_rl.building.estimate import OnPart, StageClock, rehearse
from metamap_rl.building.findings import compare_experts
from metamap_rl.building.folder import RESULTS, BuildRecord, claim_build
from metamap_rl.building.page import FIGURE, write_page
from metamap_rl.building.pipeline import MAPPER, ZOO, fill, make_mapper, train_policies
from metamap_rl.building.plan import STAGES, BuildPlan, OnStage
from metamap_rl.evaluation.evaluate import evaluate_mappers
from metamap_rl.evaluation.figures import Score, plot_lengths
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.viz.figures import save_figure

__all__ = ["TRIED", "Build", "BuildEvents"]

TRIED = "trying out"
"""Name of what comes before the stages: the measurement of costs."""

_METHODS = 7  # of the evaluation, roughly: for progress only


def _nothing(*_: Any) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class BuildEvents:
    """Functions that a build calls."""

    on_part: OnPart = _nothing
    """With each stage that is tried out for the estimate."""
    on_estimate: Callable[[dict[str, float]], None] = _nothing
    """With the estimated seconds of each stage that is to be done."""
    on_stage: OnStage = _nothing
    """With the progress of a stage."""
    on_plateau: Callable[[str, int, int], None] = _nothing
    """With a stage that ended before its last step, the steps it took and all steps."""


@dataclass
class Build:
    """A build in a folder, which goes on with what is there.

    Args:
        plan: its settings.
        folder: where zoo, mapper, results and page go.
        events: functions to call.

    Raises:
        MetaMapError: a setting that is not allowed, or the folder holds something else.
    """

    plan: BuildPlan
    folder: Path
    events: BuildEvents = field(default_factory=BuildEvents)

    def __post_init__(self) -> None:
        self.plan.check()
        self.record: BuildRecord = claim_build(self.folder, self.plan)
        self.clock = StageClock({})
        self._earlier = self.record.cpu_seconds - _cpu_seconds()

    def run(self) -> BuildRecord:
        """Do what is missing.

        Returns:
            The record; its outcome is "no gap" where experts do not beat the base policy, and then no mapper is made.

        Raises:
            MetaMapError: another process works in the folder, or a training diverged.
        """
        pending = self.pending()
        if pending and not self.record.estimate:
            began = time.monotonic()
            self.record.estimate = rehearse(self.plan, self.events.on_part)
            self.record.seconds[TRIED] = time.monotonic() - began
            self.record.save()
        expected = {stage: self.record.estimate.get(stage, 0.0) for stage in pending}
        self.clock = StageClock(expected, dict(self.record.seconds))
        self.events.on_estimate(expected)
        self._tell_plateaus(train_policies(self.folder, self.plan, self._tell), pending)
        zoo = fill(self.folder, self.plan, self._tell)
        finding = compare_experts(zoo.experts())
        self.record.experts = {**asdict(finding), "gap": finding.gap, "sentence": finding.sentence()}
        if finding.gap:
            self._measure(zoo, make_mapper(self.folder, zoo, self.plan, self._tell))
        return self._finish("mapper" if finding.gap else "no gap")

    def pending(self) -> list[str]:
        """STAGES that are not done yet."""
        done = set()
        if (self.folder / ZOO / "zoo.json").is_file():
            zoo = Zoo.open(self.folder / ZOO)
            done |= {"base policy"} if zoo.has_base else set()
            done |= {"universal policy"} if zoo.has_universal else set()
            if zoo.has_base and not zoo.missing(self.plan.counts.tasks(zoo)):
                done |= {"experts"}
        if (self.folder / MAPPER / "mapper.json").is_file():
            done |= {"rollouts", "mapper", "self-check"}
        if (self.folder / RESULTS).is_file():
            done |= {"results"}
        return [stage for stage in STAGES if stage not in done]

    def _tell(self, stage: str, done: int, total: int) -> None:
        if self.clock.at(stage, done, total):
            self._keep_time()
        self.events.on_stage(stage, done, total)

    def _keep_time(self) -> None:
        self.record.seconds = dict(self.clock.spent)
        self.record.cpu_seconds = self._earlier + _cpu_seconds()
        self.record.save()

    def _tell_plateaus(self, zoo: Zoo, pending: list[str]) -> None:
        policies = {"base policy": zoo.base.record}
        if zoo.has_universal:
            policies["universal policy"] = zoo.universal.record
        for stage, record in policies.items():
            if stage in pending and record.get("stopped_on_plateau"):
                self.events.on_plateau(stage, int(record["steps"]), int(record["recipe"]["n_timesteps"]))

    def _measure(self, zoo: Zoo, mapper: Mapper) -> None:
        """Evaluate on unseen tasks, unless that was done before."""
        if (self.folder / RESULTS).is_file():
            return
        methods: list[str] = []

        def on_method(name: str) -> None:
            self._tell("results", len(methods), max(_METHODS, len(methods) + 1))
            methods.append(name)

        experts = [zoo.get(task) for task in zoo.tasks("test-in", self.plan.counts.test_in)]
        evaluation = evaluate_mappers([mapper], experts, config=RESULTS_CONFIG, on_method=on_method)
        score: Score = "gap closed" if evaluation.counted.any() else "return"
        save_figure(plot_lengths({self.plan.family: evaluation}, score=score), self.folder / FIGURE)
        document = evaluation.summary(generator_seed=self.plan.seed)
        least = None if mapper.check is None else mapper.check.least_steps
        write_json(self.folder / RESULTS, {"split": "test-in", "served_from": least, **document})

    def _finish(self, outcome: str) -> BuildRecord:
        self.clock.end()
        self.record.outcome = outcome
        self._keep_time()
        write_page(self.folder, self.record.document(), self.results())
        return self.record

    def results(self) -> dict[str, Any] | None:
        """The document of the evaluation; None if there is none."""
        path = self.folder / RESULTS
        return dict(read_json(path)) if path.is_file() else None


def _cpu_seconds() -> float:
    """CPU time of this process and of those that it started and that ended."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in found)
