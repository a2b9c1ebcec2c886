"""What the command line adds to a benchmark's document: learners and environments in a few words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.yaml_text import parse_yaml
from metamap_rl.bench.environments import KIND
from metamap_rl.stream.learners.base import LEARNERS

__all__ = ["is_file_entry", "with_environments", "with_files_at", "with_learners"]

Document = dict[str, Any]


def with_learners(document: Document, learners: Sequence[str]) -> Document:
    """Add learners to a benchmark.

    Args:
        document: of the benchmark.
        learners: ``[NAME=]WHAT`` each: ``file.py:Class``, an algorithm of Stable-Baselines3, a learner of `metamap
            stream list`, or settings in YAML, which need a name. Files are relative to the working directory.

    Raises:
        MetaMapError: none of these, or a name that is taken.
    """
    found = dict(document.get("learners") or {})
    for text in learners:
        name, settings = _learner(text)
        if name in found and found[name] != settings:
            raise MetaMapError(f"--learner: the benchmark has a learner {name!r}: give another name, as in mine={text}")
        found[name] = settings
    return {**document, "learners": found} if learners else document


def _learner(text: str) -> tuple[str, Document]:
    from metamap_rl.bench.sb3 import ALGORITHMS

    name, equals, what = text.partition("=")
    if not equals or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        name, what = "", text
    if what.lstrip().startswith("{"):
        settings = parse_yaml(what, "--learner")
        if not name:
            raise MetaMapError(f"--learner: settings need a name, as in mine={text}")
        return name, settings
    if _is_file(what):
        file, _, kind = what.rpartition(":")
        return name or kind, {"entry": f"{Path(file).absolute()}:{kind}"}
    if what in ALGORITHMS:
        return name or what, {"sb3": what}
    if what in LEARNERS.names():
        return name or what, {"name": what}
    if what.endswith(".py"):
        raise MetaMapError(f"--learner: expected the class behind a colon, as in {what}:MyLearner")
    named = unknown_name("learner", what, {*ALGORITHMS, *LEARNERS.names()})
    raise MetaMapError(f"--learner: {named}; one of your own is file.py:Class")


def is_file_entry(settings: Mapping[str, Any]) -> bool:
    """Whether settings are those of a user's learner in one file, not yet copied into the benchmark."""
    return settings.get("folder") is None and _is_file(str(settings.get("entry") or ""))


def _is_file(entry: str) -> bool:
    file, colon, kind = entry.rpartition(":")
    return bool(colon) and file.endswith(".py") and kind.isidentifier()


def with_files_at(document: Document, folder: Path) -> Document:
    """Make the files of learners absolute; relative ones are relative to ``folder``, that of the document."""
    learners = document.get("learners")
    if not isinstance(learners, Mapping):
        return document
    found = {
        name: {**settings, "entry": str(folder.absolute() / settings["entry"])}
        if isinstance(settings, Mapping) and is_file_entry(settings)
        else settings
        for name, settings in learners.items()
    }
    return {**document, "learners": found}


def with_environments(document: Document, environments: Sequence[str]) -> Document:
    """Replace the environments of a benchmark's only stream of that kind.

    Args:
        document: of the benchmark.
        environments: Gymnasium ids, each with its constructor's arguments behind it or not: ``'Pendulum-v1 {g: 2}'``.

    Raises:
        MetaMapError: the benchmark has no such stream or several, or arguments are no mapping.
    """
    if not environments:
        return document
    streams = dict(document.get("streams") or {})
    names = [name for name, stream in streams.items() if isinstance(stream, Mapping) and stream.get("kind") == KIND]
    if len(names) != 1:
        raise MetaMapError(
            f"--envs: expected a benchmark with one stream of kind: {KIND}, this one has {len(names)}; "
            f"`metamap bench run {KIND} --envs ...` has"
        )
    choices = []
    for text in environments:
        env_id, _, arguments = text.strip().partition(" ")
        kwargs = parse_yaml(arguments, f"--envs: {env_id}") if arguments.strip() else {}
        choices.append({"id": env_id, "kwargs": kwargs})
    streams[names[0]] = {**streams[names[0]], "environments": choices}
    return {**document, "streams": streams}
