"""The config of a stream: YAML in, frozen and checked settings out, and back to YAML beside the results."""

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
"""What a config calls itself; another meaning of a key is another format."""

Positive = Annotated[Whole, Field(ge=1)]
Share = Annotated[Number, Field(ge=0, le=1)]

UPDATE = UpdateConfig(updates=300, states_per_task=64, learning_rate=2e-3, warmup=10, lengths=(10, 20, 50, 100, 200))
SHAPE = MapperConfig(hypernetwork="residual")
"""What streams are measured with, where it is not the default of mappers."""


class ExpertSettings(Settings):
    """Where experts come from."""

    start: Literal["phi-hat", "phi-0"] = "phi-hat"
    """phi-hat: trained in the stream, from the generated policy. phi-0: from the cache, where each is trained once from
    the base policy, so that all learners learn from the same pairs (D, phi*)."""
    budget: Annotated[Number, Field(gt=0)] = 1.0
    """Share of the expert recipe's steps that training from phi-hat may take."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Settings that replace the expert recipe's, whose ``start`` is base here: a universal policy is trained over
    a whole family, which a stream does not know beforehand."""
    base_overrides: dict[str, Any] = Field(default_factory=dict)
    """Settings that replace the base recipe's."""
    bases: dict[str, str] = Field(default_factory=dict)
    """Family that the base policy is trained over, by embodiment; by default the first of its families by name."""


class ServeSettings(Settings):
    """When the generated policy is served as it is, and no expert is trained."""

    enabled: bool = True
    gap: Share = 0.9
    """Share of the gain that stored tasks' experts promise over the base policy, which it must have reached."""
    confidence: Share = 0.5
    """Least confidence."""
    episodes: Positive = 4
    """Episodes of the generated and of the base policy that are run to check."""


class AcceptSettings(Settings):
    """When an update of the mapper is kept."""

    enabled: bool = True
    tolerance: Annotated[Number, Field(ge=0)] = 0.0
    """How much worse the validation loss may get, as a share of itself."""
    items: Positive = 32
    """Most stored tasks that are validated on."""


class EvaluationSettings(Settings):
    """How the stream is measured; nothing of it reaches the mapper."""

    held_out: Annotated[Whole, Field(ge=0)] = 4
    """Tasks of each family that are never trained on."""
    split: Literal["validation", "test-in", "test-out"] = "validation"
    """Split that they are of; test splits are for final numbers."""
    episodes: Positive = 10
    """Episodes of each task and measurement."""
    every: Positive = 1
    """Stages between measurements of all tasks; in between the current and the next task are measured."""
    lengths: tuple[Positive, ...] = ()
    """Steps of D besides `map_steps`: the next task is measured from each before it arrives, the held-out tasks after
    the last stage."""
    reference: bool = True
    """Whether experts of all these tasks are trained, so that returns become scores."""


class SeedSettings(Settings):
    """Seeds, apart from one another."""

    stream: Seed = 0
    """Of the tasks, of probes and of experts trained in the stream."""
    learner: Seed = 0
    """Of the mapper, memory and updates."""
    evaluation: Seed = 0
    """Of held-out tasks and of everything that is measured with."""


class StreamConfig(Settings):
    """A whole stream."""

    format: Literal["metamap-stream-1"] = "metamap-stream-1"
    name: Annotated[str, Field(min_length=1)]
    """For people."""
    description: str = ""
    """A line of what it is, for lists."""
    stream: SerializeAsAny[StreamKind]
    """What arrives: a kind and its settings."""
    boundaries: Literal["given", "hidden"] = "given"
    """Whether the learner is told where one task ends and another begins."""
    revisits: bool = True
    """Whether a task may come back; if not, a stream in which one does is refused."""
    learner: dict[str, Any] = Field(default_factory=lambda: {"name": "replay"})
    """Name and settings of the learner."""
    memory_bytes: Positive = 8_000_000
    """Most bytes of stored rollouts."""
    probe: dict[str, Any] = Field(default_factory=lambda: probe_to_json(BasePolicyProbe()))
    """How D is collected."""
    probe_steps: Positive = 200
    """Transitions of each rollout."""
    probe_repeats: Positive = 4
    """Rollouts of each arrival; one of them is held out to validate on, and hidden boundaries need two."""
    map_steps: Positive = 50
    """Transitions of D that phi_hat is generated from, at most `probe_steps`."""
    update: UpdateConfig = UPDATE
    """How the mapper is updated after a task; the work does not depend on how many came before."""
    mapper: MapperConfig = SHAPE
    """Shape of the mapper."""
    experts: ExpertSettings = ExpertSettings()
    serve: ServeSettings = ServeSettings()
    accept: AcceptSettings = AcceptSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    seeds: SeedSettings = SeedSettings()
    on_error: Literal["stop", "continue"] = "stop"
    """What happens when a stage fails: an expert that diverges, physics that blow up, a damaged file in memory."""
    tensorboard: bool = False
    """Whether to write curves for TensorBoard too."""

    @field_validator("stream", mode="before")
    @classmethod
    def _read_stream(cls, value: object) -> object:
        """Read a stream's settings as its kind."""
        if isinstance(value, StreamKind):
            return value
        if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
            raise MetaMapError(f"expected a mapping with a kind, one of {', '.join(STREAMS.names())}; got {value!r}")
        return parse(STREAMS.get(value["kind"]), value, f"kind {value['kind']!r}")

    @field_validator("update", "mapper", mode="before")
    @classmethod
    def _complete(cls, value: object, info: ValidationInfo) -> object:
        """What is left out is as streams are measured."""
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
        """Check what concerns several keys."""
        if self.map_steps > self.probe_steps:
            raise MetaMapError(f"map_steps: expected at most probe_steps = {self.probe_steps}, got {self.map_steps}")
        if self.update.batch_tasks < 2:
            raise MetaMapError("update.batch_tasks: expected at least 2, a new rollout and a replayed one, got 1")
        _check_experts(self.experts, self.stream.family_names)
        if self.boundaries == "hidden" and self.probe_repeats < 2:
            raise MetaMapError("boundaries: hidden: the shift detector needs probe_repeats of at least 2, got 1")

    def check_revisits(self, tasks: list[Task]) -> None:
        """Refuse a stream in which a task comes back, where the config does not allow it.

        Raises:
            MetaMapError: one does; it names the first.
        """
        back = () if self.revisits else revisits(tasks)
        if back:
            raise MetaMapError(
                f"revisits: false, but {back[0].describe()} of {back[0].family!r} comes back: set revisits: true"
            )

    def resolved(self) -> dict[str, Any]:
        """Every setting as plain values; reading them back gives an equal config."""
        return self.model_dump(mode="json")


def list_presets() -> tuple[str, ...]:
    """Names of the configs that come along."""
    folder = resources.files("metamap_rl.stream").joinpath("presets")
    return tuple(sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml")))


def load_config(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> StreamConfig:
    """Read a config.

    Args:
        source: a YAML file, the name of a preset, or the settings themselves.
        overrides: values by dotted key (``{"seeds.learner": 3}``) that replace the source's; text is read as YAML.

    Raises:
        MetaMapError: no such file or preset, not YAML, or a key or value that is not admitted: one sentence that names
            it and the closest valid choice.
    """
    document, what = (dict(source), "stream config") if isinstance(source, Mapping) else _read(source)
    for key, value in (overrides or {}).items():
        document = replaced(document, str(key), value, what)
    if document.get("format", FORMAT) != FORMAT:
        raise MetaMapError(f"{what}: format {document['format']!r}, this metamap_rl reads {FORMAT!r}")
    return parse(StreamConfig, document, what)


def to_yaml(config: StreamConfig) -> str:
    """A config as YAML, every setting in it."""
    return dump_yaml(config.resolved())


def _read(source: str | Path) -> tuple[dict[str, Any], str]:
    """A file's or preset's document, and what to call it in an error."""
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
    """Text that is a number as the number: YAML reads 1e-3, without a dot, as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _check_experts(settings: ExpertSettings, families: tuple[str, ...]) -> None:
    """Refuse recipe settings and base families that would fail only when something has been trained already.

    Raises:
        MetaMapError: an unknown setting, embodiment or family, or one that does not fit.
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
    """A document with the value of a dotted key replaced, text being read as YAML; ``what`` is what errors call it.

    Raises:
        MetaMapError: the text is not YAML, or a key before the last is no mapping.
    """
    given = parse_yaml(value, f"{what}: {key}") if isinstance(value, str) else value
    return _replaced(document, key.split("."), given, key)


def _replaced(document: Mapping[str, Any], keys: list[str], value: Any, name: str) -> dict[str, Any]:
    """The document with one value replaced, whatever mappings lead to it."""
    first, *rest = keys
    if not rest:
        return {**document, first: value}
    inner = document.get(first) or {}
    if not isinstance(inner, Mapping):
        raise MetaMapError(f"{name}: {first} is no mapping, so nothing in it can be replaced")
    return {**document, first: _replaced(inner, rest, value, name)}
