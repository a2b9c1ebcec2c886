"""Few-shot classification of sentences into classes not used in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_rl.evaluation.baselines.episodes import FewShotBatch
from metamap_rl.functions.base import FUNCTIONS
from metamap_rl.functions.texts import SIZE, vectors

__all__ = ["Text", "accuracy", "crossed"]


def crossed(episodes: FewShotBatch) -> Tensor:
    """Return rows (x, y, x (y - mean y)), [B, K, I + A + I A]: the mean of the last part is about class means."""
    y = episodes.support_targets - episodes.support_targets.mean(dim=1, keepdim=True)
    products = (episodes.support_inputs.unsqueeze(-1) * y.unsqueeze(-2)).flatten(2)
    return torch.cat([episodes.rows, products], dim=-1)


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the share of rows whose largest output is that of their class [B]; columns without a class are ignored."""
    used = targets.amax(dim=1, keepdim=True) > 0
    return (outputs.masked_fill(~used, -torch.inf).argmax(dim=-1) == targets.argmax(dim=-1)).float().mean(dim=-1)


@FUNCTIONS.register("text")
@dataclass(frozen=True)
class Text:
    """Classify sentences: x are static vectors [64], y is one-hot, outputs are scores of up to five classes.

    Training classes are news articles, each with its own sentences; validation and test classes are topics of
    dialogues. Sentences of D are not used for evaluation.
    """

    name: str = "text"
    spec: PolicySpec = field(default_factory=lambda: PolicySpec(SIZE, 5, hidden=(32,), activation="relu"))
    score_name: str = "accuracy"
    classes: tuple[int, ...] = (2, 3, 4, 5)
    """Possible numbers of classes: one is drawn for all tasks of a draw, among those that divide its points and
    have enough sentences."""
    merged: tuple[int, ...] = (1, 2, 4, 8)
    """Possible numbers of articles that make one training class: topics are wider than articles."""

    @property
    def ways(self) -> int:
        """Largest number of classes of a task."""
        return self.spec.action_size

    def draw(self, generator: torch.Generator, *, tasks: int, points: int, queries: int, split: str) -> FewShotBatch:
        """See `metamap_rl.functions.base.FunctionFamily`: rows alternate between the classes.

        Raises:
            MetaMapError: an unknown split, or a number of points that no number of classes divides, or with too few
                sentences in a class.
        """
        found, ways = self.draw_places(generator, tasks=tasks, points=points, queries=queries, split=split)
        return self.batch(found, ways, points, split)

    def batch(self, places: Tensor, ways: int, points: int, split: str) -> FewShotBatch:
        """Return tasks of sentences [B, K + S], as places in the split, whose first ``points`` are D."""
        x, rows = vectors(split)[0][places], torch.arange(places.shape[1])
        y = torch.eye(ways, self.ways)[rows % ways].expand(len(places), -1, -1)
        return FewShotBatch(x[:, :points], y[:, :points], x[:, points:], y[:, points:])

    def draw_places(
        self, generator: torch.Generator, *, tasks: int, points: int, queries: int, split: str
    ) -> tuple[Tensor, int]:
        """Return the sentences of a draw [B, K + S], as places in the split, and the number of classes."""
        _, places, counts = vectors(split)
        most = int(counts.min())
        possible = [one for one in self.classes if points % one == 0 and points + queries <= most * one]
        if not possible:
            raise MetaMapError(
                f"text: points: expected a multiple of {_joined(self.classes)} classes, and with the {queries} queries "
                f"at most {most} of each class, got {points}"
            )
        ways = _one_of(possible, generator)
        merged = _one_of(self.merged, generator) if split == "train" else 1
        each = -(-(points + queries) // ways)
        chosen = torch.rand(tasks, len(counts), generator=generator).topk(ways * merged, dim=1).indices
        # Without replacement: the least of random keys, where places beyond a class's sentences have no key.
        keys = torch.rand(tasks, ways * merged, places.shape[1], generator=generator)
        keys = keys.masked_fill(torch.arange(places.shape[1]) >= counts[chosen].unsqueeze(-1), 2.0)
        taken = keys.topk(-(-each // merged), dim=-1, largest=False).indices
        picked = places[chosen].gather(-1, taken).view(tasks, ways, -1)
        order = torch.rand(picked.shape, generator=generator).argsort(dim=-1)[..., :each]
        return picked.gather(-1, order).transpose(1, 2).reshape(tasks, -1)[:, : points + queries], ways

    def features(self, episodes: FewShotBatch) -> Tensor:
        """Return `crossed` rows."""
        return crossed(episodes)

    def solve(self, episodes: FewShotBatch) -> None:
        """There is no closed form for the weights."""

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the `accuracy`."""
        return accuracy(outputs, targets)


def _one_of(counts: Sequence[int], generator: torch.Generator) -> int:
    return counts[int(torch.randint(len(counts), (1,), generator=generator))]


def _joined(counts: tuple[int, ...]) -> str:
    return " or ".join(map(str, counts))
