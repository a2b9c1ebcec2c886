"""A mapper of quadrotors in the coordinates of hovering, which reads windows with filtered actions.

Rotor speeds are hidden, so the rows of D hold the actions through low-pass filters of several time constants beside
accelerations. A GRU reads the latest rows and says what hovering takes, 13 numbers; a network that was cloned from the
family's controller with these numbers as inputs acts. They are constant between two readings, so that they are biases
of its first layer: what a reading writes are weights.
"""
