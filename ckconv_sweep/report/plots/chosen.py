"""Which settings a picture shows: those that were asked for, or the most important ones."""

from __future__ import annotations

from collections.abc import Sequence

from ckconv_sweep.config.settings import short_names
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import ConfigError, UnknownNameError
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.importance import importances


def chosen(
    records: Sequence[TrialRecord],
    space: Space,
    settings: Sequence[str] | None,
    amount: int,
) -> list[str]:
    """The names in `settings`, of which the last words are enough; without any the `amount` most
    important ones, or where importance cannot be told the first that are searched.

    Raises:
        UnknownNameError: one of them is not searched.
        ConfigError: one stands there twice, or none at all.
    """
    searched = list(space.parameters())
    if settings is None:
        return importances(records, space).top[:amount] if records else searched[:amount]
    if not settings:
        raise ConfigError("no setting is named", where="settings", hint="name one, or leave it out")
    known = {short: path for path, short in short_names(searched).items()}
    known |= {path: path for path in searched}
    for name in settings:
        if name not in known:
            raise UnknownNameError("searched setting", name, known, where="settings")
    found = [known[name] for name in settings]
    if len(set(found)) < len(found):
        raise ConfigError(f"a setting is listed twice in {', '.join(settings)}", where="settings")
    return found
