"""Ensembles: several mappers, trained with different seeds, as one; and how far they disagree about a rollout.

Mappers that saw the same pairs agree where the pairs decide the matter, and differ where each had to guess. So their
disagreement says how far to trust what they generate, before it is run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_agents.base_policy import BasePolicy
from metamap_agents.functional import forward
from metamap_agents.policies import WeightPolicy
from metamap_agents.policy_spec import PolicySpec
from metamap_agents.storage import claim_output, library_versions, read_json, write_json
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_envs.spaces import action_space, observation_space
from metamap_rl.mapper import Mapper
from metamap_rl.probe import probe_identity
from metamap_rl.registry import Registry

__all__ = ["COMBINATIONS", "Combination", "Ensemble", "mean_of_actions", "mean_of_weights"]

FORMAT_VERSION = 1
MANIFEST_FILE = "ensemble.json"
"""By which a folder is known for an ensemble's."""

Combination = Callable[[PolicySpec, Tensor], tuple[PolicySpec, Tensor]]
"""Networks [..., E, P] of one shape to one network [..., P'], perhaps of another shape."""

COMBINATIONS: Registry[Combination] = Registry("combination")


@COMBINATIONS.register("weights")
def mean_of_weights(spec: PolicySpec, phis: Tensor) -> tuple[PolicySpec, Tensor]:
    """The network whose weights are the mean. Sensible where all lie in one basin, as around phi_0."""
    return spec, phis.mean(dim=-2)


@COMBINATIONS.register("actions")
def mean_of_actions(spec: PolicySpec, phis: Tensor) -> tuple[PolicySpec, Tensor]:
    """The network whose outputs are the mean of theirs: all of them side by side in one that is E times as wide.

    It is an ordinary policy, but with about E^2 as many weights, most of which are 0.
    """
    count = phis.shape[-2]
    wide = PolicySpec(
        spec.observation_size, spec.action_size, tuple(count * width for width in spec.hidden), spec.activation
    )
    last = len(spec.hidden)
    parts: dict[str, Tensor] = {}
    for name, part in spec.split(phis).items():  # [..., E, out, in] or [..., E, out]
        layer, kind = int(name.split(".")[1]), name.rpartition(".")[2]
        if kind == "bias":
            parts[name] = part.mean(dim=-2) if layer == last else part.flatten(-2)
        elif layer == last:
            joined = part.mean(dim=-3) if last == 0 else part.transpose(-3, -2).flatten(-2) / count
            parts[name] = joined
        elif layer == 0:
            parts[name] = part.flatten(-3, -2)
        else:
            parts[name] = _block_diagonal(part)
    return wide, wide.join(parts)


def _block_diagonal(blocks: Tensor) -> Tensor:
    """[..., E, out, in] to [..., E * out, E * in]."""
    count, rows, columns = blocks.shape[-3:]
    eye = torch.eye(count, dtype=blocks.dtype, device=blocks.device)
    spread = torch.einsum("...eij,ef->...eifj", blocks, eye)
    return spread.reshape(*blocks.shape[:-3], count * rows, count * columns)


class Ensemble:
    """E mappers of one family, around one base policy and with one probe.

    Args:
        members: the mappers; their shapes may differ.

    Raises:
        MetaMapError: none, or mappers that do not belong together.
    """

    def __init__(self, members: Sequence[Mapper]) -> None:
        if not members:
            raise MetaMapError("an ensemble needs at least one mapper")
        self.members = tuple(members)
        first = self.members[0]
        for index, member in enumerate(self.members[1:], start=1):
            for what, found, wanted in (
                ("family", member.family, first.family),
                ("probe", probe_identity(member.probe), probe_identity(first.probe)),
                ("policy shape", member.base.spec, first.base.spec),
                ("base policy", member.base.phi.tobytes(), first.base.phi.tobytes()),
            ):
                if found != wanted:
                    raise MetaMapError(f"ensemble: member {index} has another {what} than member 0")

    def __len__(self) -> int:
        """Number of mappers E."""
        return len(self.members)

    @property
    def family(self) -> str:
        """Name of the family."""
        return self.members[0].family

    @property
    def base(self) -> BasePolicy:
        """The base policy that all members are centred on."""
        return self.members[0].base

    @property
    def probe(self) -> dict[str, Any]:
        """How D is collected."""
        return self.members[0].probe

    @torch.no_grad()
    def phis(self, features: Tensor) -> Tensor:
        """What every member generates, [B, E, P], from feature rows [B, n, F]."""
        return torch.stack([member(features) for member in self.members], dim=1)

    @torch.no_grad()
    def read(self, features: Tensor) -> Tensor:
        """What every member takes D for, coordinates [B, E, K], from feature rows [B, n, F]."""
        return torch.stack([member.read(features) for member in self.members], dim=1)

    def disagreement(self, phis: Tensor, observations: Tensor) -> Tensor:
        """How far generated policies differ in what they do: the standard deviation of actions over the members.

        Args:
            phis: [B, E, P].
            observations: raw observations [B, S, O] to compare them at, such as those of D.

        Returns:
            [B], root mean square over states and actions, each clipped to [-1, 1]; 0 where all do the same.
        """
        seen = torch.from_numpy(self.base.normalizer.apply(observations.numpy()).astype(np.float32))
        actions = forward(self.base.spec, phis, seen.unsqueeze(1)).clamp(-1, 1)
        return actions.var(dim=1, correction=0).mean(dim=(-2, -1)).sqrt()

    def rollout_disagreement(self, rollout: Rollout) -> float:
        """How far the policies generated from a rollout differ, at its own states; 0 for an empty one (all phi_0).

        Raises:
            MetaMapError: as `Mapper.generate`.
        """
        if not len(rollout):
            return 0.0
        phis = torch.from_numpy(np.stack([member.generate(rollout) for member in self.members]))
        return float(self.disagreement(phis[None], torch.from_numpy(rollout.observations)[None])[0])

    def generate(self, rollout: Rollout) -> NDArray[np.float32]:
        """Return the mean of the generated weights [P]; see `Mapper.generate`."""
        mean: NDArray[np.float32] = np.mean([member.generate(rollout) for member in self.members], axis=0)
        return mean

    def policy(self, rollout: Rollout, combine: str = "actions") -> WeightPolicy:
        """Return the policy for the task that a rollout comes from: the mean of the members' "actions" or "weights".

        Raises:
            MetaMapError: an unknown combination; or as `Mapper.generate`.
        """
        phis = torch.from_numpy(np.stack([member.generate(rollout) for member in self.members]))
        spec, phi = COMBINATIONS.get(combine)(self.base.spec, phis)
        family = get_family(self.family)
        return WeightPolicy(spec, phi.numpy(), self.base.normalizer, observation_space(family), action_space(family))

    def read_parameters(self, rollout: Rollout) -> dict[str, tuple[float, float]]:
        """The family's parameters by name as D tells them: mean and standard deviation over the members."""
        read = [member.read_parameters(rollout) for member in self.members]
        names = set.intersection(*(set(entry) for entry in read))
        found = {name: [entry[name] for entry in read] for name in read[0] if name in names}
        return {name: (float(np.mean(values)), float(np.std(values))) for name, values in found.items()}

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Write a folder with ``ensemble.json`` and one folder for each member, a mapper's artifact in itself.

        Raises:
            MetaMapError: the folder holds something already and ``overwrite`` is not set.
        """
        directory = claim_output(directory, overwrite)
        for index, member in enumerate(self.members):
            member.save(directory / _member(index), overwrite=overwrite)
        document = {"format_version": FORMAT_VERSION, "members": len(self), "versions": library_versions()}
        write_json(directory / MANIFEST_FILE, document)  # last: a folder with it is whole

    @classmethod
    def load(cls, directory: str | Path) -> Ensemble:
        """Read an ensemble that :meth:`save` wrote. No code from the folder is run.

        Raises:
            MetaMapError: not an ensemble's folder, another format version, or a member that is missing or damaged.
        """
        path = Path(directory) / MANIFEST_FILE
        if not path.is_file():
            raise MetaMapError(f"{directory}: not a saved ensemble, there is no {MANIFEST_FILE} in it")
        document = read_json(path)
        found = document.get("format_version") if isinstance(document, dict) else None
        if found != FORMAT_VERSION:
            raise MetaMapError(f"{path}: format version {found!r}, this metamap_rl reads {FORMAT_VERSION}")
        count = document.get("members")
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise MetaMapError(f"{path}: members: expected a whole number >= 1, got {count!r}")
        return cls([Mapper.load(Path(directory) / _member(index)) for index in range(count)])


def _member(index: int) -> str:
    return f"member-{index}"
