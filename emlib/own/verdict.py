r"""What a report says in words, from what can be known without the truth."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10

from emlib.own.withheld import Judgement

GAIN = 0.15
"""dB that the last EM iteration must have gained for more to be worth waiting for."""
NEAR = 0.6
"""A prior whose samples are nearer to clean pictures than this share of what repaired ones are draws copies."""


def recommendation(judgement: Judgement) -> str:
    """Which way to take, and how sure that is."""
    filter, mean = judgement.filter, "mean"
    if judgement.is_lost(judgement.recommended):
        name, other = ("mean of the draws", f"the best filter, {filter},")
        if judgement.recommended != mean:
            name, other = (f"filter, {filter}", "the mean of the draws")
        return (
            f"Take the {name}: by what was withheld its error is lost in the noise, so how far it is ahead of {other} "
            "cannot be told. If the noise is less than was told or estimated, name it, and judge anew."
        )
    lead, low, high = judgement.lead(mean, filter)
    span = f"{abs(lead):.2f} dB (95 % interval {low:.2f} to {high:.2f})"
    if judgement.recommended == mean:
        sure = "" if low > 0 else ", though the interval reaches 0"
        return (
            f"Take the mean of the draws: by what was withheld it is {span} ahead of the best filter, "
            f"{filter}{sure}. For a picture that looks like one rather than the least error, take a single draw."
        )
    sure = "" if high < 0 else ", though the interval reaches 0"
    span = f"{abs(lead):.2f} dB (95 % interval {-high:.2f} to {-low:.2f})"
    return (
        f"Take the filter, {filter}: by what was withheld it is {span} ahead of the mean of the draws{sure}. "
        "A single draw has a larger error still, and shows no more."
    )


def progress(errors: Sequence[float], stopped: bool) -> str:
    """Whether more time would help, from the withheld error of the E-steps."""
    if stopped:
        return "The clock stopped training before its last M-step was done: the same command goes on there."
    if len(errors) < 2 or min(errors) <= 0:
        return "Too few iterations to tell whether more time would help."
    gained = 10 * log10(errors[-2] / errors[-1])
    if gained > GAIN:
        return f"More time would help: the last iteration still gained {gained:.2f} dB on withheld pixels."
    if gained < -GAIN:
        return f"Stop here: the last iteration lost {-gained:.2f} dB on withheld pixels."
    return f"Converged: the last iteration changed {gained:+.2f} dB on withheld pixels."


def cut(ended: int | None, planned: int) -> str:
    """That the clock ended the last training; empty if it did not."""
    if ended is None:
        return ""
    return f"The clock ended the last training after {ended:,} of {planned:,} updates, which costs little."


def copies(nearness: float) -> str:
    """Whether the prior draws copies of the clean pictures; empty where there are none."""
    if nearness != nearness:
        return ""
    if nearness < NEAR:
        return (
            "The prior is too poor: what it draws is as good as copies of your clean pictures. Expect copies in large "
            "gaps; more broken pictures or more time would help."
        )
    return "The prior draws pictures of its own, no copies of your clean ones."


def start(word: str) -> str:
    """What beginning without clean pictures cost."""
    if word == "clean":
        return ""
    return (
        "EM began without a clean picture, so its prior had to learn from pictures that a filter mended"
        if word == "preprocessed"
        else "EM began without a clean picture, from a Gaussian fitted to the broken ones"
    ) + ": it keeps what that start cannot tell from detail. A few dozen good pictures would help most."
