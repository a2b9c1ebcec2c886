"""Map a few transitions of a new environment to the weights of a policy for it.

``__all__`` is the public API; everything else may change in any release. Names are imported on first use, so that
``import metamap_rl`` is fast and does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metamap_agents.runtime.lazy import lazy_getattr
from metamap_rl import _renamed  # noqa: F401  # old names of modules

if TYPE_CHECKING:
    from metamap_agents.experts.zoo import Zoo
    from metamap_envs.rollout import Rollout
    from metamap_rl.adaptation.bundled import bundled_families, load
    from metamap_rl.adaptation.measuring import measure_in_env
    from metamap_rl.adaptation.one_shot import AdaptedPolicy, adapt
    from metamap_rl.adaptation.record import Adaptation
    from metamap_rl.adaptation.sb3_callback import AdaptationCallback
    from metamap_rl.adaptation.service.adapter import Adapter
    from metamap_rl.adaptation.service.config import AdapterConfig
    from metamap_rl.adaptation.service.env import AdaptiveEnv
    from metamap_rl.adaptation.service.sb3 import AdaptivePolicy
    from metamap_rl.adaptation.service.vector import VectorAdapter
    from metamap_rl.common.statistics import Interval, bootstrap_interval, iqm
    from metamap_rl.data.buffers import rollout_from_buffer
    from metamap_rl.data.examples import Examples
    from metamap_rl.data.pairs import Pairs
    from metamap_rl.data.recordings import read_rollout
    from metamap_rl.data.rollout_files import load_rollout, save_rollout
    from metamap_rl.evaluation.evaluate import EvaluationConfig, evaluate
    from metamap_rl.evaluation.scores import Evaluation
    from metamap_rl.exporters import export
    from metamap_rl.mapper.config import MapperConfig
    from metamap_rl.mapper.mapper import Mapper
    from metamap_rl.training.config import MapperRecipe, TrainConfig
    from metamap_rl.training.from_family import train
    from metamap_rl.training.loop import TrainingData

__all__ = [
    "Adaptation",
    "AdaptationCallback",
    "AdaptedPolicy",
    "Adapter",
    "AdapterConfig",
    "AdaptiveEnv",
    "AdaptivePolicy",
    "Evaluation",
    "EvaluationConfig",
    "Examples",
    "Interval",
    "Mapper",
    "MapperConfig",
    "MapperRecipe",
    "Pairs",
    "Rollout",
    "TrainConfig",
    "TrainingData",
    "VectorAdapter",
    "Zoo",
    "__version__",
    "adapt",
    "bootstrap_interval",
    "bundled_families",
    "evaluate",
    "export",
    "iqm",
    "load",
    "load_rollout",
    "measure_in_env",
    "read_rollout",
    "rollout_from_buffer",
    "save_rollout",
    "train",
]

__version__ = "0.2.0"

_HOME = {
    "Adaptation": "metamap_rl.adaptation.record",
    "AdaptationCallback": "metamap_rl.adaptation.sb3_callback",
    "AdaptedPolicy": "metamap_rl.adaptation.one_shot",
    "Adapter": "metamap_rl.adaptation.service.adapter",
    "AdapterConfig": "metamap_rl.adaptation.service.config",
    "AdaptiveEnv": "metamap_rl.adaptation.service.env",
    "AdaptivePolicy": "metamap_rl.adaptation.service.sb3",
    "Evaluation": "metamap_rl.evaluation.scores",
    "EvaluationConfig": "metamap_rl.evaluation.evaluate",
    "Examples": "metamap_rl.data.examples",
    "Interval": "metamap_rl.common.statistics",
    "Mapper": "metamap_rl.mapper.mapper",
    "MapperConfig": "metamap_rl.mapper.config",
    "Pairs": "metamap_rl.data.pairs",
    "Rollout": "metamap_envs.rollout",
    "MapperRecipe": "metamap_rl.training.config",
    "TrainConfig": "metamap_rl.training.config",
    "TrainingData": "metamap_rl.training.loop",
    "VectorAdapter": "metamap_rl.adaptation.service.vector",
    "Zoo": "metamap_agents.experts.zoo",
    "adapt": "metamap_rl.adaptation.one_shot",
    "bootstrap_interval": "metamap_rl.common.statistics",
    "bundled_families": "metamap_rl.adaptation.bundled",
    "evaluate": "metamap_rl.evaluation.evaluate",
    "iqm": "metamap_rl.common.statistics",
    "export": "metamap_rl.exporters",
    "load": "metamap_rl.adaptation.bundled",
    "load_rollout": "metamap_rl.data.rollout_files",
    "measure_in_env": "metamap_rl.adaptation.measuring",
    "read_rollout": "metamap_rl.data.recordings",
    "rollout_from_buffer": "metamap_rl.data.buffers",
    "save_rollout": "metamap_rl.data.rollout_files",
    "train": "metamap_rl.training.from_family",
}

_EARLIER = {
    "evaluate_mappers": "metamap_rl.evaluation.evaluate",
    "load_mapper": "metamap_rl.adaptation.bundled",
    "train_mapper": "metamap_rl.training.pipeline",
}
"""Public names of 0.1 before `evaluate`, `load` and `train`; for one release."""


__getattr__ = lazy_getattr(globals(), _HOME, _EARLIER)


def __dir__() -> list[str]:
    return sorted(__all__)
