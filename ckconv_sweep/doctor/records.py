"""Whether the study can be read and believed, and how far the sweep is."""

from __future__ import annotations

import errno
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace

from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.doctor.finding import Examined, Finding, count, ok, problem, warning
from ckconv_sweep.errors import CkconvSweepError, ConfigError, DamagedData
from ckconv_sweep.record import snapshot
from ckconv_sweep.record.budget import asked, is_finished
from ckconv_sweep.record.confirmation import Confirmation, command, noted
from ckconv_sweep.record.confirmation import in_words as confirmation_in_words
from ckconv_sweep.record.database import NOTHING_CHANGED
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.lineage import broken
from ckconv_sweep.record.place import copied_from, notes_here, shares_runs
from ckconv_sweep.record.records import RESCUED, STUDY
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import TrialRecord, trial_of
from ckconv_sweep.search.confirming import is_over
from ckconv_sweep.tracking.store import default_uri, is_default, kept_notes


def examine_study(sweep: Examined) -> tuple[list[Finding], Examined]:
    """The study's own findings, and the sweep with what the study says."""

    def damaged(message: str, todo: str = "") -> tuple[list[Finding], Examined]:
        root = shlex.quote(str(sweep.folder.root))
        todo = todo or (
            f"cp -a {root} {root}.copy, rm -f {root}/{STUDY}-*, then "
            + (
                f"mv {root}/{rescued} {root}/{STUDY}"
                if (rescued := _rescued(sweep))
                else f"put a {STUDY} of a backup in its place; without one, launch the space under "
                "another --name"
            )
        )
        return [problem(message, todo, damaged=True)], sweep

    path = sweep.folder.records.path
    if not path.exists():
        if left := _left(sweep):
            return damaged(f"{STUDY} is missing, and there are {left}")
        return [
            warning("there is none: the sweep was ended before it began", "launch it again")
        ], sweep
    try:
        with snapshot.copied(path) as copy:
            if why := snapshot.damage(copy):
                return damaged(f"{STUDY} is damaged: {why}")
            with SweepFolder(copy.parent, sweep.folder.name).records.open() as study:
                return _study_that_opens(sweep, study)
    except OSError as error:
        message = f"{STUDY} cannot be copied to be looked at: {error.strerror}"
        if error.errno == errno.EIO:
            return damaged(message)
        todo = f"make it readable, or free disk space: {error.filename}"
        return [Finding(check="study", level="problem", message=message, todo=todo)], sweep
    except DamagedData as error:
        hint = "" if (error.hint or "").startswith(NOTHING_CHANGED) else error.hint or ""
        return damaged(f"{STUDY}: {error.message}", hint)
    except CkconvSweepError as error:
        return [problem(f"{STUDY}: {error.message}")], sweep


def _rescued(sweep: Examined) -> str:
    """The newest copy that a driver made as its study was taken away; empty if there is none."""
    copies = sorted(sweep.folder.root.glob(RESCUED))
    return copies[-1].name if copies else ""


def _left(sweep: Examined) -> str:
    """What lies beside a study that is missing."""
    folders = list(sweep.folder.root.glob("trials/*"))
    if not folders:
        return ""
    checkpoints = sum(len(list(folder.glob("checkpoint-*.pt"))) for folder in folders)
    weights = sum(len(list(folder.glob("best-*.pt"))) for folder in folders)
    epochs = 0
    for ledger in sweep.folder.root.glob("trials/*/ledger.jsonl"):
        text = ledger.read_text(errors="replace")
        epochs += len(set(re.findall(r'"epoch": (\d+),.*"metrics"', text)))
    parts = [
        f"the folders of {count(len(folders), 'trial')}",
        f"{count(checkpoints, 'checkpoint')}",
        f"the best weights of {count(weights, 'trial')} with their settings",
        f"ledgers with the metrics of {count(epochs, 'epoch')}",
    ]
    if rescued := _rescued(sweep):
        parts.append(f"{rescued}, all that was recorded as {STUDY} was taken away")
    return ", ".join(parts)


def _study_that_opens(sweep: Examined, study: Study) -> tuple[list[Finding], Examined]:
    space, records, searched = study.space, study.every_trial(), study.trials()
    lineages = [problem(sentence, damaged=True) for sentence in broken(records)]
    distrust = "do not trust its row; the other trials are not affected"
    found = [problem(sentence, distrust, damaged=True) for sentence in study.contradictions()]
    found += lineages
    settings: dict[int, Trial] = {}
    for record in records:
        try:
            settings[record.number] = trial_of(record, space)
        except ConfigError as error:
            # One may have been rejected for this, or be about to be.
            if record.outcome != "running" and record.counts:
                what = f"trial {record.number}: its parameters are not a trial of the space"
                found.append(problem(f"{what}: {error.message}", damaged=True))
    if not found:
        found.append(ok(f"whole: {_amounts(sweep, records)}"))
    sweeps_dir = sweep.folder.root.parent
    uri = sweep.tracking_uri or kept_notes(study.notes(), sweeps_dir).get("uri")
    own_database = is_default(uri or default_uri(sweeps_dir), sweeps_dir)
    original = copied_from(study, sweep.folder)
    if original and shares_runs(original, sweep.folder, own_database=own_database):
        what = f"a copy of the sweep in {original}; MLflow has nothing of it yet"
        found.append(warning(what, sweep.folder.command("sync")))
    if not sweep.runs and (todo := _not_done(space, searched)):
        found.append(warning(todo, sweep.folder.command("resume")))
    if not sweep.runs and (unfinished := _not_confirmed(study)):
        told, plan = unfinished
        found.append(warning(told, command(sweep.folder, plan, ())))
    return found, replace(
        sweep,
        records=records,
        notes=notes_here(study, sweep.folder, own_database=own_database),
        settings=settings,
        space=space,
        finished=is_finished(searched, space),
    )


def _amounts(sweep: Examined, records: Sequence[TrialRecord]) -> str:
    epochs = sum(len(record.history) for record in records)
    running = sum(record.outcome == "running" for record in records) if sweep.runs else 0
    said = f"{count(len(records), 'trial')}, {count(epochs, 'epoch')}"
    return said + (f", {running} running" if running else "")


def _not_confirmed(study: Study) -> tuple[str, Confirmation] | None:
    """How far a confirmation is that has not ended, and its plan; None where there is none."""
    plan, records = noted(study.notes()), study.confirmations()
    if plan is None or is_over(plan, records, study.space.metric):
        return None
    return confirmation_in_words(plan, records), plan


def _not_done(space: Space, records: Sequence[TrialRecord]) -> str:
    """What is not done yet; empty where all is."""
    if unfinished := [str(r.number) for r in records if r.outcome == "running"]:
        return f"{count(len(unfinished), 'unfinished trial')}: {', '.join(unfinished)}"
    if is_finished(records, space):
        return ""
    begun = sum(record.counts and record.outcome != "continued" for record in records)
    return f"{begun} of {count(asked(records, space), 'trial')} are done"
