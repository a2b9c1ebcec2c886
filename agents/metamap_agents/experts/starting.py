"""Start of PPO from a clone of the family's controller, as a recipe asks for it."""

from __future__ import annotations

from typing import Any

from metamap_agents.experts.changes import TaskDraw
from metamap_agents.experts.cloning import Clone, Cloning, clone_controller
from metamap_agents.experts.recipes import Recipe
from metamap_agents.experts.universal import UniversalPolicy
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.torch_state import isolated_training
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed

__all__ = ["cloned", "record_of"]


def cloned(
    recipe: Recipe,
    draw: TaskDraw,
    universal: UniversalPolicy | None = None,
    normalizer: ObservationNormalizer | None = None,
    *,
    seed: int,
    num_threads: int,
) -> Clone | None:
    """Clone a controller for a recipe that starts from it; None for any other start.

    Args:
        recipe: shape of the network, and settings.
        draw: draws tasks.
        universal: gives the inputs that a task has; None for none. Its weights are not looked at.
        normalizer: that of the observations; None for their statistics.
        seed: of all draws.
        num_threads: threads of the simulator; 0 takes all cores.

    Raises:
        MetaMapError: the family has no controller, or the network diverged.
    """
    seed = read_seed(seed)
    if recipe.start != "controller":
        return None
    family, network = get_family(draw.family), recipe.policy_kwargs
    size = family.observation_size + (0 if universal is None else len(universal.mean))
    with isolated_training():
        return clone_controller(
            draw,
            PolicySpec(size, family.action_size, network.net_arch.pi, network.activation_fn),
            recipe.cloning or Cloning(),
            seed=seed,
            coordinates=None if universal is None else universal.coordinates,
            normalizer=normalizer,
            num_threads=num_threads,
        )


def record_of(clone: Clone | None) -> dict[str, Any]:
    """Part of a policy's record about its start."""
    return {} if clone is None else {"clone": {"steps": clone.environment_steps, "loss": clone.loss}}
