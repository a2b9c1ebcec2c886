"""What classifies sentences from a few of each class: the mapper, gradient steps from a learned start, and classics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metamap_agents.policy.functional import forward
from metamap_envs.errors import MetaMapError
from metamap_rl.evaluation.baselines import TASK_LOSSES, FewShotBatch, MAMLConfig, ReptileConfig, descend
from metamap_rl.functions.digits import nearest_centroid, ridge_classifier
from metamap_rl.functions.one_versus_rest import OneVersusRest, class_scores
from metamap_rl.functions.text import Text
from metamap_rl.functions.texts import classes
from metamap_rl.mapper.mapper import Mapper

__all__ = ["CLASSICS", "QUERIES", "SHOTS", "WAYS", "Classic", "drawn", "draws_for", "score_mapper", "score_start"]

WAYS, SHOTS, QUERIES = (2, 3, 4, 5), (1, 5, 10), 10
"""Numbers of classes, sentences of D and for evaluation of each class."""
_SEEDS = {"validation": 2_000_000, "test": 1_000_000}  # no training starts from them

Classic = Callable[[FewShotBatch, Tensor, float], Tensor]
"""Episodes of columns that are used, their sentences as places [B, K + S], and a setting, to scores [B, S, A]."""


@cache
def drawn(ways: int, split: str, tasks: int) -> tuple[FewShotBatch, Tensor]:
    """Draw validation or test tasks with ten sentences of each class, always the same; fewer are the first of them.

    Returns:
        The tasks, and their sentences as places in the split.
    """
    family, generator = Text(classes=(ways,)), torch.Generator().manual_seed(_SEEDS[split] + ways)
    points, queries = SHOTS[-1] * ways, QUERIES * ways
    places, _ = family.draw_places(generator, tasks=tasks, points=points, queries=queries, split=split)
    return family.batch(places, ways, points, split), places


def used(episodes: FewShotBatch) -> FewShotBatch:
    """Keep the columns of the targets that have a class."""
    ways = int((episodes.targets[0].sum(dim=0) > 0).sum())
    targets = {"support_targets": episodes.support_targets[..., :ways], "targets": episodes.targets[..., :ways]}
    return replace(episodes, **targets)


def score_mapper(mapper: Mapper, hidden: tuple[int, ...], episodes: FewShotBatch) -> list[float]:
    """Accuracy on each task of the classifiers that a mapper generates."""
    family, own = OneVersusRest(Text(), hidden), used(episodes)
    parts = family.parts(own)
    with torch.no_grad():
        outputs = class_scores(family.spec, mapper(family.features(parts)), parts, own.targets.shape[-1])
    return Text().score(outputs, own.targets).tolist()


def score_start(start: Tensor, rate: float, steps: int, episodes: FewShotBatch) -> list[float]:
    """Accuracy on each task after gradient steps on D from weights that MAML or Reptile learned."""
    spec = Text().spec
    phi = descend(
        spec,
        start.expand(len(episodes), -1),
        episodes.support_inputs,
        episodes.support_targets,
        loss=TASK_LOSSES["cross-entropy"],
        rate=rate,
        steps=steps,
    )
    with torch.no_grad():
        return Text().score(forward(spec, phi, episodes.inputs), episodes.targets).tolist()


def draws_for(shots: int, queries: int) -> Callable[[torch.Generator, int], FewShotBatch]:
    """Training tasks for MAML and Reptile: so many sentences of each class, 2 to 5 classes."""

    def draw(generator: torch.Generator, tasks: int) -> FewShotBatch:
        ways = WAYS[int(torch.randint(len(WAYS), (1,), generator=generator))]
        return Text(classes=(ways,)).draw(
            generator, tasks=tasks, points=shots * ways, queries=queries * ways, split="train"
        )

    return draw


def _nearest_mean(episodes: FewShotBatch, places: Tensor, setting: float) -> Tensor:
    return nearest_centroid(episodes)


def _ridge(episodes: FewShotBatch, places: Tensor, setting: float) -> Tensor:
    return ridge_classifier(episodes, penalty=setting)


def _logistic(episodes: FewShotBatch, places: Tensor, setting: float) -> Tensor:
    return _fitted([*episodes.support_inputs.numpy()], [*episodes.inputs.numpy()], episodes.support_targets, setting)


def tfidf(split: str) -> Classic:
    """Logistic regression on words of the sentences of a split, weighted by the sentences of D alone."""
    listed = [sentence for sentences in classes(split).values() for sentence in sentences]

    def answer(episodes: FewShotBatch, places: Tensor, setting: float) -> Tensor:
        from sklearn.feature_extraction.text import TfidfVectorizer

        seen, judged = [], []
        for row in places.tolist():
            sentences, vectorizer = [listed[place] for place in row], TfidfVectorizer()
            points = episodes.support_inputs.shape[1]
            seen.append(vectorizer.fit_transform(sentences[:points]))
            judged.append(vectorizer.transform(sentences[-episodes.inputs.shape[1] :]))
        return _fitted(seen, judged, episodes.support_targets, setting)

    return answer


def _fitted(seen: Sequence[Any], judged: Sequence[Any], targets: Tensor, inverse_penalty: float) -> Tensor:
    """Scores of logistic regression, one for each task."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MetaMapError("text: needs scikit-learn: pip install 'metamap-rl[text]'") from error
    found = [
        LogisticRegression(C=inverse_penalty, max_iter=200).fit(x, y).predict_proba(queries)
        for x, y, queries in zip(seen, targets.argmax(dim=-1).numpy(), judged, strict=True)
    ]
    return torch.from_numpy(np.stack(found).astype(np.float32))


CLASSICS: dict[str, tuple[Callable[[str], Classic], tuple[float, ...]]] = {
    "nearest mean": (lambda split: _nearest_mean, (0.0,)),
    "ridge regression": (lambda split: _ridge, (4.0, 16.0, 64.0, 256.0)),
    "logistic regression": (lambda split: _logistic, (1e-3, 1e-2, 1e-1)),
    "TF-IDF, logistic regression": (tfidf, (1.0, 10.0)),
}
"""Methods by name, with the settings to choose from on validation tasks."""

MAML = MAMLConfig(iterations=800, tasks=8, inner_rate=0.1, inner_steps=3, loss="cross-entropy")
REPTILE = ReptileConfig(iterations=1500, tasks=5, inner_rate=0.05, minibatch=10, outer_rate=0.5, loss="cross-entropy")
