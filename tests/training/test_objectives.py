"""Losses and scores against the formulas written out, in plain Python."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ckconv_sweep.config.data import Kind
from ckconv_sweep.config.metrics import scored_by
from ckconv_sweep.data.task import IGNORED
from ckconv_sweep.training.objectives import OBJECTIVES, Tally, auc, perplexity


def scores(kind: Any, answers: Tensor, targets: Tensor, cut: int) -> dict[str, float]:
    """As evaluation does it, in two batches."""
    objective, tally = OBJECTIVES[kind], Tally()
    for part in (slice(0, cut), slice(cut, None)):
        tally.add(objective.sums(answers[None, part], targets[None, part]))
    (found,) = tally.scores(scored_by(kind), answers[None], targets)
    return found


def test_every_kind_of_task_has_an_objective_and_what_its_scores_are_made_of() -> None:
    assert set(OBJECTIVES) == set(get_args(Kind))
    for kind, objective in OBJECTIVES.items():
        scores = scored_by(kind)
        assert "loss" in scores
        assert objective.right or all(score.given != "right" for score in scores.values())


def test_steps_that_do_not_count_are_in_no_score() -> None:
    draw = torch.Generator().manual_seed(0)
    answers_BKT = torch.randn(3, 4, 5, generator=draw, dtype=torch.float64)
    targets_BT = torch.randint(4, (3, 5), generator=draw)
    targets_BT[0, :3] = IGNORED
    targets_BT[2] = IGNORED
    losses, right = [], []
    for b in range(3):
        for t in range(5):
            target = int(targets_BT[b, t])
            if target == IGNORED:
                continue
            row = [float(value) for value in answers_BKT[b, :, t]]
            losses.append(math.log(sum(map(math.exp, row))) - row[target])
            right.append(row.index(max(row)) == target)
    loss = sum(losses) / len(losses)
    assert len(losses) == 7
    for kind in ("per_step", "text"):
        found = scores(kind, answers_BKT, targets_BT, 1)
        assert found["loss"] == pytest.approx(loss)
        assert found["accuracy"] == sum(right) / 7
    assert found["bits_per_character"] == pytest.approx(loss / math.log(2))
    assert found["perplexity"] == pytest.approx(math.exp(loss))


def test_a_loss_too_large_for_a_perplexity_is_infinite_and_so_never_ranked() -> None:
    assert perplexity(800.0) == math.inf


def test_the_area_under_the_curve_is_the_share_of_pairs_in_the_right_order() -> None:
    draw = torch.Generator().manual_seed(1)
    answers_B = torch.randn(40, generator=draw).round(decimals=1)  # with ties
    targets_B = (torch.rand(40, generator=draw) < 0.3).float()
    yes, no = answers_B[targets_B == 1].tolist(), answers_B[targets_B == 0].tolist()
    order = [1.0 if a > b else 0.5 if a == b else 0.0 for a in yes for b in no]
    found = scores("binary", answers_B, targets_B, 7)
    assert found["auc"] == pytest.approx(sum(order) / len(order))
    terms = [
        math.log1p(math.exp(-a if t else a))
        for a, t in zip(answers_B.tolist(), targets_B.tolist(), strict=True)
    ]
    assert found["loss"] == pytest.approx(sum(terms) / 40, rel=1e-6)
    right = [(a > 0) == (t == 1) for a, t in zip(answers_B, targets_B, strict=True)]
    assert found["accuracy"] == sum(map(bool, right)) / 40


def test_the_loss_of_a_yes_or_no_has_pytorchs_gradient_to_the_last_digits() -> None:
    answers_B = torch.tensor([-80.0, -20.0, -1.0, 0.0, 0.3, 20.0, 80.0]).repeat(2)
    targets_B = torch.tensor([0.0, 1.0]).repeat_interleave(7)
    gradients = []
    for losses, dtype in [
        (OBJECTIVES["binary"].losses, torch.float32),
        (partial(binary_cross_entropy_with_logits, reduction="none"), torch.float64),
    ]:
        leaf_B = answers_B.to(dtype).requires_grad_()
        gradients += torch.autograd.grad(losses(leaf_B, targets_B.to(dtype)).sum(), leaf_B)
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=1e-6, atol=1e-16)


def test_where_all_targets_are_alike_there_is_no_area_under_the_curve() -> None:
    assert math.isnan(auc(torch.tensor([0.1, 0.2]), torch.tensor([1.0, 1.0])))


def test_a_regression_is_judged_by_its_mean_squared_error() -> None:
    answers_B, targets_B = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.5, 0.0, 4.0])
    found = scores("regression", answers_B, targets_B, 2)
    assert found == {"loss": pytest.approx(4.25 / 3), "mean_squared_error": pytest.approx(4.25 / 3)}


@pytest.mark.fault("target-like-ignored-value")
def test_a_regression_target_of_minus_100_counts_like_any_other() -> None:
    answers_B, targets_B = torch.tensor([-99.0, 2.0, -100.0]), torch.tensor([-100.0, 0.0, -100.0])
    found = scores("regression", answers_B, targets_B, 1)
    assert found == {"loss": pytest.approx(5 / 3), "mean_squared_error": pytest.approx(5 / 3)}


@pytest.mark.fault("target-like-ignored-value")
def test_a_class_of_minus_100_is_not_skipped_in_silence() -> None:
    objective = OBJECTIVES["classification"]
    with pytest.raises(IndexError, match="-100 is out of bounds"):
        objective.sums(torch.zeros(1, 2, 3), torch.tensor([[0, -100]]))


@pytest.mark.fault("target-like-ignored-value")
def test_a_regression_target_that_is_not_a_number_shows_in_the_loss() -> None:
    found = scores("regression", torch.zeros(3), torch.tensor([1.0, math.nan, 0.0]), 1)
    assert math.isnan(found["loss"])
