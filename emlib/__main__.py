"""``python -m emlib COMMAND``; see :mod:`emlib.cli`."""

import io
import sys
import warnings

from emlib.cli.main import main


def _in_a_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Warnings of ours are for whoever runs a command, who need not know the line of code."""
    return f"emlib: {message}\n" if category is UserWarning else f"{category.__name__}: {message}\n"


if __name__ == "__main__":
    warnings.formatwarning = _in_a_line
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may hold what the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main())
