"""What the command line exports: a policy, a mapper, a rollout or the experts of a zoo, by path or name."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from metamap_agents.runtime.storage import load_arrays
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.seeds import read_seed
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.adaptation.one_shot import AdaptedPolicy
from metamap_rl.adaptation.plain import PlainPolicy
from metamap_rl.data.rollout_files import is_rollout, load_rollout
from metamap_rl.exporters.base import Source
from metamap_rl.probing.recording import record_policies

__all__ = ["NamedSource", "read_source"]

POLICY_FILE = "policy.safetensors"
"""File of the policy in a folder of `metamap adapt --out`."""

_ZOO_FILE = "zoo.json"


class NamedSource(NamedTuple):
    """A source, with a name for its files."""

    name: str
    source: Source


def read_source(reference: str | Path, *, expert: str | None = None, episodes: int = 10, seed: int = 0) -> NamedSource:
    """Read what is to be exported.

    Args:
        reference: a file of a policy or a rollout, a folder of `metamap adapt --out`, a zoo, the folder of a mapper or
            the name of a bundled one.
        expert: id of the task whose expert is taken from a zoo, as a policy; None records all of its experts.
        episodes: episodes that are recorded of each expert.
        seed: first reset seed of these episodes.

    Raises:
        MetaMapError: nothing of this kind, a damaged file, or an unknown expert.
    """
    seed = read_seed(seed)
    path = Path(reference)
    if path.is_dir() and (path / _ZOO_FILE).is_file():
        return _of_zoo(path, expert, episodes, seed)
    if expert is not None:
        raise MetaMapError(
            f"{reference}: expected a zoo to take the expert {expert!r} from (a folder with {_ZOO_FILE})"
        )
    if path.is_dir() and (path / POLICY_FILE).is_file():
        path = path / POLICY_FILE
    if path.suffix == ".safetensors":
        _, metadata = load_arrays(path)
        if is_rollout(metadata):
            return NamedSource(path.stem, load_rollout(path))
        return NamedSource(path.stem, AdaptedPolicy.load(path))
    if path.is_file():
        raise MetaMapError(f"{path}: expected a policy or a rollout, a name that ends in .safetensors")
    mapper, _ = find_mapper(reference)
    return NamedSource(mapper.family, mapper)


def _of_zoo(path: Path, expert: str | None, episodes: int, seed: int) -> NamedSource:
    """One expert of a zoo as a policy, or the recorded episodes of all."""
    from metamap_agents.experts.zoo import Zoo  # imports Stable-Baselines3, slow

    zoo = Zoo.open(path)
    experts = {one.task.id: one for one in zoo.experts()}
    if expert is not None:
        if expert not in experts:
            raise unknown_name("expert", expert, experts, of=f"the zoo {path}")
        found = experts[expert]
        title = f"expert of {zoo.family.name} for {found.task.describe()}"
        return NamedSource(expert, PlainPolicy.of(zoo.family.name, zoo.base, found.phi, title=title))
    if not experts:
        raise MetaMapError(f"{path}: the zoo has no experts yet")
    policies = zoo.base.policies(np.stack([one.phi for one in experts.values()]))
    tasks = [one.task for one in experts.values()]
    return NamedSource(f"{path.name}-experts", record_policies(tasks, policies, episodes=episodes, seed=seed))
