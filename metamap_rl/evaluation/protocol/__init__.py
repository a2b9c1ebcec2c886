"""The evaluation protocol: families, methods, seeds and lengths of D in one resumable run; see docs/evaluate.md."""

from metamap_rl.evaluation.protocol.config import LearningConfig, ProtocolConfig, load_protocol
from metamap_rl.evaluation.protocol.methods import METHODS, Method
from metamap_rl.evaluation.protocol.run import open_run, run_protocol

__all__ = ["METHODS", "LearningConfig", "Method", "ProtocolConfig", "load_protocol", "open_run", "run_protocol"]
