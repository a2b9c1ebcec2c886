"""The config of a benchmark: which learners go through which streams, how often, in which orders."""

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

__all__ = ["FORMAT", "BenchConfig", "Cell", "StreamChoice", "bench_to_yaml", "list_benches", "load_bench"]

FORMAT = "metamap-bench-1"
"""What a config calls itself; another meaning of a key is another format."""

Count = Annotated[Whole, Field(ge=1)]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""A name that is the name of a folder too."""


class StreamChoice(Settings):
    """A stream config, and what is changed in it."""

    config: str | dict[str, Any]
    """A YAML file, the name of a preset of streams, or the settings themselves."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Other values, by dotted key."""


@dataclass(frozen=True)
class Cell:
    """One learner on one stream, in one order, with one seed."""

    stream: str
    learner: str
    order: int
    seed: int

    @property
    def name(self) -> str:
        """Where it lies below the folder of cells."""
        return f"{self.stream}/{self.learner}-order{self.order}-seed{self.seed}"


class BenchConfig(Settings):
    """A whole benchmark."""

    format: Literal["metamap-bench-1"] = "metamap-bench-1"
    name: Annotated[str, Field(min_length=1)]
    """For people."""
    description: str = ""
    """A line of what it is, for lists."""
    streams: Annotated[dict[Label, StreamChoice], Field(min_length=1)]
    """By the name that they have in the report."""
    learners: Annotated[dict[Label, dict[str, Any]], Field(min_length=1)]
    """Settings by the name that they have in the report. With ``sb3`` an algorithm of Stable-Baselines3, with ``entry``
    a user's own learner, else one of `metamap stream list`, whose ``name`` is by default the key."""
    seeds: Count = 1
    """Each draws the tasks of the streams and everything random in the learner."""
    orders: Count = 1
    """Orders of the same tasks, for the kinds of streams that have several."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Values for all streams, by dotted key."""

    @field_validator("learners")
    @classmethod
    def _check_learners(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for label, settings in value.items():
            if is_external(settings):
                parse(ExternalSettings, settings, f"learner {label!r}")
        return value

    def cells(self) -> list[Cell]:
        """All cells; those that tell most together come first."""
        orders = {stream: self.orders if self.has_orders(stream) else 1 for stream in self.streams}
        return [
            Cell(stream, learner, order, seed)
            for seed in range(self.seeds)
            for order in range(self.orders)
            for stream in self.streams
            for learner in self.learners
            if order < orders[stream]
        ]

    def has_orders(self, stream: str) -> bool:
        """Whether a stream is of a kind that has several orders."""
        return "order" in type(self.stream_config(stream).stream).model_fields

    def stream_config(self, stream: str, overrides: Mapping[str, Any] | None = None) -> StreamConfig:
        """A stream's config with the benchmark's settings, and more of them.

        Raises:
            MetaMapError: an unknown key or value.
        """
        choice = self.streams[stream]
        try:
            return load_config(choice.config, {**self.settings, **choice.set, **(overrides or {})})
        except MetaMapError as error:
            raise MetaMapError(f"streams: {stream}: {error}") from error

    def external(self, learner: str) -> ExternalSettings | None:
        """The settings of a learner that is not one of the mapper's."""
        settings = self.learners[learner]
        return parse(ExternalSettings, settings, f"learner {learner!r}") if is_external(settings) else None

    def cell_config(self, cell: Cell) -> StreamConfig:
        """The config of one cell; an external learner's settings are not in it."""
        own = self.learners[cell.learner]
        overrides: dict[str, Any] = {"seeds.stream": cell.seed, "seeds.learner": cell.seed}
        if not is_external(own):
            overrides["learner"] = {"name": cell.learner, **own}
        if self.has_orders(cell.stream):
            overrides["stream.order"] = cell.order
        return self.stream_config(cell.stream, overrides)

    def check(self) -> None:
        """Read every cell's config.

        Raises:
            MetaMapError: the first that cannot be read.
        """
        for stream in self.streams:
            for learner in self.learners:
                self.cell_config(Cell(stream, learner, 0, 0))


def list_benches() -> tuple[str, ...]:
    """Names of the benchmarks that come along, quickest first."""
    folder = resources.files("metamap_rl.bench").joinpath("presets")
    found = [path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml")]
    order = ("smoke", "small", "standard")
    return tuple(sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name)))


def load_bench(source: str | Path, overrides: Sequence[str] = ()) -> BenchConfig:
    """Read a benchmark.

    Args:
        source: a YAML file, or the name of a preset.
        overrides: ``KEY=VALUE`` with dotted keys, such as ``seeds=2`` or ``streams.NAME.set={...}``; values are YAML.

    Raises:
        MetaMapError: no such file or preset, not YAML, or a key or value that is not admitted.
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
        raise MetaMapError(f"{path}: not the folder of a benchmark: there is no bench.yaml in it")
    elif path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise MetaMapError(f"{path}: no such file; presets are {', '.join(list_benches())}")
    else:
        raise unknown_name("benchmark or preset", str(source), list_benches())
    for setting in overrides:
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise MetaMapError(f"--set expects KEY=VALUE, got {setting!r}")
        document = replaced(document, key, value, what)
    if document.get("format", FORMAT) != FORMAT:
        raise MetaMapError(f"{what}: format {document['format']!r}, this metamap_rl reads {FORMAT!r}")
    config = parse(BenchConfig, document, what)
    config.check()
    return config


def bench_to_yaml(config: BenchConfig) -> str:
    """A benchmark as YAML, every setting in it."""
    return dump_yaml(config.model_dump(mode="json"))
