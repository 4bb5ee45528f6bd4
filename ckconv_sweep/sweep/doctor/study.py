"""Whether the study can be read and believed, and how far the sweep is."""

from __future__ import annotations

import shlex
from dataclasses import replace

from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import CkconvSweepError, ConfigError, DamagedData
from ckconv_sweep.record import snapshot
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import SEE_DOCTOR, Study, is_finished
from ckconv_sweep.sweep.doctor.finding import Examined, Finding, count


def examine_study(sweep: Examined) -> tuple[list[Finding], Examined]:
    """The study's own findings, and the sweep with what the study says."""

    def damaged(message: str, todo: str = "") -> tuple[list[Finding], Examined]:
        root = shlex.quote(str(sweep.folder.root))
        todo = todo or (
            f"cp -a {root} {root}.copy, then put a study.db of a backup in its place; "
            "without one, launch the space under another --name"
        )
        return [
            Finding(check="study", level="problem", message=message, todo=todo, damaged=True)
        ], sweep

    path = sweep.folder.study
    if not path.exists():
        if any(sweep.folder.root.glob("trials/*")):
            return damaged("study.db is missing, and there are trials")
        return [
            Finding(
                check="study",
                level="warning",
                message="there is none: the sweep was ended before it began",
                todo="launch it again",
            )
        ], sweep
    try:
        with snapshot.copied(path) as copy:
            if why := snapshot.damage(copy):
                return damaged(f"study.db is damaged: {why}")
            with Study.open(SweepFolder(copy.parent, sweep.folder.name)) as study:
                return _study_that_opens(sweep, study)
    except OSError as error:
        return damaged(f"study.db cannot be copied to be looked at: {error.strerror}")
    except DamagedData as error:
        hint = error.hint if error.hint and error.hint != SEE_DOCTOR else ""
        return damaged(f"study.db: {error.message}", hint)
    except CkconvSweepError as error:
        return [
            Finding(check="study", level="problem", message=f"study.db: {error.message}")
        ], sweep


def _study_that_opens(sweep: Examined, study: Study) -> tuple[list[Finding], Examined]:
    space, records = study.space, study.trials()
    found = [
        Finding(
            check="study",
            level="problem",
            message=sentence,
            todo="its row is not to be believed; the other trials are not concerned",
            damaged=True,
        )
        for sentence in study.contradictions()
    ]
    settings: dict[int, Trial] = {}
    for record in records:
        try:
            settings[record.number] = space.resolve(record.params, record.number)
        except ConfigError as error:
            if record.outcome != "running":  # one that is being drawn lacks some
                found.append(
                    Finding(
                        check="study",
                        level="problem",
                        message=f"trial {record.number}: its parameters make no trial of the "
                        f"space: {error.message}",
                        damaged=True,
                    )
                )
    epochs = sum(len(record.history) for record in records)
    said = f"whole: {count(len(records), 'trial')}, {count(epochs, 'epoch')}"
    unfinished = [str(r.number) for r in records if r.outcome == "running"]
    if unfinished and sweep.runs:
        said += f", {len(unfinished)} running"
    if not found:
        found.append(Finding(check="study", level="ok", message=said))
    if unfinished and not sweep.runs:
        found.append(
            Finding(
                check="study",
                level="warning",
                message=f"{count(len(unfinished), 'unfinished trial')}: {', '.join(unfinished)}",
                todo=sweep.command("resume"),
            )
        )
    elif not sweep.runs and not is_finished(records, space):
        asked = sum(record.counts for record in records)
        found.append(
            Finding(
                check="study",
                level="warning",
                message=f"{asked} of {count(space.budget.trials, 'trial')} are done",
                todo=sweep.command("resume"),
            )
        )
    return found, replace(
        sweep,
        records=records,
        notes=study.notes(),
        settings=settings,
        finished=is_finished(records, space),
    )
