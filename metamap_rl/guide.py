"""A guide: an ensemble of models that predict transitions from D, and say which actions would tell most of a task.

It is learned from a survey alone, so it needs no experts. Each member reads D as a mapper does, z = encoder(D), and
predicts reward and change of the observation with a mean and a variance: once from z, once from the task's true
coordinates. Where the first variance is much larger than the second, the outcome is not yet known and the task would
tell it: that action is worth trying.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from metamap_agents.base_policy import BasePolicy
from metamap_agents.functional import forward
from metamap_agents.storage import (
    check_arrays,
    claim_output,
    library_versions,
    load_arrays,
    read_json,
    save_arrays,
    write_json,
)
from metamap_envs.errors import MetaMapError
from metamap_envs.seeds import read_seed
from metamap_envs.settings import STRICT, Number, Settings, Whole, parse
from metamap_rl.dataset import draw_rows, draw_windows, usable_lengths
from metamap_rl.encoders.pooling import PoolingEncoder
from metamap_rl.registry import Registry
from metamap_rl.schedule import warmup_cosine
from metamap_rl.survey import Survey

__all__ = ["SCORES", "Guide", "GuideConfig", "Prediction", "train_guide"]

FORMAT_VERSION = 1
_ARRAYS, _MANIFEST = "guide.safetensors", "guide.json"
_FARTHEST = 5.0  # standard deviations that an imagined change may have
_WARMUP = 100


@dataclass(frozen=True)
class GuideConfig:
    """How a guide is made.

    Raises:
        MetaMapError: a number out of range.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    members: Whole = 3
    """Models."""
    updates: Whole = 2000
    """Updates of each."""
    batch_tasks: Whole = 32
    """Tasks of the survey in a batch."""
    rows: Whole = 32
    """Transitions to predict for each of them."""
    learning_rate: Number = 1e-3
    """Highest learning rate of Adam."""
    context_size: Whole = 32
    """Size of z."""
    hidden: Whole = 128
    """Width of hidden layers."""
    lengths: tuple[Whole, ...] = (5, 10, 20, 50, 100, 200)
    """Lengths of D, one drawn per update; limited as those of `metamap_rl.train.TrainConfig`."""
    seed: Whole = 0
    """Seed of the first member; the others count on."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", read_seed(self.seed, "guide config: seed"))
        least = {
            "updates": 0,
            **dict.fromkeys(("members", "batch_tasks", "rows", "context_size", "hidden"), 1),
        }
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise MetaMapError(f"guide config: {name}: expected >= {bound}, got {getattr(self, name)}")
        if not self.learning_rate > 0 or not self.lengths or min(self.lengths) < 1:
            raise MetaMapError("guide config: expected a learning_rate > 0 and lengths >= 1")


class _Manifest(Settings):
    """What ``guide.json`` holds."""

    format_version: int
    family: str
    names: Annotated[tuple[str, ...], Field(min_length=1)]
    sizes: tuple[Annotated[Whole, Field(ge=1)], Annotated[Whole, Field(ge=1)]]
    feature_size: Whole
    config: GuideConfig
    versions: dict[str, str]


@dataclass(frozen=True)
class Prediction:
    """What E members expect of B transitions, standardised; each field [E, B, 1 + O] for reward and changes."""

    mean: Tensor
    """Expected value, given D."""
    log_variance: Tensor
    """Logarithm of the variance, given D."""
    log_variance_told: Tensor
    """The same, given the coordinates that D is taken for: what would remain if the task were known."""


Score = Callable[[Prediction], Tensor]
"""How much B transitions would tell [B]."""

SCORES: Registry[Score] = Registry("score of a guide")


@SCORES.register("disagreement")
def disagreement(prediction: Prediction) -> Tensor:
    """Variance of the expected values over the members."""
    return prediction.mean.var(dim=0, correction=0).mean(dim=-1)


@SCORES.register("information")
def information(prediction: Prediction) -> Tensor:
    """Nats that the outcome tells of the task: how much less variance it had if the task were known."""
    return 0.5 * (prediction.log_variance - prediction.log_variance_told).mean(dim=0).sum(dim=-1)


class _Gaussian(nn.Module):
    """Mean and logarithm of the variance, the latter in (-6, 4), of T numbers."""

    def __init__(self, inputs: int, told: int, hidden: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * told)
        )

    def forward(self, context: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """From contexts [B, *] and observations and actions [B, Q, O + A + 1]."""
        expanded = context.unsqueeze(-2).expand(*given.shape[:-1], -1)
        mean, raw = self.network(torch.cat([expanded, given], dim=-1)).chunk(2, dim=-1)
        return mean, 5 * torch.tanh(raw / 5) - 1


class _Member(nn.Module):
    """One model: an encoder, what z says of the coordinates, and the predictions from z and from coordinates."""

    def __init__(self, feature_size: int, given: int, coordinates: int, config: GuideConfig) -> None:
        super().__init__()
        told = feature_size - given
        self.given = given
        self.encoder = PoolingEncoder(feature_size, config.context_size, config.hidden)
        self.reader = nn.Linear(config.context_size, coordinates)
        self.from_d = _Gaussian(config.context_size + given, told, config.hidden)
        self.from_task = _Gaussian(coordinates + given, told, config.hidden)

    def loss(self, windows: Tensor, rows: Tensor, coordinates: Tensor) -> Tensor:
        """Negative log-likelihood of both predictions and squared error of the reader; all standardised."""
        z = self.encoder(windows)
        given, told = rows[..., : self.given], rows[..., self.given :]
        total = mse_loss(self.reader(z), coordinates)
        for mean, log_variance in (self.from_d(z, given), self.from_task(coordinates, given)):
            total = total + 0.5 * (log_variance + (told - mean).square() * (-log_variance).exp()).mean()
        return total

    def predict(self, z: Tensor, given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`Prediction`."""
        mean, log_variance = self.from_d(z, given)
        return mean, log_variance, self.from_task(self.reader(z), given)[1]


class Guide(nn.Module):
    """E models of the transitions of one family.

    Args:
        config: their number and shape.
        family: name of the family.
        names: of the K coordinates.
        sizes: of observation and action.
        feature_size: F, 2 O + A + 2.
    """

    feature_mean: Tensor
    feature_std: Tensor
    coordinate_mean: Tensor
    coordinate_std: Tensor

    def __init__(
        self, config: GuideConfig, *, family: str, names: Sequence[str], sizes: tuple[int, int], feature_size: int
    ) -> None:
        super().__init__()
        self.config, self.family, self.names, self.sizes = config, family, tuple(names), sizes
        given = sum(sizes) + 1
        if feature_size != given + 1 + sizes[0]:
            raise MetaMapError(
                f"a guide reads {given + 1 + sizes[0]} numbers per transition, these have {feature_size}"
            )
        for name, size in (("feature", feature_size), ("coordinate", len(names))):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        members = []
        for index in range(config.members):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed + index)
                members.append(_Member(feature_size, given, len(names), config))
        self.members: Sequence[_Member] = nn.ModuleList(members)  # type: ignore[assignment]  # it is one, of modules

    @torch.no_grad()
    def score(
        self, seen: Tensor, observations: Tensor, gains: Tensor, offsets: Tensor, base: BasePolicy, score: Score
    ) -> Tensor:
        """How much each of K plans would tell in each of N environments, by following it in the mind.

        Args:
            seen: D so far, feature rows [N, n, F], n at least 1.
            observations: of now, raw [N, O].
            gains: [N, K, H] of plans for H steps, see `metamap_rl.probes.Plan`.
            offsets: [N, K, H, A].
            base: the base policy.
            score: of single transitions; a plan's score is the sum.

        Returns:
            [N, K].
        """
        dtype = self.feature_mean.dtype
        contexts = [member.encoder((seen.to(dtype) - self.feature_mean) / self.feature_std) for member in self.members]
        mean, std = (torch.tensor(part, dtype=dtype) for part in (base.normalizer.mean, base.normalizer.std))
        phi = torch.tensor(base.phi, dtype=dtype)
        states = observations.to(dtype).unsqueeze(1).expand(-1, gains.shape[1], -1)
        total = torch.zeros(gains.shape[:2], dtype=dtype)
        for step in range(gains.shape[2]):
            acted = forward(base.spec, phi, (states - mean) / std)
            actions = (gains[..., step, None] * acted + offsets[..., step, :]).clamp(-1, 1)
            energy = actions.square().sum(dim=-1, keepdim=True)
            given = torch.cat([states, actions, energy], dim=-1)
            cut = given.shape[-1]
            given = (given - self.feature_mean[:cut]) / self.feature_std[:cut]
            found = [member.predict(z, given) for member, z in zip(self.members, contexts, strict=True)]
            prediction = Prediction(*(torch.stack(part) for part in zip(*found, strict=True)))
            total += score(prediction)
            change = prediction.mean.mean(dim=0)[..., 1:].clamp(-_FARTHEST, _FARTHEST)
            states = states + self.feature_mean[cut + 1 :] + self.feature_std[cut + 1 :] * change
        return total

    @torch.no_grad()
    def read(self, features: Tensor) -> Tensor:
        """What every member takes D for: coordinates [E, B, K] in their own units, from feature rows [B, n, F]."""
        rows = (features - self.feature_mean) / self.feature_std
        read = torch.stack([member.reader(member.encoder(rows)) for member in self.members])
        return self.coordinate_mean + self.coordinate_std * read

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Its parameters by name."""
        return {name: tensor.numpy() for name, tensor in self.state_dict().items()}

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Write ``guide.safetensors`` and ``guide.json`` into a folder.

        Raises:
            MetaMapError: the folder holds something already and ``overwrite`` is not set.
        """
        directory = claim_output(directory, overwrite)
        save_arrays(directory / _ARRAYS, self.arrays())
        document = {
            "format_version": FORMAT_VERSION,
            "family": self.family,
            "names": self.names,
            "sizes": self.sizes,
            "feature_size": len(self.feature_mean),
            "config": asdict(self.config),
            "versions": library_versions(),
        }
        write_json(directory / _MANIFEST, document)

    @classmethod
    def load(cls, directory: str | Path) -> Guide:
        """Read what :meth:`save` wrote. No code from the folder is run.

        Raises:
            MetaMapError: not a guide's folder, another format version, or arrays that do not fit.
        """
        path = Path(directory) / _MANIFEST
        if not path.is_file():
            raise MetaMapError(f"{directory}: not a saved guide, there is no {_MANIFEST} in it")
        document = read_json(path)
        if not isinstance(document, Mapping) or document.get("format_version") != FORMAT_VERSION:
            raise MetaMapError(f"{path}: expected a guide of format version {FORMAT_VERSION}")
        found = parse(_Manifest, document, str(path))
        try:
            guide = cls(
                found.config,
                family=found.family,
                names=found.names,
                sizes=found.sizes,
                feature_size=found.feature_size,
            )
        except MetaMapError as error:
            raise MetaMapError(f"{path}: {error}") from None
        arrays, _ = load_arrays(Path(directory) / _ARRAYS)
        expected = {name: tuple(tensor.shape) for name, tensor in guide.state_dict().items()}
        check_arrays(arrays, expected, str(Path(directory) / _ARRAYS))
        guide.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        return guide


def train_guide(
    survey: Survey,
    *,
    family: str,
    sizes: tuple[int, int],
    config: GuideConfig | None = None,
    on_update: Callable[[int, int, dict[str, float]], None] = lambda done, total, metrics: None,
) -> Guide:
    """Train a guide on a survey. The same arguments give the same guide to the bit, for one number of torch threads.

    Args:
        survey: rollouts of many tasks and their coordinates.
        family: name of the family.
        sizes: of observation and action.
        config: how to train.
        on_update: called after every update with the updates done, their total, and the loss.
    """
    config = config or GuideConfig()
    guide = Guide(config, family=family, names=survey.names, sizes=sizes, feature_size=survey.features.shape[-1])
    for name, rows in (("feature", survey.features.flatten(0, 2)), ("coordinate", survey.coordinates)):
        std = rows.std(dim=0, correction=0)
        getattr(guide, f"{name}_mean").copy_(rows.mean(dim=0))
        getattr(guide, f"{name}_std").copy_(torch.where(std < 1e-6, 1.0, std))
    done, total = 0, config.members * config.updates
    for index, member in enumerate(guide.members):
        generator = torch.Generator().manual_seed(config.seed + index)
        optimiser = torch.optim.Adam(member.parameters(), config.learning_rate, fused=True)
        for update in range(config.updates):
            for group in optimiser.param_groups:
                group["lr"] = warmup_cosine(update, config.updates, warmup=_WARMUP, highest=config.learning_rate)
            loss = member.loss(*_batch(guide, survey, config, generator))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch annotates it only in part
            nn.utils.clip_grad_norm_(member.parameters(), 1.0)
            optimiser.step()
            done += 1
            on_update(done, total, {"loss": loss.item()})
    return guide


def _batch(
    guide: Guide, survey: Survey, config: GuideConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """D [B, k, F], rows [B, Q, F] and coordinates [B, K] of a batch of tasks, standardised."""
    lengths = usable_lengths(config.lengths, survey.features.shape[2])
    length = lengths[int(torch.randint(len(lengths), (1,), generator=generator))]
    tasks = torch.randint(len(survey), (min(config.batch_tasks, len(survey)),), generator=generator)
    windows = draw_windows(survey.features, tasks, generator, length=length, from_start=0.5)
    rows = draw_rows(survey.features, tasks, generator, config.rows)
    coordinates = (survey.coordinates[tasks] - guide.coordinate_mean) / guide.coordinate_std
    standardised = [(part - guide.feature_mean) / guide.feature_std for part in (windows, rows)]
    return standardised[0], standardised[1], coordinates
