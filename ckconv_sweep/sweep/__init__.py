"""MANY trials. The only place that knows Ray, Optuna and MLflow together: the coordinator decides
over the study, an executor runs what it says, listeners hear of it."""
