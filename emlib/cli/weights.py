"""``emlib weights``: where the networks that score pictures have their weights from."""

from __future__ import annotations

import argparse

from emlib.cli.words import Strangers
from emlib.metrics import alexnet
from emlib.metrics.fid import fetch_inception


def add_arguments(sub: argparse.ArgumentParser, strangers: Strangers) -> None:
    """The words of ``emlib weights``."""
    sub.add_argument("--fid", action="store_true", help="fetches Inception's, 95 MB, or an error")
    sub.add_argument(
        "--alexnet",
        action="store_true",
        help="fetches AlexNet's in full precision, 233 MB, or an error; the project's own are rounded to float16",
    )


def run(args: argparse.Namespace) -> None:
    """Says where AlexNet's weights are; with no option nothing is fetched, since the project brings them.

    Raises:
        FileNotFoundError: if weights are asked for and cannot be had, or AlexNet's are nowhere.
    """
    if args.fid:
        print(f"Inception's weights are at {fetch_inception()}")
    if args.alexnet:
        alexnet.fetch_alexnet()
    if missing := alexnet.alexnet_missing():
        raise FileNotFoundError(missing)
    path = alexnet.alexnet_path()
    rounded = "" if path == alexnet.alexnet_cached() else "; in float16, as they come with the project"
    print(f"AlexNet's weights are at {path}{rounded}")
