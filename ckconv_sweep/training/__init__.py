"""ONE trial: its loop, randomness, optimiser, schedule, evaluation and checkpoints. Knows nothing
of other trials; it speaks through a function that hears each epoch."""
