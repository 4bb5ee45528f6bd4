"""`python -m ckconv_sweep ...` is `ckconv-sweep ...`."""

from ckconv_sweep.cli import main

if __name__ == "__main__":
    main()
