"""The config of a benchmark: learners, streams, seeds and orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.settings import Settings, Whole, parse, read_document
from metamap_envs.yaml_text import dump_yaml, parse_yaml
from metamap_rl.bench.entry import ExternalSettings, is_external
from metamap_rl.bench.environments import KIND, EnvironmentStream, EnvironmentStreamConfig
from metamap_rl.bench.result import RUN_PARTS
from metamap_rl.bench.shorthands import with_environments, with_files_at, with_learners
from metamap_rl.bench.tuning import TuningSettings
from metamap_rl.stream.config import StreamConfig, load_config, replaced

__all__ = [
    "CONFIG",
    "FORMAT",
    "BenchCell",
    "BenchConfig",
    "StreamChoice",
    "bench_to_yaml",
    "list_benches",
    "load_bench",
    "open_bench",
]

CONFIG = "bench.yaml"
"""Name of the config in a benchmark's folder."""

FORMAT = "metamap-bench-1"
"""Format of a config; changes with the meaning of a key."""

Count = Annotated[Whole, Field(ge=1)]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""A name that is valid as a folder name."""


class StreamChoice(Settings):
    """A stream config, and overrides."""

    config: str | dict[str, Any]
    """A YAML file, the name of a preset of streams, or the settings themselves."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Overrides by dotted key."""


def _read_stream(value: object) -> object:
    """Validate a stream as what its ``kind`` says."""
    if isinstance(value, Mapping):
        kind = EnvironmentStream if value.get("kind") == KIND else StreamChoice
        if "kind" in value and "config" not in value and kind is StreamChoice:
            raise MetaMapError(f"kind: expected {KIND}, or config: and set: in place of it, got {value['kind']!r}")
        return parse(kind, value, f"kind {KIND!r}" if kind is EnvironmentStream else "stream")
    if not isinstance(value, Settings):
        raise MetaMapError(f"expected a mapping with config: or kind: {KIND}, got {value!r}")
    return value


AnyStream = Annotated[SerializeAsAny[StreamChoice | EnvironmentStream], BeforeValidator(_read_stream)]
"""``config`` and ``set`` for tasks of families, ``kind: environments`` for others."""


@dataclass(frozen=True)
class BenchCell:
    """One learner on one stream, in one order, with one seed."""

    stream: str
    learner: str
    order: int
    seed: int

    @property
    def name(self) -> str:
        """Its path below the folder of cells."""
        return f"{self.stream}/{self.learner}-order{self.order}-seed{self.seed}"


class BenchConfig(Settings):
    """Settings of a benchmark."""

    format: Literal["metamap-bench-1"] = "metamap-bench-1"
    name: Annotated[str, Field(min_length=1)]
    """Name, for display."""
    description: str = ""
    """One-line description, for lists."""
    streams: Annotated[dict[Label, AnyStream], Field(min_length=1)]
    """Streams by name in the report: a config of `metamap stream`, or ``kind: environments``."""
    learners: Annotated[dict[Label, dict[str, Any]], Field(min_length=1)]
    """Settings of learners by name in the report. With ``sb3`` an algorithm of Stable-Baselines3, with ``entry`` a
    user's learner, else one of `metamap stream list`, whose ``name`` defaults to the key.
    """
    seeds: Count = 1
    """Seeds of both the streams' tasks and the learners."""
    orders: Count = 1
    """Number of task orders, for kinds of streams with several orders."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Overrides for all streams of families, by dotted key."""
    tuning: TuningSettings | None = None
    """What is tuned on the first part of each stream, and then frozen; None for nothing."""

    @field_validator("learners")
    @classmethod
    def _check_learners(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for label, settings in value.items():
            if is_external(settings):
                parse(ExternalSettings, settings, f"learner {label!r}")
        return value

    def cells(self) -> list[BenchCell]:
        """All cells, ordered by seed and order first, so that partial results are informative."""
        orders = {stream: self.orders if self.has_orders(stream) else 1 for stream in self.streams}
        return [
            BenchCell(stream, learner, order, seed)
            for seed in range(self.seeds)
            for order in range(self.orders)
            for stream in self.streams
            for learner in self.learners
            if order < orders[stream]
        ]

    def has_orders(self, stream: str) -> bool:
        """Whether a stream is of a kind with several orders."""
        choice = self.streams[stream]
        if isinstance(choice, EnvironmentStream):
            return len(choice.environments) > 1
        return "order" in type(self._stream_config(choice, stream).stream).model_fields

    def _stream_config(
        self, choice: StreamChoice, stream: str, overrides: Mapping[str, Any] | None = None
    ) -> StreamConfig:
        """A stream's config with the benchmark's overrides, and further ones.

        Raises:
            MetaMapError: an unknown key or value.
        """
        try:
            return load_config(choice.config, {**self.settings, **choice.set, **(overrides or {})})
        except MetaMapError as error:
            raise MetaMapError(f"streams: {stream}: {error}") from error

    def external(self, learner: str, values: Mapping[str, Any] | None = None) -> ExternalSettings | None:
        """The settings of an external learner, with some replaced by dotted key."""
        settings = self.learners[learner]
        if not is_external(settings):
            return None
        for key, value in (values or {}).items():
            settings = replaced(settings, key, value, f"learner {learner!r}")
        return parse(ExternalSettings, settings, f"learner {learner!r}")

    def cell_config(
        self, cell: BenchCell, values: Mapping[str, Any] | None = None, *, stop_after: int | None = None
    ) -> StreamConfig | EnvironmentStreamConfig:
        """The config of one cell, without an external learner's settings.

        Args:
            cell: which.
            values: of the config by dotted key, for a mapper's learner.
            stop_after: arrivals after which the stream ends; scores on held-out tasks are left out then.

        Raises:
            MetaMapError: an unknown key or value, or a mapper's learner on a stream of environments.
        """
        choice, own = self.streams[cell.stream], self.learners[cell.learner]
        if isinstance(choice, EnvironmentStream):
            if not is_external(own):
                raise MetaMapError(
                    f"streams: {cell.stream}: learner {cell.learner!r} is a mapper's, which needs families with "
                    f"experts; on kind: {KIND} expected sb3: (an algorithm) or entry: (a class of yours)"
                )
            changes: dict[str, Any] = {"order": cell.order}
            if stop_after is not None:
                changes |= {"stop_after": stop_after, "held_out": ()}
            ordered = choice.model_copy(update=changes)
            seeds = {"stream": cell.seed, "learner": cell.seed}
            return parse(EnvironmentStreamConfig, {"name": cell.stream, "stream": ordered, "seeds": seeds}, cell.stream)
        overrides: dict[str, Any] = {"seeds.stream": cell.seed, "seeds.learner": cell.seed}
        if not is_external(own):
            overrides |= {"learner": {"name": cell.learner, **own}, **(values or {})}
        if stop_after is not None:
            overrides |= {"stop_after": stop_after, "evaluation.held_out": 0, "evaluation.lengths": []}
        if self.has_orders(cell.stream):
            overrides["stream.order"] = cell.order
        return self._stream_config(choice, cell.stream, overrides)

    def check(self) -> None:
        """Validate every cell's config.

        Raises:
            MetaMapError: the first invalid one.
        """
        for stream in self.streams:
            if stream in RUN_PARTS:
                raise MetaMapError(f"streams: {stream!r} is a folder without results: choose another name")
            for learner in self.learners:
                self.cell_config(BenchCell(stream, learner, 0, 0))
        for stream, choice in self.streams.items():
            if isinstance(choice, EnvironmentStream) and choice.order:
                raise MetaMapError(
                    f"streams: {stream}: order is set by the benchmark: expected orders: N beside streams"
                )
        if self.settings and all(isinstance(stream, EnvironmentStream) for stream in self.streams.values()):
            raise MetaMapError(
                f"settings: {next(iter(self.settings))} is of streams of families, and all streams here are of kind: "
                f"{KIND}, which have their own keys, as in --set streams.{next(iter(self.streams))}.episodes=20"
            )
        if self.tuning is None:
            return
        for learner in self.tuning.grids:
            if learner not in self.learners:
                raise MetaMapError(f"tuning: grids: {unknown_name('learner', learner, self.learners)}")
            for values in self.tuning.candidates(learner):
                self.external(learner, values)
                for stream in self.streams:
                    self.cell_config(BenchCell(stream, learner, 0, 0), values)


def list_benches() -> tuple[str, ...]:
    """Names of the bundled benchmarks, fastest first."""
    folder = resources.files("metamap_rl.bench").joinpath("presets")
    found = [path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml")]
    order = ("smoke", "small", "standard")
    return tuple(sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name)))


def load_bench(
    source: str | Path,
    overrides: Sequence[str] = (),
    *,
    learners: Sequence[str] = (),
    environments: Sequence[str] = (),
) -> BenchConfig:
    """Load a benchmark.

    Args:
        source: a YAML file, or the name of a preset.
        overrides: ``KEY=VALUE`` with dotted keys, such as ``seeds=2`` or ``streams.NAME.set={...}``; values are YAML.
        learners: learners to add, see `with_learners`.
        environments: environments of the stream of that kind, see `with_environments`.

    Raises:
        MetaMapError: no such file or preset, not YAML, or an invalid key or value.
    """
    path = Path(source)
    if path.is_dir() and (path / CONFIG).is_file():
        path = path / CONFIG
    if path.is_file():
        document, what = with_files_at(read_document(path), path.parent), str(path)
    elif str(source) in list_benches():
        what = f"preset {str(source)!r}"
        preset = resources.files("metamap_rl.bench").joinpath("presets", f"{source}.yaml")
        document = parse_yaml(preset.read_text(encoding="utf-8"), what)
    elif path.is_dir():
        raise MetaMapError(f"{path}: not a benchmark folder: it has no {CONFIG}")
    elif path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise MetaMapError(f"{path}: no such file; presets are {', '.join(list_benches())}")
    else:
        raise unknown_name("benchmark or preset", str(source), list_benches())
    document = with_learners(with_environments(document, environments), learners)
    for setting in overrides:
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise MetaMapError(f"--set: expected KEY=VALUE, got {setting!r}")
        document = replaced(document, key, value, what)
    if document.get("format", FORMAT) != FORMAT:
        raise MetaMapError(f"{what}: format {document['format']!r}, this metamap_rl reads {FORMAT!r}")
    config = parse(BenchConfig, document, what)
    config.check()
    return config


def open_bench(out: Path) -> BenchConfig:
    """Load the benchmark of a folder.

    Raises:
        MetaMapError: not a benchmark folder.
    """
    if not (out / CONFIG).is_file():
        raise MetaMapError(f"{out}: not a benchmark folder: it has no {CONFIG}")
    return load_bench(out / CONFIG)


def bench_to_yaml(config: BenchConfig) -> str:
    """A benchmark as YAML, with all settings."""
    return dump_yaml(config.model_dump(mode="json"))
