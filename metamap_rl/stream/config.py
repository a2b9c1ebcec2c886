"""The config of a stream: validated, frozen settings, read from and written to YAML."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator

from metamap_agents.experts.recipes import Recipe, load_recipe
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.registry import get_family, list_families
from metamap_envs.settings import Number, Seed, Settings, Whole, parse, settings_of
from metamap_envs.task import Task
from metamap_envs.yaml_text import dump_yaml, parse_yaml, read_yaml
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.probing.documents import probe_from_json, probe_to_json
from metamap_rl.probing.probes.planned import BasePolicyProbe
from metamap_rl.stream.experts import bases_of
from metamap_rl.stream.kinds import STREAMS, StreamKind, revisits
from metamap_rl.stream.learners.base import make_learner
from metamap_rl.training.config import UpdateConfig

__all__ = ["FORMAT", "StreamConfig", "list_presets", "load_config", "replaced", "to_yaml"]

FORMAT = "metamap-stream-1"
"""Format of a config; changes with the meaning of a key."""

Positive = Annotated[Whole, Field(ge=1)]
Share = Annotated[Number, Field(ge=0, le=1)]

UPDATE = UpdateConfig(updates=300, states_per_task=64, learning_rate=2e-3, warmup=10, lengths=(10, 20, 50, 100, 200))
SHAPE = MapperConfig(hypernetwork="residual")
"""Defaults of streams that differ from those of mappers."""


class ExpertSettings(Settings):
    """Settings of experts."""

    start: Literal["phi-hat", "phi-0"] = "phi-hat"
    """phi-hat: trained in the stream, from the generated policy. phi-0: from the cache, trained once from the base
    policy, so that all learners use the same pairs (D, phi*).
    """
    budget: Annotated[Number, Field(gt=0)] = 1.0
    """Fraction of the expert recipe's environment steps available to training from phi-hat."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Settings that replace the expert recipe's, whose ``start`` is base here: a universal policy is trained over a
    whole family, which a stream does not know in advance.
    """
    base_overrides: dict[str, Any] = Field(default_factory=dict)
    """Settings that replace the base recipe's."""
    bases: dict[str, str] = Field(default_factory=dict)
    """Family that the base policy is trained on, by embodiment; default the first of its families by name."""


class ServeSettings(Settings):
    """Settings for serving the generated policy without training an expert."""

    enabled: bool = True
    gap: Share = 0.9
    """Fraction of the expected gain of an expert over the base policy that it must reach."""
    confidence: Share = 0.5
    """Minimum confidence."""
    episodes: Positive = 4
    """Episodes of the generated and of the base policy for the check."""


class AcceptSettings(Settings):
    """Settings for accepting an update of the mapper."""

    enabled: bool = True
    tolerance: Annotated[Number, Field(ge=0)] = 0.0
    """Maximum relative increase of the validation loss."""
    items: Positive = 32
    """Maximum number of stored tasks to validate on."""


class EvaluationSettings(Settings):
    """Settings of evaluation, which is invisible to the mapper."""

    held_out: Annotated[Whole, Field(ge=0)] = 4
    """Number of held-out tasks of each family, never trained on."""
    split: Literal["validation", "test-in", "test-out"] = "validation"
    """Split of the held-out tasks; test splits are for final results."""
    episodes: Positive = 10
    """Episodes per task and evaluation."""
    every: Positive = 1
    """Stages between evaluations of all tasks; in between only the current and the next task are evaluated."""
    lengths: tuple[Positive, ...] = ()
    """Lengths of D besides `map_steps`: the next task is evaluated at each before it arrives, the held-out tasks after
    the last stage.
    """
    reference: bool = True
    """Whether experts of all these tasks are trained, to compute scores from returns."""


class SeedSettings(Settings):
    """Independent seeds."""

    stream: Seed = 0
    """Seed of the tasks, probes and experts trained in the stream."""
    learner: Seed = 0
    """Seed of the mapper, memory and updates."""
    evaluation: Seed = 0
    """Seed of held-out tasks and evaluations."""


class StreamConfig(Settings):
    """Settings of a stream."""

    format: Literal["metamap-stream-1"] = "metamap-stream-1"
    name: Annotated[str, Field(min_length=1)]
    """Name, for display."""
    description: str = ""
    """One-line description, for lists."""
    stream: SerializeAsAny[StreamKind]
    """Sequence of tasks: a kind of stream and its settings."""
    stop_after: Positive | None = None
    """Number of arrivals after which the stream ends; None for all."""
    boundaries: Literal["given", "hidden"] = "given"
    """Whether task boundaries are given to the learner."""
    revisits: bool = True
    """Whether a task may come back; if not, a stream with revisits is an error."""
    learner: dict[str, Any] = Field(default_factory=lambda: {"name": "replay"})
    """Name and settings of the learner."""
    memory_bytes: Positive = 8_000_000
    """Maximum size of stored rollouts in bytes."""
    probe: dict[str, Any] = Field(default_factory=lambda: probe_to_json(BasePolicyProbe()))
    """Probe that collects D."""
    probe_steps: Positive = 200
    """Transitions per rollout."""
    probe_repeats: Positive = 4
    """Rollouts per arrival; one of them is held out for validation; hidden boundaries need at least 2."""
    map_steps: Positive = 50
    """Transitions of D that phi_hat is generated from, at most `probe_steps`."""
    update: UpdateConfig = UPDATE
    """Settings of the mapper's update after a task; its cost does not depend on the number of earlier tasks."""
    mapper: MapperConfig = SHAPE
    """Sizes and networks of the mapper."""
    experts: ExpertSettings = ExpertSettings()
    serve: ServeSettings = ServeSettings()
    accept: AcceptSettings = AcceptSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    seeds: SeedSettings = SeedSettings()
    on_error: Literal["stop", "continue"] = "stop"
    """Action on a failed stage: an expert that diverges, an unstable simulation, a damaged file of the memory."""
    tensorboard: bool = False
    """Whether to write TensorBoard event files."""

    @field_validator("stream", mode="before")
    @classmethod
    def _read_stream(cls, value: object) -> object:
        """Validate a stream's settings as its kind."""
        if isinstance(value, StreamKind):
            return value
        if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
            raise MetaMapError(f"expected a mapping with a kind, one of {', '.join(STREAMS.names())}; got {value!r}")
        return parse(STREAMS.get(value["kind"]), value, f"kind {value['kind']!r}")

    @field_validator("update", "mapper", mode="before")
    @classmethod
    def _complete(cls, value: object, info: ValidationInfo) -> object:
        """Fill in the defaults of streams."""
        default = cls.model_fields[str(info.field_name)].default
        return {**default.flat(), **default.with_new_names(value)} if isinstance(value, Mapping) else value

    @field_validator("learner")
    @classmethod
    def _check_learner(cls, value: dict[str, Any]) -> dict[str, Any]:
        settings = {key: _number(item) if key != "name" else item for key, item in value.items()}
        make_learner(settings)
        return settings

    @field_validator("probe")
    @classmethod
    def _check_probe(cls, value: dict[str, Any]) -> dict[str, Any]:
        return probe_to_json(probe_from_json(value))

    def model_post_init(self, context: Any) -> None:
        """Check constraints between keys."""
        if self.map_steps > self.probe_steps:
            raise MetaMapError(f"map_steps: expected at most probe_steps = {self.probe_steps}, got {self.map_steps}")
        if self.update.batch_tasks < 2:
            raise MetaMapError("update.batch_tasks: expected at least 2, a new rollout and a replayed one, got 1")
        _check_experts(self.experts, self.stream.family_names)
        if self.boundaries == "hidden" and self.probe_repeats < 2:
            raise MetaMapError("boundaries: hidden: the shift detector needs probe_repeats of at least 2, got 1")

    def check_revisits(self, tasks: list[Task]) -> None:
        """Raise an error for a stream with revisits if the config does not allow them.

        Raises:
            MetaMapError: a task comes back; the message names the first.
        """
        back = () if self.revisits else revisits(tasks)
        if back:
            raise MetaMapError(
                f"revisits: false, but {back[0].describe()} of {back[0].family!r} comes back: set revisits: true"
            )

    def resolved(self) -> dict[str, Any]:
        """All settings as JSON values; loading them gives an equal config."""
        return self.model_dump(mode="json")


def list_presets() -> tuple[str, ...]:
    """Names of the bundled configs."""
    folder = resources.files("metamap_rl.stream").joinpath("presets")
    return tuple(sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml")))


def load_config(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> StreamConfig:
    """Load a config.

    Args:
        source: a YAML file, the name of a preset, or the settings themselves.
        overrides: values by dotted key (``{"seeds.learner": 3}``) that replace the source's; text is read as YAML.

    Raises:
        MetaMapError: no such file or preset, not YAML, or an invalid key or value; the message names it and the closest
            valid choice.
    """
    document, what = (dict(source), "stream config") if isinstance(source, Mapping) else _read(source)
    for key, value in (overrides or {}).items():
        document = replaced(document, str(key), value, what)
    if document.get("format", FORMAT) != FORMAT:
        raise MetaMapError(f"{what}: format {document['format']!r}, this metamap_rl reads {FORMAT!r}")
    return parse(StreamConfig, document, what)


def to_yaml(config: StreamConfig) -> str:
    """A config as YAML, with all settings."""
    return dump_yaml(config.resolved())


def _read(source: str | Path) -> tuple[dict[str, Any], str]:
    """Document of a file or preset, and its name for errors."""
    path = Path(source)
    if path.is_file():
        document, what = read_yaml(path), str(path)
    elif str(source) in list_presets():
        text = resources.files("metamap_rl.stream").joinpath("presets", f"{source}.yaml").read_text(encoding="utf-8")
        what = f"preset {str(source)!r}"
        document = parse_yaml(text, what)
    elif path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise MetaMapError(f"{path}: no such file; presets are {', '.join(list_presets())}")
    else:
        raise unknown_name("stream config or preset", str(source), list_presets())
    return settings_of(document, what), what


def _number(value: object) -> object:
    """Convert text to a number if it is one: YAML reads 1e-3, without a dot, as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _check_experts(settings: ExpertSettings, families: tuple[str, ...]) -> None:
    """Check recipe settings and base families before anything is trained.

    Raises:
        MetaMapError: an unknown setting, embodiment or family, or a family of another embodiment.
    """
    known = {get_family(name).embodiment for name in list_families()}
    for embodiment in settings.bases:
        if embodiment not in known:
            raise MetaMapError(f"experts.bases: {unknown_name('embodiment', embodiment, known)}")
    for key in (*settings.overrides, *settings.base_overrides):
        if key not in Recipe.model_fields:
            raise MetaMapError(f"experts: {unknown_name('setting of a recipe', key, Recipe.model_fields)}")
    for name in families:
        load_recipe(name, "expert", **settings.overrides)
    for name in bases_of(families, settings.bases).values():
        load_recipe(name, "base", **settings.base_overrides)


def replaced(document: Mapping[str, Any], key: str, value: Any, what: str) -> dict[str, Any]:
    """A document with the value of a dotted key replaced; text is read as YAML; ``what`` names the document in errors.

    Raises:
        MetaMapError: the text is not YAML, or the value of a key before the last is not a mapping.
    """
    given = parse_yaml(value, f"{what}: {key}") if isinstance(value, str) else value
    return _replaced(document, key.split("."), given, key)


def _replaced(document: Mapping[str, Any], keys: list[str], value: Any, name: str) -> dict[str, Any]:
    """The document with one nested value replaced."""
    first, *rest = keys
    if not rest:
        return {**document, first: value}
    inner = document.get(first) or {}
    if not isinstance(inner, Mapping):
        raise MetaMapError(f"{name}: {first} is not a mapping, so nothing in it can be replaced")
    return {**document, first: _replaced(inner, rest, value, name)}
