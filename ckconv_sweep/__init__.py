"""Hyper-parameter sweeps for continuous kernel convolutional networks.

Config asks, data and models are, training does, record remembers, search proposes, tracking
publishes, execution places, sweep repeats, report tells, cli speaks. Each of those words is a
folder that knows only the ones before it; doctor looks at what a sweep left.

For Python and notebooks: `from ckconv_sweep import launch, resume, extend, train, load, Sweep`.
"""

__version__ = "0.1.0"
__all__ = ["Best", "Run", "Sweep", "extend", "launch", "load", "resume", "train"]


def __getattr__(name: str) -> object:
    """These are imported when they are asked for, so that the command line starts at once. Type
    checkers read `__init__.pyi`."""
    if name in __all__:
        import importlib
        import warnings

        module = {"Best": "api", "Sweep": "api", "load": "loading"}.get(name, "start")
        with warnings.catch_warnings():
            # Optuna imports progress bars, which miss their widgets in many a notebook.
            warnings.filterwarnings("ignore", message="IProgress not found")
            return getattr(importlib.import_module(f"ckconv_sweep.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
