"""Hosts whose power is cut, and what the study says afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep.record.folder import SweepFolder

from .conftest import Cluster, ended, wait_for


def content(sweeps: Path, name: str) -> list[Any]:
    """What two undisturbed sweeps of a random sampler have in common: everything but times."""
    with SweepFolder.of(sweeps, name).records.open() as study:
        return [
            (
                (record.number, record.outcome, record.reason, record.params),
                [
                    {k: v for k, v in epoch.metrics.items() if not k.startswith("time/")}
                    for epoch in record.history
                ],
            )
            for record in study.trials()
        ]


@pytest.mark.fault("node-lost")
def test_a_node_and_a_driver_die_and_the_study_is_that_of_an_undisturbed_sweep(
    cluster: Cluster,
) -> None:
    long = ("--set", "training.epochs=40")
    calm = ended(cluster.launch("calm", *long))
    assert calm.code == 0, calm.out + calm.complaint
    other = cluster.add()
    sweep = cluster.launch("disturbed", *long)
    said = wait_for("t001 epoch 5/", sweep)
    other.fail()
    said += wait_for("trials at a time: 1 now, 2 before", sweep)
    cluster.add()
    said += wait_for("trials at a time: 2 now, 1 before", sweep)
    said += wait_for("epoch 30/", sweep)
    sweep.kill()
    ended(sweep)
    again = ended(cluster.launch("disturbed", *long))
    assert again.code == 0, again.out + again.complaint
    assert content(cluster.sweeps, "disturbed") == content(cluster.sweeps, "calm")
    assert " started again after epoch " in said + again.out
