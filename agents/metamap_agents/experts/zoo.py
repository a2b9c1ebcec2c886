"""The zoo: a family's base policy and experts on disk, shared by any number of processes."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from metamap_agents.experts.expert import Expert
from metamap_agents.experts.universal import UniversalPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_agents.runtime.storage import (
    check_arrays,
    library_versions,
    load_arrays,
    make_folder,
    read_json,
    save_arrays,
    write_json,
)
from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.identity import check_family, describe_family
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task

__all__ = ["FORMAT_VERSION", "Zoo", "expert_from_json", "expert_to_json"]

FORMAT_VERSION = 1
_MANIFEST = "zoo.json"
_MANIFEST_TYPES = {"format_version": int, "family": str, "family_version": int, "seed": int, "versions": dict}
_EXPERT_KEYS = ("task", "returns", "base_returns", "record")
_NUMBERS_OF_RECORD = ("seconds", "steps")  # of those that everybody reads
_LARGEST_SEED = 2**31 - 1
_LOCK_SECONDS = 0.2
_RENAMED = {"parent": "universal", "has_parent": "has_universal", "put_parent": "put_universal"}


class Zoo:
    """A directory with one family's base policy and experts.

    ::

        zoo.json                       format version, family, seed, library versions
        base.json, base.safetensors    phi_0, normaliser, critic, how it was trained
        parent.json, parent.safetensors  the universal policy, where experts start from it
        experts/<task id>.json         task, returns, how it was trained
        experts/<task id>.safetensors  phi*
        locks/                         held by the process that trains a policy, released when it ends

    Each file is written to a temporary name and renamed, the arrays before the document that refers to them: a reader
    never sees an incomplete expert, and a stopped build can be resumed.

    Use `create` or `open`, not the constructor.
    """

    def __init__(self, root: Path, manifest: dict[str, Any]) -> None:
        self.root = root
        self.manifest = manifest
        self.family: Family = get_family(manifest["family"])
        self.seed: int = manifest["seed"]

    @classmethod
    def create(cls, root: str | Path, family: str, seed: int) -> Zoo:
        """Create a zoo, or open the existing one of the same family and seed.

        Raises:
            MetaMapError: the directory holds something else, or a zoo of another family or seed; unknown family, or a
                seed outside [0, 2^31).
        """
        root, name = Path(root), get_family(family).name
        seed = read_seed(seed, "the seed of a zoo", largest=_LARGEST_SEED)
        if (root / _MANIFEST).exists():
            zoo = cls.open(root)
            if (zoo.family.name, zoo.seed) != (name, seed):
                raise MetaMapError(
                    f"{root}: expected a zoo of {name!r} with seed {seed}, "
                    f"it is one of {zoo.family.name!r} with seed {zoo.seed}; choose another directory"
                )
            return zoo
        if not _is_free(root):
            raise MetaMapError(f"{root} exists and is not a zoo (it has no {_MANIFEST}); choose another directory")
        manifest = {
            "format_version": FORMAT_VERSION,
            "family": name,
            "family_version": get_family(name).version,
            "environment": describe_family(name),
            "seed": seed,
            "versions": library_versions(),
        }
        write_json(root / _MANIFEST, manifest)
        return cls(root, manifest)

    @classmethod
    def open(cls, root: str | Path) -> Zoo:
        """Open a zoo.

        Raises:
            MetaMapError: no zoo there, a damaged one, one of another format version, or of another version of its
                family, or of another declaration of it.
        """
        root = Path(root)
        if not (root / _MANIFEST).is_file():
            raise MetaMapError(f"{root} is not a zoo: it has no {_MANIFEST}; `metamap experts train` makes one")
        manifest = read_json(root / _MANIFEST)
        if not isinstance(manifest, dict) or "format_version" not in manifest:
            raise MetaMapError(f"{root / _MANIFEST}: not the manifest of a zoo, it has no format_version")
        version = manifest["format_version"]
        if version != FORMAT_VERSION:
            raise MetaMapError(f"{root}: expected zoo format version {FORMAT_VERSION}, it has {version!r}")
        for key, kind in _MANIFEST_TYPES.items():
            if not isinstance(manifest.get(key), kind):
                raise MetaMapError(
                    f"{root / _MANIFEST}: {key}: expected {kind.__name__}, got {manifest.get(key, 'nothing')!r}"
                )
        recorded = {**_object(manifest, "environment", root), "version": manifest["family_version"]}
        check_family(recorded, manifest["family"], f"{root}: its experts were")
        return cls(root, manifest)

    # base policy --------------------------------------------------------------------------------------------------

    @property
    def has_base(self) -> bool:
        """Whether the zoo has a base policy."""
        return (self.root / "base.json").is_file()

    @cached_property
    def base(self) -> BasePolicy:
        """The base policy.

        Raises:
            MetaMapError: the zoo has none, or its files do not fit together.
        """
        if not self.has_base:
            raise MetaMapError(f"{self.root} has no base policy yet; `metamap experts train` makes it first")
        path = self.root / "base.safetensors"
        arrays, _ = load_arrays(path)
        return BasePolicy.from_arrays(arrays, read_json(self.root / "base.json"), str(path))

    def put_base(self, base: BasePolicy) -> None:
        """Store the base policy."""
        save_arrays(self.root / "base.safetensors", base.to_arrays(), {"family": self.family.name})
        write_json(self.root / "base.json", base.describe())
        self.__dict__.pop("base", None)

    # experts ------------------------------------------------------------------------------------------------------

    def tasks(self, split: str, count: int) -> list[Task]:
        """Return the first ``count`` tasks of a split under this zoo's seed; a larger count extends a smaller one."""
        return self.family.sample(split, count, self.seed)

    def expert_seed(self, task: Task) -> int:
        """Return the seed of a task's training, a function of the zoo's seed and the task."""
        digest = hashlib.sha256(f"{self.seed}:{task.id}".encode()).digest()
        return int.from_bytes(digest[:4], "big") % 2**31

    def has(self, task: Task) -> bool:
        """Return whether the zoo has the expert of a task."""
        return self._document(task).is_file()

    def missing(self, tasks: Sequence[Task]) -> list[Task]:
        """Return the tasks without an expert."""
        return [task for task in tasks if not self.has(task)]

    @property
    def has_universal(self) -> bool:
        """Whether the zoo has a universal policy."""
        return self._universal_document.is_file()

    @cached_property
    def universal(self) -> UniversalPolicy:
        """The universal policy.

        Raises:
            MetaMapError: the zoo has none, or its files are damaged.
        """
        if not self.has_universal:
            raise MetaMapError(f"{self.root} has no universal policy; `metamap experts train --start parent` trains it")
        path = self.root / "parent.safetensors"
        arrays, _ = load_arrays(path)
        return UniversalPolicy.from_arrays(arrays, read_json(self._universal_document), str(path))

    def put_universal(self, universal: UniversalPolicy) -> None:
        """Store the universal policy."""
        save_arrays(self.root / "parent.safetensors", universal.to_arrays(), {"family": self.family.name})
        write_json(self._universal_document, universal.describe())
        self.__dict__.pop("universal", None)

    @property
    def _universal_document(self) -> Path:
        return self.root / "parent.json"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Names of 0.1, for one release."""
            if (new := _RENAMED.get(name)) is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            warnings.warn(f"Zoo.{name} is now Zoo.{new}", DeprecationWarning, stacklevel=2)
            return getattr(self, new)

    def put(self, expert: Expert) -> None:
        """Store an expert."""
        self._write(expert, self._document(expert.task))

    def _write(self, expert: Expert, path: Path) -> None:
        self.family.check_task(expert.task)
        make_folder(path.parent)
        save_arrays(path.with_suffix(".safetensors"), {"phi": expert.phi}, {"task": expert.task.id})
        write_json(path, expert_to_json(expert))

    def get(self, task: Task) -> Expert:
        """Read a task's expert.

        Raises:
            MetaMapError: the zoo has none, or its files are damaged.
        """
        path = self._document(task)
        if not path.is_file():
            raise MetaMapError(f"{self.root} has no expert for {task.id} ({task.describe()})")
        return self._read(path)

    def experts(self, split: str | None = None) -> list[Expert]:
        """All finished experts (of one split), in the order of their tasks' ids."""
        found = [self._read(path) for path in sorted((self.root / "experts").glob("*.json"))]
        return [expert for expert in found if split is None or expert.task.split == split]

    def _document(self, task: Task) -> Path:
        return self.root / "experts" / f"{task.id}.json"

    def _read(self, path: Path) -> Expert:
        document = read_json(path)
        weights = path.with_suffix(".safetensors")
        arrays, _ = load_arrays(weights)
        check_arrays(arrays, {"phi": (self.base.spec.size,)}, str(weights))
        expert = expert_from_json(document, arrays["phi"], str(path))
        if self.family.check_task(expert.task).id != path.stem:
            raise MetaMapError(f"{path}: expected the expert of {path.stem}, it is of {expert.task.id}")
        return expert

    # several processes --------------------------------------------------------------------------------------------

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Try to be the process that trains a policy.

        Args:
            name: "base", "parent" or the id of a task.

        Yields:
            Whether this process has the claim. The system releases the claim when the process ends, however it ends.

        Raises:
            MetaMapError: the zoo cannot be written to.
        """
        lock = FileLock(self.root / "locks" / f"{name}.lock")
        try:
            Path(lock.lock_file).parent.mkdir(exist_ok=True)
            lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout:
            yield False
            return
        except OSError as error:
            raise MetaMapError(f"{lock.lock_file}: cannot be written ({error.strerror})") from error
        try:
            yield True
        finally:
            lock.release()


def expert_to_json(expert: Expert) -> dict[str, Any]:
    """Return all of an expert but its weights as plain JSON values; `expert_from_json` is the inverse."""
    return {
        "task": expert.task.to_json(),
        "returns": expert.returns.tolist(),
        "base_returns": expert.base_returns.tolist(),
        "record": expert.record,
    }


def expert_from_json(document: object, phi: NDArray[np.float32], what: str) -> Expert:
    """Build an expert from the result of `expert_to_json`.

    Args:
        document: that.
        phi: its weights [P].
        what: the file that the document is from, put in front of the error.

    Raises:
        MetaMapError: a key is missing or left over, a value is of another type, or a weight is not finite.
    """
    if not isinstance(document, dict) or set(document) != set(_EXPERT_KEYS):
        raise MetaMapError(f"{what}: expected an expert, with the keys {', '.join(_EXPERT_KEYS)}")
    record, returns, base_returns = document["record"], document["returns"], document["base_returns"]
    if not isinstance(record, dict):
        raise MetaMapError(f"{what}: record: expected an object, got {record!r}")
    for name in _NUMBERS_OF_RECORD:
        if not _is_number(record.get(name, 0)):
            raise MetaMapError(f"{what}: record: {name}: expected a number, got {record[name]!r}")
    for numbers in (returns, base_returns):
        if not isinstance(numbers, list) or not numbers or not all(map(_is_number, numbers)):
            raise MetaMapError(f"{what}: expected returns, one number for each episode, got {numbers!r}")
    if len(returns) != len(base_returns):
        raise MetaMapError(f"{what}: expected as many base_returns as returns, got {len(base_returns)}, {len(returns)}")
    if not np.isfinite(phi).all():
        raise MetaMapError(f"{what}: phi holds values that are not finite")
    task = Task.from_json(document["task"])
    return Expert(task, phi, np.array(returns, np.float64), np.array(base_returns, np.float64), record)


def _object(manifest: dict[str, Any], key: str, root: Path) -> dict[str, Any]:
    """An object that older manifests do not have."""
    value = manifest.get(key, {})
    if not isinstance(value, dict):
        raise MetaMapError(f"{root / _MANIFEST}: {key}: expected dict, got {value!r}")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _is_free(root: Path) -> bool:
    """Whether a zoo may be made there: nothing is, or only what another process is writing or was killed at."""
    if not root.exists():
        return True
    return root.is_dir() and all(path.match(f".{_MANIFEST}.*.tmp") for path in root.iterdir())
