"""Experiments, one module each; importing the package files them all in `EXPERIMENTS`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metamap_agents.runtime.executors import Executor
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions, read_json, write_json
from metamap_envs.errors import MetaMapError
from metamap_envs.settings import parse, read_document
from metamap_rl.common.cells import OnCell, check_cells, run_cells
from metamap_rl.common.registry import load_modules
from metamap_rl.results.experiments.base import EXPERIMENTS, Experiment
from metamap_rl.stream.config import replaced

__all__ = ["EXPERIMENTS", "Experiment", "make_experiment", "run_experiment", "summarise_run"]

_MANIFEST = "experiment.json"

load_modules(sys.modules[__name__])


def make_experiment(name: str, config: Path | None = None, changes: Sequence[str] = ()) -> Experiment:
    """An experiment with its settings.

    Args:
        name: one of `EXPERIMENTS`.
        config: YAML file of settings.
        changes: ``KEY=VALUE``, in place of the file's; values are YAML.

    Raises:
        MetaMapError: an unknown name, or a setting that is not admitted.
    """
    kind = EXPERIMENTS.get(name)
    document = {} if config is None else read_document(config)
    what = name if config is None else str(config)
    for change in changes:
        key, equals, value = change.partition("=")
        if not key or not equals:
            raise MetaMapError(f"--set: expected KEY=VALUE, got {change!r}")
        document = replaced(document, key, value, what)
    experiment: Experiment = parse(kind, document, what)
    return experiment


def run_experiment(
    name: str, experiment: Any, out: Path, executor: Executor, on_cell: OnCell = lambda name, done, total: None
) -> None:
    """Run the cells that ``out`` has not yet.

    Raises:
        MetaMapError: ``out`` is of another experiment, or holds cells of other settings.
    """
    manifest = out / _MANIFEST
    if manifest.is_file() and (before := read_json(manifest)["experiment"]) != name:
        raise MetaMapError(f"{out} is a run of {before!r}, not of {name!r}: choose another directory")
    check_cells(experiment, out)
    write_json(manifest, {"experiment": name, "settings": experiment.model_dump(mode="json")})
    run_cells(experiment, out, executor, on_cell)


def summarise_run(out: Path) -> tuple[Path, dict[str, Any], list[str]]:
    """Write the document of a run's finished cells; gives its path, the document and its table.

    Raises:
        MetaMapError: ``out`` is no run of an experiment, or no cell of it is done.
    """
    manifest = read_json(out / _MANIFEST)
    name = manifest["experiment"]
    experiment = parse(EXPERIMENTS.get(name), manifest["settings"], str(out))
    cells = [cell for batch in experiment.batches(out) for cell in batch if experiment.is_done(cell)]
    if not cells:
        raise MetaMapError(f"{out}: no cell of {name!r} is done")
    document = {
        **experiment.summary({cell.name: read_json(cell.path) for cell in cells}, out),
        "machine": describe_machine(torch_threads=1),
        "versions": library_versions(),
    }
    path = out / f"{name}.json"
    write_json(path, document)
    return path, document, experiment.table(document)
