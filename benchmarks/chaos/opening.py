"""Reading Optuna's ten migrations, to know the newest, takes most of the time of opening one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory
from optuna.storages._rdb import storage


def read_migrations_once() -> None:
    """For this process and its forks."""
    script = ScriptDirectory(str(Path(storage.__file__).with_name("alembic")))
    script.get_current_head()
    manager: Any = storage._VersionManager
    manager._create_alembic_script = lambda _: script
