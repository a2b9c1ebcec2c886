"""Settings as frozen pydantic models that refuse unknown keys; pydantic's complaints become one sentence."""

from __future__ import annotations

import reprlib
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.yaml_text import read_yaml

__all__ = [
    "STRICT",
    "Number",
    "Seed",
    "Settings",
    "Whole",
    "parse",
    "read_document",
    "sentence",
    "settings_of",
]

STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
"""What all settings have in common. A dataclass that is a part of settings has it as ``__pydantic_config__``."""


class Settings(BaseModel):
    """Base of all settings: they never change, and an unknown key, NaN or infinity is an error."""

    model_config = ConfigDict(**STRICT, use_attribute_docstrings=True, serialize_by_alias=True, validate_default=True)


def _no_bool(value: object) -> object:
    if hasattr(value, "dtype") and hasattr(value, "item"):  # a number of NumPy or torch
        value = value.item()
    if isinstance(value, bool):
        raise ValueError("expected a number")  # pydantic would take True for 1
    return value


Whole = Annotated[int, BeforeValidator(_no_bool)]
"""A whole number, also as text ("3"), as overrides of the command line are."""
Number = Annotated[float, BeforeValidator(_no_bool)]
"""A finite number, also as text ("1e-3"), as overrides of the command line are."""

Seed = Annotated[Whole, Field(ge=0, lt=2**31)]
"""Of anything that is drawn at random."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80  # Python 3.12 takes them as arguments

Model = TypeVar("Model")


def parse(model: type[Model], document: object, what: str) -> Model:
    """Make settings from a document.

    Args:
        model: their class, a pydantic model or a dataclass.
        document: plain values.
        what: the thing or file that the document is, put in front of the error.

    Raises:
        MetaMapError: the first invalid value, with its dotted path in the document.
    """
    try:
        return TypeAdapter(model).validate_python(document)
    except ValidationError as error:
        raise sentence(error, model, what) from None


def read_document(path: str | Path) -> dict[str, Any]:
    """A YAML file of settings.

    Raises:
        MetaMapError: no such file, or one that cannot be read, is not YAML or not a mapping.
    """
    return settings_of(read_yaml(path), str(path))


def settings_of(document: object, what: str) -> dict[str, Any]:
    """A document that must be a mapping of settings; ``what`` is what the error calls it.

    Raises:
        MetaMapError: it is not a mapping.
    """
    if document is None:
        raise MetaMapError(f"{what}: expected a mapping of settings, it is empty")
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise MetaMapError(f"{what}: expected a mapping of settings, got {type(document).__name__}")
    return document


_PLAIN = {
    **dict.fromkeys(("model_type", "dict_type", "dataclass_type"), "expected a mapping"),
    **dict.fromkeys(("list_type", "tuple_type"), "expected a list"),
}
"""Other words than pydantic's, by the type of its error."""
_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")  # of a model, of a dataclass


def sentence(error: ValidationError, model: type[Any], what: str) -> MetaMapError:
    """A validation's complaint as one sentence: place, what was expected, closest choice, what was given."""
    complaints = error.errors()
    first = complaints[0]
    if first["type"] == "missing":  # a key with a slip in it is unknown, too: that says what to do
        first = next((complaint for complaint in complaints if complaint["type"] in _UNKNOWN_KEY), first)
    owners, name = first["loc"][:-1], str(first["loc"][-1]) if first["loc"] else ""
    place = _dotted(first["loc"])
    prefix = f"{what}: {place}: " if place else f"{what}: "
    if first["type"] in _UNKNOWN_KEY:
        return MetaMapError(f"{what}: {_unknown_key(model, owners, name)}")
    if first["type"] == "missing":
        return MetaMapError(f"{prefix}is missing, expected a value")
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, MetaMapError):  # says already what was given
        return MetaMapError(f"{prefix}{cause}")
    if first["type"] == "literal_error":
        choices = get_args(_without_extras(_annotation(model, first["loc"])))
        return MetaMapError(f"{prefix}{unknown_name('choice', first['input'], map(str, choices))}")
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    message = _PLAIN.get(first["type"], message)
    if first["type"] == "too_short":
        message = f"expected at least {first['ctx']['min_length']}"
    message = f"{prefix}{message[0].lower()}{message[1:]}"
    if first["type"] == "value_error" and isinstance(first["input"], dict):  # of several keys; it names them
        return MetaMapError(message)
    return MetaMapError(f"{message}, got {_SHORT.repr(first['input'])}")


def _dotted(place: tuple[int | str, ...]) -> str:
    """``("stream", "tasks", 0, "family")`` as ``stream.tasks[0].family``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def _unknown_key(model: type[Any], owners: tuple[int | str, ...], name: str) -> str:
    """What to say about a key that its model has not; also where else in the document it would be right."""
    owner = _dotted(owners)
    here = [f"{owner}.{key}".removeprefix(".") for key in _fields(_model_at(model, owners))]
    complaint = str(unknown_name("key", f"{owner}.{name}".removeprefix("."), here))
    elsewhere = [place for place in _places(model) if place.rpartition(".")[2] == name]
    if elsewhere and "did you mean" not in complaint:
        before, _, after = complaint.partition(": ")
        return f"{before}: did you mean {elsewhere[0]!r}? {after}"
    return complaint


def _places(model: type[Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all keys of a model and of the models in it, but for those under keys of the user's own."""
    for key, annotation in _fields(model).items():
        yield f"{prefix}{key}"
        inner = _inner_model(annotation)
        if inner is not None and get_origin(annotation) is not dict:
            yield from _places(inner, f"{prefix}{key}.")


def _fields(model: type[Any]) -> dict[str, Any]:
    """Annotations of a model's or a dataclass's fields, by the names that a document uses."""
    if issubclass(model, BaseModel):
        return {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    hints = get_type_hints(model)
    return {field.name: hints[field.name] for field in fields(model)}


def _model_at(model: type[Any], place: tuple[int | str, ...]) -> type[Any]:
    """The innermost model that the place leads through."""
    for part in place:
        inner = _inner_model(_fields(model).get(str(part)))
        model = inner if inner is not None else model
    return model


def _annotation(model: type[Any], place: tuple[int | str, ...]) -> Any:
    return _fields(_model_at(model, place[:-1]))[str(place[-1])]


def _without_extras(annotation: Any) -> Any:
    """The choices in ``Literal[...]`` and in ``Literal[...] | None``."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(part for part in get_args(annotation) if part is not type(None))
    return annotation


def _inner_model(annotation: Any) -> type[Any] | None:
    """The model or dataclass in ``Model``, ``list[Model]``, ``Model | None`` and the like."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation if issubclass(annotation, BaseModel) or is_dataclass(annotation) else None
    if get_origin(annotation) in (Union, types.UnionType, list, tuple, dict, Annotated):
        return next((found for found in map(_inner_model, get_args(annotation)) if found is not None), None)
    return None
