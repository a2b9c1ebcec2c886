"""Bundled mappers, each with experts of unseen tasks for comparison.

Built by ``scripts/build_pretrained.py``. A family's folder contains a mapper's artifact, ``experts.safetensors`` and
``experts.json``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metamap_agents.experts.expert import Expert
from metamap_agents.runtime.storage import check_arrays, load_arrays, read_json, save_arrays, write_json
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.registry import list_families
from metamap_envs.values import shown
from metamap_rl.common.bundles import PRETRAINED
from metamap_rl.mapper import artifact
from metamap_rl.mapper.mapper import Mapper

__all__ = [
    "PRETRAINED",
    "bundled_families",
    "find_mapper",
    "load",
    "load_experts",
    "load_mapper",
    "pretrained_folder",
    "save_experts",
]

_IN_BUILD = "mapper"
"""Subfolder of the mapper in a folder of `metamap build`."""


def bundled_families() -> tuple[str, ...]:
    """Names of the families with a bundled mapper, sorted."""
    return tuple(sorted(path.parent.name for path in PRETRAINED.glob("*/mapper.json")))


def pretrained_folder(family: str) -> Path:
    """Folder of a family's bundled mapper.

    Raises:
        MetaMapError: none is bundled for it; the message lists the bundled ones.
    """
    if family not in bundled_families():
        raise unknown_name("bundled mapper", family, bundled_families())
    return PRETRAINED / family


def find_mapper(reference: str | Path) -> tuple[Mapper, Path]:
    """Load a mapper from its folder, or by the name of a family with a bundled one; also returns the folder.

    A folder with a mapper in its subfolder ``mapper``, as `metamap build` writes it, is that mapper's.

    Raises:
        MetaMapError: neither a mapper folder nor the name of a bundled mapper, or a damaged mapper.
    """
    given: object = reference
    if not isinstance(given, str | os.PathLike) or not str(given):
        raise MetaMapError(
            f"mapper: expected its folder or the name of a family with a bundled one, got {shown(given)}"
        )
    folder = Path(reference)
    if (folder / "ensemble.json").is_file():
        raise MetaMapError(
            f"{reference}: ensembles were removed; name one of its mappers, such as {folder / 'member-0'}"
        )
    if (folder / _IN_BUILD / artifact.MANIFEST_FILE).is_file():
        folder = folder / _IN_BUILD
    if not (folder / artifact.MANIFEST_FILE).is_file():
        if str(reference) in bundled_families():
            folder = pretrained_folder(str(reference))
        elif not folder.exists():
            if str(reference) in list_families():
                raise MetaMapError(
                    f"family {str(reference)!r} has no bundled mapper: give the folder of one, as metamap mapper train "
                    f"makes it, or one of {', '.join(bundled_families())}"
                )
            bundled = unknown_name("bundled mapper", str(reference), bundled_families())
            raise MetaMapError(f"no such folder, and {bundled}")
    return Mapper.load(folder), folder


def load(reference: str | Path) -> Mapper:
    """Load a mapper, to adapt with it: ``load("cheetah-velocity").adapt(env)``.

    Args:
        reference: its folder, the folder of `metamap build`, or the name of a family with a bundled mapper; a folder of
            that name has precedence.

    Raises:
        MetaMapError: neither a mapper folder nor the name of a bundled mapper, or a damaged mapper.
    """
    return find_mapper(reference)[0]


def load_mapper(family: str) -> Mapper:
    """Load a family's bundled mapper.

    Raises:
        MetaMapError: none is bundled for it.
    """
    return Mapper.load(pretrained_folder(family))


def save_experts(folder: Path, experts: Sequence[Expert]) -> None:
    """Save experts to a mapper's folder: weights in one file; tasks, returns and records in another.

    Raises:
        MetaMapError: no experts, or the files cannot be written.
    """
    from metamap_agents.experts.zoo import expert_to_json  # imports Stable-Baselines3, slow

    if not experts:
        raise MetaMapError(f"{folder}: a bundle needs at least one expert")
    phis = np.stack([expert.phi for expert in experts])
    save_arrays(folder / "experts.safetensors", {"phi": phis}, {"family": experts[0].task.family})
    write_json(folder / "experts.json", [expert_to_json(expert) for expert in experts])


def load_experts(family: str) -> list[Expert]:
    """Load the experts of a family's bundled mapper: of tasks not used for training or model selection.

    Raises:
        MetaMapError: no mapper is bundled for the family, or the files are damaged.
    """
    from metamap_agents.experts.zoo import expert_from_json  # imports Stable-Baselines3, slow

    folder = pretrained_folder(family)
    path = folder / "experts.json"
    documents = read_json(path)
    if not isinstance(documents, list) or not documents:
        raise MetaMapError(f"{path}: expected a list of experts, got {documents!r}")
    arrays, _ = load_arrays(folder / "experts.safetensors")
    size = arrays["phi"].shape[-1] if "phi" in arrays else 0
    check_arrays(arrays, {"phi": (len(documents), size)}, str(folder / "experts.safetensors"))
    return [expert_from_json(document, phi, str(path)) for document, phi in zip(documents, arrays["phi"], strict=True)]
