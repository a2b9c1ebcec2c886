"""Figures, drawings and films."""
