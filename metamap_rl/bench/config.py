"""The config of a benchmark: learners, streams, seeds and orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.settings import Settings, Whole, parse, read_document
from metamap_envs.yaml_text import dump_yaml, parse_yaml
from metamap_rl.bench.entry import ExternalSettings, is_external
from metamap_rl.stream.config import StreamConfig, load_config, replaced

__all__ = ["FORMAT", "BenchCell", "BenchConfig", "StreamChoice", "bench_to_yaml", "list_benches", "load_bench"]

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
    streams: Annotated[dict[Label, StreamChoice], Field(min_length=1)]
    """Streams by name in the report."""
    learners: Annotated[dict[Label, dict[str, Any]], Field(min_length=1)]
    """Settings of learners by name in the report. With ``sb3`` an algorithm of Stable-Baselines3, with ``entry`` a
    user's learner, else one of `metamap stream list`, whose ``name`` defaults to the key.
    """
    seeds: Count = 1
    """Seeds of both the streams' tasks and the learners."""
    orders: Count = 1
    """Number of task orders, for kinds of streams with several orders."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Overrides for all streams, by dotted key."""

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
        return "order" in type(self.stream_config(stream).stream).model_fields

    def stream_config(self, stream: str, overrides: Mapping[str, Any] | None = None) -> StreamConfig:
        """A stream's config with the benchmark's overrides, and further ones.

        Raises:
            MetaMapError: an unknown key or value.
        """
        choice = self.streams[stream]
        try:
            return load_config(choice.config, {**self.settings, **choice.set, **(overrides or {})})
        except MetaMapError as error:
            raise MetaMapError(f"streams: {stream}: {error}") from error

    def external(self, learner: str) -> ExternalSettings | None:
        """The settings of an external learner."""
        settings = self.learners[learner]
        return parse(ExternalSettings, settings, f"learner {learner!r}") if is_external(settings) else None

    def cell_config(self, cell: BenchCell) -> StreamConfig:
        """The config of one cell, without an external learner's settings."""
        own = self.learners[cell.learner]
        overrides: dict[str, Any] = {"seeds.stream": cell.seed, "seeds.learner": cell.seed}
        if not is_external(own):
            overrides["learner"] = {"name": cell.learner, **own}
        if self.has_orders(cell.stream):
            overrides["stream.order"] = cell.order
        return self.stream_config(cell.stream, overrides)

    def check(self) -> None:
        """Validate every cell's config.

        Raises:
            MetaMapError: the first invalid one.
        """
        for stream in self.streams:
            for learner in self.learners:
                self.cell_config(BenchCell(stream, learner, 0, 0))


def list_benches() -> tuple[str, ...]:
    """Names of the bundled benchmarks, fastest first."""
    folder = resources.files("metamap_rl.bench").joinpath("presets")
    found = [path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml")]
    order = ("smoke", "small", "standard")
    return tuple(sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name)))


def load_bench(source: str | Path, overrides: Sequence[str] = ()) -> BenchConfig:
    """Load a benchmark.

    Args:
        source: a YAML file, or the name of a preset.
        overrides: ``KEY=VALUE`` with dotted keys, such as ``seeds=2`` or ``streams.NAME.set={...}``; values are YAML.

    Raises:
        MetaMapError: no such file or preset, not YAML, or an invalid key or value.
    """
    path = Path(source)
    if path.is_dir() and (path / "bench.yaml").is_file():
        path = path / "bench.yaml"
    if path.is_file():
        document, what = read_document(path), str(path)
    elif str(source) in list_benches():
        what = f"preset {str(source)!r}"
        preset = resources.files("metamap_rl.bench").joinpath("presets", f"{source}.yaml")
        document = parse_yaml(preset.read_text(encoding="utf-8"), what)
    elif path.is_dir():
        raise MetaMapError(f"{path}: not a benchmark folder: it has no bench.yaml")
    elif path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise MetaMapError(f"{path}: no such file; presets are {', '.join(list_benches())}")
    else:
        raise unknown_name("benchmark or preset", str(source), list_benches())
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


def bench_to_yaml(config: BenchConfig) -> str:
    """A benchmark as YAML, with all settings."""
    return dump_yaml(config.model_dump(mode="json"))
