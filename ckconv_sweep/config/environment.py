"""The variables of the environment that the package reads or gives. The guide shows these tables; a
test finds every name in the code."""

from __future__ import annotations

READ = {
    "CKCONV_SWEEPS": "The folder of the sweeps, where `--sweeps-dir` is not given.",
    "CKCONV_DATA": "The folder of the datasets, where `--data-dir` is not given.",
    "MLFLOW_TRACKING_URI": "MLflow's address, where `--tracking-uri` is not given. Others cannot "
    "read a password in it, as they can in an option.",
    "MLFLOW_EXPERIMENT_NAME": "The MLflow experiment that holds the sweeps (`ckconv-sweep`).",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "Seconds that MLflow may take to answer (10).",
    "RAY_AUTH_TOKEN": "The token of a cluster that asks for one.",
    "RAY_AUTH_TOKEN_PATH": "The file of this token (`~/.ray/auth_token`).",
    "RAY_ADDRESS": "The cluster that `--address auto` means.",
    "RAY_TMPDIR": "Where a local Ray has its files (`/tmp`).",
    "SLURM_JOB_END_TIME": "When the SLURM job ends, for `--session-hours auto`.",
    "SLURM_JOB_ID": "The job of which `scontrol` tells it, where that is not set.",
    "AWS_ACCESS_KEY_ID": "With `AWS_SECRET_ACCESS_KEY` the credentials for `--blobs s3://...`, if "
    "they are not in `~/.aws` or the role of the machine.",
    "AWS_ENDPOINT_URL": "The object store, if it is not Amazon's.",
    "BROWSER": "The browser that `ui` opens; without a screen it opens none else.",
    "CKCONV_KEEP_PAGES": "`0`: freed memory goes back to the system at once, and steps are slower.",
    "CKCONV_CUDA_GRAPHS": "`1`: a GPU repeats its steps as CUDA graphs.",
    "CKCONV_CRASH_AT": "For tests: the place at which the process kills itself.",
}
"""What is read, with its default."""

GIVEN = {
    "CKCONV_SWEEP": "the sweep's name.",
    "CKCONV_SWEEPS": "the folder that holds it, so that `ckconv-sweep` finds it.",
    "CKCONV_METRIC": "what the trials are judged by.",
    "CKCONV_STATE": "`running` for `--on-best`; `finished`, `interrupted` or `failed` else.",
    "CKCONV_BEST_TRIAL": "the number of the best trial; of the completed ones for `--on-finish`. "
    "Absent where there is none.",
    "CKCONV_BEST_EPOCH": "its best epoch.",
    "CKCONV_BEST_VALUE": "its metric there.",
    "CKCONV_EXIT_CODE": "the exit code of `launch` or `resume`, for `--on-finish`.",
}
"""What the commands of `--on-best` and `--on-finish` are given."""
