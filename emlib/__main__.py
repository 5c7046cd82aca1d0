"""``python -m emlib COMMAND``; see :mod:`emlib.cli`."""

import sys

from emlib.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
