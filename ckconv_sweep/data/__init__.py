"""Sequence classification tasks: one file a dataset, one table of them (`config.data.DATASETS`).

Knows torch, numpy, scikit-learn and how files are fetched; nothing of models, training or sweeps.
"""
