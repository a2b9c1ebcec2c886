from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.policies import SPECS, network
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError

WIDTHS = st.integers(1, 9)
LEADS = st.lists(st.integers(0, 3), max_size=2).map(tuple)


def test_the_size_and_table_of_the_half_cheetah_policy() -> None:
    spec = PolicySpec(17, 6)
    assert spec.size == 5702
    assert [tuple(layer) for layer in spec.layers] == [
        ("layers.0.weight", (64, 17), 0),
        ("layers.0.bias", (64,), 1088),
        ("layers.1.weight", (64, 64), 1152),
        ("layers.1.bias", (64,), 5248),
        ("layers.2.weight", (6, 64), 5312),
        ("layers.2.bias", (6,), 5696),
    ]


@given(SPECS)
def test_phi_lies_in_the_order_of_pytorchs_parameters(spec: PolicySpec) -> None:
    parameters = list(network(spec).parameters())
    assert spec.size == sum(parameter.numel() for parameter in parameters)
    assert [layer.shape for layer in spec.layers] == [tuple(parameter.shape) for parameter in parameters]
    flat = torch.nn.utils.parameters_to_vector(parameters).detach()
    for part, parameter in zip(spec.split(flat).values(), parameters, strict=True):
        assert torch.equal(part, parameter)


@given(SPECS, LEADS)
def test_split_and_join_are_inverse_for_both_libraries(spec: PolicySpec, lead: tuple[int, ...]) -> None:
    phi = np.arange(np.prod(lead, dtype=int) * spec.size, dtype=np.float32).reshape(*lead, spec.size)
    parts = spec.split(phi)
    assert {name: part.shape for name, part in parts.items()} == {
        name: lead + shape for name, shape in spec.shapes.items()
    }
    np.testing.assert_array_equal(spec.join(parts), phi)
    np.testing.assert_array_equal(spec.join(dict(reversed(parts.items()))), phi)
    tensor = torch.from_numpy(phi)
    assert torch.equal(spec.join(spec.split(tensor)), tensor)


def test_parts_are_views_and_let_gradients_through() -> None:
    spec = PolicySpec(3, 2, (4,))
    phi = np.zeros((5, spec.size))
    spec.split(phi)["layers.1.weight"][2] = 7.0
    assert phi[2].sum() == 7.0 * 8
    assert phi.sum() == 7.0 * 8
    tensor = torch.zeros(spec.size, requires_grad=True)
    (gradient,) = torch.autograd.grad(spec.split(tensor)["layers.0.bias"].sum(), tensor)
    assert gradient.sum() == 4


@given(SPECS)
def test_json_comes_back_through_text(spec: PolicySpec) -> None:
    again = PolicySpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert hash(again) == hash(spec)


@given(SPECS)
def test_the_shape_can_be_inferred_from_the_parts(spec: PolicySpec) -> None:
    parts = spec.split(np.zeros(spec.size))
    assert PolicySpec.infer(parts, spec.activation) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observation_size": 0}, "observation_size: expected a positive integer, got 0"),
        ({"action_size": 2.0}, "action_size: expected a positive integer, got 2.0"),
        ({"action_size": True}, "action_size"),
        ({"hidden": [64, -1]}, "hidden: expected a positive integer, got -1"),
        ({"hidden": 64}, "hidden: expected a list"),
        ({"activation": "tahn"}, "did you mean 'tanh'"),
        ({"hiden": [64]}, "'hiden': did you mean 'hidden'"),
    ],
)
def test_wrong_specs_say_what_is_wrong(change: dict[str, Any], message: str) -> None:
    good = {"observation_size": 17, "action_size": 6, "hidden": [64, 64], "activation": "tanh"}
    assert PolicySpec.from_json(good) == PolicySpec(17, 6)
    with pytest.raises(MetaMapError, match=message):
        PolicySpec.from_json({**good, **change})


def test_missing_keys_and_other_objects_are_refused() -> None:
    with pytest.raises(MetaMapError, match="expected the key 'hidden'"):
        PolicySpec.from_json({"observation_size": 17, "action_size": 6})
    with pytest.raises(MetaMapError, match="expected an object"):
        PolicySpec.from_json([17, 6])  # type: ignore[arg-type]


def test_wrong_vectors_and_parts_are_refused() -> None:
    spec = PolicySpec(3, 2, (4,))
    parts = spec.split(np.zeros(spec.size))
    for phi in (np.zeros(spec.size + 1), np.zeros((spec.size, 1)), np.zeros(())):
        with pytest.raises(MetaMapError, match=rf"expected shape \(\.\.\., {spec.size}\)"):
            spec.split(phi)
    with pytest.raises(MetaMapError, match=r"layers\.1\.bias: expected shape \(2,\), got \(3,\)"):
        spec.join({**parts, "layers.1.bias": np.zeros(3)})
    with pytest.raises(MetaMapError, match=r"layers\.1\.weight: expected shape \(2, 4\), got \(4, 2\)"):
        spec.join({**parts, "layers.1.weight": np.zeros((4, 2))})
    with pytest.raises(MetaMapError, match=r"layers\.1\.bias"):
        spec.join({name: part for name, part in parts.items() if name != "layers.1.bias"})
    with pytest.raises(MetaMapError, match=r"'layers\.2\.bias'"):
        spec.join({**parts, "layers.2.bias": np.zeros(2)})
    with pytest.raises(MetaMapError, match=r"file: layers\.1\.weight"):
        PolicySpec.infer({**parts, "layers.1.weight": np.zeros((2, 5))}, what="file")
    with pytest.raises(MetaMapError, match=r"file: expected layers\.0\.weight"):
        PolicySpec.infer({}, what="file")
