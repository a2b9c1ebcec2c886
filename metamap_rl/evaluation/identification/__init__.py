"""System identification: the task whose simulation explains a rollout best."""

from metamap_rl.evaluation.identification.prediction import Predictor, holds_state, model_of
from metamap_rl.evaluation.identification.search import Identification, IdentificationConfig, identify

__all__ = ["Identification", "IdentificationConfig", "Predictor", "holds_state", "identify", "model_of"]
