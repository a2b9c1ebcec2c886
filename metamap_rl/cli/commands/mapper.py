"""Mappers: from a few transitions of an environment to the weights of a policy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from metamap_rl.cli.command import Command, OutPath
from metamap_rl.cli.console import say
from metamap_rl.cli.usage import Inline, Metavar, Positional
from metamap_rl.probing.actors import DSource
from metamap_rl.training.config import LENGTHS, CalibrationConfig, MapperRecipe

if TYPE_CHECKING:
    from metamap_agents.experts.zoo import Zoo
    from metamap_rl.evaluation.evaluate import Evaluation
    from metamap_rl.mapper.mapper import Mapper
    from metamap_rl.probing.mixture import ActorPool

__all__ = ["COMMANDS", "ORDER", "CalibrateMapper", "EvaluateMapper", "ShowMapper", "TrainMapper"]

ORDER = 30


@dataclass(frozen=True, kw_only=True)
class TrainMapper(Command):
    """Train a mapper from the experts of a zoo; resumable.

    Checkpoints are written to a file beside the output with the suffix `.checkpoint.safetensors`, removed at the end.
    """

    name: ClassVar[str] = "train"
    if_stopped: ClassVar[str] = "the last checkpoint is kept if one was due, the same command goes on from it"

    zoo: Annotated[Positional[Path], Metavar("ZOO")]
    """Folder of the zoo, with experts of training and validation tasks."""

    out: Annotated[Path, Metavar("DIR")]
    """Folder for the mapper."""

    recipe: Inline[MapperRecipe] = field(default_factory=MapperRecipe)
    """How the mapper is made."""

    probe: str = "base-policy"
    """Probe of the mapper, one of the actors that collect D: base-policy, excitation, sinusoid, mixed or tour."""

    probe_settings: Annotated[tuple[str, ...], Metavar("NAME=VALUE")] = ()
    """Settings of the probe, such as noise=0.2."""

    tour: str = ""
    """Folder of a tour for the probe `tour`; default: a tour of the zoo's experts."""

    calibration_tasks: int = CalibrationConfig.usual_tasks
    """Number of tasks (without experts) for calibrating the self-check; 0 for no self-check. With fewer than 44 harm
    cannot be bounded, so the base policy is always served."""

    def next_command(self) -> str | None:
        """See `Command`."""
        return f"metamap mapper evaluate {quote(str(self.out))} --zoo {quote(str(self.zoo))}"

    def run(self) -> int:
        """Train, save, remove the checkpoint, print the mapper."""
        from metamap_agents.experts.zoo import Zoo
        from metamap_rl.cli.commands._mapper_results import mapper_document, print_mapper
        from metamap_rl.cli.console import print_json
        from metamap_rl.common.folders import whole_folder
        from metamap_rl.training.pipeline import probe_for

        document = self._probe()
        calibration = calibration_of(self.calibration_tasks, self.seed)
        checkpoint = _checkpoint_beside(self.out)
        zoo = Zoo.open(self.zoo)
        with probe_for(zoo, document) as probe:
            mapper = _train(zoo, checkpoint, self.recipe.changed(seed=self.seed), probe=probe, calibration=calibration)
            with whole_folder(self.out) as folder:
                mapper.save(folder)
        checkpoint.unlink(missing_ok=True)
        if self.json:
            print_json(mapper_document(mapper, self.out))
        else:
            print_mapper(mapper, self.out)
        return 0

    def _probe(self) -> dict[str, Any]:
        from metamap_rl.cli.inputs import read_numbers, whole_or_float
        from metamap_rl.probing.documents import probe_from_json, probe_to_json

        settings = read_numbers(self.probe_settings, "--probe-settings", whole_or_float)
        document: dict[str, Any] = {"name": self.probe, **settings}
        document |= {"tour": self.tour} if self.tour else {}
        return probe_to_json(probe_from_json(document))  # refused now, if it is wrong


@dataclass(frozen=True, kw_only=True)
class EvaluateMapper(Command):
    """Measure mappers on unseen tasks, with base policy, experts and controls.

    Mappers of one family, retrained with different seeds, are measured together. "gap closed" is 0 for the base policy
    and 1 for the expert, "normalised" is 0 for random actions; both are interquartile means over mappers and tasks,
    with 95 % bootstrap intervals.
    """

    name: ClassVar[str] = "evaluate"

    mappers: Annotated[Positional[tuple[str, ...]], Metavar("DIR [DIR ...]")]
    """Folders of mappers, or names of bundled ones."""

    zoo: Annotated[Path, Metavar("ZOO")]
    """Zoo with experts of the test tasks; its training experts are used for controls."""

    split: Literal["train", "validation", "test-in", "test-out"] = "test-in"
    """Split of the test tasks."""

    episodes: int = 10
    """Episodes for each task and method."""

    reference_episodes: int = 50
    """Episodes for each task of random actions, base policy and expert; never fewer than --episodes, which are on the
    first of the same reset seeds."""

    steps: tuple[int, ...] = LENGTHS
    """Lengths of D, in transitions."""

    d_from: DSource = "probe"
    """Who collects D: the probe from a reset; service, the expert of another training task in mid-episode, as if the
    task had just changed; service-noisy, the same with noise 0.1; the task's own expert; excitation; or the mixture of
    actors that the first mapper was trained with."""

    controls: bool = True
    """Skip the controls: D of another task, mean, nearest and likeliest expert, and the universal policy given the
    true parameters, the mapper's estimates or those of system identification."""

    out: OutPath = None
    """File for the JSON document with all returns."""

    def run(self) -> int:
        """Measure, print the table."""
        from metamap_agents.runtime.storage import claim_output, write_json
        from metamap_envs.errors import MetaMapError
        from metamap_rl.cli.commands._mapper_results import print_evaluation
        from metamap_rl.cli.console import plain, print_json

        if not self.mappers:
            raise MetaMapError("mapper evaluate needs at least one mapper: its folder, or the name of a bundled one")
        if self.out is not None:
            claim_output(self.out)
        evaluation = self._measure()
        document = {
            "mappers": list(self.mappers),
            "zoo": str(self.zoo),
            "split": self.split,
            "d_from": self.d_from,
            "seed": self.seed,
            **evaluation.summary(generator_seed=self.seed),
        }
        if self.out is not None:
            write_json(self.out, plain(document))
        if self.json:
            print_json(document)
        else:
            print_evaluation(evaluation, document)
            if self.out is not None:
                say(f"\nall returns are in {self.out}")
        return 0

    def _measure(self) -> Evaluation:
        from metamap_rl.cli.console import progress
        from metamap_rl.evaluation.evaluate import evaluate

        with progress("measuring", None, unit="methods") as bar:

            def on_method(name: str) -> None:
                bar.advance()
                bar.describe(f"measuring: {name}")

            return evaluate(
                self.mappers,
                self.zoo,
                split=self.split,
                controls=self.controls,
                on_method=on_method,
                lengths=self.steps,
                episodes=self.episodes,
                reference_episodes=self.reference_episodes,
                d_from=self.d_from,
            )


@dataclass(frozen=True, kw_only=True)
class CalibrateMapper(Command):
    """Give a mapper a self-check, such as one that a stream has exported; a self-check that it has is replaced.

    The mapper's family is simulated: no experts are needed, and no weight of the mapper changes. With a self-check it
    notices in service that the task has changed, and serves the base policy where generated ones are not safe.
    """

    name: ClassVar[str] = "calibrate"

    mapper: Annotated[Positional[str], Metavar("DIR")]
    """Folder of the mapper; with --out also the name of a bundled one."""

    zoo: Annotated[Path | None, Metavar("ZOO")] = None
    """Zoo of the family with the mapper's base policy: D is then collected by a mixture of actors, its experts among
    them, as in service, also for a mapper that was trained on its probe alone; default: as in its training."""

    out: OutPath = None
    """Folder for the calibrated mapper, in single precision; default: its own."""

    calibration_tasks: int = CalibrationConfig.usual_tasks
    """Number of tasks (without experts) for the calibration. With fewer than 44 harm cannot be bounded, so the base
    policy is always served."""

    def next_command(self) -> str | None:
        """See `Command`."""
        return f"metamap mapper show {quote(str(self.out or self.mapper))}"

    def run(self) -> int:
        """Calibrate, save, print the mapper."""
        from metamap_agents.runtime.storage import claim_output
        from metamap_agents.runtime.torch_state import torch_threads
        from metamap_envs.errors import MetaMapError
        from metamap_rl.adaptation.bundled import PRETRAINED, find_mapper
        from metamap_rl.cli.commands._mapper_results import mapper_document, print_mapper
        from metamap_rl.cli.console import print_json, progress
        from metamap_rl.training.calibration import calibrate

        if self.calibration_tasks < 4:
            raise MetaMapError(f"--calibration-tasks: expected at least 4, got {self.calibration_tasks}")
        config = calibration_of(self.calibration_tasks, self.seed)
        mapper, folder = find_mapper(self.mapper)
        if self.out is not None:
            claim_output(self.out)
        elif folder.is_relative_to(PRETRAINED):
            raise MetaMapError(f"{self.mapper}: a bundled mapper is not changed: name another folder with --out")
        elif not os.access(folder, os.W_OK):
            raise MetaMapError(f"{folder}: the folder cannot be written")
        out = self.out or folder
        pool = None if self.zoo is None else _pool_of(self.zoo, mapper)
        with torch_threads(1), progress("self-check", None, unit="stages") as bar:
            mapper.check = calibrate(
                mapper, config, pool=pool, on_stage=lambda stage: bar.describe(f"self-check: {stage}")
            )
        mapper.save(out, overwrite=True)
        if self.json:
            print_json(mapper_document(mapper, out))
        else:
            print_mapper(mapper, out)
        return 0


@dataclass(frozen=True, kw_only=True)
class ShowMapper(Command):
    """Show a mapper: family, sizes, probe, training record, versions."""

    name: ClassVar[str] = "show"

    mapper: Annotated[Positional[str], Metavar("DIR")]
    """Folder of the mapper, or the name of a bundled one."""

    def next_command(self) -> str | None:
        """See `Command`."""
        return f"metamap run {quote(self.mapper)}"

    def run(self) -> int:
        """Print the manifest in short."""
        from metamap_rl.adaptation.bundled import find_mapper
        from metamap_rl.cli.commands._mapper_results import mapper_document, print_mapper
        from metamap_rl.cli.console import print_json

        mapper, folder = find_mapper(self.mapper)
        if self.json:
            print_json(mapper_document(mapper, folder))
        else:
            print_mapper(mapper, folder)
        return 0


def _checkpoint_beside(out: Path) -> Path:
    """The checkpoint file of a mapper; its output folder must not exist."""
    from metamap_agents.runtime.storage import claim_output
    from metamap_envs.errors import MetaMapError

    if not out.name:
        raise MetaMapError(f"--out: expected the name of a new folder, got {str(out)!r}")
    claim_output(out)
    return out.with_name(f"{out.name}.checkpoint.safetensors")


def _pool_of(place: Path, mapper: Mapper) -> ActorPool:
    """The policies of a zoo, for the mixture of actors.

    Raises:
        MetaMapError: not a zoo, one of another family, or one with another base policy than the mapper's.
    """
    import numpy as np

    from metamap_agents.experts.zoo import Zoo
    from metamap_envs.errors import MetaMapError
    from metamap_rl.probing.mixture import ActorPool

    zoo = Zoo.open(place)
    if zoo.family.name != mapper.family:
        raise MetaMapError(f"--zoo: expected a zoo of {mapper.family!r}, {place} is of {zoo.family.name!r}")
    if zoo.base.spec != mapper.base.spec or not np.array_equal(zoo.base.phi, mapper.base.phi):
        raise MetaMapError(f"--zoo: {place}: its base policy is not the mapper's")
    return ActorPool.of_zoo(zoo)


def calibration_of(tasks: int, seed: int) -> CalibrationConfig | None:
    """Calibration config for a number of tasks; None for 0.

    Raises:
        MetaMapError: a number from 1 to 3, or below 0.
    """
    from metamap_envs.errors import MetaMapError

    if tasks != 0 and tasks < 4:
        raise MetaMapError(f"--calibration-tasks: expected 0 or at least 4, got {tasks}")
    if not tasks:
        return None
    default, most = CalibrationConfig(), tasks // 2
    fewer = {name: min(most, getattr(default, name)) for name in ("return_tasks", "harm_tasks")}
    return CalibrationConfig(usual_tasks=tasks, seed=seed, **fewer)


def _train(zoo: Zoo, checkpoint: Path, recipe: MapperRecipe, **options: Any) -> Mapper:
    """Train with a progress bar; options as of `metamap_rl.training.pipeline.train_mapper`."""
    from metamap_rl.cli.console import progress
    from metamap_rl.training.pipeline import train_mapper

    with progress("collecting rollouts", recipe.training.updates, unit="updates") as bar:
        seen, validation = 0, ""

        def on_update(done: int, total: int, metrics: Mapping[str, float]) -> None:
            nonlocal seen, validation
            bar.advance(done - seen)
            seen = done
            if "validation" in metrics:
                validation = f", validation {metrics['validation']:.4f}"
            bar.describe(f"mapper, loss {metrics['loss']:.4f}{validation}")

        return train_mapper(
            zoo,
            recipe=recipe,
            checkpoint=checkpoint,
            on_update=on_update,
            on_stage=lambda stage: bar.describe(f"self-check: {stage}"),
            **options,
        )


COMMANDS = (TrainMapper, CalibrateMapper, EvaluateMapper, ShowMapper)
