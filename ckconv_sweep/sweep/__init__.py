"""MANY trials: the coordinator decides over the study, an executor trains what it hands out,
listeners hear of it."""
