"""System identification: the task whose simulation explains a rollout best."""

from metamap_rl.evaluation.identification.actuators import LinearActuators, identify_actuators, undone
from metamap_rl.evaluation.identification.prediction import Predictor, holds_state, model_of
from metamap_rl.evaluation.identification.search import Identification, IdentificationConfig, identify

__all__ = [
    "Identification",
    "IdentificationConfig",
    "LinearActuators",
    "Predictor",
    "holds_state",
    "identify",
    "identify_actuators",
    "model_of",
    "undone",
]
