"""How often a confirmation loses the setting that is truly best.

    python -m benchmarks.confirm                    # some minutes of one core
    python -m benchmarks.confirm --repetitions 4000

What a seed makes of a setting is its true value plus normal noise of standard deviation 1; one of
the settings is better than all others by `gap` of these. `search.confirming` says after every
trial what is trained next, as in a sweep. Printed are shares of all repetitions, in per cent: the
best one is dropped before its last seed, it is not among what cannot be told apart in the end, it
is named alone, a worse one is named alone, and how many settings are in the tie, and trained, on
average. What seeds have in common, such as an easy split, cancels in pairs and is left out.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.record.confirmation import Confirmation
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.search.confirming import (
    is_worse,
    leader_of,
    paired,
    values_of,
    wanted,
)

METRIC = Metric(name="val/accuracy", mode="max")
BEST = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--settings", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=1000)
    given = parser.parse_args()
    print(f"{given.settings} settings, {given.repetitions} repetitions")
    print("seeds  gap  dropped  not in tie  alone  a worse one alone  in the tie  trials")
    for seeds in (3, 5, 10):
        for gap in (0.0, 0.5, 1.0, 2.0):
            rng = np.random.default_rng(seeds * 100 + int(10 * gap))
            told = Counter[str]()
            for _ in range(given.repetitions):
                told += repetition(rng, given.settings, seeds, gap)
            share = {name: number / given.repetitions for name, number in told.items()}
            print(
                f"{seeds:5} {gap:4.1f} {100 * share.get('dropped', 0):8.1f} "
                f"{100 * share.get('not in tie', 0):11.1f} {100 * share.get('alone', 0):6.1f} "
                f"{100 * share.get('worse alone', 0):18.1f} {share['tie']:11.2f} "
                f"{share['trials']:7.1f}",
                flush=True,
            )


def repetition(rng: np.random.Generator, settings: int, seeds: int, gap: float) -> Counter[str]:
    """One confirmation to its end, one trial after another."""
    noise = rng.normal(size=(settings, seeds))
    noise[BEST] += gap
    # The search does not tell which is best.
    plan = Confirmation(
        settings=tuple(rng.permutation(settings).tolist()), control=None, seeds=seeds, begun_ms=0
    )
    records: list[TrialRecord] = []
    while more := wanted(plan, records, METRIC):
        setting, index = more[0]
        records.append(_record(len(records), setting, index, float(noise[setting, index])))
    values = values_of(records, METRIC)
    leader = leader_of(plan, values, METRIC)
    assert leader is not None
    tie = [n for n in range(settings) if not is_worse(paired(values[n], values[leader]), METRIC)]
    return Counter(
        {
            "dropped": len(values[BEST]) < seeds,
            "not in tie": BEST not in tie,
            "alone": tie == [BEST],
            "worse alone": len(tie) == 1 and tie != [BEST],
            "tie": len(tie),
            "trials": len(records),
        }
    )


def _record(number: int, setting: int, index: int, value: float) -> TrialRecord:
    return TrialRecord(
        number=number,
        outcome="completed",
        params={},
        history=(Epoch(number=1, metrics={METRIC.name: value}, timestamp_ms=1),),
        confirms=setting,
        seed_index=index,
    )


if __name__ == "__main__":
    main()
