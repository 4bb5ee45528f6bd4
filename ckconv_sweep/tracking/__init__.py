"""The mirror of a sweep in MLflow: the only place that imports it."""
