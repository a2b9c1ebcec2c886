"""Pickles as data: the opcodes are read, no class is looked up and nothing is called.

The result holds plain values, and an `Instance` wherever the pickle would call or build something. A pickle that names
anything outside of the given packages is refused. NumPy's arrays are made from such instances by `to_array`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.files import refuse_pipes

__all__ = ["Instance", "read_pickle", "to_array"]

_LARGEST = 64 * 1024**2  # bytes of a file
_WRONG = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError)
_ELEMENTS = frozenset({"b1", "f2", "f4", "f8", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8))})
_ORDERS = {"<": "<", ">": ">", "|": "", "=": "="}


@dataclass(frozen=True)
class _Name:
    """A global that the pickle names."""

    module: str
    name: str


@dataclass(eq=False)
class Instance:
    """Where unpickling would call something: its name, arguments, and the state that is set afterwards.

    Attributes:
        name: the qualified name, such as "numpy.dtype".
        arguments: positional arguments.
        state: what ``__setstate__`` would get, or None.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None


def read_pickle(path: Path, packages: Collection[str]) -> Any:
    """Read a pickle without running anything in it.

    Args:
        path: the file, at most 64 MiB.
        packages: top-level packages that it may name.

    Raises:
        MetaMapError: no such file, too large, broken, or it names something else.
    """
    refuse_pipes(path)
    try:
        if path.stat().st_size > _LARGEST:
            raise MetaMapError(f"{path}: expected a pickle of at most {_LARGEST} bytes, it is larger")
        content = path.read_bytes()
    except OSError as error:
        raise MetaMapError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return _Machine(str(path), packages).run(content)
    except MetaMapError:
        raise
    except _WRONG as error:
        raise MetaMapError(f"{path}: expected a pickle, the file is truncated or something else") from error


@dataclass
class _Machine:
    """The stack of an unpickler."""

    what: str
    packages: Collection[str]
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self, content: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name in _VALUES:
                self.stack.append(argument)
            elif opcode.name in _STEPS:
                _STEPS[opcode.name](self, argument)
            else:
                raise MetaMapError(f"{self.what}: expected plain values and arrays, the pickle has {opcode.name}")
        raise ValueError("no end")

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def take(self, count: int) -> tuple[Any, ...]:
        if count > len(self.stack):
            raise IndexError(count)
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return items

    def push_name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("no name")
        if module.partition(".")[0] not in self.packages:
            raise MetaMapError(
                f"{self.what}: expected a pickle of {' and '.join(sorted(self.packages))} alone, it names "
                f"{module}.{name}; nothing of it was run"
            )
        self.stack.append(_Name(module, name))

    def push_instance(self, called: object, arguments: object) -> None:
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise TypeError("no call")
        self.stack.append(Instance(f"{called.module}.{called.name}", arguments))

    def set_state(self, state: Any) -> None:
        if not isinstance(self.stack[-1], Instance):
            raise TypeError("no instance")
        self.stack[-1].state = state

    def set_items(self, items: list[Any]) -> None:
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))


_Step = Callable[[_Machine, Any], Any]

_VALUES = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
"""Opcodes that push their argument."""

_STEPS: dict[str, _Step] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.since_mark(),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.stack.append(machine.take(1)),
    "TUPLE2": lambda machine, _: machine.stack.append(machine.take(2)),
    "TUPLE3": lambda machine, _: machine.stack.append(machine.take(3)),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "LIST": lambda machine, _: machine.stack.append(machine.since_mark()),
    "APPEND": lambda machine, _: machine.stack[-2].append(machine.stack.pop()),
    "APPENDS": lambda machine, _: (items := machine.since_mark(), machine.stack[-1].extend(items)),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "SETITEM": lambda machine, _: machine.set_items(list(machine.take(2))),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "GLOBAL": lambda machine, name: machine.push_name(*name.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.push_name(*machine.take(2)),
    "REDUCE": lambda machine, _: machine.push_instance(*machine.take(2)),
    "NEWOBJ": lambda machine, _: machine.push_instance(*machine.take(2)),
    "BUILD": lambda machine, _: machine.set_state(machine.stack.pop()),
    "MEMOIZE": lambda machine, _: machine.memo.update({len(machine.memo): machine.stack[-1]}),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda machine, at: machine.memo.update({at: machine.stack[-1]})),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, at: machine.stack.append(machine.memo[at])),
}
"""The other opcodes that pickles of plain values, instances and arrays have."""


def to_array(value: object, what: str) -> NDArray[Any]:
    """A number or an array of NumPy's, out of what `read_pickle` returned.

    Args:
        value: a number, or the instance that stands for an array or a scalar of NumPy's.
        what: put in front of the error.

    Raises:
        MetaMapError: something else, or elements that are no numbers.
    """
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return np.asarray(value)
        if isinstance(value, Instance):
            return _array(value)
    except _WRONG:
        pass
    raise MetaMapError(f"{what}: expected numbers, the pickle has something else")


def _array(value: Instance) -> NDArray[Any]:
    kind = value.name.rpartition(".")[2]
    if not value.name.startswith("numpy."):
        raise ValueError(value.name)
    if kind == "scalar":
        element, data = value.arguments
        shape, order = (), "C"
    elif kind == "_reconstruct":
        _, shape, element, fortran, data = value.state
        order = "F" if fortran else "C"
    elif kind == "_frombuffer":
        data, element, shape, order = value.arguments
    else:
        raise ValueError(kind)
    if not isinstance(data, bytes | bytearray):
        raise TypeError("no bytes")
    dtype = _element_type(element)
    if prod(shape) * dtype.itemsize != len(data):
        raise ValueError("another size")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C").copy()


def _element_type(value: Instance) -> np.dtype[Any]:
    """The element type that an instance of ``numpy.dtype`` stands for."""
    code = value.arguments[0]
    if value.name != "numpy.dtype" or code not in _ELEMENTS:
        raise ValueError(code)
    order = value.state[1] if value.state is not None else "="
    found: np.dtype[Any] = np.dtype(_ORDERS[order] + code)
    return found
