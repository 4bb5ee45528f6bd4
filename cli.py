"""`python cli.py ...` from a checkout is `ckconv-sweep ...`."""

from ckconv_sweep.__main__ import main

if __name__ == "__main__":
    main()
