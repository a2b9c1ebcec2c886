"""Recipes: algorithm and settings for each family, in the layout of rl-zoo's hyperparameter files."""

from __future__ import annotations

from importlib import resources
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.family import get_family

__all__ = ["NetArch", "PolicyKwargs", "Recipe", "Stage", "load_recipe", "read_recipes"]

Stage = Literal["base", "expert"]
_DEFAULT = "default"


class NetArch(BaseModel):
    """Hidden layers of actor (pi) and critic (vf)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pi: tuple[int, ...] = (64, 64)
    vf: tuple[int, ...] = (64, 64)


class PolicyKwargs(BaseModel):
    """What SB3 takes as ``policy_kwargs``; the activation by name, as no file of ours holds code."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    net_arch: NetArch = NetArch()
    activation_fn: Literal["tanh", "relu", "elu"] = "tanh"
    log_std_init: float = 0.0


class Recipe(BaseModel):
    """One training with SB3's PPO. Names are rl-zoo's and SB3's; an unknown one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["ppo"] = "ppo"
    policy: Literal["MlpPolicy"] = "MlpPolicy"
    n_envs: int = Field(default=64, ge=1)
    n_timesteps: int = Field(ge=1)
    n_steps: int = Field(default=64, ge=2)
    batch_size: int = Field(default=1024, ge=2)
    n_epochs: int = Field(default=10, ge=1)
    gamma: float = Field(default=0.99, gt=0, le=1)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    learning_rate: float | str = 3e-4
    clip_range: float = Field(default=0.2, gt=0)
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = Field(default=0.5, gt=0)
    target_kl: float | None = None
    policy_kwargs: PolicyKwargs = PolicyKwargs()

    def schedule(self) -> Any:
        """The learning rate as SB3 takes it: a number, or for rl-zoo's ``lin_<rate>`` a fall to zero.

        Raises:
            MetaMapError: text of another form.
        """
        if isinstance(self.learning_rate, float):
            return self.learning_rate
        kind, _, rate = self.learning_rate.partition("_")
        try:
            start = float(rate)
        except ValueError:
            start = float("nan")
        if kind != "lin" or not start > 0:
            raise MetaMapError(f"learning_rate expects a number or 'lin_<number>', got {self.learning_rate!r}")
        return lambda remaining: remaining * start


def read_recipes(stage: Stage) -> dict[str, dict[str, Any]]:
    """All recipes of a stage by family name, with ``default`` under each of them.

    Raises:
        MetaMapError: the stage is neither "base" nor "expert".
    """
    if stage not in ("base", "expert"):
        raise unknown_name("recipe stage", stage, ("base", "expert"))
    text = resources.files("metamap_agents").joinpath("hyperparams", f"ppo-{stage}.yml").read_text(encoding="utf-8")
    document: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return document


def load_recipe(family: str, stage: Stage, **overrides: Any) -> Recipe:
    """The recipe of a family: the file's defaults, the family's entry, then the overrides.

    Args:
        family: name of the family.
        stage: "base" for phi_0, "expert" for phi*.
        **overrides: values that replace the file's, e.g. ``n_timesteps=10_000``.

    Raises:
        MetaMapError: unknown family or stage, an unknown setting, or a value that is not admitted.
    """
    get_family(family)
    document = read_recipes(stage)
    settings = {**document.get(_DEFAULT, {}), **document.get(family, {}), **overrides}
    try:
        return Recipe(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise unknown_name(f"setting of the {stage} recipe", name, Recipe.model_fields) from None
        message = f"{stage} recipe of {family!r}: {name}: {first['msg'].lower()}, got {first['input']!r}"
        raise MetaMapError(message) from None
