"""The program, as `ckconv-sweep ...` and as `python -m ckconv_sweep ...`."""

from ckconv_sweep.signals import end_at_a_signal


def main() -> None:
    """Hears signals before the command line is imported."""
    end_at_a_signal()
    from ckconv_sweep.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
