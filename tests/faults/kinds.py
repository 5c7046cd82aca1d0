"""What may go wrong with a run, one generator a kind: each yields (what was done, how it ended).

It ends well in "same" bits, or in "refused" with a sentence and the same bits once that is mended; "not tested" says
that this system cannot bring it about; all else is wrong. What becomes of two processes when one of them is lost takes
``torchrun``, and is in ``tests/test_paper_ranks.py``.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch
from command import EM, SCORING, TOY, WAYS, command, hungry, killed_in, stages
from rights import bound
from toy import apart, draw, ended, pictures, run, seconds_of

Outcome = tuple[str, str]


KEPT = tempfile.TemporaryDirectory()
"""Where the runs lie that nothing disturbed."""


@cache
def undisturbed(work: Callable[[Path], None]) -> tuple[Path, float, str]:
    """Folder of a run that nothing disturbed, how long it took, and what it came to; made once."""
    folder = Path(KEPT.name) / work.__name__
    length = seconds_of(lambda: work(folder))
    return folder, length, ended(folder)


def settled(folder: Path, wanted: str, said: str = "", work: Callable[[Path], None] = run) -> str:
    """How a run ends that goes on undisturbed; ``said`` is what it said when it was disturbed."""
    if said.startswith("broke") or said == "killed":
        return said
    now = apart(lambda: work(folder))
    if now != "done":
        return f"wrong: it does not go on: {now}"
    return ("refused" if said.startswith("refused") else "same") if ended(folder) == wanted else "wrong: other bits"


def shards(folder: Path) -> dict[Path, int]:
    """Finished shards, and when they were written."""
    return {file: file.stat().st_mtime_ns for file in folder.glob("s*/*.safetensors")}


def kills(room: Path, count: int, dice: random.Random) -> Iterator[Outcome]:
    """SIGKILL at random moments of a run of EM: in a training, an E-step, a file that is being written or joined."""
    yield from killed(run, watched, room, count, dice)


def killed(
    work: Callable[[Path], None],
    again: Callable[[Path, dict[Path, int]], None],
    room: Path,
    count: int,
    dice: random.Random,
) -> Iterator[Outcome]:
    """SIGKILL at random moments of some work; ``again`` goes on with it and is told which shards were finished."""
    _, length, wanted = undisturbed(work)
    for i in range(count):
        folder, moment = room / f"{work.__name__}-{i}", dice.uniform(0, length)
        apart(lambda folder=folder: work(folder), moment)
        before = shards(folder)
        kept = apart(lambda folder=folder, before=before: again(folder, before))
        outcome = kept if kept != "done" else "same" if ended(folder) == wanted else "wrong: other bits"
        yield f"after {moment:.2f} of {length:.2f} s", outcome
        shutil.rmtree(folder, ignore_errors=True)


def watched(folder: Path, before: dict[Path, int]) -> None:
    """Goes on with a run; a shard that was finished must not be drawn again."""
    from emlib.em import checkpoint

    real = checkpoint.write_tensors

    def write(path: Path, *rest: object) -> None:
        if path in before:
            raise RuntimeError(f"{path.name} was finished and is drawn again")
        real(path, *rest)

    checkpoint.write_tensors = write
    run(folder)


def kills_of_drawing(room: Path, count: int, dice: random.Random) -> Iterator[Outcome]:
    """SIGKILL at random moments while pictures are drawn in shards."""
    yield from killed(draw, drawn_on, room, count, dice)


def drawn_on(folder: Path, before: dict[Path, int]) -> None:
    """Goes on drawing; a shard that was finished must not be written again, however that ends."""
    try:
        draw(folder)
    finally:
        if lost := [file.name for file, time in before.items() if file.stat().st_mtime_ns != time]:
            raise RuntimeError(f"{lost[0]} was finished and is drawn again")


def full_disk(room: Path, count: int, dice: random.Random) -> Iterator[Outcome]:
    """No file may grow beyond a limit, as on a full disk."""
    whole, _, wanted = undisturbed(run)
    sizes = [file.stat().st_size for file in whole.iterdir()]

    def limited(folder: Path, size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        run(folder)

    for i in range(count):
        folder, size = room / f"full-{i}", dice.randint(0, max(sizes))
        said = apart(lambda folder=folder, size=size: limited(folder, size))
        yield f"files of {size} bytes at most", settled(folder, wanted, said)
        shutil.rmtree(folder, ignore_errors=True)


def kills_while_scoring(room: Path, count: int, dice: random.Random) -> Iterator[Outcome]:
    """SIGKILL while the command scores, draws its picture or writes its record; no finished stage is made again."""
    _, _, wanted = undisturbed(command)
    for i in range(count):
        folder, (part, time), after = room / f"scoring-{i}", dice.choice(SCORING), dice.random() < 0.5
        with killed_in(part, time, after):
            said = apart(lambda folder=folder: command(folder))
        before = stages(folder)
        outcome = settled(folder, wanted, work=command) if said == "killed" else f"wrong: not killed, but {said}"
        if again := [file.name for file, written in before.items() if file.stat().st_mtime_ns != written]:
            outcome = f"wrong: {again[0]} was finished and is made again"
        yield f"{'after' if after else 'before'} {part}, call {time}", outcome
        shutil.rmtree(folder, ignore_errors=True)


def out_of_memory(room: Path, count: int, dice: random.Random) -> Iterator[Outcome]:
    """One batch finds no memory, of an E-step or of an update."""
    _, _, wanted = undisturbed(command)
    for i in range(count):
        folder, way, training = room / f"memory-{i}", WAYS[i % len(WAYS)], dice.random() < 0.5
        time = dice.randint(1, EM.init_updates + EM.m_updates) if training else dice.randint(1, 2 * TOY.e_steps)
        with hungry(training, time, way):
            said = apart(lambda folder=folder: command(folder))
        outcome = settled(folder, wanted, said, command)
        if outcome != "refused" or "memory" not in said or "the same command goes on" not in said:
            outcome = f"wrong: {outcome}: {said}"
        yield f"{way()!r} in {'update' if training else 'call'} {time}", outcome
        shutil.rmtree(folder, ignore_errors=True)


def read_only(room: Path, count: int, dice: random.Random) -> Iterator[Outcome]:
    """A folder that turns read-only, which binds the superuser too once it has laid down its right to write there."""
    _, _, wanted = undisturbed(run)

    def without(folder: Path) -> None:
        with bound() as binds:
            if not binds:
                raise RuntimeError("rights do not bind")
            run(folder)

    for i in range(count):
        folder = room / f"read-only-{i}"
        apart(lambda folder=folder: run(folder), dice.uniform(0.1, 1))
        folder.mkdir(exist_ok=True)
        folder.chmod(0o500)
        said = apart(lambda folder=folder: without(folder))
        folder.chmod(0o700)
        if said == "broke: RuntimeError: rights do not bind":
            yield "no way to make a folder read-only here", "not tested"
            return
        yield "read-only", settled(folder, wanted, said)
        shutil.rmtree(folder, ignore_errors=True)


def damage(room: Path, count: int, dice: random.Random) -> Iterator[Outcome]:
    """Each file of a run, finished or half done, emptied, cut, or with one bit turned."""
    whole, length, wanted = undisturbed(run)
    for i in range(count):
        folder = room / f"damage-{i}"
        if i % 2:
            shutil.copytree(whole, folder)
        else:
            apart(lambda folder=folder: run(folder), dice.uniform(0.2, 0.95) * length)
        files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix != ".part"]
        if not files:
            continue
        file, harm = dice.choice(files), dice.choice(["emptied", "cut", "a bit"])
        content = bytearray(file.read_bytes())
        if harm == "a bit" and content:
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        file.write_bytes(content[: dice.randrange(len(content) or 1)] if harm == "cut" else content * (harm == "a bit"))
        said = apart(lambda folder=folder: run(folder))
        about = f"{harm}: {file.relative_to(folder)}"
        if said == "done":
            yield about, "same" if ended(folder) == wanted else "wrong: other bits"
        elif said.startswith("refused"):
            yield about, "refused" if file.name in said else f"wrong: the file is not named: {said}"
        else:
            yield about, f"wrong: {said}"
        shutil.rmtree(folder, ignore_errors=True)


def clock(room: Path, count: int, dice: random.Random) -> Iterator[Outcome]:
    """The clock is set back: what is there seems to come from the future."""
    _, length, wanted = undisturbed(run)
    for i in range(count):
        folder = room / f"clock-{i}"
        apart(lambda folder=folder: run(folder), dice.uniform(0, length))
        for file in folder.rglob("*"):
            os.utime(file, (4e9, 4e9))
        yield "files of the year 2096", settled(folder, wanted)
        shutil.rmtree(folder, ignore_errors=True)


def no_number(room: Path, count: int, dice: random.Random) -> Iterator[Outcome]:
    """A picture that holds NaN among those that EM starts from."""
    for i in range(count):
        folder, clean = room / f"nan-{i}", pictures()[18:]
        clean[dice.randrange(len(clean)), 0, dice.randrange(8), dice.randrange(8)] = torch.nan
        said = apart(lambda folder=folder, clean=clean: run(folder, clean))
        well = said.startswith("refused") and not folder.exists()
        yield "a NaN", "refused" if well else f"wrong: {said}"


def two_at_once(room: Path, count: int, dice: random.Random) -> Iterator[Outcome]:
    """Two runs in one folder: one is told, the other ends as ever."""
    _, length, wanted = undisturbed(run)
    for i in range(count):
        folder, later = room / f"two-{i}", dice.uniform(0, length / 2)
        if (first := os.fork()) == 0:
            apart(lambda folder=folder: run(folder))
            os._exit(0)
        said = apart(lambda folder=folder, later=later: late(folder, later))
        os.waitpid(first, 0)
        told = said == "done" or "in use" in said
        well = told and ended(folder) == wanted and settled(folder, wanted) == "same"
        yield (
            f"the second {later:.2f} s later",
            ("refused" if "in use" in said else "same") if well else f"wrong: {said}",
        )
        shutil.rmtree(folder, ignore_errors=True)


def late(folder: Path, seconds: float) -> None:
    """Runs EM after a while."""
    import time

    time.sleep(seconds)
    run(folder)


KINDS = (
    kills, kills_of_drawing, kills_while_scoring, full_disk, read_only, damage, clock, out_of_memory, no_number,
    two_at_once,
)  # fmt: skip
"""All of them, in the order of the summary."""
