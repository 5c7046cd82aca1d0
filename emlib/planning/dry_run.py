"""``emlib em --dry-run``: what a run would do, what it would cost here, and whether it can start."""

from __future__ import annotations

from emlib.operators import find_operator
from emlib.planning.checks import checks
from emlib.planning.cost import CLEAN_PRIOR, Stage, as_text, plan, total
from emlib.planning.memory import disk_need, gigabytes, rate_here
from emlib.posterior import find_sampler
from emlib.runs.job import Job
from emlib.runtime.distributed import ranks
from emlib.runtime.durations import short_duration


def em_stages(job: Job, rate: float = 1.0) -> list[Stage]:
    """The stages of the run at a rate in FLOP/s, each at most as long as :func:`emlib.planning.cost.plan` says."""
    return [s for s in plan(job.preset, rate, job.sampler, job.searched) if s.name != CLEAN_PRIOR]


def dry_run(job: Job, device: str) -> int:
    """Prints the plan and the checks, in the first process alone.

    Returns:
        0 if the run can start, 2 if something that it needs is missing.
    """
    here, p = ranks(), job.preset
    if not here.first:
        return 0
    rate, how = rate_here(p.unet, p.size, job.settings.speed, device)
    stages = em_stages(job, rate)
    for line in _plan(job):
        print(line)
    print(f"\ndevice: {device}, {rate / 1e12:.3g} TFLOP/s, {how}; by this")
    print(as_text(stages))
    seconds = total(stages).seconds
    shared = f", shared by {here.world} processes {short_duration(seconds / here.world)}" * (here.world > 1)
    print(f"in all {short_duration(seconds)}{shared}; operators and scores are not counted")
    print(f"the run folder grows to {gigabytes(disk_need(job, stages))}\n")
    missing = False
    for check in checks(job, stages, device):
        print(check.line())
        missing |= not check.ok and check.without != "goes on"
    print("\nsomething is missing, so the run cannot start" if missing else "\nthe run can start")
    return 2 if missing else 0


def _plan(job: Job) -> list[str]:
    """What will be done, in words."""
    p, em, phases = job.preset, job.settings, job.settings.phases
    operator = " ".join([find_operator(job.operator).name, *(f"{value:g}" for value in job.parameters.values())])
    task = f"{operator}, noise {job.noise_std:g}"
    scale = f" with lambda {'by ' * job.searched}{job.scale}" if find_sampler(job.sampler).guided else ""
    lines = [
        f"EM at preset {p.name}: {job.data}, {task}, seed {em.seed}; kept in {job.folder}",
        f"  first prior  from {job.start} ({p.clean} pictures), {em.init_updates} updates of {em.train_batch}",
        f"  phase 1      {em.iterations} times: E-step by {job.sampler}{scale} on {phases.subset:.3g} of "
        f"{p.observations} observations, M-step of {em.m_updates} updates from inherited weights"
        + (f", the last one of {em.last_updates}" if em.last_updates else ""),
    ]
    if phases.reset_iterations:
        afresh = f"M-step of {phases.reset_updates} updates from fresh weights"
        lines.append(f"  phase 2      {phases.reset_iterations} times: E-step on all, {afresh}")
    return [*lines, f"  network      in {em.speed.precision}, E-steps in {em.sampling.precision}"]
