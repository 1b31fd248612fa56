"""The command ``dpg-bench``: hands the arguments to the library and its exit status to the shell."""

import signal
import sys

from . import _native


def main() -> None:
    # Signals are the command's: Python's own handler would only note them, for an interpreter that does not run meanwhile.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # `python -m dpg_bench` is called by no name that a shell knows.
    program = "dpg-bench" if sys.argv[0].endswith("__main__.py") else sys.argv[0]
    sys.exit(_native.main([program, *sys.argv[1:]]))


if __name__ == "__main__":
    main()
