"""``emlib export``: a prior as a folder for diffusers and the hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from emlib.cli.words import PRIOR, Strangers, check_words, path_of
from emlib.hub.pretrained import load_pretrained, save_pretrained
from emlib.runs.record import read_result
from emlib.runtime.files import check_free
from emlib.runtime.places import try_folder
from emlib.runtime.tensors import read_notes


def add_arguments(sub: argparse.ArgumentParser, strangers: Strangers) -> None:
    """The words of ``emlib export``."""
    sub.add_argument("--prior", required=True, help=PRIOR)
    sub.add_argument("--out", type=path_of, required=True, help="folder to make; its name is the card's title")
    sub.add_argument("--result", type=path_of, help="recorded run (JSON) whose command and numbers go into the card")


def run(args: argparse.Namespace) -> None:
    """Writes the folder."""
    check_words(args)
    check_free(args.out)
    try_folder(args.out)
    record = read_result(args.result) if args.result else None
    notes = read_notes(args.prior) if Path(args.prior).is_file() else {"from": args.prior}
    save_pretrained(load_pretrained(args.prior), args.out, notes, record)
    print(f"network and model card: {args.out}")
