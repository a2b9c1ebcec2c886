"""ONNX models of policies, run by ONNX Runtime."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metamap_agents.importers.base import IMPORTERS, ForeignPolicy, ImportOptions, Network, content_of
from metamap_envs.errors import MetaMapError

__all__ = ["Onnx"]

_ACTIONS = ("action", "actions", "mean_actions", "mean")
_ACTIVATIONS = {"Tanh": "tanh", "Relu": "relu", "Elu": "elu"}
_REFUSED = ("Loop", "Scan", "If", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
_DOMAINS = ("", "ai.onnx")
_FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64}
_FAILURES = ("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "NoModel")

Floats = NDArray[np.float64]


@IMPORTERS.register("onnx")
class Onnx:
    """A model with one input, observations [batch, O], and one output of actions [batch, A] (extra ``onnx``).

    Of several outputs the one that is called ``action`` or ``actions`` is taken. What normalises observations is in the
    model, unless the options name a file. Actions are those of the environment: the options say in which range, by
    default in that of the family's own environment.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    def __call__(self, path: Path, options: ImportOptions) -> ForeignPolicy:
        """See `metamap_agents.importers.base.Importer`."""
        onnx, runtime = _module("onnx"), _module("onnxruntime")
        content = content_of(path)
        model = _model(onnx, content, path)
        outputs = _Session.of(runtime, content, path)
        low, high = options.range(outputs.action_size)
        return ForeignPolicy(
            kind="ONNX model",
            path=path,
            observation_size=outputs.observation_size,
            low=low,
            high=high,
            outputs=outputs,
            scaling=options.scaling(),
            network=_network(onnx, model, outputs.name),
        )


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MetaMapError(f"{error.name or name} is not installed: pip install 'metamap-rl[onnx]'") from None


def _model(onnx: ModuleType, content: bytes, path: Path) -> Any:
    """The model, whose weights are in the file and which computes nothing but functions of its input."""
    decode_error = importlib.import_module("google.protobuf.message").DecodeError
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
    except (decode_error, onnx.checker.ValidationError, ValueError, TypeError, RuntimeError) as error:
        raise MetaMapError(f"{path}: expected an ONNX model, the file is truncated or something else") from error
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise MetaMapError(f"{path}: {tensor.name}: expected weights in the file itself, they are in another one")
    for node in model.graph.node:
        if node.op_type in _REFUSED or node.domain not in _DOMAINS:
            raise MetaMapError(f"{path}: expected a feedforward policy, it has a node {node.domain}{node.op_type}")
    return model


# running it ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Session:
    """Outputs of a model for a batch of observations."""

    session: Any
    path: Path
    failures: tuple[type[Exception], ...]
    name: str
    observation_size: int
    rows: int | None
    action_size: int = 0

    @classmethod
    def of(cls, runtime: ModuleType, content: bytes, path: Path) -> _Session:
        state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
        failures = tuple(getattr(state, name) for name in _FAILURES if hasattr(state, name))
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except failures as error:
            raise MetaMapError(f"{path}: expected a model that ONNX Runtime can run") from error
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _FLOATS or len(inputs[0].shape) != 2:
            found = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
            raise MetaMapError(f"{path}: expected one input of floats, observations [batch, O], got {found}")
        rows, size = inputs[0].shape
        if not isinstance(size, int):
            raise MetaMapError(f"{path}: expected an input with a fixed number of observations, got {inputs[0].shape}")
        name = _output(session.get_outputs(), path)
        blank = cls(session, path, failures, name, size, rows if isinstance(rows, int) else None)
        actions = blank(np.zeros((1, size), dtype=np.float32))
        return cls(session, path, failures, name, size, blank.rows, actions.shape[-1])

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[Any]:
        given = self.session.get_inputs()[0]
        typed = np.ascontiguousarray(inputs, dtype=_FLOATS[given.type])
        if self.rows is None:
            return self._run(given.name, typed)
        filled = np.zeros((-(-len(typed) // self.rows) * self.rows, typed.shape[1]), dtype=typed.dtype)
        filled[: len(typed)] = typed
        batches = [self._run(given.name, batch) for batch in filled.reshape(-1, self.rows, typed.shape[1])]
        return np.concatenate(batches)[: len(typed)]

    def _run(self, name: str, batch: NDArray[Any]) -> NDArray[Any]:
        try:
            (actions,) = self.session.run([self.name], {name: batch})
        except self.failures as error:
            raise MetaMapError(f"{self.path}: ONNX Runtime cannot run it on observations {batch.shape}") from error
        if np.ndim(actions) == 0 or len(actions) != len(batch) or np.asarray(actions).dtype.kind != "f":
            raise MetaMapError(f"{self.path}: expected actions [batch, A] of floats, got shape {np.shape(actions)}")
        return np.asarray(actions).reshape(len(batch), -1)


def _output(outputs: Iterable[Any], path: Path) -> str:
    """Name of the output with the actions."""
    names = [one.name for one in outputs]
    chosen = names if len(names) == 1 else [name for name in _ACTIONS if name in names][:1]
    if not chosen:
        raise MetaMapError(f"{path}: expected one output, or one that is called 'action', got {', '.join(names)}")
    return str(chosen[0])


# its layers ----------------------------------------------------------------------------------------------------------


def _network(onnx: ModuleType, model: Any, output: str) -> Network | None:
    """The layers of a chain of affine functions and activations; None for any other model."""
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    (given,) = (one for one in model.graph.input if one.name not in constants)
    chain = _Chain(given.name, int(given.type.tensor_type.shape.dim[1].dim_value), constants)
    try:
        for node in model.graph.node:
            if node.op_type != "Constant" and chain.value != output:
                attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
                chain.step(node, attributes)
    except (_NoChain, ValueError, TypeError, KeyError, IndexError):
        return None
    return chain.network() if chain.value == output else None


class _NoChain(Exception):  # noqa: N818  # it is no error
    """The model is something else."""


@dataclass
class _Chain:
    """A chain of nodes, each of which takes the value before it and constants."""

    value: str
    size: int
    constants: Mapping[str, NDArray[Any]]
    layers: list[tuple[Floats, Floats]] = field(default_factory=list)
    activations: list[str] = field(default_factory=list)
    affine: tuple[Floats, Floats] | None = None
    """Of the layer that is not complete."""
    ended: bool = False
    """Whether the value was limited, after which only other limits follow."""

    def step(self, node: Any, attributes: Mapping[str, Any]) -> None:
        inputs = list(node.input)
        if inputs.count(self.value) != 1 or len(node.output) != 1:
            raise _NoChain
        others = [self.constants[name] for name in inputs if name and name != self.value]
        first = inputs[0] == self.value
        if node.op_type in ("Clip", "Min", "Max"):
            self.ended = True
        elif self.ended:
            raise _NoChain
        elif node.op_type in _ACTIVATIONS:
            self._activate(_ACTIVATIONS[node.op_type], attributes)
        elif node.op_type not in ("Identity", "Flatten", "Cast"):
            self._apply(_AFFINE[node.op_type], others, attributes, first)
        self.value = node.output[0]

    def network(self) -> Network | None:
        """The network, if its last layer is linear."""
        if self.affine is None or len(set(self.activations)) > 1:
            return None
        layers = [*self.layers, self.affine]
        parts = {f"layers.{index}.weight": weight for index, (weight, _) in enumerate(layers)}
        parts |= {f"layers.{index}.bias": bias for index, (_, bias) in enumerate(layers)}
        return Network(parts, self.activations[0] if self.activations else "tanh")

    def _activate(self, name: str, attributes: Mapping[str, Any]) -> None:
        if self.affine is None or attributes.get("alpha", 1.0) != 1.0:
            raise _NoChain
        self.layers.append(self.affine)
        self.activations.append(name)
        self.affine = None

    def _apply(self, function: _Affine, others: list[NDArray[Any]], attributes: Mapping[str, Any], first: bool) -> None:
        width = len(self.layers[-1][1]) if self.layers else self.size
        weight, bias = self.affine or (np.eye(width), np.zeros(width))
        self.affine = function(weight, bias, [other.astype(np.float64) for other in others], dict(attributes), first)


_Affine = Callable[[Floats, Floats, list[Floats], dict[str, Any], bool], tuple[Floats, Floats]]


def _gemm(
    weight: Floats, bias: Floats, others: list[Floats], attributes: dict[str, Any], first: bool
) -> tuple[Floats, Floats]:
    if not first or attributes.get("transA", 0) or {attributes.get(name, 1.0) for name in ("alpha", "beta")} != {1.0}:
        raise _NoChain
    matrix = others[0] if attributes.get("transB", 0) else others[0].T
    added = others[1] if len(others) > 1 else 0.0
    return matrix @ weight, np.broadcast_to(matrix @ bias + added, len(matrix)).copy()


def _matmul(
    weight: Floats, bias: Floats, others: list[Floats], attributes: dict[str, Any], first: bool
) -> tuple[Floats, Floats]:
    return _gemm(weight, bias, others, {}, first)


def _add(
    weight: Floats, bias: Floats, others: list[Floats], attributes: dict[str, Any], first: bool
) -> tuple[Floats, Floats]:
    return weight, bias + _row(others[0], bias)


def _sub(
    weight: Floats, bias: Floats, others: list[Floats], attributes: dict[str, Any], first: bool
) -> tuple[Floats, Floats]:
    row = _row(others[0], bias)
    return (weight, bias - row) if first else (-weight, row - bias)


def _mul(
    weight: Floats, bias: Floats, others: list[Floats], attributes: dict[str, Any], first: bool
) -> tuple[Floats, Floats]:
    row = _row(others[0], bias)
    return row[:, None] * weight, row * bias


def _div(
    weight: Floats, bias: Floats, others: list[Floats], attributes: dict[str, Any], first: bool
) -> tuple[Floats, Floats]:
    if not first:
        raise _NoChain
    return _mul(weight, bias, [1.0 / others[0]], attributes, first)


def _row(constant: Floats, like: Floats) -> Floats:
    """A constant that is added to each row."""
    if constant.size not in (1, like.size):
        raise _NoChain
    return np.broadcast_to(constant.reshape(-1), like.shape)


_AFFINE: dict[str, _Affine] = {"Gemm": _gemm, "MatMul": _matmul, "Add": _add, "Sub": _sub, "Mul": _mul, "Div": _div}
