"""From the declaration of a family of an MJCF model to the family: every name in it is looked up in the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metamap_envs.errors import MetaMapError, prefixed
from metamap_envs.from_gymnasium.effects import check_effects
from metamap_envs.from_gymnasium.fields import ModelField, own_value
from metamap_envs.from_gymnasium.probing import check_overlaps
from metamap_envs.from_gymnasium.ranges import parameter_of
from metamap_envs.from_gymnasium.targets import check_values
from metamap_envs.mjcf.actuation import Actuation
from metamap_envs.mjcf.binding import Binding
from metamap_envs.mjcf.declaration import ModelDeclaration, ModelParameter
from metamap_envs.mjcf.family import MjcfFamily
from metamap_envs.mjcf.files import digest_of, read_model
from metamap_envs.mjcf.lengths import check_link
from metamap_envs.mjcf.lists import Lists, read_lists
from metamap_envs.mjcf.starts import Starts
from metamap_envs.mjcf.trial import try_out
from metamap_envs.parameters import Parameter, ParameterSpace

__all__ = ["build"]


def build(declaration: ModelDeclaration, folder: Path) -> MjcfFamily:
    """Make the class of a declared family and its one instance.

    Args:
        declaration: of the family; the path of its model is absolute.
        folder: where modules of Python are looked for, besides Python's path.

    Raises:
        MetaMapError: something in the declaration does not fit the model, or the model cannot be used.
    """
    with prefixed(f"family {declaration.name!r}"):
        path = Path(declaration.model)
        spec, model = read_model(path)
        binding = Binding(spec, model, tuple(declaration.parameters), folder)
        actuation = Actuation.of(model)
        lists = read_lists(declaration, binding)
        fields, links, parameters = _resolved(declaration, binding)
        check_overlaps(fields, model)
        check_effects(fields, parameters, model)
        body = {
            **_identity(declaration, path, lists),
            "space": ParameterSpace(tuple(parameters)),
            "physics_parameters": frozenset([*fields, *links]),
            "structural_parameters": frozenset([*fields, *links]),
            "spec": spec,
            "fields": fields,
            "links": links,
            "readouts": binding.readouts,
            "current_readouts": bool(binding.readouts) and declaration.derived == "current",
            "measures": lists.measures,
            "sizes": (),
            "parts": lists.parts,
            "ends": lists.ends,
            "starts": Starts.of(declaration.start, binding),
            "actuation": actuation,
            "holds": lists.hold_state(binding),
        }
        family: MjcfFamily = type("DeclaredModel", (MjcfFamily,), body)()
        try_out(family)
        return family


def _identity(declaration: ModelDeclaration, path: Path, lists: Lists) -> dict[str, Any]:
    """Members of the class that say which family it is."""
    unknown = ", ".join(declaration.parameters)
    return {
        "__doc__": MjcfFamily.__doc__,
        "__module__": MjcfFamily.__module__,
        "name": declaration.name,
        "version": declaration.version,
        "base_id": path.name,
        "embodiment": declaration.embodiment or declaration.name,
        "horizon": declaration.horizon,
        "frame_skip": declaration.frame_skip,
        "description": declaration.description or f"{path.name} with unknown {unknown}",
        "declared": declaration.canonical(digest_of(path), lists.canonical),
    }


def _resolved(
    declaration: ModelDeclaration, binding: Binding
) -> tuple[dict[str, ModelField], dict[str, str], list[Parameter]]:
    """Fields and links that parameters write, by name, and the parameters."""
    fields: dict[str, ModelField] = {}
    links: dict[str, str] = {}
    parameters: list[Parameter] = []
    for name, entry in declaration.parameters.items():
        with prefixed(f"parameter {name!r}"):
            if entry.length is not None:
                own, what = 1.0, f"factor on the length of {entry.length}"
                _check_length(entry.length, links, binding)
                links[name] = entry.length
            elif entry.kind:
                fields[name] = _field(entry, binding)
                own, what = fields[name].own, fields[name].label
            else:
                own, what = _middle(entry), "value that terms name"
                _check_named(name, binding)
        parameters.append(parameter_of(name, entry, own, what))
        if name in fields:
            check_values(parameters[-1], fields[name])
        elif name in links and parameters[-1].low <= 0:
            raise MetaMapError(f"parameter {name!r}: a factor on a length: expected values above 0")
    return fields, links, parameters


def _field(entry: ModelParameter, binding: Binding) -> ModelField:
    own = own_value(entry, binding.model, binding.spec.copy())
    name = "" if entry.kind == "option" else str(getattr(entry, entry.kind))
    field = str(entry.option if entry.kind == "option" else entry.field)
    return ModelField(entry.kind, name, field, entry.index, entry.how == "scale", own)


def _check_length(body: str, links: Mapping[str, str], binding: Binding) -> None:
    binding.number("body", body)
    if body in links.values():
        raise MetaMapError(f"another parameter is the length of {body!r} already")
    check_link(binding.spec, body)


def _check_named(name: str, binding: Binding) -> None:
    if name not in binding.used:
        raise MetaMapError(
            "it has no target (body, joint, geom, actuator, option or length), and no term of the reward names it"
        )


def _middle(entry: ModelParameter) -> float:
    """Default of a value that terms name: the middle of its first interval, or its first choice."""
    if entry.choices:
        return entry.choices[0]
    return sum(entry.train[0]) / 2 if entry.train else 0.0
