"""The mapper: a few transitions of a new environment in, the weights of a policy for it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import Positional, arg

from metamap_rl.cli.command import Command, OutPath

if TYPE_CHECKING:
    from metamap_agents.zoo import Zoo
    from metamap_rl.calibration import CalibrationConfig
    from metamap_rl.evaluate import Evaluation
    from metamap_rl.mapper import Mapper, MapperConfig
    from metamap_rl.probe import Probe
    from metamap_rl.train import TrainConfig
    from metamap_rl.workflow import OnUpdate

__all__ = ["COMMANDS", "ORDER", "EvaluateMapper", "ShowMapper", "TrainMapper"]

ORDER = 30


@dataclass(frozen=True, kw_only=True)
class TrainMapper(Command):
    """Train a mapper from the experts of a zoo, or go on where that was stopped.

    Checkpoints go into a file beside the output, named like it with `.checkpoint.safetensors`, until it is done.
    With several members the output is an ensemble: a folder with a mapper in each of its folders.
    """

    name: ClassVar[str] = "train"
    if_stopped: ClassVar[str] = "the last checkpoint is kept if one was due, the same command goes on from it"

    zoo: Annotated[Positional[Path], arg(metavar="ZOO")]
    """Folder of the zoo, with experts of training and validation tasks."""

    out: Annotated[Path, arg(metavar="DIR")]
    """Folder for the mapper."""

    loss: str = "both"
    """What is minimised: behaviour, weights or both."""

    updates: Annotated[int, arg(metavar="N")] = 4000
    """Updates of the mapper."""

    batch_tasks: Annotated[int, arg(metavar="N")] = 16
    """Tasks in a batch."""

    learning_rate: Annotated[float, arg(metavar="RATE")] = 1e-3
    """Highest learning rate."""

    checkpoint_every: Annotated[int, arg(metavar="N")] = 500
    """Updates between checkpoints."""

    probe: str = "base-policy"
    """How D is collected: base-policy, excitation, sinusoid, mixed or seeking."""

    probe_settings: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE")] = ()
    """Settings of the probe, such as noise=0.2."""

    guide: str = ""
    """Folder of the guide that the probe `seeking` follows."""

    encoder: str = "pooling"
    """Network that reads D."""

    hypernetwork: str = "modulation"
    """Network that writes the weights."""

    survey_tasks: Annotated[int, arg(metavar="N")] = 2048
    """Tasks without experts that the encoder learns to tell apart; 0 leaves that out."""

    survey_coefficient: Annotated[float, arg(metavar="SHARE")] = 1.0
    """Share in the loss of telling their parameters; with 0 only an auxiliary loss learns from them."""

    context_size: Annotated[int, arg(metavar="N")] = 32
    """Size of what lies between the two."""

    rounds: Annotated[int, arg(metavar="N")] = 0
    """How often states of the generated policies are added to what the mapper learns from (DAgger)."""

    auxiliary: str | None = None
    """What z is to be good for besides: dynamics, to predict transitions."""

    auxiliary_coefficient: Annotated[float, arg(metavar="SHARE")] = 0.3
    """Share of that in the loss."""

    members: Annotated[int, arg(metavar="N")] = 1
    """Mappers with seeds that count on from --seed; more than one make an ensemble."""

    aligned: bool = False
    """Put the hidden units of each expert in the order of the base policy's, for experts that did not start from it."""
    calibration_tasks: Annotated[int, arg(metavar="N")] = 256
    """Tasks, without experts, that the self-check is calibrated on; 0 leaves the mapper without one."""

    def run(self) -> int:
        """Train, save, remove the checkpoint, print what came out."""
        from metamap_agents.storage import claim_output
        from metamap_agents.zoo import Zoo
        from metamap_envs.errors import MetaMapError
        from metamap_rl.cli.console import print_json
        from metamap_rl.cli.output import whole_folder

        config, shape, probe = self._settings()
        if self.members < 1:
            raise MetaMapError(f"--members expects 1 or more, got {self.members}")
        if self.survey_tasks < 0:
            raise MetaMapError(f"--survey-tasks expects 0 or more, got {self.survey_tasks}")
        if self.calibration_tasks != 0 and self.calibration_tasks < 4:
            raise MetaMapError(f"--calibration-tasks expects 0 or at least 4, got {self.calibration_tasks}")
        if not self.out.name:
            raise MetaMapError(f"--out expects the name of a new folder, got {str(self.out)!r}")
        claim_output(self.out)
        zoo = Zoo.open(self.zoo)
        options: dict[str, Any] = {"survey_tasks": self.survey_tasks, "aligned": self.aligned}
        options |= {"config": config, "mapper_config": shape, "probe": probe}
        if self.members > 1:
            return self._train_ensemble(zoo, options)
        checkpoint = self.out.with_name(f"{self.out.name}.checkpoint.safetensors")
        mapper = _train(zoo, checkpoint, calibration=self._calibration(), **options)
        with whole_folder(self.out) as folder:
            mapper.save(folder)
        checkpoint.unlink(missing_ok=True)
        if self.json:
            print_json(_document(mapper, self.out))
        else:
            _print_mapper(mapper, self.out)
        return 0

    def _train_ensemble(self, zoo: Zoo, options: dict[str, Any]) -> int:
        from metamap_rl.cli.console import print_json
        from metamap_rl.cli.output import whole_folder
        from metamap_rl.workflow import train_ensemble

        names = [f"member-{index}" for index in range(self.members)]
        checkpoints = [self.out.with_name(f"{self.out.name}.{name}.checkpoint.safetensors") for name in names]
        total = self.members * options["config"].steps
        with _training_bar(total) as (on_update, _):
            ensemble = train_ensemble(zoo, self.members, checkpoints=checkpoints, on_update=on_update, **options)
        with whole_folder(self.out) as folder:
            ensemble.save(folder)
        for checkpoint in checkpoints:
            checkpoint.unlink(missing_ok=True)
        if self.json:
            members = zip(ensemble.members, names, strict=True)
            print_json(
                {"folder": self.out, "members": [_document(mapper, self.out / name) for mapper, name in members]}
            )
        else:
            print(f"ensemble of {self.members} mappers in {self.out}, the first of which:")
            _print_mapper(ensemble.members[0], self.out / names[0])
        return 0

    def _calibration(self) -> CalibrationConfig | None:
        from metamap_rl.calibration import CalibrationConfig

        if not self.calibration_tasks:
            return None
        most = self.calibration_tasks // 2
        return CalibrationConfig(
            usual_tasks=self.calibration_tasks, return_tasks=min(most, CalibrationConfig().return_tasks), seed=self.seed
        )

    def _settings(self) -> tuple[TrainConfig, MapperConfig, Probe]:
        from metamap_rl.cli.inputs import read_numbers
        from metamap_rl.mapper import MapperConfig
        from metamap_rl.probe import probe_from_json
        from metamap_rl.train import TrainConfig

        config = TrainConfig(
            loss=self.loss,
            steps=self.updates,
            batch_tasks=self.batch_tasks,
            learning_rate=self.learning_rate,
            checkpoint_every=self.checkpoint_every,
            rounds=self.rounds,
            survey_coefficient=self.survey_coefficient,
            auxiliary=self.auxiliary,
            auxiliary_coefficient=self.auxiliary_coefficient,
            seed=self.seed,
        )
        shape = MapperConfig(encoder=self.encoder, hypernetwork=self.hypernetwork, context_size=self.context_size)
        settings = read_numbers(self.probe_settings, "--probe-settings", _whole_or_float)
        document: dict[str, Any] = {"name": self.probe, **settings}
        return config, shape, probe_from_json(document | ({"guide": self.guide} if self.guide else {}))


@dataclass(frozen=True, kw_only=True)
class EvaluateMapper(Command):
    """Measure mappers on tasks that they never saw, beside the base policy, the experts and controls.

    Mappers of one family, retrained with different seeds, are measured together. "gap closed" is 0 for the base policy
    and 1 for the expert, "normalised" is 0 for random actions; both are interquartile means over mappers and tasks,
    with 95 % bootstrap intervals.
    """

    name: ClassVar[str] = "evaluate"

    mappers: Annotated[Positional[tuple[str, ...]], arg(metavar="DIR [DIR ...]")]
    """Folders of mappers, or names of bundled ones."""

    zoo: Annotated[Path, arg(metavar="ZOO")]
    """Zoo with experts of the tasks to measure on; its training experts are among the controls."""

    split: Literal["train", "validation", "test-in", "test-out"] = "test-in"
    """Tasks to measure on."""

    episodes: Annotated[int, arg(metavar="N")] = 10
    """Episodes for each task and method."""

    steps: Annotated[tuple[int, ...], arg(metavar="N")] = (0, 5, 10, 20, 50, 100, 200)
    """Transitions of D to measure at."""

    controls: bool = True
    """Also measure D of another task, the mean of the training experts and the nearest one."""

    out: OutPath = None
    """File for the JSON document, with all returns."""

    def run(self) -> int:
        """Measure, print the table."""
        from metamap_agents.storage import claim_output, write_json
        from metamap_envs.errors import MetaMapError
        from metamap_rl.cli.console import plain, print_json
        from metamap_rl.cli.inputs import find_mapper

        if not self.mappers:
            raise MetaMapError("mapper evaluate needs at least one mapper: its folder, or the name of a bundled one")
        if self.out is not None:
            claim_output(self.out)
        mappers = [find_mapper(reference)[0] for reference in self.mappers]
        evaluation = self._measure(mappers)
        document = {
            "mappers": list(self.mappers),
            "zoo": str(self.zoo),
            "split": self.split,
            "seed": self.seed,
            **evaluation.summary(generator_seed=self.seed),
        }
        if self.out is not None:
            write_json(self.out, plain(document))
        if self.json:
            print_json(document)
        else:
            _print_evaluation(evaluation, document)
            if self.out is not None:
                print(f"\nall returns are in {self.out}")
        return 0

    def _measure(self, mappers: list[Mapper]) -> Evaluation:
        import numpy as np

        from metamap_agents.zoo import Zoo
        from metamap_envs.errors import MetaMapError
        from metamap_rl.cli.console import progress
        from metamap_rl.evaluate import evaluate_mappers

        zoo = Zoo.open(self.zoo)
        for reference, mapper in zip(self.mappers, mappers, strict=True):
            if mapper.family != zoo.family.name:
                raise MetaMapError(f"{reference} is of family {mapper.family!r}, {zoo.root} is of {zoo.family.name!r}")
            if not np.array_equal(mapper.base.phi, zoo.base.phi):
                raise MetaMapError(f"{reference} was trained on another zoo: its base policy is not that of {zoo.root}")
        experts = zoo.experts(self.split)
        if not experts:
            raise MetaMapError(f"{zoo.root} has no {self.split} experts; `metamap experts train` makes them")
        training = zoo.experts("train") if self.controls else []
        with progress("measuring", None, unit="methods") as bar:

            def on_method(name: str) -> None:
                bar.advance()
                bar.describe(f"measuring: {name}")

            return evaluate_mappers(
                mappers,
                experts,
                lengths=self.steps,
                episodes=self.episodes,
                controls=self.controls,
                training_experts=training,
                on_method=on_method,
            )


@dataclass(frozen=True, kw_only=True)
class ShowMapper(Command):
    """Show a mapper: family, sizes, probe, how it was trained, with which versions."""

    name: ClassVar[str] = "show"

    mapper: Annotated[Positional[str], arg(metavar="DIR")]
    """Folder of the mapper, or the name of a bundled one."""

    def run(self) -> int:
        """Print the manifest in short."""
        from metamap_rl.cli.console import print_json
        from metamap_rl.cli.inputs import find_mapper

        mapper, folder = find_mapper(self.mapper)
        if self.json:
            print_json(_document(mapper, folder))
        else:
            _print_mapper(mapper, folder)
        return 0


def _whole_or_float(text: str) -> float:
    """A whole number where the text is one: `hold=3` must not become 3.0."""
    return int(text) if text.lstrip("+-").isdecimal() else float(text)


def _train(zoo: Zoo, checkpoint: Path, *, config: TrainConfig, **options: Any) -> Mapper:
    """Train under a bar; the options are those of `metamap_rl.workflow.train_mapper`."""
    from metamap_rl.workflow import train_mapper

    with _training_bar(config.steps) as (on_update, describe):
        return train_mapper(
            zoo,
            config=config,
            checkpoint=checkpoint,
            on_update=on_update,
            on_stage=lambda stage: describe(f"self-check: {stage}"),
            **options,
        )


@contextmanager
def _training_bar(updates: int) -> Iterator[tuple[OnUpdate, Callable[[str], None]]]:
    """A bar over updates of one mapper or several; gives what to call after each, and what names a stage."""
    from metamap_rl.cli.console import progress

    with progress("collecting rollouts", updates, unit="updates") as bar:
        seen, validation = 0, ""

        def on_update(done: int, total: int, metrics: Mapping[str, float]) -> None:
            nonlocal seen, validation
            bar.advance(done - seen)
            seen = done
            if "validation" in metrics:
                validation = f", validation {metrics['validation']:.4f}"
            bar.describe(f"mapper, loss {metrics['loss']:.4f}{validation}")

        yield on_update, bar.describe


def _document(mapper: Mapper, folder: Path) -> dict[str, Any]:
    """A mapper for JSON: its manifest, and the sizes that follow from it."""
    from metamap_agents.storage import read_json
    from metamap_rl import artifact

    manifest = read_json(folder / artifact.MANIFEST_FILE)
    record = dict(manifest["record"])
    history = record.pop("history", [])
    return {
        "folder": folder,
        "family": mapper.family,
        "policy": {**mapper.base.spec.to_json(), "weights": mapper.base.spec.size},
        "numbers_per_transition": mapper.feature_size,
        "mapper_weights": sum(parameter.numel() for parameter in mapper.parameters()),
        "probe": mapper.probe,
        "config": manifest["config"],
        "record": record,
        "check": None if mapper.check is None else mapper.check.describe(),
        "validation": _least_validation(history, folder / artifact.MANIFEST_FILE),
        "versions": manifest["versions"],
    }


def _least_validation(history: Any, path: Path) -> float | None:
    """The least validation loss of a training; None if nothing was validated."""
    from metamap_envs.errors import MetaMapError

    try:
        return min((float(entry["validation"]) for entry in history), default=None)
    except (KeyError, TypeError, ValueError):
        raise MetaMapError(f"{path}: record: history: expected a validation loss in each entry") from None


def _print_mapper(mapper: Mapper, folder: Path) -> None:
    """Print a mapper for people."""
    document = _document(mapper, folder)
    record, spec = document["record"], mapper.base.spec
    training = record.get("config")
    training = training if isinstance(training, dict) else {}
    layers = " -> ".join(str(size) for size in (spec.observation_size, *spec.hidden, spec.action_size))
    lines = {
        "folder": str(folder),
        "family": mapper.family,
        "makes": f"{spec.size:,} weights of a {spec.activation} network {layers}",
        "reads": f"transitions of {mapper.feature_size} numbers, any number of them",
        "own weights": f"{document['mapper_weights']:,}",
        "shape": ", ".join(f"{name} {value}" for name, value in document["config"].items()),
        "probe": ", ".join(f"{name} {value}" for name, value in mapper.probe.items()) or "unknown",
        "trained on": f"experts of {record.get('training_tasks', 'unknown')} tasks and a survey of "
        f"{record.get('survey_tasks', 'unknown')} tasks without, loss {training.get('loss', 'unknown')}, "
        f"seed {training.get('seed', 'unknown')}",
        "updates": f"{record.get('updates', 'unknown')}, chosen at {record.get('chosen_update', 'unknown')}",
        "validation": "none" if document["validation"] is None else f"{document['validation']:.5f}",
        "self-check": _check_text(mapper),
        "versions": ", ".join(f"{name} {version}" for name, version in document["versions"].items()),
    }
    for name, text in lines.items():
        print(f"  {name:<12} {text}")


def _check_text(mapper: Mapper) -> str:
    if mapper.check is None:
        return "none"
    least = mapper.check.least_steps
    return "trusts no length of D" if least is None else f"needs {least} transitions or more"


def _print_evaluation(evaluation: Evaluation, document: dict[str, Any]) -> None:
    """Print the protocol's table."""
    from metamap_rl.cli.console import print_table

    count = len(evaluation.tasks)
    print(
        f"tasks: {count} of {document['split']}, mappers: {document['seeds']}, episodes for each task: "
        f"{evaluation.episodes}\n"
        f"gap closed counts {document['counted_tasks']} of {count} tasks: in the others the expert barely beats the "
        f"base policy\n"
    )
    rows: list[tuple[str, ...]] = [
        ("random actions", "", f"{evaluation.random.mean():.1f}", "", "0 by definition"),
        ("base policy", "", f"{evaluation.base.mean():.1f}", "0 by definition", ""),
        ("expert", "", f"{evaluation.expert.mean():.1f}", "1 by definition", "1 by definition"),
    ]
    rows += [
        (
            entry["method"],
            "" if entry["steps"] is None else str(entry["steps"]),
            f"{entry['mean_return']:.1f}",
            _interval(entry["gap_closed"]),
            _interval(entry["normalised"]),
        )
        for entry in document["methods"]
    ]
    right = ("steps of D", "return")
    print_table(("method", *right, "gap closed, IQM [95 %]", "normalised, IQM [95 %]"), rows, right=right)


def _interval(score: dict[str, float] | None) -> str:
    return "no task counts" if score is None else f"{score['iqm']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"


COMMANDS = (TrainMapper, EvaluateMapper, ShowMapper)
