"""From a family to a mapper in one go: base policy, universal policy, experts, mapper, self-check, results."""
