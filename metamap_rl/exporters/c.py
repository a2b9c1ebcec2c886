"""C header with one function, for robots that run no Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metamap_agents.runtime.storage import write_bytes
from metamap_rl.adaptation.plain import PlainPolicy
from metamap_rl.exporters.base import EXPORTERS

__all__ = ["C", "c_header"]

_COLUMNS = 100

_ACTIVATIONS = {"tanh": "tanhf({})", "relu": "({0} > 0.0f ? {0} : 0.0f)", "elu": "({0} > 0.0f ? {0} : expm1f({0}))"}


@EXPORTERS.register("c")
class C:
    """``policy.h``, C99 and C++: ``void policy(const float *observation, float *action)``.

    No memory is allocated and no state is kept; only ``<math.h>`` is needed (link with ``-lm``). NaN in an observation
    gives NaN actions.
    """

    suffix: ClassVar[str] = ".h"
    writes: ClassVar[tuple[type, ...]] = (PlainPolicy,)

    def __call__(self, source: Any, path: Path) -> None:
        """See `metamap_rl.exporters.base.Exporter`."""
        write_bytes(path, c_header(source).encode())


def c_header(policy: PlainPolicy) -> str:
    """Text of the header."""
    spec, layers = policy.spec, policy.layers()
    low, high = policy.bounds
    lines = [
        f"/* {_comment(policy.title)}",
        " *",
        f" * observation: {spec.observation_size} floats, raw, of '{_comment(policy.family)}'.",
        f" * action: {spec.action_size} floats, clipped to the range of actions. Link with -lm.",
        " */",
        "#ifndef METAMAP_POLICY_H",
        "#define METAMAP_POLICY_H",
        "",
        "#include <math.h>",
        "",
        f"#define POLICY_OBSERVATION_SIZE {spec.observation_size}",
        f"#define POLICY_ACTION_SIZE {spec.action_size}",
        "",
    ]
    for index, (weight, bias) in enumerate(layers):
        lines += _array(f"policy_weight_{index}", weight)
        lines += _array(f"policy_bias_{index}", bias)
    lines += [*_array("policy_low", low), *_array("policy_high", high), ""]
    lines += ["static inline void policy(const float *observation, float *action) {", "    int i, j;"]
    lines += [f"    float hidden_{index}[{width}];" for index, width in enumerate(spec.hidden)]
    for index in range(len(layers)):
        lines += _layer(policy, index)
    return "\n".join([*lines, "}", "", "#endif", ""])


def _layer(policy: PlainPolicy, index: int) -> Iterator[str]:
    """Statements of one layer."""
    spec = policy.spec
    inputs = (spec.observation_size, *spec.hidden)[index]
    source = f"hidden_{index - 1}" if index else "observation"
    last = index == len(spec.hidden)
    outputs = spec.action_size if last else spec.hidden[index]
    yield f"    for (i = 0; i < {outputs}; i++) {{"
    yield f"        float sum = policy_bias_{index}[i];"
    yield f"        for (j = 0; j < {inputs}; j++) sum += policy_weight_{index}[i * {inputs} + j] * {source}[j];"
    if last:
        yield "        action[i] = sum < policy_low[i] ? policy_low[i] : sum > policy_high[i] ? policy_high[i] : sum;"
    else:
        yield f"        hidden_{index}[i] = {_ACTIVATIONS[spec.activation].format('sum')};"
    yield "    }"


def _array(name: str, values: NDArray[np.float32]) -> Iterator[str]:
    """Definition of a constant array, with numbers that read back to the bit."""
    yield f"static const float {name}[{values.size}] = {{"
    line = "   "
    for number in values.ravel():
        word = f" {_literal(number)},"
        if len(line) + len(word) > _COLUMNS:
            yield line
            line = "   "
        line += word
    yield line
    yield "};"


def _literal(number: np.float32) -> str:
    """Shortest text of a float32, as C reads it; infinite bounds are the macro of <math.h>."""
    if np.isinf(number):
        return "-INFINITY" if number < 0 else "INFINITY"
    text = str(number)
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def _comment(text: str) -> str:
    """Text that cannot end a comment."""
    return re.sub(r"[^ -~]", "?", text).replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")
