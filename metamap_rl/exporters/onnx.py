"""ONNX models of policies and mappers, for ONNX Runtime on any machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from metamap_agents.runtime.storage import write_bytes
from metamap_rl.adaptation.plain import PlainPolicy
from metamap_rl.common.extras import optional_module
from metamap_rl.exporters.base import EXPORTERS
from metamap_rl.exporters.mapper_graph import mapper_model
from metamap_rl.mapper.mapper import Mapper

__all__ = ["Onnx", "policy_model"]

OPSET = 18
"""Version of the operators of a policy, which all versions of ONNX Runtime since 1.14 read."""

_IR_VERSION = 9
_ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu", "elu": "Elu"}


@EXPORTERS.register("onnx")
class Onnx:
    """A policy: ``observation`` [batch, O], raw, to ``action`` [batch, A], clipped; float32.

    A mapper: D to weights, see `metamap_rl.exporters.mapper_graph`.
    """

    suffix: ClassVar[str] = ".onnx"
    writes: ClassVar[tuple[type, ...]] = (PlainPolicy, Mapper)

    def __call__(self, source: Any, path: Path) -> None:
        """See `metamap_rl.exporters.base.Exporter`."""
        onnx = optional_module("onnx", "onnx")
        model = mapper_model(source) if isinstance(source, Mapper) else policy_model(source)
        onnx.checker.check_model(model)
        write_bytes(path, model.SerializeToString(deterministic=True))


def policy_model(policy: PlainPolicy) -> Any:
    """The ``ModelProto`` of a policy."""
    onnx = optional_module("onnx", "onnx")
    make, constant = onnx.helper.make_node, onnx.numpy_helper.from_array
    nodes, constants, value = [], [], "observation"
    layers = policy.layers()
    for index, (weight, bias) in enumerate(layers):
        constants += [constant(weight, f"layers.{index}.weight"), constant(bias, f"layers.{index}.bias")]
        inputs, output = [value, f"layers.{index}.weight", f"layers.{index}.bias"], f"sum_{index}"
        nodes.append(make("Gemm", inputs, [output], transB=1))
        value = output
        if index < len(layers) - 1:
            value = f"hidden_{index}"
            nodes.append(make(_ACTIVATIONS[policy.spec.activation], [output], [value]))
    low, high = policy.bounds
    constants += [constant(np.array(low), "action_low"), constant(np.array(high), "action_high")]
    nodes.append(make("Min", [value, "action_high"], ["limited"]))
    nodes.append(make("Max", ["limited", "action_low"], ["action"]))
    tensor, number = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "policy",
        [tensor("observation", number, ["batch", policy.spec.observation_size])],
        [tensor("action", number, ["batch", policy.spec.action_size])],
        constants,
    )
    model = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="metamap-rl",
        doc_string=policy.title,
    )
    onnx.helper.set_model_props(model, {"family": policy.family})
    return model
