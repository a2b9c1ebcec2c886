"""Folders of rl-zoo: a zip of Stable-Baselines3 with its settings and the statistics of VecNormalize."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from metamap_agents.importers.base import IMPORTERS, ForeignPolicy, ImportOptions
from metamap_agents.importers.sb3 import StableBaselines3
from metamap_envs.errors import MetaMapError
from metamap_envs.files import refuse_pipes

__all__ = ["RlZoo"]

_STATISTICS = ("vecnormalize.pkl", "vec_normalize.pkl")
_BEST = "best_model.zip"
_WRAPPERS = ("env_wrapper", "vec_env_wrapper", "frame_stack")
_NOTHING = ("", "null", "~", "None", "none", "false", "False", "0")
_LARGEST_YAML = 1024**2  # bytes


@IMPORTERS.register("rl-zoo")
class RlZoo:
    """A folder of rl-zoo, as ``logs/sac/Pendulum-v1_1``: the last policy, or else ``best_model.zip``.

    Statistics are read from ``vecnormalize.pkl`` without unpickling. A policy that was trained behind wrappers of the
    environment is refused.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()

    def __call__(self, path: Path, options: ImportOptions) -> ForeignPolicy:
        """See `metamap_agents.importers.base.Importer`."""
        archive = _archive(path)
        places = [path, path / archive.stem, *sorted(one for one in path.iterdir() if one.is_dir())]
        settings = _first(places, ("config.yml",))
        normalised = settings is not None and _check_settings(settings)
        if options.normalizer is None:
            statistics = _first(places, _STATISTICS)
            if statistics is None and normalised:
                raise MetaMapError(
                    f"{path}: its observations were normalised (normalize in {settings}), but there is no "
                    f"{_STATISTICS[0]} in it: expected the statistics, or normalizer 'none'"
                )
            options = replace(options, normalizer=statistics)
        return StableBaselines3()(archive, options)


def _archive(folder: Path) -> Path:
    """The zip of the last policy."""
    zips = sorted(path for path in folder.glob("*.zip") if not path.name.startswith("rl_model_"))
    last = [path for path in zips if path.name != _BEST]
    named = [path for path in last if path.with_suffix("").is_dir()]
    for choice in (named, last, zips):
        if len(choice) == 1:
            return choice[0]
    found = ", ".join(path.name for path in zips) or "none"
    raise MetaMapError(f"{folder}: expected a folder of rl-zoo with one zip of a policy, there are {found}")


def _first(folders: list[Path], names: tuple[str, ...]) -> Path | None:
    return next((folder / name for folder in folders for name in names if (folder / name).is_file()), None)


def _check_settings(path: Path) -> bool:
    """Refuse wrappers; returns whether observations were normalised."""
    settings = dict(_settings(path))
    for name in _WRAPPERS:
        if name in settings and not _is_nothing(settings[name]):
            raise MetaMapError(
                f"{path}: {name}: expected a policy that was trained in the environment itself, it has wrappers, "
                "which change its observations or rewards"
            )
    normalize = settings.get("normalize")
    text = normalize.value if isinstance(normalize, ScalarNode) else "" if normalize is None else "mapping"
    return text not in _NOTHING and "norm_obs': False" not in text and "norm_obs=False" not in text


def _settings(path: Path) -> Iterator[tuple[str, Node]]:
    """Settings by name; tags of Python classes, which rl-zoo writes, are not looked at."""
    refuse_pipes(path)
    try:
        if path.stat().st_size > _LARGEST_YAML:
            raise MetaMapError(f"{path}: expected settings of rl-zoo, the file is larger than {_LARGEST_YAML} bytes")
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise MetaMapError(f"{path}: expected settings of rl-zoo as YAML, it cannot be read") from error
    while isinstance(root, SequenceNode) and len(root.value) == 1 and isinstance(root.value[0], SequenceNode):
        root = root.value[0]
    pairs = root.value if isinstance(root, MappingNode | SequenceNode) else []
    for pair in pairs:
        key, value = pair.value if isinstance(pair, SequenceNode) and len(pair.value) == 2 else (pair, None)
        if isinstance(pair, tuple):
            key, value = pair
        if isinstance(key, ScalarNode) and isinstance(value, Node):
            yield key.value, value


def _is_nothing(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value in _NOTHING
