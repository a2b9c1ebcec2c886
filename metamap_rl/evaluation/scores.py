"""Scores of policies on test tasks: gap closed between base policy and expert, normalised scores, and harm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metamap_agents.policy.evaluation import ROUNDING, clearly_better_each
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_rl.common.harm import harmed_pairs
from metamap_rl.common.statistics import aggregates_of_zoos, rate_of_zoos, ratio_of_zoos
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.evaluation.score_text import earlier_names, method_name

__all__ = [
    "CountedBy",
    "Evaluation",
    "MethodScores",
    "References",
    "earlier_names",
    "harm_rate",
    "method_name",
    "old_rule",
    "rounded",
    "shares",
    "summed_ratio",
]

CountedBy = Literal["paired test", "old rule"]
"""Rules for counting tasks: a paired test over episodes; or, for documents with means only, the rule of 5 %."""

_OLD_MARGIN = 0.05

_DIGITS = 7
"""Significant digits of stored returns: more than are reproducible on other machines."""


def old_rule(random: ArrayLike, base: ArrayLike, expert: ArrayLike) -> NDArray[np.bool_]:
    """Rule of old documents for counting tasks: (J_expert - J_base) / (J_expert - J_random) is at least 5 %.

    Only for documents and runs with means alone: if random actions are very bad, it excludes tasks in which the expert
    halves the cost. For arrays of any one shape.
    """
    best = np.asarray(expert, dtype=np.float64)
    reach, lead = best - np.asarray(random), best - np.asarray(base)
    return np.asarray((reach > 0) & (lead >= _OLD_MARGIN * reach))


@dataclass(frozen=True)
class References:
    """Reference returns of every episode, on the same reset seeds; methods are run on the first of these.

    Attributes:
        random: returns of uniform random actions, [T, R].
        base: returns of phi_0, [T, R].
        expert: returns of phi*, [T, R].
    """

    random: NDArray[np.float64]
    base: NDArray[np.float64]
    expert: NDArray[np.float64]


@dataclass(frozen=True)
class MethodScores:
    """Scores of one method at one length of D.

    Attributes:
        method: name of the method.
        steps: k, transitions of D; None for methods without D.
        returns: J, means over episodes, float64 [seeds, T].
        episodes: the return of every episode, float64 [seeds, T, E]; None if only means are known.
    """

    method: str
    steps: int | None
    returns: NDArray[np.float64]
    episodes: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, method: str, steps: int | None, episodes: ArrayLike) -> MethodScores:
        """Scores from the returns of every episode [seeds, T, E]."""
        each = np.asarray(episodes, dtype=np.float64)
        return cls(method, steps, each.mean(axis=2), each)

    @classmethod
    def merged(cls, method: str, found: Iterable[tuple[int | None, ArrayLike]]) -> list[MethodScores]:
        """Merge the returns of seeds, by length of D: of every episode [T, E] or, in older cells, means [T]."""
        by_steps: dict[int | None, list[NDArray[np.float64]]] = {}
        for steps, returns in found:
            by_steps.setdefault(steps, []).append(np.asarray(returns, dtype=np.float64))
        return [
            cls.of(method, steps, np.stack(rows))
            if all(row.ndim == 2 for row in rows)
            else cls(method, steps, np.stack([row.mean(axis=1) if row.ndim == 2 else row for row in rows]))
            for steps, rows in by_steps.items()
        ]

    def head(self, seeds: int) -> MethodScores:
        """Scores of the first seeds."""
        each = None if self.episodes is None else self.episodes[:seeds]
        return MethodScores(self.method, self.steps, self.returns[:seeds], each)


@dataclass(frozen=True)
class Evaluation:
    """Results of all methods on T test tasks.

    Attributes:
        tasks: the tasks.
        episodes: per task and method, on the first of the references' reset seeds.
        random: returns of uniform random actions, means over the episodes of references, [T].
        base: returns of phi_0, [T].
        expert: returns of phi*, [T].
        methods: scores of the methods.
        rollouts: the D of the mappers, the i-th repeat for mapper i; None if the longest length is 0.
        references: reference returns of every episode; None if only means are known, as in old documents.
        paired_base: returns of phi_0, means over the reset seeds of the methods' episodes, [T]; None if those are all.
    """

    tasks: tuple[Task, ...]
    episodes: int
    random: NDArray[np.float64]
    base: NDArray[np.float64]
    expert: NDArray[np.float64]
    methods: list[MethodScores] = field(default_factory=list)
    rollouts: Rollouts | None = None
    references: References | None = None
    paired_base: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, tasks: tuple[Task, ...], references: References, episodes: int | None = None) -> Evaluation:
        """An evaluation without methods, from the returns of every episode.

        Args:
            tasks: T tasks.
            references: R episodes of each task.
            episodes: of methods, at most R; default R.
        """
        random, base, expert = references.random, references.base, references.expert
        means = random.mean(axis=1), base.mean(axis=1), expert.mean(axis=1)
        count = episodes or base.shape[1]
        paired = None if count == base.shape[1] else base[:, :count].mean(axis=1)
        return cls(tasks, count, *means, references=references, paired_base=paired)

    @property
    def reference_episodes(self) -> int:
        """Episodes per task of random actions, phi_0 and experts."""
        return self.episodes if self.references is None else self.references.base.shape[1]

    @property
    def counted_by(self) -> CountedBy:
        """Rule of `counted`."""
        return "old rule" if self.references is None else "paired test"

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Mask of tasks with a gap to close, bool [T]: the expert is better than the base policy.

        In a paired test over the episodes, `metamap_agents.policy.evaluation.clearly_better_each`. If only means are
        known, by the rule of old documents: by at least 5 % of the expert's distance to random actions.
        """
        if self.references is not None:
            return clearly_better_each(self.references.expert, self.references.base)
        return old_rule(self.random, self.base, self.expert)

    @property
    def ranked(self) -> NDArray[np.bool_]:
        """Mask of tasks whose expert beats random actions, bool [T]; otherwise the normalised score is undefined."""
        return self.expert > self.random

    def at(self, method: str, steps: int) -> MethodScores | None:
        """Scores of a method with k transitions of D, or of a method without D; None if not measured."""
        found = (scores for scores in self.methods if scores.method == method and scores.steps in (steps, None))
        return next(found, None)

    def gains(self, returns: NDArray[np.float64]) -> NDArray[np.float64]:
        """J - J_base, [seeds, T]: paired, J_base is the mean over the reset seeds of the methods' episodes."""
        return returns - (self.base if self.paired_base is None else self.paired_base)

    def gap_closed(self, returns: NDArray[np.float64]) -> NDArray[np.float64]:
        """(J - J_base) / (J_expert - J_base), [seeds, counted tasks]; the gap is over all episodes of references."""
        counted = self.counted
        gap: NDArray[np.float64] = self.gains(returns)[:, counted] / (self.expert - self.base)[counted]
        return gap

    def normalised(self, returns: NDArray[np.float64]) -> NDArray[np.float64]:
        """(J - J_random) / (J_expert - J_random), [seeds, ranked tasks]."""
        score: NDArray[np.float64] = (returns - self.random)[:, self.ranked] / (self.expert - self.random)[self.ranked]
        return score

    def ratio_of_sums(self, returns: NDArray[np.float64], seed: int = 0) -> dict[str, float | None] | None:
        """Sum of J - J_base over sum of J_expert - J_base, over all tasks; see `statistics.ratio_of_sums`."""
        return summed_ratio([self.gains(returns)], [self.expert - self.base], seed)

    def harmed(self, scores: MethodScores) -> NDArray[np.bool_] | None:
        """Pairs of seed and task in which a method is worse than phi_0 in the paired test, bool [seeds, T].

        See `metamap_rl.common.harm.harmed_pairs`. None if episodes are not known, or there is one only.
        """
        each = scores.episodes
        if self.references is None or each is None or each.shape[-1] < 2:
            return None
        return harmed_pairs(np.broadcast_to(self.references.base[:, : each.shape[-1]], each.shape), each)

    def harm(self, scores: MethodScores, seed: int = 0) -> dict[str, Any]:
        """Fraction of pairs of seed and task, over all tasks, in which a method is worse than the base policy.

        By the paired test, with an interval, if episodes are known; else by means alone, which counts about half of
        the differences by chance.
        """
        harmed = self.harmed(scores)
        if harmed is not None:
            return harm_rate([harmed], seed)
        margin = ROUNDING * np.maximum(np.abs(self.base), np.abs(scores.returns))
        return {"share": float((-self.gains(scores.returns) > margin).mean()), "by": "means"}

    def summary(self, generator_seed: int = 0) -> dict[str, Any]:
        """JSON representation: raw returns of every episode, and aggregates of both scores."""
        return {
            "tasks": [task.to_json() for task in self.tasks],
            "episodes": self.episodes,
            "reference_episodes": self.reference_episodes,
            "seeds": max((len(scores.returns) for scores in self.methods), default=0),
            "counted_by": self.counted_by,
            "counted": self.counted.tolist(),
            "counted_tasks": int(self.counted.sum()),
            "ranked_tasks": int(self.ranked.sum()),
            "random_returns": self.random.tolist(),
            "base_returns": self.base.tolist(),
            "expert_returns": self.expert.tolist(),
            **({} if self.paired_base is None else {"paired_base_returns": self.paired_base.tolist()}),
            **(_stored(vars(self.references)) if self.references is not None else {}),
            "methods": [self._entry(scores, generator_seed) for scores in self.methods],
        }

    def _entry(self, scores: MethodScores, seed: int) -> dict[str, Any]:
        return {
            "method": scores.method,
            "steps": scores.steps,
            "gap_closed": shares([self.gap_closed(scores.returns)], seed),
            "ratio_of_sums": self.ratio_of_sums(scores.returns, seed),
            "harm": self.harm(scores, seed),
            "normalised": shares([self.normalised(scores.returns)], seed),
            "mean_return": float(scores.returns.mean()),
            "returns": scores.returns.tolist(),
            **({} if scores.episodes is None else {"episode_returns": rounded(scores.episodes)}),
        }

    @classmethod
    def from_summary(cls, summary: Mapping[str, Any]) -> Evaluation:
        """Inverse of `summary`, also for documents with means only."""
        each = {name: summary.get(f"{name}_episode_returns") for name in ("random", "base", "expert")}
        known = all(values is not None for values in each.values())
        return cls(
            tasks=tuple(Task.from_json(task) for task in summary["tasks"]),
            episodes=summary["episodes"],
            random=np.array(summary["random_returns"]),
            base=np.array(summary["base_returns"]),
            expert=np.array(summary["expert_returns"]),
            references=References(**{name: np.array(values) for name, values in each.items()}) if known else None,
            paired_base=np.array(summary["paired_base_returns"]) if "paired_base_returns" in summary else None,
            methods=[
                MethodScores(
                    method_name(entry["method"]),
                    entry["steps"],
                    np.array(entry["returns"]),
                    np.array(entry["episode_returns"]) if "episode_returns" in entry else None,
                )
                for entry in summary["methods"]
            ],
        )


def shares(zoos: Sequence[NDArray[np.float64]], seed: int = 0) -> dict[str, Any] | None:
    """IQM, mean and worst decile of the scores [S, T] of one or more zoos, with 95 % intervals; None without scores.

    ``low`` and ``high`` are of the IQM; the others are in ``mean_interval`` and ``worst_decile_interval``.
    """
    seed = read_seed(seed)
    scored = [values for values in zoos if values.size]
    if not scored:
        return None
    found = aggregates_of_zoos(scored, np.random.default_rng(seed))
    iqm, mean, worst = (found[name] for name in ("iqm", "mean", "worst_decile"))
    return {
        "iqm": iqm.estimate,
        "low": iqm.low,
        "high": iqm.high,
        "mean": mean.estimate,
        "mean_interval": [mean.low, mean.high],
        "worst_decile": worst.estimate,
        "worst_decile_interval": [worst.low, worst.high],
    }


def summed_ratio(
    gains: Sequence[NDArray[np.float64]], gaps: Sequence[NDArray[np.float64]], seed: int = 0
) -> dict[str, float | None] | None:
    """Ratio of sums of one or more zoos with its 95 % interval; see `statistics.ratio_of_zoos`."""
    found = ratio_of_zoos(gains, gaps, np.random.default_rng(read_seed(seed)))
    return None if found is None else {"ratio": found.estimate, "low": found.low, "high": found.high}


def harm_rate(zoos: Sequence[NDArray[np.bool_]], seed: int = 0) -> dict[str, Any]:
    """Share of harmed pairs [S, T] of one or more zoos with its 95 % interval; see `statistics.rate_of_zoos`."""
    found = rate_of_zoos(zoos, np.random.default_rng(read_seed(seed)))
    return {"share": found.estimate, "low": found.low, "high": found.high, "by": "paired test"}


def rounded(returns: NDArray[np.float64]) -> list[Any]:
    """Rounded returns of episodes, as nested lists."""
    flat = [float(f"{value:.{_DIGITS}g}") for value in returns.ravel()]
    nested: list[Any] = np.array(flat).reshape(returns.shape).tolist()
    return nested


def _stored(references: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    return {f"{name}_episode_returns": rounded(values) for name, values in references.items()}
