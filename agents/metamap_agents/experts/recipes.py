"""Recipes: algorithm and settings for each family, in the layout of rl-zoo's hyperparameter files."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, Field, PositiveInt, field_validator, model_validator

from metamap_agents.experts.changes import Changes
from metamap_agents.experts.cloning import Cloning
from metamap_agents.experts.distillation import Distillation
from metamap_agents.experts.gains import GainSearch
from metamap_agents.experts.plateau import Plateau
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.registry import get_family
from metamap_envs.settings import STRICT, parse
from metamap_envs.task import Task
from metamap_envs.yaml_text import parse_yaml

__all__ = ["NetArch", "OffPolicy", "OffPolicyNetArch", "PolicyKwargs", "Recipe", "Stage", "load_recipe", "read_recipes"]

Stage = Literal["base", "parent", "expert"]
_STAGES: tuple[Stage, ...] = ("base", "parent", "expert")
_DEFAULT = "default"


class NetArch(BaseModel):
    """Hidden layers of actor (pi) and critic (vf)."""

    model_config = STRICT

    pi: tuple[PositiveInt, ...] = (64, 64)
    vf: tuple[PositiveInt, ...] = (64, 64)


class PolicyKwargs(BaseModel):
    """``policy_kwargs`` of SB3, with the activation by name, as recipe files hold no code."""

    model_config = STRICT

    net_arch: NetArch = NetArch()
    activation_fn: Literal["tanh", "relu", "elu"] = "tanh"
    log_std_init: float = 0.0


class OffPolicyNetArch(BaseModel):
    """Hidden layers of actor (pi) and critics (qf)."""

    model_config = STRICT

    pi: tuple[PositiveInt, ...] = (256, 256)
    qf: tuple[PositiveInt, ...] = (256, 256)


class OffPolicy(BaseModel):
    """Settings of SAC and TQC by the names of SB3 and rl-zoo; ``n_timesteps`` and ``gamma`` are those of the recipe."""

    model_config = STRICT

    n_envs: int = Field(default=4, ge=1)
    learning_rate: float | str = 7.3e-4
    buffer_size: PositiveInt = 300_000
    learning_starts: int = Field(default=2_000, ge=0)
    """Environment steps with random actions before the first update, over all environments."""
    batch_size: int = Field(default=256, ge=1)
    tau: float = Field(default=0.01, gt=0, le=1)
    train_freq: int = Field(default=8, ge=1)
    """Environment steps between updates, in each environment."""
    gradient_steps: int = Field(default=-1, ge=-1)
    """Updates each time; -1 for as many as environment steps."""
    ent_coef: float | str = "auto"
    """Weight of the entropy; ``auto``, or ``auto_<first value>``, learns it."""
    net_arch: OffPolicyNetArch = OffPolicyNetArch()
    activation_fn: Literal["tanh", "relu", "elu"] = "relu"
    top_quantiles_to_drop_per_net: int = Field(default=2, ge=0)
    """TQC only."""
    normalize_reward: bool = False
    """Divide rewards by the standard deviation of returns, as PPO always does."""

    @field_validator("learning_rate")
    @classmethod
    def _check_learning_rate(cls, value: float | str) -> float | str:
        return _checked_learning_rate(value)

    @field_validator("ent_coef")
    @classmethod
    def _check_ent_coef(cls, value: float | str) -> float | str:
        number = value.removeprefix("auto_") if isinstance(value, str) else value
        try:
            if value == "auto" or (float(number) > 0 and math.isfinite(float(number))):
                return value if isinstance(value, str) and value.startswith("auto") else float(value)
        except ValueError:
            pass
        raise ValueError("expected a positive number, 'auto' or 'auto_<number>'")

    def schedule(self) -> float | Callable[[float], float]:
        """The learning rate as SB3 takes it; see `Recipe.schedule`."""
        return _schedule(self.learning_rate)


class Recipe(BaseModel):
    """Settings of one training, by default with SB3's PPO. Names are those of rl-zoo and SB3.

    The n_steps * n_envs transitions of an update must be a multiple of ``batch_size``.
    """

    model_config = STRICT

    algorithm: Literal["ppo", "sac", "tqc"] = "ppo"
    """Experts only: SAC or TQC (extra ``contrib``) trains a teacher with the settings ``off_policy``, ``n_timesteps``
    and ``gamma``, and the expert is distilled from it, starting from phi_0."""
    policy: Literal["MlpPolicy"] = "MlpPolicy"
    n_envs: int = Field(default=64, ge=1)
    n_timesteps: PositiveInt
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
    target_kl: float | None = Field(default=None, gt=0)
    policy_kwargs: PolicyKwargs = PolicyKwargs()
    start: Literal["base", "parent", "random", "controller"] = "base"
    """Initial weights: of an expert, phi_0, those of the zoo's universal policy ("parent") for the task, or random
    ones; of a universal policy, phi_0 or random ones. A base policy starts from random ones. Base policy and universal
    policy of a family with a privileged controller may start from a clone of it ("controller")."""
    cloning: Cloning | None = None
    """Settings of the clone of a controller; None for the defaults."""
    critic_timesteps: PositiveInt | None = None
    """Environment steps at the beginning of PPO in which only the critic is trained, which a clone has none of; None
    for none."""
    parent_timesteps: int = Field(default=0, ge=0)
    """Experts only: environment steps of PPO after a start from the universal policy; 0 for none. On tasks outside its
    training, where it extrapolates, ``n_timesteps`` follow as from any other start; see `ParameterSpace.unseen`."""
    told: Literal["all"] | tuple[str, ...] = ()
    """Universal policies only: parameters that are inputs; see `metamap_agents.experts.universal`."""
    gain_search: GainSearch | None = None
    """Experts with ``start: parent`` only: search the gains with which the universal policy is best on the task."""
    horizon: PositiveInt | None = None
    """Steps of an episode in training by PPO, in place of the family's: a policy that has to go on for longer than the
    family's episodes must have been there. None for the family's."""
    plateau: Plateau | None = None
    """End PPO before ``n_timesteps`` when its return no longer improves; None for no such rule."""
    changes: Changes | None = None
    """Changes of the task and starts from states of wrong policies in training by PPO; None for none."""
    off_policy: OffPolicy | None = None
    """Settings of a teacher; None for the defaults."""
    distillation: Distillation | None = None
    """Settings of the distillation from teacher to expert; None for the defaults."""

    @field_validator("learning_rate")
    @classmethod
    def _check_learning_rate(cls, value: float | str) -> float | str:
        return _checked_learning_rate(value)

    @field_validator("changes")
    @classmethod
    def _check_changes(cls, value: Changes | None) -> Changes | None:
        return value if value is not None and (value.rate or value.wrong_starts) else None

    @field_validator("start", mode="before")
    @classmethod
    def _check_start(cls, value: object) -> object:
        if value == "nearest":
            raise ValueError("the start from the nearest expert was removed: expected 'base' or 'parent'")
        return value

    @field_validator("told", mode="before")
    @classmethod
    def _check_told(cls, value: object) -> object:
        if value != "all" and not (isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)):
            raise ValueError("expected 'all' or a list of parameter names")
        return value

    @model_validator(mode="after")
    def _check_batches(self) -> Recipe:
        if self.n_steps * self.n_envs % self.batch_size:
            raise ValueError(
                f"n_steps * n_envs = {self.n_steps} * {self.n_envs} = {self.n_steps * self.n_envs} must be "
                f"a multiple of batch_size = {self.batch_size}"
            )
        return self

    @model_validator(mode="after")
    def _check_teacher(self) -> Recipe:
        if self.algorithm == "ppo":
            return self
        if self.start != "base":
            raise ValueError(f"algorithm {self.algorithm!r} requires start 'base', got {self.start!r}")
        for name in ("plateau", "changes"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: expected algorithm 'ppo', got {self.algorithm!r}")
        starts = (self.off_policy or OffPolicy()).learning_starts
        if starts >= self.n_timesteps:
            raise ValueError(f"off_policy.learning_starts = {starts} must be below n_timesteps = {self.n_timesteps}")
        return self

    @property
    def whole_timesteps(self) -> int:
        """Environment steps of a training: ``n_timesteps`` rounded up to whole rollouts or, of a teacher, updates."""
        teacher = self.off_policy or OffPolicy()
        rollout = self.n_steps * self.n_envs if self.algorithm == "ppo" else teacher.n_envs * teacher.train_freq
        return math.ceil(self.n_timesteps / rollout) * rollout

    def after_universal(self, task: Task) -> Recipe | None:
        """Return the recipe of the PPO that follows a start from the universal policy; None for none."""
        if get_family(task.family).space.unseen(task.split):
            return self
        return self.model_copy(update={"n_timesteps": self.parent_timesteps}) if self.parent_timesteps else None

    def schedule(self) -> float | Callable[[float], float]:
        """Return the learning rate as SB3 takes it: a number, or for rl-zoo's ``lin_<rate>`` a linear decay to zero."""
        return _schedule(self.learning_rate)


def _learning_rate(value: float | str) -> tuple[bool, float]:
    """Whether the rate falls to zero, and where it starts; NaN if ``value`` is text of another form."""
    falls = isinstance(value, str) and value.startswith("lin_")
    try:
        return falls, float(str(value).removeprefix("lin_"))
    except ValueError:
        return falls, math.nan


def _checked_learning_rate(value: float | str) -> float | str:
    falls, start = _learning_rate(value)
    if not 0 < start < math.inf:
        raise ValueError("expected a positive number or 'lin_<number>'")
    return value if falls else start  # YAML reads 1e-3, without a dot, as text


def _schedule(value: float | str) -> float | Callable[[float], float]:
    falls, start = _learning_rate(value)
    return (lambda remaining: remaining * start) if falls else start


def read_recipes(stage: Stage) -> dict[str, dict[str, Any]]:
    """Return all recipes of a stage by name of family; ``default`` holds the common settings.

    Raises:
        MetaMapError: an unknown stage.
    """
    if stage not in _STAGES:
        raise unknown_name("recipe stage", stage, _STAGES)
    return deepcopy(_bundled(f"ppo-{stage}.yml"))


@cache  # a config of many families asks for each of their recipes
def _bundled(name: str) -> dict[str, dict[str, Any]]:
    text = resources.files("metamap_agents").joinpath("hyperparams", name).read_text(encoding="utf-8")
    document: dict[str, dict[str, Any]] = parse_yaml(text, name)
    return document


def load_recipe(family: str, stage: Stage, **overrides: Any) -> Recipe:
    """Load the recipe of a family: the defaults of the file, the entry of the family, then the overrides.

    Args:
        family: name of the family.
        stage: "base" for phi_0, "parent" for the universal policy (the base recipe with the changes in its own file),
            "expert" for phi*.
        **overrides: values that replace the file's, e.g. ``n_timesteps=10_000``.

    Raises:
        MetaMapError: unknown family or stage, an unknown setting, or a value that is not allowed.
    """
    get_family(family)
    settings: dict[str, Any] = {}
    files: tuple[Stage, ...] = ("base", "parent") if stage == "parent" else (stage,)
    for file in files:
        document = read_recipes(file)
        settings |= {**document.get(_DEFAULT, {}), **document.get(family, {})}
    settings |= overrides
    recipe = parse(Recipe, settings, f"{stage} recipe of {family!r}")
    if stage == "expert" and recipe.start == "controller":
        raise MetaMapError(
            f"expert recipe of {family!r}: start: expected 'base', 'parent' or 'random', got 'controller'"
        )
    if stage != "expert" and recipe.algorithm != "ppo":
        raise MetaMapError(f"{stage} recipe of {family!r}: algorithm: expected 'ppo', got {recipe.algorithm!r}")
    if stage == "expert" and recipe.changes is not None and recipe.changes.rate:
        raise MetaMapError(
            f"expert recipe of {family!r}: changes.rate: expected 0, as an expert has one task, got "
            f"{recipe.changes.rate:g}"
        )
    return recipe
