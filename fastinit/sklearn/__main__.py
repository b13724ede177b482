"""Run a script with the estimators of fastinit: ``python -m fastinit.sklearn script.py``."""

import runpy
import sys
from pathlib import Path

from fastinit.sklearn.patching import patch

USAGE = "usage: python -m fastinit.sklearn (script.py | -m module) [argument ...]"


def main() -> None:
    """Patch scikit-learn and run a script, or a module after -m."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        sys.exit(0 if arguments else 2)
    patch()
    if arguments[0] == "-m":
        if len(arguments) == 1:
            sys.exit(USAGE)
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    if not Path(arguments[0]).exists():
        sys.exit(
            f"fastinit.sklearn: expected a Python script; no such file: {arguments[0]}\n{USAGE}"
        )
    sys.argv = arguments
    # As python script.py does: the folder of the script in place of the current one.
    sys.path[0] = str(Path(arguments[0]).resolve().parent)
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
