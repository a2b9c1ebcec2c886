"""Figures, drawings and videos."""
