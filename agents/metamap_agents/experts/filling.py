"""Fill a zoo with base policy, universal policy and experts of each split; check the settings of an existing zoo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metamap_agents.experts.building import OnExpert, build_experts, train_first
from metamap_agents.experts.counts import TaskCounts
from metamap_agents.experts.recipes import Recipe, Stage, load_recipe
from metamap_agents.experts.zoo import Zoo
from metamap_envs.errors import MetaMapError
from metamap_envs.seeds import read_seed

__all__ = ["OnFirst", "RecipeOverrides", "TaskCounts", "check_recipes", "check_settings", "fill_zoo"]

OnFirst = Callable[[Stage, int, int], None]
"""Called for base policy ("base") and universal policy ("parent") with (stage, environment steps done, in total)."""


@dataclass(frozen=True)
class RecipeOverrides:
    """Settings that replace those of the family's recipes."""

    base: Mapping[str, Any] = field(default_factory=dict)
    """Of the base policy and the universal policy."""
    expert: Mapping[str, Any] = field(default_factory=dict)
    """Of the experts."""

    def recipe(self, family: str, stage: Stage) -> Recipe:
        """Return the recipe of a stage with these settings.

        Raises:
            MetaMapError: unknown family, an unknown setting, or a value that is not allowed.
        """
        return load_recipe(family, stage, **(self.expert if stage == "expert" else self.base))


def fill_zoo(
    root: str | Path,
    family: str,
    counts: TaskCounts,
    *,
    seed: int = 0,
    workers: int = 0,
    overrides: RecipeOverrides = RecipeOverrides(),
    on_first: OnFirst | None = None,
    on_expert: OnExpert | None = None,
) -> Zoo:
    """Create a zoo or resume one: train the base policy first, then the missing experts.

    Args:
        root: its folder.
        family: name of the family.
        counts: experts of each split.
        seed: of the zoo; a zoo of another seed in the folder is an error.
        workers: processes that train experts; 0 takes all cores.
        overrides: settings that replace those of the recipes.
        on_first: called with the progress of the base policy and the universal policy.
        on_expert: called after each expert.

    Raises:
        MetaMapError: unknown family or setting, a folder that holds something else, or experts in it that were trained
            with other settings.
    """
    seed = read_seed(seed)
    zoo = Zoo.create(root, family, seed)
    check_settings(zoo, overrides)
    recipe = overrides.recipe(zoo.family.name, "expert")

    def train(stage: Stage, build: Callable[..., None]) -> None:
        tell = None if on_first is None else lambda done, total, _: on_first(stage, done, total)
        if on_first is not None:
            on_first(stage, 0, overrides.recipe(zoo.family.name, stage).n_timesteps)
        build(zoo, overrides=overrides.base, on_progress=tell)

    train_first(zoo, recipe, train)
    build_experts(zoo, counts.tasks(zoo), overrides=overrides.expert, workers=workers, on_expert=on_expert)
    return zoo


def check_settings(zoo: Zoo, overrides: RecipeOverrides) -> None:
    """Check that the policies of a zoo were trained with the family's recipes and these overrides.

    Raises:
        MetaMapError: a setting that differs, by name, or one that is not allowed.
    """
    family = zoo.family.name
    check_recipes(
        zoo,
        base=overrides.recipe(family, "base"),
        universal=overrides.recipe(family, "parent"),
        expert=overrides.recipe(family, "expert"),
    )


def check_recipes(zoo: Zoo, *, base: Recipe, universal: Recipe, expert: Recipe) -> None:
    """Check that the policies of a zoo were trained with these recipes.

    Raises:
        MetaMapError: a setting that differs, by name.
    """
    if zoo.has_base:
        _compare(zoo, "base policy", zoo.base.record, base)
        if zoo.has_universal:
            _compare(zoo, "universal policy", zoo.universal.record, universal)
        for found in zoo.experts():
            if "imported" in found.record:
                continue  # another tool has trained it
            _compare(zoo, f"expert of {found.task.id}", found.record, expert)


def _compare(zoo: Zoo, what: str, record: Mapping[str, Any], recipe: Recipe) -> None:
    before, now = record.get("recipe", {}), recipe.model_dump(mode="json")
    if not isinstance(before, Mapping):
        raise MetaMapError(f"{zoo.root}: its {what} has a damaged record: recipe: expected an object, got {before!r}")
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            raise MetaMapError(
                f"{zoo.root}: its {what} was trained with {name} {before.get(name)!r}, but {now.get(name)!r} was "
                "requested: use the same settings or choose another directory"
            )
