"""The experiment in service: trials in which tasks change, methods that act in them, figures, and the decision."""
