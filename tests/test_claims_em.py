"""What chapters 6 to 11 say of recorded runs: a test a sentence, named after it, with the sentence in its docstring.

Numbers on a page are computed from the rows; the words around them are held to the rows here.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from emlib.experiments import reports
from emlib.experiments.summary import over_seeds, score
from emlib.runs.presets import PRESETS
from emlib.runs.record import read_result

RESULTS = Path(__file__).resolve().parent.parent / "data" / "results"
PAPER = {  # table 1 of EMDiffusion as chapter 9 quotes it: PSNR in dB of (clean prior, EM)
    "mask": (25.44, 24.70),
    "noise": (25.91, 23.16),
}


@functools.cache
def run(name: str) -> dict[str, Any]:
    return read_result(RESULTS / f"{name}.json")


def mean(task: str, method: str, by: str | None = None, measure: str = "PSNR") -> float:
    """A method's mean over the seeds in chapter 9's table of a task."""
    return score(run(f"table-embedded-{task}"), method, measure, by).mean


def ways(task: str, method: str) -> list[float]:
    """Mean PSNR of a method by each way to restore with it."""
    found = over_seeds(run(f"table-embedded-{task}"), "PSNR")
    return [way.mean for (name, _), way in found.items() if name == method]


def chosen(task: str, rule: str) -> list[dict[str, Any]]:
    """What a rule took in chapter 6, one row a prior, from the first to the last."""
    rows = [row for row in run(f"lambda-{task}")["rows"] if row.get("rule") == rule]
    assert [row["prior"] for row in rows] == ["prior_00", "prior_02", "prior_04"]
    return rows


def iterations(name: str) -> list[dict[str, Any]]:
    """The rows of an EM run's iterations, without the first prior."""
    return [row for row in run(name)["rows"] if row["iteration"] not in ("observed", "held out", 0)]


# Chapter 6, choosing lambda


@pytest.mark.parametrize("task", ["mask", "noise", "blur"])
@pytest.mark.parametrize("prior", ["prior_00", "prior_02", "prior_04"])
def test_psnr_rises_to_a_peak_in_lambda_and_falls_again(task, prior):
    """Chapter 6: "PSNR rises to a peak in lambda and falls again"."""
    curve = [row for row in run(f"lambda-{task}")["rows"] if row["prior"] == prior and "rule" not in row]
    curve.sort(key=lambda row: row["scale"])
    rises = [b["psnr"] > a["psnr"] for a, b in zip(curve, curve[1:])]
    assert set(rises) == {True, False}, "a peak between the ends of the grid"
    assert rises == sorted(rises, reverse=True), "one peak"


def test_the_automatic_rule_loses_less_than_the_least_residual():
    """Chapter 6: "The paper's least residual (triangle) loses up to ...; the automatic rule (star) at most ..."."""
    tasks = ("mask", "noise", "blur")
    loss = {rule: [row["gap"] for task in tasks for row in chosen(task, rule)] for rule in ("auto", "residual")}
    assert max(loss["auto"]) < max(loss["residual"])
    assert all(auto <= residual for auto, residual in zip(loss["auto"], loss["residual"]))


@pytest.mark.parametrize("task", ["mask", "noise", "blur"])
def test_on_a_grid_of_octaves_no_fall_of_the_best_lambda_shows(task):
    """Chapter 6: "On a grid of octaves a fall of less than a factor of two does not show"."""
    assert len({row["scale"] for row in chosen(task, "oracle")}) == 1


def test_the_least_residual_keeps_the_noise_where_there_is_noise():
    """Chapter 6: "The least residual keeps the noise where there is noise"."""
    noisy = mean("noise", "observed")
    for residual, oracle in zip(chosen("noise", "residual"), chosen("noise", "oracle")):
        assert residual["scale"] > oracle["scale"]
        assert residual["psnr"] < noisy + 2 < oracle["psnr"]


def test_without_noise_the_least_residual_stops_where_seen_pixels_are_disturbed():
    """Chapter 6: "Where the push is strong enough to disturb them it stops, whatever has been drawn in the holes"."""
    for residual, oracle in zip(chosen("mask", "residual"), chosen("mask", "oracle")):
        assert residual["scale"] < oracle["scale"]
        assert residual["gap"] > 0


def test_discrepancy_tends_to_push_too_little():
    """Chapter 6: "... so the rule tends to push too little"."""
    for discrepancy, oracle in zip(chosen("noise", "discrepancy"), chosen("noise", "oracle")):
        assert discrepancy["scale"] < oracle["scale"]


def test_to_withholding_a_lambda_that_throws_seen_pixels_about_costs_nothing():
    """Chapter 6: "... forgets those that were seen: a lambda that throws seen pixels about costs nothing"."""
    ratios = [a["scale"] / b["scale"] for a, b in zip(chosen("mask", "held_out"), chosen("mask", "oracle"))]
    assert min(ratios) == 1 < max(ratios)


# Chapter 7, a better E-step


def test_the_quickest_sampler_that_is_as_good_as_the_best_dps_is_mmps_in_a_fraction_of_its_time():
    """Chapter 7: "The best DPS of these ... The quickest sampler that is as good ...: ... times as fast, and its draws
    spread ... times as wide"."""
    rows = run("samplers")["rows"]
    best = max((row for row in rows if row["sampler"].startswith("DPS")), key=lambda row: row["PSNR"])
    as_good = [row for row in rows if row["PSNR"] >= best["PSNR"] and not row["sampler"].startswith("DPS")]
    quickest = min(as_good, key=lambda row: row["seconds"])
    assert quickest["sampler"].startswith("MMPS")
    assert 2 * quickest["seconds"] < best["seconds"]
    assert quickest["spread"] > 0.9 * best["spread"], "its draws differ as much"


def test_dps_with_a_thousand_steps_is_no_better_than_with_a_hundred():
    """Chapter 7: "DPS with a thousand steps takes ten times as long as with a hundred and is no better here"."""
    top = {
        n: max(row["PSNR"] for row in run("samplers")["rows"] if row["sampler"].startswith(f"DPS-{n} "))
        for n in (100, 1000)
    }
    assert top[1000] < top[100] + 0.1


# Chapter 7, a blur needs a preconditioner


def solved(what: str, noise_std: float, measure: str = "PSNR") -> dict[tuple[str, int], float]:
    """(solver, its steps) -> a measure of what it restored, on clothes or photographs."""
    rows = [row for row in run(f"solvers-{what}")["rows"] if row["noise_std"] == noise_std]
    return reports.indexed(rows, measure, "solver", "steps")


@pytest.mark.parametrize("what", ["embedded", "cifar10"])
def test_without_noise_one_preconditioned_step_is_worth_more_than_eight_plain_ones_at_the_price_of_one(what):
    """Chapter 7: "Without noise one preconditioned step is worth more than eight plain ones, at the price of one"."""
    found, speed = solved(what, 0.0), solved(what, 0.0, "ratio")
    assert found["preconditioned", 1] > 4 + max(found["plain", n] for n in (1, 2, 4, 8))
    assert speed["preconditioned", 1] > 0.9 * speed["plain", 1]


@pytest.mark.parametrize("what", ["embedded", "cifar10"])
def test_with_noise_one_preconditioned_step_is_level_with_the_best_plain_solver_in_less_than_half_its_time(what):
    """Chapter 7: "With noise there is less to win ... one preconditioned step is as good as the best of the plain
    solvers, in less than half of its time"."""
    found, speed = solved(what, 0.05), solved(what, 0.05, "ratio")
    plain = [n for solver, n in found if solver == "plain"]
    best = max(plain, key=lambda n: found["plain", n])
    assert 0 <= found["preconditioned", 1] - found["plain", best] < 0.3
    assert speed["plain", best] < 0.5


# Chapter 8, the whole loop


def test_the_priors_distance_rises_once_then_falls_and_ends_hardly_below_where_it_began():
    """Chapter 8: "After the first iteration the distance ... is larger than before ... from there on it falls, and ends
    hardly below where it began. The clean prior of chapter 9 is well below, but was also trained for twice as many
    updates"."""
    start, *rest = [row["FD-AlexNet"] for row in run("em-mask-pocket")["rows"] if "FD-AlexNet" in row]
    clean = mean("mask", "ceiling", "MMPS", "FD-AlexNet")
    assert rest == sorted(set(rest), reverse=True)
    assert rest[0] > 1.2 * start
    assert 0.9 * start < rest[-1] < start
    assert rest[-1] > 1.5 * clean
    em = PRESETS["pocket"].em
    ours = em.init_updates + sum(em.updates_of(k) for k in range(1, em.iterations + 1))
    assert run("table-embedded-mask")["settings"]["sizes"]["prior_updates"] == 2 * ours


def test_chapter_8s_run_is_the_recorded_one_by_preset_pocket():
    """Chapter 8: "FD-AlexNet, in a recorded run"."""
    said, p = run("em-mask-pocket")["settings"], PRESETS["pocket"]
    assert (said["iterations"], said["clean"], said["observations"]) == (p.em.iterations, p.clean, p.observations)
    assert (said["m_updates"], said["last_updates"], said["optimizer"]) == (p.em.m_updates, p.em.last_updates, "muon")


def test_photographs_come_closer_in_every_iteration():
    """Chapter 8: "From ... dB observed to ... dB in the first E-step and ... dB in the last"."""
    colour = iterations("em-cifar10-mask")
    psnrs = [run("em-cifar10-mask")["rows"][0]["PSNR"], *(row["PSNR"] for row in colour)]
    assert psnrs == sorted(set(psnrs))
    assert len(psnrs) == 6


def test_the_colour_priors_samples_come_closer_in_every_iteration():
    """Chapter 8: "The prior's own samples go from a distance of ... to ..."."""
    distances = [row["FD-AlexNet"] for row in run("em-cifar10-mask")["rows"] if "FD-AlexNet" in row]
    assert distances == sorted(set(distances), reverse=True)
    assert len(distances) == 6


def _spline_and_em_on_photographs() -> tuple[dict[str, Any], dict[str, Any]]:
    table, colour = run("table-cifar10-mask"), run("em-cifar10-mask")
    assert table["settings"]["fingerprint"] == colour["settings"]["fingerprint"], "the same photographs"
    assert table["settings"]["fraction"] == colour["settings"]["fraction"], "the same task"
    (spline,) = [row for row in table["rows"] if row["method"] == "classical"]
    (em,) = [row for row in colour["rows"] if row["iteration"] == "held out"]
    return spline, em


def test_on_photographs_the_spline_wins_in_psnr():
    """Chapter 8: "In PSNR the spline wins, and the reason is worth knowing"."""
    spline, em = _spline_and_em_on_photographs()
    assert spline["PSNR"] > em["PSNR"]


def test_on_photographs_em_is_ahead_of_the_spline_in_lpips():
    """Chapter 8: "LPIPS does not reward them, and there EM is ahead"."""
    spline, em = _spline_and_em_on_photographs()
    assert em["LPIPS"] < spline["LPIPS"]


def test_on_clothes_em_leaves_the_spline_behind_in_both_scores():
    """Chapter 8: "... on clothes, where there is more to know, EM leaves the spline behind in both scores"."""
    assert mean("mask", "em-mmps") > mean("mask", "classical")
    assert mean("mask", "em-mmps", measure="LPIPS") < mean("mask", "classical", measure="LPIPS")


# Chapter 9, SURE on its own training pictures


def _with_the_prior() -> list[dict[str, Any]]:
    return [row for row in run("sure-overfit")["rows"] if row["weight"] > 0]


def test_sure_on_its_own_training_pictures_promises_what_no_error_can_be():
    """Chapter 9: "... SURE on its own training pictures promises a squared error of ..., which no error can be"."""
    last = _with_the_prior()[-1]
    assert last["SURE, seen"] < 0 < last["error, seen"]


def test_on_pictures_that_were_not_trained_on_the_estimate_still_says_the_truth():
    """Chapter 9: "On pictures that were not trained on, the estimate still says the truth"."""
    for row in _with_the_prior():
        assert row["SURE, held out"] == pytest.approx(row["error, held out"], rel=0.1)


def test_at_the_end_the_denoiser_has_hardly_more_than_the_noisy_pictures_themselves():
    """Chapter 9: "... at the end it has ... dB, hardly more than the noisy pictures themselves"."""
    assert run("sure-overfit")["settings"]["noise_std"] == run("table-embedded-noise")["settings"]["noise_std"]
    assert 0 < _with_the_prior()[-1]["PSNR, held out"] - mean("noise", "observed") < 0.3


def test_sure_goes_on_as_long_as_the_table_allows_by_the_tables_recipe():
    """Chapter 9: "The recorded run below goes on for as many updates as the table ... allows"."""
    sizes = run("table-embedded-noise")["settings"]["sizes"]
    assert _with_the_prior()[-1]["updates"] == (sizes["prior_updates"] - sizes["em"]["init_updates"]) // 3
    assert run("sure-overfit")["settings"]["optimizer"] == sizes["em"]["optimizer"]


def test_stopping_by_sure_on_other_noisy_pictures_comes_close_to_stopping_by_the_truth():
    """Chapter 9: "These need not be clean. The next cell stops where the estimate on other noisy pictures is least"."""
    rows = _with_the_prior()
    stop = min(rows, key=lambda row: row["SURE, held out"])
    assert stop["PSNR, held out"] > max(row["PSNR, held out"] for row in rows) - 0.2


def test_without_the_priors_part_of_the_loss_sure_is_wrong_all_the_same():
    """Chapter 9: "(The second line rules out another suspect, the prior's part of the loss ...)"."""
    last = [row for row in run("sure-overfit")["rows"] if row["weight"] == 0][-1]
    assert last["SURE, seen"] < 0 < last["error, seen"]


# Chapter 9, at equal budgets


def test_the_first_e_step_is_ahead_of_the_interpolation():
    """Chapter 9: "... even the poor first prior, which has seen fifty pictures, does well"."""
    assert run("em-mask-pocket")["settings"]["clean"] == 50
    assert iterations("em-mask-pocket")[0]["PSNR"] > mean("mask", "classical")


@pytest.mark.parametrize("task", ["mask", "noise"])
def test_em_has_three_iterations_and_fd_alexnet_a_thousand_pictures(task):
    """Chapter 9: "EM has three iterations here ... FD-AlexNet compares a thousand pictures drawn by each prior ..."."""
    table = run(f"table-embedded-{task}")
    assert table["settings"]["sizes"]["em"]["iterations"] == 3
    assert {row["n"] for row in table["rows"] if "FD-AlexNet" in row} == {1000}


@pytest.mark.parametrize("task", ["mask", "noise"])
def test_em_with_mmps_is_a_decibel_ahead_of_em_with_dps_and_the_papers_rule(task):
    """Chapter 9: "EM with MMPS is ... dB ahead of EM with DPS and the paper's rule"."""
    assert mean(task, "em-mmps") > mean(task, "em-dps-paper") + 1


@pytest.mark.parametrize("task", ["mask", "noise"])
def test_the_prior_of_em_with_mmps_draws_closer_to_real_pictures(task):
    """Chapter 9: "EM with MMPS is ... ahead of EM with DPS and the paper's rule", in FD-AlexNet, too."""
    mmps, paper = (mean(task, method, measure="FD-AlexNet") for method in ("em-mmps", "em-dps-paper"))
    assert mmps < paper


def test_for_masks_the_papers_order_holds():
    """Chapter 9: "For masks the paper's order holds: clean prior, EM, Ambient Diffusion, SURE-Score, nothing"."""
    em = {"MMPS": mean("mask", "em-mmps"), "DPS": mean("mask", "em-dps-paper")}
    for sampler, psnr in em.items():
        assert mean("mask", "ceiling", sampler) > psnr
    assert min(em.values()) > max(ways("mask", "ambient"))
    assert min(ways("mask", "ambient")) > max(ways("mask", "sure-score"))
    assert min(ways("mask", "sure-score")) > mean("mask", "observed")


def test_for_masks_ambient_diffusion_and_sure_score_stand_two_decibels_apart():
    """Chapter 9: "... Ambient Diffusion, SURE-Score, nothing"."""
    ambient, sure = mean("mask", "ambient", "DPS"), mean("mask", "sure-score", "DPS")
    assert ambient > sure + 2 > mean("mask", "observed") + 4


def test_ambient_diffusion_is_still_behind_a_spline():
    """Chapter 9: "Ambient Diffusion, trained for longer than EM, is still behind a spline at this budget"."""
    assert max(ways("mask", "ambient")) < mean("mask", "classical")


@pytest.mark.parametrize("task", ["mask", "noise"])
def test_the_gap_to_the_clean_prior_is_smaller_than_the_papers(task):
    """Chapter 9: "The gap to the clean prior is smaller than the paper's 0.74 dB", and so it is for noise."""
    clean, em = PAPER[task]
    assert 0 < mean(task, "ceiling", "MMPS") - mean(task, "em-mmps") < clean - em


@pytest.mark.parametrize("method", ["em-mmps", "em-dps-paper"])
def test_for_masks_em_is_ahead_of_the_spline_with_either_sampler(method):
    """Chapter 9: "... and EM is ahead of the spline with either sampler"."""
    assert mean("mask", method) > mean("mask", "classical")


@pytest.mark.parametrize("method", ["noise2self", "classical"])
def test_for_noise_the_papers_own_recipe_ends_below_noise2self_and_below_a_wiener_filter(method):
    """Chapter 9: "... it ends below Noise2Self, and below a Wiener filter"."""
    assert mean("noise", "em-dps-paper") < mean("noise", method)


def test_em_with_the_papers_rule_has_kept_the_noise_and_with_mmps_it_is_gone():
    """Chapter 9: "EM with the paper's rule has kept the noise ...; with MMPS it is gone"."""
    noisy = mean("noise", "observed")
    assert noisy < mean("noise", "em-dps-paper") < noisy + 2
    assert mean("noise", "em-mmps") > noisy + 5


def test_em_with_mmps_is_ahead_of_noise2self():
    """Chapter 9: "EM with MMPS is ... dB ahead of Noise2Self"."""
    assert mean("noise", "em-mmps") > mean("noise", "noise2self") + 1


def test_sure_score_is_the_best_denoiser_of_the_table():
    """Chapter 9: "SURE-Score, stopped in time, is the best denoiser of the table"."""
    found = over_seeds(run("table-embedded-noise"), "PSNR")
    assert max(found, key=lambda way: found[way].mean) == ("sure-score", "D(y)")


def test_d_of_y_is_ahead_of_em_and_even_of_the_clean_prior():
    """Chapter 9: "... its D(y) is ahead of EM and even of the clean prior"."""
    d, clean = mean("noise", "sure-score", "D(y)"), mean("noise", "ceiling", "MMPS")
    assert d > clean > mean("noise", "em-mmps")


def test_with_the_same_sampler_sure_scores_prior_restores_a_little_less_well_than_ems():
    """Chapter 9: "With the same sampler it restores a little less well than EM's"."""
    assert 0 < mean("noise", "em-mmps") - mean("noise", "sure-score", "MMPS") < 1


def test_what_sure_scores_prior_draws_is_far_from_real_pictures():
    """Chapter 9: "... and what it draws by itself is more than twice as far from real pictures"."""
    sure, em = mean("noise", "sure-score", "MMPS", "FD-AlexNet"), mean("noise", "em-mmps", measure="FD-AlexNet")
    assert 2 * em < sure < 2.5 * em


def test_neither_psnr_nor_lpips_shows_that_a_prior_of_means_is_too_smooth():
    """Chapter 9: "Neither PSNR nor, here, LPIPS shows it; the pictures that the prior draws do"."""
    assert mean("noise", "sure-score", "D(y)") > mean("noise", "em-mmps")
    assert mean("noise", "sure-score", "D(y)", "LPIPS") < mean("noise", "em-mmps", measure="LPIPS")


@pytest.mark.parametrize("task", ["mask", "noise"])
def test_a_number_is_one_training(task):
    """Chapter 9: "Keep in mind that a number is one training"."""
    found = over_seeds(run(f"table-embedded-{task}"), "PSNR")
    assert {len(way.values) for way in found.values()} == {1}


def test_half_of_adamws_updates_by_muon_are_better_by_every_measure_than_all_of_them():
    """8: "Half of AdamW's updates by Muon are better by every measure than all of them, and as many bring the distance
    down to little more than half." """
    rows = {(row["optimizer"], row["updates"]): row for row in run("optimizers")["rows"]}
    most = max(updates for _, updates in rows)
    half, all_of_adamw, all_of_muon = rows["muon", most // 2], rows["adamw", most], rows["muon", most]
    up = [name for name in half if name.startswith("PSNR")]
    down = [name for name in half if name.startswith(("eps error", "FD"))]
    assert (len(up), len(down)) == (2, 4)
    assert all(half[name] > all_of_adamw[name] for name in up)
    assert all(half[name] < all_of_adamw[name] for name in down)
    assert 0.5 < all_of_muon["FD-AlexNet"] / all_of_adamw["FD-AlexNet"] < 0.6


def test_presets_that_keep_to_the_paper_keep_its_optimiser():
    """8: "So all presets of this book train by it, but for those that keep to the paper, whose optimiser is AdamW." """
    for name, p in PRESETS.items():
        assert p.em.optimizer == ("adamw" if name.startswith("paper") else "muon")


def test_a_tenth_of_the_pictures_in_each_m_step_are_the_clean_ones():
    """8: "A tenth of the pictures in each of them are the clean ones, which the paper leaves behind after the first
    prior." And the last M-step is longer."""
    p = PRESETS["pocket"]
    clean = p.em.clean_copies * p.clean
    assert clean / (clean + p.observations) == pytest.approx(0.1, abs=0.02)
    assert p.em.last_updates > p.em.m_updates
    assert PRESETS["paper"].em.clean_copies == 0
