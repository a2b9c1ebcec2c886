"""The graph of a mapper: transitions in, weights of a policy on raw observations out."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.spaces import action_space
from metamap_rl.common.extras import optional_module
from metamap_rl.mapper.forward_model import InformedEncoder, solve_step_by_step
from metamap_rl.mapper.mapper import Mapper

__all__ = ["INPUTS", "MapperGraph", "mapper_model"]

INPUTS = ("observations", "actions", "rewards", "next_observations")
"""Names of the inputs: D, with n transitions, in the shapes of a `Rollout`."""


class MapperGraph(nn.Module):
    """A mapper as a function of the arrays of a rollout.

    Inputs: observations [n, O], actions [n, A], rewards [n], next_observations [n, O], float32, n at least 1.
    Outputs: ``weights`` [P], as `Mapper.generate` returns them, for normalised observations; then weight [out, in] and
    bias [out] of each layer of the policy for raw observations.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mapper: Mapper) -> None:
        super().__init__()
        self.mapper = copy.deepcopy(mapper).eval().requires_grad_(False)
        if isinstance(self.mapper.encoder, InformedEncoder):
            self.mapper.encoder.model.solve = solve_step_by_step
        normalizer = mapper.base.normalizer
        self.register_buffer("mean", torch.tensor(normalizer.mean))
        self.register_buffer("std", torch.tensor(normalizer.std))

    def forward(
        self, observations: Tensor, actions: Tensor, rewards: Tensor, next_observations: Tensor
    ) -> tuple[Tensor, ...]:
        """Map D to weights; see the class."""
        energy = actions.square().sum(dim=-1, keepdim=True)
        rows = [observations, actions, energy, rewards.unsqueeze(-1), next_observations - observations]
        phi = self.mapper(torch.cat(rows, dim=-1).unsqueeze(0))[0]
        parts = self.mapper.base.spec.split(phi)
        weight = parts["layers.0.weight"].double() / self.std
        bias = parts["layers.0.bias"].double() - (weight * self.mean).sum(dim=-1)
        return phi, weight.float(), bias.float(), *list(parts.values())[2:]


def mapper_model(mapper: Mapper) -> Any:
    """The ``ModelProto`` of a mapper.

    The self-check is not part of the graph; the smallest number of transitions that it serves generated policies from
    is in the model's metadata (``least_steps``).

    Raises:
        MetaMapError: a mapper of functions, or a missing library.
    """
    onnx = optional_module("onnx", "onnx")
    optional_module("onnxscript", "onnx")  # torch's exporter needs it
    spec, layout = mapper.base.spec, 2 * mapper.base.spec.observation_size + mapper.base.spec.action_size + 2
    if mapper.feature_size != layout:
        raise MetaMapError("export to onnx: expected a mapper of transitions; this one is of functions")
    names = ["weights", *spec.shapes]
    count = torch.export.Dim("n", min=1)
    example = (
        torch.zeros(3, spec.observation_size),
        torch.zeros(3, spec.action_size),
        torch.zeros(3),
        torch.zeros(3, spec.observation_size),
    )
    with _quiet():
        program = torch.onnx.export(
            MapperGraph(mapper).eval(),
            example,
            dynamo=True,
            input_names=list(INPUTS),
            output_names=names,
            dynamic_shapes={name: {0: count} for name in INPUTS},
            verbose=False,
        )
    assert program is not None, "dynamo=True returns one"
    model = program.model_proto
    _strip(model)
    model.producer_name, model.doc_string = "metamap-rl", f"mapper of {mapper.family}"
    actions = action_space(get_family(mapper.family))
    about = {
        "family": mapper.family,
        "activation": spec.activation,
        "action_low": json.dumps(actions.low.tolist()),
        "action_high": json.dumps(actions.high.tolist()),
        "least_steps": json.dumps(None if mapper.check is None else mapper.check.least_steps),
    }
    onnx.helper.set_model_props(model, about)
    return model


def _strip(model: Any) -> None:
    """Remove the traces of the exporting process, which have paths of the machine."""
    del model.metadata_props[:], model.functions[:]
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch's exporter says of itself, and of libraries that it does not need here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
