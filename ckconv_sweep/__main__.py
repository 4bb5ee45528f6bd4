"""The program, as `ckconv-sweep ...` and as `python -m ckconv_sweep ...`."""

import gc
import sys

from ckconv_sweep.signals import end_at_a_signal


def main() -> None:
    """Hears signals before the command line is imported. What it imports is a million
    objects and no garbage, which Python would look for after each 700 (docs/performance.md)."""
    end_at_a_signal()
    gc.set_threshold(50_000, 20, 50)
    from ckconv_sweep.cli import main as command_line

    command_line()


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # `-m` looks into the user's folder first: a numpy.py there would be taken for NumPy.
        sys.path.append(sys.path.pop(0))
    main()
