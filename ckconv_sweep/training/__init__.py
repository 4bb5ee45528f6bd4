"""Training: the steps, randomness, optimiser, schedule, evaluation and checkpoints of a trial, and
the pack that trains many trials as one. Knows nothing of sweeps; a trial speaks through a function
that hears each epoch."""
