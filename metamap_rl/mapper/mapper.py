"""The mapper f_theta: from transitions D of a task to weights phi_hat of a policy for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metamap_agents.experts.universal import UniversalPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.storage import check_arrays, claim_output
from metamap_envs.errors import MetaMapError
from metamap_envs.identity import check_family, describe_family, is_family
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_envs.seeds import read_seed
from metamap_envs.settings import parse
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.mapper import artifact
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.networks import build_networks
from metamap_rl.mapper.scales import Scales
from metamap_rl.mapper.selfcheck import SelfCheck, Verdict
from metamap_rl.mapper.shapes import expected_shapes
from metamap_rl.probing.documents import packed_probe, unpacked_probe

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from metamap_rl.adaptation.one_shot import AdaptedPolicy, Source

__all__ = ["Mapper", "Reading"]


@dataclass(frozen=True, eq=False)
class Reading:
    """A rollout of n transitions, encoded by a mapper."""

    rows: Tensor
    """Standardised feature rows [1, n, F]."""
    z: Tensor
    """Their context [1, Z]."""

    def __len__(self) -> int:
        """Number of transitions n."""
        return self.rows.shape[1]


class Mapper(nn.Module):
    """``phi_hat = phi_0 + weight_scale * hypernetwork(encoder(standardised D), phi_0 / weight_scale)``.

    With a bottleneck the only input of the hypernetwork is an embedding of the coordinates estimated from z by a linear
    reader; in training it gets the true ones, like the base policy of RMA (Kumar et al. 2021). The output is exactly
    phi_0 before training and, also after it, for an empty D.

    Args:
        config: sizes and networks.
        base: the base policy; kept in full, so that adapted policies can be run, fine-tuned and exported.
        family: name of the family of tasks (or of functions).
        scales: units of features, weights and coordinates.
        probe: name and settings of the probe, a JSON document stored with the artifact.
        coordinates: names of the K task coordinates estimated from z (see `data.survey`); may be empty.
        seed: seed of the initial parameters; torch's global generator is restored.

    Raises:
        MetaMapError: a bottleneck or a forward model without coordinates; rewards to be ignored, or a forward model, in
            features that are no transitions.
    """

    phi_0: Tensor
    ignored_features: Tensor
    feature_mean: Tensor
    feature_std: Tensor
    weight_scale: Tensor
    coordinate_mean: Tensor
    coordinate_std: Tensor

    def __init__(
        self,
        config: MapperConfig,
        base: BasePolicy,
        *,
        family: str,
        scales: Scales,
        probe: Mapping[str, Any] | None = None,
        coordinates: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        seed = read_seed(seed)
        super().__init__()
        if config.bottleneck and not coordinates:
            raise MetaMapError("bottleneck: expected a survey, to learn coordinates from; got none")
        if config.forward_model and not coordinates:
            raise MetaMapError("forward_model: expected a survey, to fit it to; got none")
        self.config = config
        self.base = base
        self.family = family
        self.probe = dict(probe or {})
        self.coordinates = tuple(coordinates)
        self.record: dict[str, Any] = {}
        self.check: SelfCheck | None = (
            None  # see `metamap_rl.training.calibration`; invalid once the mapper is trained further
        )
        self.universal: UniversalPolicy | None = None
        """The family's universal policy, the source of the experts; None if the experts have none."""
        self.environment: dict[str, Any] = {}
        """Version and declaration of the family when the mapper was saved, as stored; empty for one not loaded."""
        self.actors: dict[str, Any] = {}
        """The mixture of actors that D came from in training, a JSON document; empty for the probe alone."""
        size = len(scales.feature_mean)
        ignored = np.zeros(size, dtype=np.bool_) if config.reward else TransitionLayout.of(base.spec).reward_mask(size)
        self.register_buffer("ignored_features", torch.from_numpy(ignored), persistent=False)
        # phi_0 is stored with the base policy, not in the state.
        self.register_buffer("phi_0", torch.tensor(base.phi, dtype=torch.float32), persistent=False)
        for item in fields(scales):
            self.register_buffer(item.name, getattr(scales, item.name).clone())
        # PyTorch modules draw their parameters from the global generator: it is seeded and restored here, and used
        # nowhere else.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder, self.hypernetwork, self.reader, self.embedder = build_networks(
                config, self.feature_size, base.spec, len(self.coordinates)
            )

    @property
    def feature_size(self) -> int:
        """F, size of a feature row of D."""
        return len(self.feature_mean)

    def share_core(self, other: Mapper) -> None:
        """Share ``other``'s encoder and hypernetwork except for the input layer and the output layer.

        Both then train one core, each with its own head; see `metamap_rl.stream.embodied`.

        Raises:
            MetaMapError: the two have different configs.
        """
        if self.config != other.config:
            raise MetaMapError(f"mappers that share a core need the same config, got {self.config} and {other.config}")
        if self.config.bottleneck:
            raise MetaMapError(
                "bottleneck: mappers of different families cannot share a core, their coordinates differ"
            )
        if self.config.forward_model:
            raise MetaMapError("forward_model: mappers of different families cannot share a core, their rows differ")
        self.encoder.share_core(other.encoder)
        self.hypernetwork.share_core(other.hypernetwork)

    @property
    def scales(self) -> Scales:
        """Units of features, weights and coordinates."""
        return Scales(**{item.name: getattr(self, item.name) for item in fields(Scales)})

    def standardised(self, features: Tensor) -> Tensor:
        """Return feature rows [..., F] in the mapper's units; rewards are 0 if the mapper does not read them."""
        rows = (features - self.feature_mean) / self.feature_std
        return rows if self.config.reward else torch.where(self.ignored_features, 0.0, rows)

    def encode(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the contexts z [B, Z] of feature rows [B, n, F]; arguments as for :meth:`forward`."""
        return self.encoder(self.standardised(features), mask)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map feature rows to weights.

        Args:
            features: [B, n, F] float32, not standardised, in any order; n may be 0.
            mask: [B, n] bool, True for valid rows; default all. Values of invalid rows are ignored.

        Returns:
            phi_hat [B, P]; exactly phi_0 without valid rows.
        """
        delta = self.change(self.encode(features, mask))
        if mask is not None:
            delta = torch.where(mask.any(dim=1, keepdim=True), delta, 0.0)
        elif features.shape[1] == 0:
            delta = torch.zeros_like(delta)
        return self.phi_0 + delta

    def change(self, z: Tensor) -> Tensor:
        """Return the weight change phi_hat - phi_0 [B, P] for contexts z [B, Z]."""
        if self.config.bottleneck:
            return self._of_coordinates(self.reader(z))
        return self._of_context(z)

    def from_coordinates(self, coordinates: Tensor) -> Tensor:
        """Return phi_hat [B, P] for true task coordinates [B, K]; only with a bottleneck."""
        return self.phi_0 + self._of_coordinates((coordinates - self.coordinate_mean) / self.coordinate_std)

    def _of_coordinates(self, standardised: Tensor) -> Tensor:
        return self._of_context(self.embedder(standardised))

    def _of_context(self, z: Tensor) -> Tensor:
        return self.weight_scale * self.hypernetwork(z, self.phi_0 / self.weight_scale)

    def read_coordinates(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Estimate the task coordinates [B, K], in their own units, from feature rows [B, n, F].

        A by-product of training the encoder, for display and diagnosis. Without a bottleneck the policy does not depend
        on it. K is 0 for a mapper trained without a survey.
        """
        return self._coordinates(self.encode(features, mask))

    def _coordinates(self, z: Tensor) -> Tensor:
        read: Tensor = self.coordinate_mean + self.coordinate_std * self.reader(z)
        return read

    @torch.no_grad()
    def read(self, rollout: Rollout) -> Reading:
        """Encode a rollout once for `generate`, `judge` and `read_parameters`, which accept either.

        Args:
            rollout: D of any number of transitions, collected by the mapper's probe.

        Raises:
            MetaMapError: the rollout is of another family, its observations or actions have another size, or a feature
                is not finite.
        """
        if rollout.family != self.family:
            raise MetaMapError(
                f"the mapper was trained on family {self.family!r}, the rollout is of {rollout.family!r}"
            )
        packed = TransitionLayout.of(self.base.spec).pack(
            rollout.observations, rollout.actions, rollout.rewards, rollout.next_observations
        )
        features = torch.from_numpy(packed)[None].to(self.phi_0.device)
        if not (features.isfinite() | self.ignored_features).all():
            raise MetaMapError("the transitions hold values that are not finite")
        rows = self.standardised(features)
        return Reading(rows, self.encoder(rows, None))

    @torch.no_grad()
    def generate(self, source: Rollout | Reading) -> NDArray[np.float32]:
        """Generate the weights of a policy for the task of a rollout, in one forward pass.

        Args:
            source: D, or the result of :meth:`read`.

        Returns:
            phi_hat [P] float32, for observations normalised by ``base.normalizer``; exactly phi_0 for an empty D.

        Raises:
            MetaMapError: as :meth:`read`, or a generated weight is not finite.
        """
        reading = self._reading(source)
        delta = self.change(reading.z)[0] if len(reading) else torch.zeros_like(self.phi_0)
        phi: NDArray[np.float32] = (self.phi_0 + delta).cpu().numpy()
        if not np.isfinite(phi).all():
            raise MetaMapError("the generated weights are not finite: the rollout is far outside the training data")
        return phi

    @torch.no_grad()
    def judge(self, source: Rollout | Reading) -> Verdict | None:
        """Run the self-check on an argument of :meth:`generate`; None without a self-check."""
        if self.check is None:
            return None
        reading = self._reading(source)
        beginnings = [
            self.encoder(reading.rows[:, :length], None)[0].cpu().numpy()
            for length in self.check.looked_at(len(reading))
        ]
        return self.check.judge(reading.rows[0].cpu().numpy(), reading.z[0].cpu().numpy(), beginnings)

    @torch.no_grad()
    def read_parameters(self, source: Rollout | Reading) -> dict[str, float]:
        """Estimate the family's parameters from D, by name; empty for an empty rollout or without coordinates."""
        reading = self._reading(source)
        if not self.coordinates or not len(reading):
            return {}
        return get_family(self.family).space.from_coordinates(self._coordinates(reading.z)[0].cpu().numpy())

    def adapt(
        self, source: Source | VecEnv, *, steps: int | None = None, seed: int = 0, check: bool = True
    ) -> AdaptedPolicy:
        """A policy for an environment, a vector of them, or a rollout; see `metamap_rl.adapt`."""
        from metamap_rl.adaptation.one_shot import adapt  # a room above

        return adapt(self, source, steps=steps, seed=seed, check=check)

    def _reading(self, source: Rollout | Reading) -> Reading:
        return source if isinstance(source, Reading) else self.read(source)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the artifact by name: theta, units, ``base.*``, ``check.*`` and ``universal.*``."""
        base = {f"base.{name}": array for name, array in self.base.to_arrays().items()}
        check = {} if self.check is None else {f"check.{name}": array for name, array in self.check.arrays().items()}
        known = {} if self.universal is None else self.universal.to_arrays()
        universal = {f"universal.{name}": array for name, array in known.items()}
        return (
            base
            | check
            | universal
            | {name: tensor.detach().cpu().numpy() for name, tensor in self.state_dict().items()}
        )

    def save(self, directory: str | Path, *, overwrite: bool = False, half: bool = False) -> None:
        """Write ``mapper.safetensors`` and ``mapper.json`` into a folder, created if needed.

        The tour of a touring probe is copied into it, so that the folder can be moved.

        Args:
            directory: the folder.
            overwrite: replace existing files.
            half: write theta in half precision, for a file of half the size; parameters of the loaded mapper then
                differ by a relative 5e-4.

        Raises:
            MetaMapError: the folder is not empty and ``overwrite`` is not set, or the universal policy is not one of
                the mapper's family and network.
        """
        if self.universal is not None:
            self.universal.check_base(self.family, self.base.spec, "mapper")
        directory = claim_output(directory, overwrite)
        manifest = {
            "family": self.family,
            "feature_size": self.feature_size,
            "coordinates": list(self.coordinates),
            "base": self.base.describe(),
            "probe": packed_probe(self.probe, directory),
            "config": asdict(self.config),
            "record": self.record,
        }
        if is_family(self.family):
            manifest["environment"] = describe_family(self.family)
        elif self.environment:
            manifest["environment"] = self.environment
        if self.check is not None:
            manifest["check"] = self.check.describe()
        if self.universal is not None:
            manifest["universal"] = self.universal.describe()
        if self.actors:
            manifest["actors"] = self.actors
        arrays = self.arrays()
        if half:
            arrays |= {name: arrays[name].astype(np.float16) for name, _ in self.named_parameters()}
        artifact.write(directory, manifest, arrays, overwrite=True)  # the folder contains the tour

    @classmethod
    def load(cls, directory: str | Path) -> Mapper:
        """Load a mapper written by :meth:`save`. No code from the folder is executed.

        Raises:
            MetaMapError: not a mapper folder, an unsupported format version, an unknown or missing key in the manifest,
                an array that is missing, unexpected, of the wrong shape or not finite, or a family whose version or
                declaration has changed.
        """
        manifest, arrays = artifact.read(directory)
        if "environment" in manifest and is_family(manifest["family"]):
            check_family(manifest["environment"], manifest["family"], f"{directory}: the mapper was")
        config = parse(MapperConfig, manifest["config"], "mapper config")
        universal = _universal(manifest, _under("universal.", arrays))
        arrays = {name: array for name, array in arrays.items() if not name.startswith("universal.")}
        check_arrays(arrays, expected_shapes(config, manifest), artifact.ARRAYS_FILE)
        base, check = _under("base.", arrays), _under("check.", arrays)
        rest = {name: array for name, array in arrays.items() if not name.startswith(("base.", "check."))}
        state = {name: torch.from_numpy(array) for name, array in rest.items()}
        mapper = cls(
            config,
            BasePolicy.from_arrays(base, manifest["base"], artifact.ARRAYS_FILE),
            family=manifest["family"],
            scales=Scales(**{item.name: state[item.name] for item in fields(Scales)}),
            probe=unpacked_probe(manifest["probe"], Path(directory)),
            coordinates=manifest["coordinates"],
        )
        mapper.load_state_dict(state)
        mapper.record, mapper.universal, mapper.actors = manifest["record"], universal, manifest.get("actors", {})
        mapper.environment = manifest.get("environment", {})
        if "check" in manifest:
            mapper.check = SelfCheck.from_arrays(
                check, manifest["check"], mapper.base.spec, config.context_size, artifact.ARRAYS_FILE
            )
        return mapper


def _under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Arrays whose names start with a prefix, by name without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _universal(manifest: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> UniversalPolicy | None:
    """The universal policy of an artifact, which must be of its family and network; None if it has none."""
    if "universal" not in manifest:
        check_arrays(arrays, {}, artifact.ARRAYS_FILE)
        return None
    universal = UniversalPolicy.from_arrays(arrays, manifest["universal"], artifact.ARRAYS_FILE)
    universal.check_base(manifest["family"], PolicySpec.from_json(manifest["base"]["spec"]), artifact.ARRAYS_FILE)
    return universal
