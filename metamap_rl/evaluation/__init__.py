"""Evaluation on unseen tasks: protocol, methods, baselines, ablation, predictability."""
