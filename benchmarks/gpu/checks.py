"""The table of checks, in the order in which they run: what is wrong matters more than what is
slow, and what has never run on a GPU more than what has."""

from __future__ import annotations

from benchmarks.gpu import correctness, speed
from benchmarks.gpu.check import Check

CHECKS = (
    Check(
        "masks",
        "dropout masks made on the device, against NumPy's",
        correctness.masks,
        seconds=25,
        needs_cuda=True,
    ),
    Check(
        "trial-files",
        "all trial files and options against float64 on the CPU",
        correctness.trial_files,
        seconds=40,
    ),
    Check(
        "packed",
        "four trials trained as one, against each by itself",
        correctness.alone_and_packed,
        seconds=20,
    ),
    Check(
        "resume",
        "two sessions with a checkpoint against one, and repeated",
        correctness.resumed,
        seconds=20,
    ),
    Check(
        "graphs",
        "steps recorded as CUDA graphs, against called ones",
        correctness.with_graphs,
        seconds=25,
        needs_cuda=True,
    ),
    Check(
        "precision",
        "a layer and a network in each precision, against float64",
        correctness.of_precision,
        seconds=12,
    ),
    Check(
        "memory",
        "out of memory is named, and training goes on",
        correctness.out_of_memory,
        seconds=20,
    ),
    Check("step-98K", "a training step: ours, the authors' code", speed.step_98k, seconds=40),
    Check("step-1M", "a training step: ours, the authors' code", speed.step_1m, seconds=45),
    Check("packs-98K", "packs of 1 to 64 members", speed.packs_of_98k, seconds=60),
    Check("processes", "as many processes with a trial each", speed.processes, seconds=40),
    Check("sweep", "a short real sweep", speed.sweep, seconds=60),
    Check("packs-digits", "packs of 1 to 64 members", speed.packs_of_digits, seconds=25),
    Check("precision-time", "forward and backward in each precision", speed.by_precision, 15),
    Check("packs-1M", "packs of 1 to 16 members", speed.packs_of_1m, seconds=60),
)
