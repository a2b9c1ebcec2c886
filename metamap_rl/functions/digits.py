"""Few-shot classification of handwritten digits not used in training (scikit-learn's, 8x8 pixels)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_rl.evaluation.baselines.episodes import FewShotBatch
from metamap_rl.functions.base import FUNCTIONS

__all__ = ["CLASSES", "Digits", "nearest_centroid", "ridge_classifier"]

CLASSES = {"train": (0, 1, 2, 3, 4), "validation": (5, 6), "test": (7, 8, 9)}
"""Digits of each split."""

PIXELS = 64
BRIGHTEST = 16.0
TURNS = 8
"""Rotations by quarters, with and without a reflection; in training each gives a further class."""
WHOLE, SHUFFLED = 0.25, 0.5
"""Shares of the training tasks whose images are of one class, and whose pixels are shuffled."""


@FUNCTIONS.register("digits")
@dataclass(frozen=True)
class Digits:
    """Classify ``ways`` digits from a few images of each: x are pixels in [0, 1], y is one-hot, outputs are logits.

    Five digits are too few classes to learn from. Training tasks synthesise more: each digit is rotated and reflected
    in one way for the task (as for Omniglot: Santoro et al. 2016), three tasks in four combine an image from parts of
    two classes, in half of the tasks the pixels are shuffled, and half show negatives. Validation and test tasks use
    other digits, unchanged. Images of D are not used for evaluation.
    """

    name: str = "digits"
    spec: PolicySpec = field(default_factory=lambda: PolicySpec(PIXELS, 2, hidden=(32,), activation="relu"))
    score_name: str = "accuracy"
    invent: bool = True
    """Whether training tasks synthesise classes beyond rotated and reflected digits."""

    @property
    def ways(self) -> int:
        """N, number of classes of a task."""
        return self.spec.action_size

    def draw(self, generator: torch.Generator, *, tasks: int, points: int, queries: int, split: str) -> FewShotBatch:
        """See `metamap_rl.functions.base.FunctionFamily`: rows alternate between the classes.

        Raises:
            MetaMapError: an unknown split, or numbers of points that are not multiples of the number of classes.
        """
        if split not in CLASSES:
            raise unknown_name("split", split, CLASSES)
        for what, count in (("points", points), ("queries", queries)):
            if count % self.ways:
                raise MetaMapError(f"digits: {what}: expected a multiple of {self.ways} classes, got {count}")
        x, y = self._images_of(generator, tasks, (points + queries) // self.ways, split)
        if split == "train" and self.invent:
            x = _invented(generator, x, self._images_of(generator, tasks, (points + queries) // self.ways, split)[0])
        return FewShotBatch(x[:, :points], y[:, :points], x[:, points:], y[:, points:])

    def _images_of(self, generator: torch.Generator, tasks: int, each: int, split: str) -> tuple[Tensor, Tensor]:
        """Draw classes and images of them, rotated in training: x [B, each * N, 64] and one-hot y."""
        images, members, counts = _images()
        allowed = torch.tensor(CLASSES[split])
        order = torch.rand(tasks, len(allowed), generator=generator).argsort(dim=1)
        digits = allowed[order[:, : self.ways]]
        # Without replacement: the least of random keys, where places beyond a digit's images have no key.
        keys = torch.rand(tasks, self.ways, members.shape[1], generator=generator)
        keys = keys.masked_fill(torch.arange(members.shape[1]) >= counts[digits].unsqueeze(-1), 2.0)
        places = keys.topk(each, dim=-1, largest=False).indices
        chosen = members[digits.unsqueeze(-1), places]
        turn = torch.zeros(tasks, self.ways, 1, dtype=torch.long)
        if split == "train":
            turn = torch.randint(TURNS, turn.shape, generator=generator)
        x = images[turn, chosen].transpose(1, 2).reshape(tasks, each * self.ways, PIXELS)
        return x, torch.eye(self.ways).repeat(each, 1).expand(tasks, -1, -1)

    def features(self, episodes: FewShotBatch) -> Tensor:
        """Return rows (x, y, x (y - 1/N)), [B, K, 64 + N + 64 N]: the mean of the last part is about class means."""
        y = episodes.support_targets - 1 / self.ways
        products = (episodes.support_inputs.unsqueeze(-1) * y.unsqueeze(-2)).flatten(2)
        return torch.cat([episodes.rows, products], dim=-1)

    def solve(self, episodes: FewShotBatch) -> None:
        """There is no closed form for the weights."""

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the accuracy [B]."""
        return (outputs.argmax(dim=-1) == targets.argmax(dim=-1)).float().mean(dim=-1)


def _invented(generator: torch.Generator, x: Tensor, other: Tensor) -> Tensor:
    """Make images [B, S, 64] of new classes from those of two, in the same way for all images of a task."""
    tasks = len(x)
    coarse = torch.randn(tasks, 1, 3, 3, generator=generator)
    smooth = interpolate(coarse, size=(8, 8), mode="bicubic", align_corners=True).view(tasks, 1, PIXELS)
    own = (smooth > 0) | (torch.rand(tasks, 1, 1, generator=generator) < WHOLE)
    x = torch.where(own, x, other)
    shuffled = torch.rand(tasks, PIXELS, generator=generator).argsort(dim=1)
    order = torch.where(torch.rand(tasks, 1, generator=generator) < SHUFFLED, shuffled, torch.arange(PIXELS))
    x = x.gather(2, order.unsqueeze(1).expand_as(x))
    negative = torch.randint(2, (tasks, 1, 1), generator=generator)
    return torch.where(negative == 1, 1 - x, x)


def nearest_centroid(episodes: FewShotBatch) -> Tensor:
    """Return minus the squared distance to the mean image of each class [B, S, A]."""
    shares = episodes.support_targets / episodes.support_targets.sum(dim=1, keepdim=True)
    centroids = shares.mT @ episodes.support_inputs
    return -torch.cdist(episodes.inputs, centroids).square()


def ridge_classifier(episodes: FewShotBatch, penalty: float = 1.0) -> Tensor:
    """Return the outputs [B, S, A] of ridge regression on one-hot targets, in its dual form."""
    center, level = (
        episodes.support_inputs.mean(dim=1, keepdim=True),
        episodes.support_targets.mean(dim=1, keepdim=True),
    )
    x = episodes.support_inputs - center
    gram = x @ x.mT + penalty * torch.eye(x.shape[1])
    solved = torch.linalg.solve(gram, episodes.support_targets - level)
    outputs: Tensor = (episodes.inputs - center) @ (x.mT @ solved) + level
    return outputs


@cache
def _images() -> tuple[Tensor, Tensor, Tensor]:
    """Images in all orientations [8, 1797, 64]; images of each digit [10, most of a digit], and their counts [10]."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MetaMapError("digits: needs scikit-learn: pip install 'metamap-rl[functions]'") from error
    loaded = load_digits()
    square = (loaded.images / BRIGHTEST).astype(np.float32)
    turns = [
        np.rot90(side, quarter, axes=(1, 2)).reshape(-1, PIXELS)
        for side in (square, square[:, :, ::-1])
        for quarter in range(4)
    ]
    counts = np.bincount(loaded.target, minlength=10)
    members = np.zeros((10, counts.max()), dtype=np.int64)
    for digit in range(10):
        members[digit, : counts[digit]] = np.flatnonzero(loaded.target == digit)
    return torch.from_numpy(np.stack(turns)), torch.from_numpy(members), torch.from_numpy(counts)
