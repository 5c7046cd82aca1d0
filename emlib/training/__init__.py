"""The training loop, its single update, and a training kept halfway."""

from emlib.training.loop import TrainStep, train
from emlib.training.snapshot import check_snapshot
from emlib.training.update import Loss, update_ema

__all__ = ["Loss", "TrainStep", "check_snapshot", "train", "update_ema"]
