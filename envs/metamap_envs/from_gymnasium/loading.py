"""Declared families by name or by file: reading, checking, finding them again in other processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metamap_envs.errors import MetaMapError, one_line, unknown_name

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

    from metamap_envs.family import Family
    from metamap_envs.from_gymnasium.declaration import Declaration, ParameterEntry
    from metamap_envs.from_gymnasium.targets import Target
    from metamap_envs.parameters import Parameter

__all__ = [
    "VARIABLE",
    "declared_families",
    "declared_records",
    "expect",
    "find_declared",
    "from_gymnasium",
    "is_family_file",
    "load_family",
]

VARIABLE = "METAMAP_FAMILIES"
"""Environment variable: YAML files of families, separated as in PATH. Processes started later find them by it."""

_SUFFIXES = (".yml", ".yaml")


@dataclass(frozen=True)
class _Declared:
    declaration: Declaration
    family: Family


_DECLARED: dict[str, _Declared] = {}
_EXPECTED: dict[str, dict[str, Any]] = {}
"""In a worker: what the process that started it has declared, by name; see `expect`."""


def from_gymnasium(document: Mapping[str, Any]) -> Family:
    """Make a family of any Gymnasium environment from a declaration in its dictionary form, and register its name.

    Processes started later, as those that train experts, do not know it: for them write a file and use `load_family`.

    Args:
        document: name, environment, parameters and so on; see `Declaration`.

    Returns:
        The family, which `get_family` finds by its name from now on.

    Raises:
        MetaMapError: the declaration is wrong, or another family has that name.
    """
    from metamap_envs.from_gymnasium.declaration import read_declaration

    return _declare(read_declaration(document, "family declaration"))


def load_family(path: str | os.PathLike[str]) -> Family:
    """Make a family of any Gymnasium environment from its YAML file, and register its name.

    The file's path is put first in the environment variable METAMAP_FAMILIES, by which processes started later find it.
    A family file names a module to import where its environment is written "module:id": read it before you trust it.

    Args:
        path: of the YAML file.

    Returns:
        The family, which `get_family` finds by its name from now on.

    Raises:
        MetaMapError: no such file, the declaration is wrong, another family has that name, also one in a file that
            METAMAP_FAMILIES lists, or the path cannot stand there.
    """
    from metamap_envs.from_gymnasium.declaration import read_file

    found = Path(path).absolute()
    if os.pathsep in str(found):
        raise MetaMapError(f"family file {str(path)!r}: a path with {os.pathsep!r} in it cannot stand in {VARIABLE}")
    declaration = read_file(found)
    known = declaration.name in _DECLARED
    family = _declare(declaration, found.parent)
    listed = _listed()
    if not known or str(found) not in listed:
        others = [path for path in listed if path != str(found)]
        both = [*others, str(found)] if known else [str(found), *others]  # a worker takes the first of two alike
        os.environ[VARIABLE] = os.pathsep.join(both)
    return family


def declared_families() -> tuple[str, ...]:
    """Names of the example families and of those that are declared already, sorted."""
    return tuple(sorted({*_examples(), *_DECLARED}))


def declaration_of(family: Family) -> dict[str, Any]:
    """What `from_gymnasium` makes a declared family of again.

    Raises:
        MetaMapError: the family is not declared in this process any more.
    """
    if family.name not in _DECLARED:
        raise MetaMapError(f"family {family.name!r} is not declared")
    return _DECLARED[family.name].declaration.model_dump()


def register_declared() -> None:
    """Register the Gymnasium ids of the example families and of those that METAMAP_FAMILIES lists."""
    from metamap_envs.from_gymnasium.ids import register_files

    register_files(_examples().values(), _listed())


def is_family_file(name: object) -> bool:
    """Whether a name is rather the path of a file that declares a family."""
    return isinstance(name, str) and name.endswith(_SUFFIXES)


def find_declared(name: object) -> Family | None:
    """A declared family by its name; None if there is none.

    Raises:
        MetaMapError: a file that is listed in METAMAP_FAMILIES is missing or wrong.
    """
    if not isinstance(name, str):
        return None
    if name not in _DECLARED:
        for path in _listed():
            load_family(path)
            if name in _DECLARED:
                break
    if name not in _DECLARED and name in _examples():
        from metamap_envs.from_gymnasium.declaration import read_file

        _declare(read_file(_examples()[name]))
    if name not in _DECLARED:
        return None
    family = _DECLARED[name].family
    if name in _EXPECTED and _EXPECTED[name] != _record(family):
        raise MetaMapError(
            f"family {name!r} is declared in this worker otherwise than in the process that started it: its file was "
            f"changed meanwhile, or {VARIABLE} names another one here"
        )
    return family


def declared_records() -> dict[str, dict[str, Any]]:
    """What the families are that this process has declared, by name, for `expect` in its workers."""
    return {name: _record(entry.family) for name, entry in _DECLARED.items()}


def expect(records: Mapping[str, dict[str, Any]]) -> None:
    """Refuse from now on a declared family that is another one than `declared_records` said elsewhere."""
    _EXPECTED.clear()
    _EXPECTED.update(records)


def _record(family: Family) -> dict[str, Any]:
    return {"version": family.version, "horizon": family.horizon, "declared": dict(family.declared or {})}


def _listed() -> list[str]:
    return [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]


def _examples() -> dict[str, Path]:
    """Files of the example families by name."""
    folder = Path(str(resources.files("metamap_envs.from_gymnasium"))) / "examples"
    return {path.stem: path for path in sorted(folder.glob("*.yml"))}


# from a declaration to a family --------------------------------------------------------------------------------------


def _declare(declaration: Declaration, folder: Path | None = None) -> Family:
    """The family of a declaration, made on first use; a module of its environment is also looked for in ``folder``.

    Without a folder, it is that of the listed file that declares the same, or else the working directory.
    """
    from metamap_envs.family import list_families
    from metamap_envs.from_gymnasium.ids import register_id
    from metamap_envs.user_env import comes_from_users, failure

    name = declaration.name
    if name in _DECLARED:
        if _DECLARED[name].declaration != declaration:
            raise MetaMapError(
                f"family {name!r} is declared already, with other contents; give the new one another name"
            )
        return _DECLARED[name].family
    if name in list_families():
        raise MetaMapError(f"family {name!r} is part of the package; give the declared one another name")
    listed = _listed_file(declaration)
    folder = folder or (listed.absolute().parent if listed else Path.cwd())
    try:
        family = _build(declaration, folder)
    except (MetaMapError, Warning):
        raise
    except (Exception, SystemExit) as error:
        if not comes_from_users(error):
            raise
        raise MetaMapError(f"family {name!r}: environment {declaration.environment!r}: {failure(error)}") from error
    for other in (entry.family for entry in _DECLARED.values()):
        sizes = [(each.observation_size, each.action_size) for each in (family, other)]
        if other.embodiment == family.embodiment and sizes[0] != sizes[1]:
            raise MetaMapError(
                f"family {name!r} has {sizes[0]} observations and actions, {other.name!r} of the same embodiment "
                f"{other.embodiment!r} has {sizes[1]}; declare another embodiment"
            )
    register_id(family.name, family.gym_id, family.horizon)
    _DECLARED[name] = _Declared(declaration, family)
    return family


def _listed_file(declaration: Declaration) -> Path | None:
    """The listed file that declares a family, None if there is none.

    Raises:
        MetaMapError: a listed file declares it otherwise: processes started later would take that file's.
    """
    from metamap_envs.from_gymnasium.declaration import read_file
    from metamap_envs.from_gymnasium.ids import head_of

    found = [path for path in map(Path, _listed()) if head_of(path).get("name") == declaration.name]
    for path in found:
        if read_file(path) != declaration:
            raise MetaMapError(
                f"family {declaration.name!r} is declared otherwise in {str(path)!r}, which {VARIABLE} lists; give one "
                f"of them another name, or take that file out of {VARIABLE}"
            )
    return found[0] if found else None


def _build(declaration: Declaration, folder: Path) -> Family:
    """Make the class and its one instance; every name in the declaration is looked up in the environment."""
    import gymnasium as gym

    from metamap_envs.from_gymnasium.constructor import argument_names
    from metamap_envs.from_gymnasium.family import GymnasiumFamily, creator_of, make_env
    from metamap_envs.from_gymnasium.models import loads, shares_model, source_of
    from metamap_envs.from_gymnasium.probing import check_overlaps, check_taken
    from metamap_envs.from_gymnasium.targets import ModelField, check_values, resolve
    from metamap_envs.identity import canonical
    from metamap_envs.parameters import ParameterSpace
    from metamap_envs.user_env import close_user_env, failure

    owner = f"family {declaration.name!r}"
    spec = _spec(declaration.environment, owner, folder)
    try:
        creator = creator_of(spec)
    except Exception as error:
        raise MetaMapError(f"{owner}: environment {spec.id!r}: {failure(error)}") from error
    known, others = argument_names(creator)
    for argument in declaration.arguments:
        if argument not in known and not others:
            raise MetaMapError(f"{owner}: {unknown_name('argument of the constructor', argument, known)}")
        _check_argument(owner, argument, declaration.arguments[argument], known.get(argument))
    with loads() as loaded:
        env = make_env(spec, declaration.arguments)
    load = source_of(loaded, getattr(env.unwrapped, "model", None))
    targets: dict[str, Target] = {}
    parameters: list[Parameter] = []
    fixed = {**spec.kwargs, **declaration.arguments}

    def make(arguments: Mapping[str, Any]) -> gym.Env[Any, Any]:
        return make_env(spec, {**declaration.arguments, **arguments})

    second = make({})
    shared = shares_model(env, second)
    close_user_env(second, f"{owner}: environment {spec.id!r}")
    for name, entry in declaration.parameters.items():
        try:
            target, own = resolve(name, entry, env, creator, fixed, None if load is None else loaded[load], make)
            parameters.append(_parameter(name, entry, own))
            check_values(parameters[-1], target)
            if shared and isinstance(target, ModelField):
                raise MetaMapError(
                    f"parameter {name!r}: all environments of {spec.id} hold one and the same MuJoCo model, so that a "
                    "value of one task would be in every other; let the constructor load or copy it"
                )
        except MetaMapError as error:
            raise MetaMapError(f"{owner}: {error}") from None
        for other, taken in targets.items():
            if _place(taken) == _place(target):
                raise MetaMapError(f"{owner}: the parameters {other!r} and {name!r} write the same thing")
        targets[name] = target
    horizon = declaration.horizon or spec.max_episode_steps
    if horizon is None:
        raise MetaMapError(f"{owner}: {spec.id} has no time limit of its own; declare a horizon")
    base = env.unwrapped
    body = {
        "__doc__": GymnasiumFamily.__doc__,
        "__module__": GymnasiumFamily.__module__,
        "name": declaration.name,
        "version": declaration.version,
        "base_id": spec.id,
        "embodiment": declaration.embodiment or spec.id.lower().replace("/", "-").replace("_", "-"),
        "space": ParameterSpace(tuple(parameters)),
        "horizon": horizon,
        "frame_skip": int(getattr(base, "frame_skip", 0)),
        "description": declaration.description or f"{spec.id} with unknown {', '.join(targets)}",
        "physics_parameters": frozenset(targets),
        "spec": spec,
        "arguments": dict(declaration.arguments),
        "targets": targets,
        "declared": canonical(
            {
                "environment": declaration.environment,
                "horizon": horizon,
                "arguments": declaration.arguments,
                "parameters": {name: entry.canonical() for name, entry in declaration.parameters.items()},
                "order": list(declaration.parameters),  # tasks are drawn in it
            }
        ),
        "load": load,
    }
    close_user_env(env, f"{owner}: environment {spec.id!r}")
    family: GymnasiumFamily = type("DeclaredFamily", (GymnasiumFamily,), body)()
    assert family.observation_size + family.action_size  # read here, so that unfit spaces are refused here
    try:
        check_overlaps(targets, getattr(base, "model", None))
        check_taken(family)
    except MetaMapError as error:
        raise MetaMapError(f"{owner}: {error}") from None
    return family


def _check_argument(owner: str, name: str, value: object, own: object) -> None:
    """Refuse text that is a number where the constructor's own value is one: JSON and quotes make such text."""
    if isinstance(value, str) and isinstance(own, int | float) and not isinstance(own, bool):
        try:
            number = float(value)
        except ValueError:
            return  # the environment may read it
        raise MetaMapError(f"{owner}: arguments.{name}: {value!r} is text, expected a number: write {number:g}")


def _place(target: Target) -> Target:
    """What a target writes, whatever it writes there."""
    return replace(target, own=0.0, scale=False)


def _spec(environment: str, owner: str, folder: Path) -> EnvSpec:
    """Gymnasium's spec of an id, importing the module that "module:id" names."""
    import gymnasium as gym

    from metamap_envs.user_modules import import_user_module

    module, colon, name = environment.rpartition(":")
    try:
        if colon:
            import_user_module(module, f"{owner}: environment {environment!r}", folder)
        if name not in gym.registry:
            raise MetaMapError(f"{owner}: {unknown_name('Gymnasium environment', name, _closest_ids(name))}")
        return gym.spec(name)
    except (gym.error.Error, ImportError) as error:
        raise MetaMapError(f"{owner}: environment {environment!r}: {one_line(error)}") from error


def _closest_ids(name: str) -> list[str]:
    """The few registered ids that a wrong one may have meant; there are far too many to list."""
    from difflib import get_close_matches

    import gymnasium as gym

    return get_close_matches(name, list(gym.registry), n=5, cutoff=0.5) or ["CartPole-v1", "HalfCheetah-v5"]


def _parameter(name: str, entry: ParameterEntry, own: float) -> Parameter:
    """The parameter, with bounds that hold every value of its splits and the default, unless declared."""
    from metamap_envs.parameters import Parameter

    default = own if entry.default is None else entry.default
    inside = [*entry.choices, default, *(end for interval in entry.train + entry.out for end in interval)]
    what = next(part for part in (entry.field, entry.option, entry.argument, entry.attribute) if part)
    of = getattr(entry, entry.kind)
    text = f"{'factor on ' if entry.how == 'scale' else ''}{what}" + (f" of {entry.kind} {of}" if entry.field else "")
    return Parameter(
        name=name,
        unit=entry.unit,
        low=min(inside) if entry.low is None else entry.low,
        high=max(inside) if entry.high is None else entry.high,
        default=default,
        train=entry.train,
        out=entry.out,
        choices=entry.choices,
        description=entry.description or text,
        periodic=entry.periodic,
        categorical=entry.categorical,
        scale=entry.scale,
    )
