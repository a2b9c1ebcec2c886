"""One module per kind of learner; importing it files its learners in `metamap_rl.stream.learner.LEARNERS`."""
