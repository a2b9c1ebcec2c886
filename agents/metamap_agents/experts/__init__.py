"""Experts: recipes, training, the universal policy, and the zoo that keeps them."""
