"""Settings as frozen pydantic models that refuse unknown keys, and pydantic's complaints about them as one sentence."""

from __future__ import annotations

import reprlib
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from metamap_envs.errors import MetaMapError, unknown_name

__all__ = ["Number", "Settings", "Whole", "parse", "sentence"]


class Settings(BaseModel):
    """Base of all settings: they never change, and an unknown key, NaN or infinity is an error."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        serialize_by_alias=True,
        validate_default=True,
    )


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("expected a number")  # pydantic would take True for 1
    return value


Whole = Annotated[int, BeforeValidator(_no_bool)]
"""A whole number, also as text ("3"), as overrides of the command line are."""
Number = Annotated[float, BeforeValidator(_no_bool)]
"""A finite number, also as text: YAML reads 1e-3, without a dot, as text."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80  # Python 3.12 takes them as arguments

Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], document: Mapping[str, Any], what: str) -> Model:
    """Make settings from a document.

    Args:
        model: their class.
        document: plain values.
        what: the thing or file that the document is, put in front of the error.

    Raises:
        MetaMapError: the first thing that is wrong, by its dotted place in the document.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise sentence(error, model, what) from None


def sentence(error: ValidationError, model: type[BaseModel], what: str) -> MetaMapError:
    """A validation's complaint as one sentence: place, what was expected, closest choice, what was given."""
    complaints = error.errors()
    first = complaints[0]
    if first["type"] == "missing":  # a key with a slip in it is unknown, too: that says what to do
        first = next((complaint for complaint in complaints if complaint["type"] == "extra_forbidden"), first)
    owners, name = first["loc"][:-1], str(first["loc"][-1]) if first["loc"] else ""
    place = _dotted(first["loc"])
    prefix = f"{what}: {place}: " if place else f"{what}: "
    if first["type"] == "extra_forbidden":
        return MetaMapError(f"{what}: {_unknown_key(model, owners, name)}")
    if first["type"] == "missing":
        return MetaMapError(f"{prefix}is missing, expected a value")
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, MetaMapError):  # says already what was given
        return MetaMapError(f"{prefix}{cause}")
    if first["type"] == "literal_error":
        choices = get_args(_field(model, first["loc"]).annotation)
        return MetaMapError(f"{prefix}{unknown_name('choice', first['input'], map(str, choices))}")
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if first["type"] in ("model_type", "dict_type"):
        message = "expected a mapping"
    return MetaMapError(f"{prefix}{message}, got {_SHORT.repr(first['input'])}")


def _dotted(place: tuple[int | str, ...]) -> str:
    """``("stream", "tasks", 0, "family")`` as ``stream.tasks[0].family``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def _unknown_key(model: type[BaseModel], owners: tuple[int | str, ...], name: str) -> str:
    """What to say about a key that its model has not; also where else in the document it would be right."""
    owner = _dotted(owners)
    here = [f"{owner}.{key}".removeprefix(".") for key, _ in _fields(_model_at(model, owners))]
    complaint = str(unknown_name("key", f"{owner}.{name}".removeprefix("."), here))
    elsewhere = [place for place in _places(model) if place.rpartition(".")[2] == name]
    if elsewhere and "did you mean" not in complaint:
        before, _, after = complaint.partition(": ")
        return f"{before}: did you mean {elsewhere[0]!r}? {after}"
    return complaint


def _places(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all keys of a model and of the models in it."""
    for key, field in _fields(model):
        yield f"{prefix}{key}"
        inner = _inner_model(field.annotation)
        if inner is not None:
            yield from _places(inner, f"{prefix}{key}.")


def _fields(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    """Fields by the names that a document uses."""
    return [(field.alias or name, field) for name, field in model.model_fields.items()]


def _model_at(model: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel]:
    """The innermost model that the place leads through."""
    for part in place:
        field = dict(_fields(model)).get(str(part))
        inner = _inner_model(field.annotation) if field is not None else None
        model = inner if inner is not None else model
    return model


def _field(model: type[BaseModel], place: tuple[int | str, ...]) -> FieldInfo:
    return dict(_fields(_model_at(model, place[:-1])))[str(place[-1])]


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """The model in ``Model``, ``list[Model]``, ``Model | None`` and the like."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation if issubclass(annotation, BaseModel) else None
    if get_origin(annotation) in (Union, types.UnionType, list, tuple, dict, Annotated):
        return next((found for found in map(_inner_model, get_args(annotation)) if found is not None), None)
    return None
