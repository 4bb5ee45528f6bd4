"""What a person sees first of a sweep in MLflow's pages: its note, and its saved charts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ckconv_sweep import keys
from ckconv_sweep.config.grid import grid_size
from ckconv_sweep.config.space import Space
from ckconv_sweep.tracking import charts as mlflow_view
from ckconv_sweep.tracking import note as mlflow_note
from ckconv_sweep.tracking.store import reason, without_password
from ckconv_sweep.tracking.told import write

if TYPE_CHECKING:
    from ckconv_sweep.tracking.described import RunOfSweep


class Page:
    """The view of a sweep's trials, and the note and the best values of its run, as good as MLflow
    takes them: a failure is reported once, and nothing depends on any of it.

    Args:
        say: hears that one of them could not be written.
    """

    def __init__(
        self, uri: str, sweep: RunOfSweep, space: Space, say: Callable[[str], None]
    ) -> None:
        self.standings = mlflow_note.Standings(space)
        self.view = ""
        """The key of the saved view; empty as long as there is none."""
        self._uri, self._sweep, self._space, self._say = uri, sweep, space, say
        self._said: set[str] = set()

    def write(self, client: Any, experiment_id: str, run_id: str) -> None:
        """Write all of it anew; what is there already stays."""
        self._try("saved charts", lambda: self._write_view(client, experiment_id))
        self._try("note", lambda: self._write_note(client, experiment_id, run_id))
        self._try("best values", lambda: self._write_best(client, run_id))
        self._try("number of rejected points", lambda: self._write_rejected(client, run_id))
        self._try("test numbers", lambda: write(client, run_id, self._sweep.told))

    def _try(self, what: str, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:
            if what not in self._said:
                self._said.add(what)
                why = reason(error, self._uri)
                self._say(f"MLflow at {without_password(self._uri)} has no {what}: {why}")

    def _write_view(self, client: Any, experiment_id: str) -> None:
        key = mlflow_view.view_key(self._sweep.uid)
        text = mlflow_view.view_tag(self._space, self._sweep.name, self._sweep.created_ms)
        tag = f"{mlflow_view.TAG}{key}"
        if client.get_experiment(experiment_id).tags.get(tag) != text:
            client.set_experiment_tag(experiment_id, tag, text)
        self.view = key

    def _write_note(self, client: Any, experiment_id: str, run_id: str) -> None:
        there = client.get_run(run_id).data.tags.get(mlflow_note.TAG, "")
        if there and not mlflow_note.is_ours(there):  # a person wrote in its place
            return
        charts = ""
        if self.view:
            pages = mlflow_view.comparison(
                "", experiment_id, self._sweep.name, self._space.metric.name, self.view
            )
            charts = pages.charts.removeprefix("/")
        text = self.standings.note(charts=charts)
        if text != there:
            client.set_tag(run_id, mlflow_note.TAG, text)

    def _write_rejected(self, client: Any, run_id: str) -> None:
        if self.standings.rejected and grid_size(self._space) is not None:
            client.set_tag(run_id, keys.TAG_REJECTED, str(self.standings.rejected))

    def _write_best(self, client: Any, run_id: str) -> None:
        """All of it: the same point twice is one to MLflow."""
        from mlflow.entities import Metric

        name = keys.best_of(self._space.metric.name)
        points = [Metric(name, v, ms, i) for i, v, ms in self.standings.best_so_far()]
        if points:
            client.log_batch(run_id, metrics=points)
