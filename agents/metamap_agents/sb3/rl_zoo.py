"""The notation of rl-zoo's hyperparameter files: text that stands for Python values, read without evaluating it."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any

from torch import nn, optim

from metamap_envs.errors import MetaMapError, unknown_name

__all__ = ["ACTIVATIONS", "read_activation", "read_falling", "read_number", "read_policy_kwargs", "read_python"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "selu": nn.SELU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
}
"""Activations by torch's own names of functions."""

_OPTIMIZERS = {kind.__name__: kind for kind in (optim.Adam, optim.AdamW, optim.RMSprop, optim.SGD, optim.NAdam)}
_MODULES = ("nn.", "th.nn.", "torch.nn.", "optim.", "th.optim.", "torch.optim.")
_PYTHON = ("dict(", "{", "[", "(")


def read_python(value: object, what: str) -> Any:
    """Text such as ``dict(net_arch=[64, 64], activation_fn=nn.ReLU)`` as plain values; names become text.

    Args:
        value: anything; what is no text, or no text of this kind, is given back.
        what: the setting, put in front of the error.

    Raises:
        MetaMapError: text that begins like a dictionary, list or tuple and is none of plain values.
    """
    if not isinstance(value, str) or not value.strip().startswith(_PYTHON):
        return value
    try:
        return _plain(ast.parse(value.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise MetaMapError(f"{what}: expected a dict(...) of plain values, got {value!r}") from None


def _plain(node: ast.expr) -> Any:
    """A literal, ``dict(...)`` or a dotted name.

    Raises:
        ValueError: anything else.
    """
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        if any(keyword.arg is None for keyword in node.keywords):
            raise ValueError
        return {str(keyword.arg): _plain(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        keys = [_plain(key) if key is not None else None for key in node.keys]
        if not all(isinstance(key, str) for key in keys):
            raise ValueError
        return dict(zip(keys, map(_plain, node.values), strict=True))
    if isinstance(node, ast.List | ast.Tuple):
        return [_plain(item) for item in node.elts]
    if isinstance(node, ast.Attribute | ast.Name):
        return ast.unparse(node)
    value = ast.literal_eval(node)
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError
    return value


def read_activation(value: object, what: str) -> type[nn.Module]:
    """The activation that a name means: ``relu``, ``ReLU``, ``nn.ReLU``, ``th.nn.ReLU``, or torch's class itself.

    Raises:
        MetaMapError: none of `ACTIVATIONS`.
    """
    if isinstance(value, type) and issubclass(value, nn.Module):
        return value
    name = _bare(str(value))
    for key, module in ACTIVATIONS.items():
        if name.lower() in (key, module.__name__.lower()):
            return module
    raise MetaMapError(f"{what}: {unknown_name('activation', value, ACTIVATIONS)}")


def read_policy_kwargs(value: object, what: str = "policy_kwargs") -> dict[str, Any]:
    """``policy_kwargs`` as SB3 takes them, from a mapping or rl-zoo's text.

    ``net_arch`` may be rl-zoo's older list of one mapping, ``[dict(pi=[64], vf=[64])]``.

    Raises:
        MetaMapError: no mapping, or an unknown activation or optimiser.
    """
    read = read_python(value, what)
    if not isinstance(read, Mapping):
        raise MetaMapError(f"{what}: expected a mapping or dict(...), got {value!r}")
    kwargs = dict(read)
    if kwargs.get("activation_fn") is not None:
        kwargs["activation_fn"] = read_activation(kwargs["activation_fn"], f"{what}.activation_fn")
    if isinstance(kwargs.get("optimizer_class"), str):
        name = _bare(kwargs["optimizer_class"])
        if name not in _OPTIMIZERS:
            raise MetaMapError(f"{what}.optimizer_class: {unknown_name('optimiser', name, _OPTIMIZERS)}")
        kwargs["optimizer_class"] = _OPTIMIZERS[name]
    layers = read_python(kwargs.get("net_arch"), f"{what}.net_arch")
    if isinstance(layers, list) and len(layers) == 1 and isinstance(layers[0], Mapping):
        layers = dict(layers[0])
    if "net_arch" in kwargs:
        _check_layers(layers, f"{what}.net_arch")
        kwargs["net_arch"] = layers
    for key, given in kwargs.items():
        if isinstance(given, str):
            raise MetaMapError(f"{what}.{key}: {given!r} is text, which is not read here")
    return kwargs


def _check_layers(layers: object, what: str) -> None:
    """Refuse what SB3 would take for layers and fail at.

    Raises:
        MetaMapError: neither a list of sizes nor a mapping of such lists.
    """
    parts = list(layers.values()) if isinstance(layers, Mapping) else [layers]
    sizes = [size for part in parts for size in (part if isinstance(part, list | tuple) else [None])]
    if layers is not None and not all(type(size) is int and size > 0 for size in sizes):
        raise MetaMapError(f"{what}: expected sizes of layers as in [64, 64] or dict(pi=[64], vf=[64]), got {layers!r}")


def read_number(value: object, what: str) -> float:
    """A finite number, also as text ("1e-3").

    Raises:
        MetaMapError: it is none.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # refused below
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise MetaMapError(f"{what}: expected a number, got {value!r}")
    return int(number) if isinstance(value, int) else number


def read_falling(value: object, what: str) -> tuple[bool, float] | None:
    """Whether a setting falls to zero, as ``lin_3e-4`` does, and where it starts; None for None.

    Raises:
        MetaMapError: neither a number nor ``lin_<number>``.
    """
    if value is None:
        return None
    falls = isinstance(value, str) and value.startswith("lin_")
    try:
        return falls, read_number(str(value).removeprefix("lin_") if falls else value, what)
    except MetaMapError:
        raise MetaMapError(f"{what}: expected a number or 'lin_<number>', got {value!r}") from None


def _bare(name: str) -> str:
    """A name without the module before it."""
    prefix = max((prefix for prefix in _MODULES if name.startswith(prefix)), key=len, default="")
    return name.removeprefix(prefix)
