"""The Protocol of exporters, their registry, and `export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias, get_args

from metamap_agents.runtime.storage import claim_output
from metamap_envs.errors import MetaMapError
from metamap_envs.rollout import Rollout
from metamap_rl.adaptation.one_shot import AdaptedPolicy
from metamap_rl.adaptation.plain import PlainPolicy
from metamap_rl.common.registry import Registry
from metamap_rl.mapper.mapper import Mapper

__all__ = ["EXPORTERS", "Exporter", "Source", "export"]

Source: TypeAlias = AdaptedPolicy | PlainPolicy | Mapper | Rollout | Sequence[Rollout]

_KINDS: dict[type, str] = {PlainPolicy: "a policy", Mapper: "a mapper", list: "rollouts"}


class Exporter(Protocol):
    """Protocol of exporters: one format, with a function for each kind of source."""

    suffix: ClassVar[str]
    """End of the file's name; "" for a folder."""

    writes: ClassVar[tuple[type, ...]]
    """Kinds of sources: `PlainPolicy`, `Mapper` and ``list``, of rollouts."""

    def __call__(self, source: Any, path: Path) -> None:
        """Write a source of one of these kinds; the file is written whole or not at all.

        Raises:
            MetaMapError: the source has no such form, a library is missing, or the file cannot be written.
        """
        ...


EXPORTERS: Registry[type[Exporter]] = Registry("export format")


def export(source: Source, path: str | Path, to: str | None = None) -> Path:
    """Write a policy, a mapper or rollouts as a file of another tool.

    Exported policies take raw observations and return clipped actions: the observation normaliser is folded into their
    first layer. In the spaces of an environment that are flat and of floats they are those of that environment, else
    those of the family.

    Args:
        source: a policy, as `adapt` returns it; a mapper; one rollout or several of one family.
        path: the file, or the folder of a data set; must not exist.
        to: name of the format in `EXPORTERS`; None for the one that the path ends in.

    Returns:
        The path.

    Raises:
        MetaMapError: unknown format, one that the source does not have, an existing file, or a missing library.
    """
    path = Path(path)
    exporter = EXPORTERS.get(to if to is not None else _named(path))()
    plain = source.plain() if isinstance(source, AdaptedPolicy) else source
    if isinstance(plain, Rollout):
        plain = [plain]
    if not isinstance(plain, PlainPolicy | Mapper):
        plain = _rollouts(plain)
    if not isinstance(plain, exporter.writes):
        possible = [name for name in EXPORTERS.names() if isinstance(plain, EXPORTERS.get(name).writes)]
        kinds, given = " or ".join(_KINDS[kind] for kind in exporter.writes), _KINDS[type(plain)]
        hint = "; metamap adapt MAPPER --out DIR makes a policy with it" if isinstance(plain, Mapper) else ""
        raise MetaMapError(
            f"{path}: expected {kinds} for this format, got {given}, for which there is {', '.join(possible)}{hint}"
        )
    if path.suffix != exporter.suffix and exporter.suffix:
        raise MetaMapError(f"{path}: expected a name that ends in {exporter.suffix}")
    exporter(plain, claim_output(path))
    return path


def _named(path: Path) -> str:
    """Name of the format that a file's name ends in."""
    found = [name for name in EXPORTERS.names() if EXPORTERS.get(name).suffix == path.suffix]
    if not found:
        known = ", ".join(f"{name} ({EXPORTERS.get(name).suffix or 'a folder'})" for name in EXPORTERS.names())
        raise MetaMapError(f"{path}: no format ends so, expected one of {known}")
    return found[0]


def _rollouts(source: object) -> list[Rollout]:
    """Rollouts of one family.

    Raises:
        MetaMapError: something else, none, or of several families.
    """
    given = list(source) if isinstance(source, Sequence) and not isinstance(source, str | bytes) else []
    rollouts = [one for one in given if isinstance(one, Rollout)]
    if not rollouts or len(rollouts) < len(given):
        kinds = ", ".join(kind.__name__ for kind in get_args(Source)[:-1])
        raise MetaMapError(f"export: expected one of {kinds} or a list of rollouts, got {type(source).__name__}")
    if len({one.family for one in rollouts}) > 1:
        raise MetaMapError("export: expected rollouts of one family")
    return rollouts
