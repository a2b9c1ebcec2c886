"""Meta-learning baselines: MAML, Reptile and RL^2."""

from metamap_rl.evaluation.baselines.adaptation import TASK_LOSSES, TaskLoss, cross_entropy, descend, squared_error
from metamap_rl.evaluation.baselines.episodes import FewShotBatch
from metamap_rl.evaluation.baselines.maml import Draw, MAMLConfig, maml_loss, train_maml
from metamap_rl.evaluation.baselines.policy_gradient import Adapter, PolicyMAMLConfig, train_policy_maml
from metamap_rl.evaluation.baselines.reptile import ReptileConfig, reptile_update, train_reptile

__all__ = [
    "TASK_LOSSES",
    "Adapter",
    "Draw",
    "FewShotBatch",
    "MAMLConfig",
    "PolicyMAMLConfig",
    "ReptileConfig",
    "TaskLoss",
    "cross_entropy",
    "descend",
    "maml_loss",
    "reptile_update",
    "squared_error",
    "train_maml",
    "train_policy_maml",
    "train_reptile",
]
