"""Identity of a family's environments in stored documents, and the check that it has not changed.

A family of this package is identified by its version; one that is declared in YAML by its declaration as well, so that
an edit of the file shows even if its version was not raised.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.registry import get_family

__all__ = ["check_environments", "check_family", "describe_family", "environment_id", "is_family"]

Document = dict[str, Any]


def describe_family(name: str) -> Document:
    """The record of a family's environments for stored documents, as plain JSON values; see `check_family`.

    Raises:
        MetaMapError: unknown family.
    """
    family = get_family(name)
    return {"version": family.version} | ({} if family.declared is None else {"declared": dict(family.declared)})


def is_family(name: str) -> bool:
    """Whether a family of that name is known here, and can be made; those of functions are none.

    A family that is declared in a file is known once that is loaded.
    """
    try:
        get_family(name)
    except MetaMapError:
        return False
    return True


def check_family(recorded: Mapping[str, Any] | None, name: str, what: str) -> Family:
    """Refuse something that was made in other environments than the family has now.

    Args:
        recorded: what `describe_family` gave when the document was written; None or empty where the document is older
            than this record.
        name: the family.
        what: what was made, with its verb, as the error begins ("zoo: its experts were").

    Returns:
        The family.

    Raises:
        MetaMapError: unknown family, or its version or declaration is another one; the sentence names what differs.
    """
    family = get_family(name)
    recorded = recorded if isinstance(recorded, Mapping) else {}
    if recorded.get("version", family.version) != family.version:
        raise MetaMapError(
            f"{what} made in {name!r} version {recorded['version']}, installed is version {family.version}"
        )
    before, now = recorded.get("declared"), family.declared
    if before is None or now is None or before == now:
        return family
    changes = [f"{key} was {_shown(old)}, is {_shown(new)}" for key, old, new in _differences(before, now)]
    raise MetaMapError(
        f"{what} made with another declaration of the family {name!r} of the same version: {'; '.join(changes[:3])}. "
        "Restore its file, or raise its version and make this anew elsewhere"
    )


def environment_id(name: str) -> str:
    """The Gymnasium id of a family, which ends in its version; of a declared one with a digest of the declaration.

    Raises:
        MetaMapError: unknown family.
    """
    family = get_family(name)
    if family.declared is None:
        return family.gym_id
    digest = hashlib.sha256(json.dumps(family.declared, sort_keys=True).encode()).hexdigest()
    return f"{family.gym_id} ({digest[:12]})"


def check_environments(recorded: Mapping[str, str], what: str) -> None:
    """Refuse to go on in other environments than those recorded.

    Args:
        recorded: `environment_id` of each family; older documents have the Gymnasium id alone.
        what: what goes on, put in front of the error.

    Raises:
        MetaMapError: unknown family, or one whose version or declaration is another by now.
    """
    for name, before in recorded.items():
        now = environment_id(name)
        if before not in (now, get_family(name).gym_id):
            raise MetaMapError(
                f"{what}: was made in {before} of family {name!r}, which is {now} by now: restore its file or its "
                "version, or begin anew elsewhere"
            )


_MISSING = object()


def _differences(before: object, now: object, place: str = "") -> Iterator[tuple[str, object, object]]:
    """(dotted key, value before, value now) of each value that differs."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key, _MISSING), now.get(key, _MISSING), f"{place}.{key}".lstrip("."))
    elif before != now:
        yield place or "it", before, now


def _shown(value: object) -> str:
    text = "not given" if value is _MISSING else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
