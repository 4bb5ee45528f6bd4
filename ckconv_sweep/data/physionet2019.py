"""Early sepsis of patients in intensive care (PhysioNet 2019): 72 hours, 75 channels, yes or no.

Data: Reyna et al. 2020, "Early prediction of sepsis from clinical data"; 40,336 records of one line
an hour, `training_setA/*.psv` and `training_setB/*.psv` in `<data folder>/physionet2019/`. They are
not downloaded: who uses them has to read their licence first.

As in Romero et al. 2022 (CKConv, arXiv:2102.02611, published code), after Kidger et al. 2020
(Neural CDEs, arXiv:2005.08926):

- The first 72 hours since admission to intensive care (ICULOS) are kept, hours without a line are
  missing, shorter records are missing at their end. Records that end within 2 hours are left out.
- Channels 0 to 33: how often each of the 34 series was measured up to that hour ("intensity").
  Channels 34 to 67: their values, normalised by mean and standard deviation of all known values of
  the training records; 0 where missing.
- Channels 68 to 74, the same at every hour: Age, Gender, Unit1, Unit2 and HospAdmTime, normalised
  by the training records, the last three 0 where unknown; then two flags, not normalised: whether
  Unit1 and Unit2 are known.

The answer is 1 when SepsisLabel is 1 in any hour of the whole record. (The published code stops
reading at hour 73, and so takes a sepsis after the third day for none.)

Split: 70/15/15, stratified (`sequences.published_split`). The published code takes the records in
the order in which the file system lists them, which is not known; here they are sorted by name.

Shapes: N records, C channels, T = 72 hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ckconv_sweep.config.data import Description, PhysioNetData
from ckconv_sweep.data.fetch import DATA_VARIABLE, data_folder
from ckconv_sweep.data.sequences import Normalizer, published_split
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.errors import DamagedData, reading

RECORDS = {"training_setA": 20_336, "training_setB": 20_000}
"""How many records each folder holds."""

COLUMNS = (
    "HR|O2Sat|Temp|SBP|MAP|DBP|Resp|EtCO2|BaseExcess|HCO3|FiO2|pH|PaCO2|SaO2|AST|BUN|Alkalinephos|"
    "Calcium|Chloride|Creatinine|Bilirubin_direct|Glucose|Lactate|Magnesium|Phosphate|Potassium|"
    "Bilirubin_total|TroponinI|Hct|Hgb|PTT|WBC|Fibrinogen|Platelets|Age|Gender|Unit1|Unit2|"
    "HospAdmTime|ICULOS|SepsisLabel"
)
"""The first line of every record."""
SERIES = 34
AGE, GENDER, UNIT_1, UNIT_2, ADMISSION_TIME, HOUR, LABEL = range(SERIES, SERIES + 7)

HOURS = 72
SHORTEST_HOURS = 3
MEASURES, FLAGS = 5, 2
"""Of the static values: those that are normalised, and those that are not."""
MAX_BYTES = 2**20
"""The longest record, of two weeks, has less than a tenth of it."""

PHYSIONET2019 = Description(
    name="physionet2019",
    kind="binary",
    in_channels=2 * SERIES + MEASURES + FLAGS,
    length=HOURS,
    outputs=1,
)


@dataclass(frozen=True, eq=False)
class Record:
    """One patient's stay."""

    series: NDArray[np.float32]
    """`(34, 72)`, NaN where not measured."""
    static: NDArray[np.float32]
    """`(7,)`: age, gender, units, time of admission, and whether each unit is known."""
    hours: int
    """Number of its last hour, or 72."""
    has_sepsis: bool


@dataclass(frozen=True, eq=False)
class _Normalizers:
    """Measured on the training records."""

    series: Normalizer
    static: Normalizer


def describe(data: PhysioNetData, data_dir: Path | None = None) -> Description:
    """Always the same."""
    return PHYSIONET2019


def load(data: PhysioNetData, data_dir: Path | None = None) -> SequenceTask:
    """Read and split the records.

    Raises:
        ConfigError: the folder is missing or cannot be read.
        DamagedData: records are missing, or one is not what it must be.
    """
    folder = data_folder(data_dir) / "physionet2019"
    all_paths = [path for part in RECORDS for path in _paths(folder / part)]
    everything = ((path, read_record(path)) for path in all_paths)
    kept = [(path, record) for path, record in everything if record.hours >= SHORTEST_HOURS]
    paths, records = [path for path, _ in kept], [record for _, record in kept]
    positions = published_split(
        np.array([record.has_sepsis for record in records], dtype=np.int64), data.split_seed
    )
    train = [records[i] for i in positions.train]
    normalizers = _Normalizers(
        Normalizer.of(_series(train), "per_channel"),
        Normalizer.of(_static(train)[:, :MEASURES], "per_channel"),
    )
    return SequenceTask(
        description=PHYSIONET2019,
        train=_split(train, normalizers),
        validation=_split([records[i] for i in positions.validation], normalizers),
        test_reader=partial(_read_test, [paths[i] for i in positions.test], normalizers),
    )


def read_record(path: Path) -> Record:
    """One `.psv` file.

    Raises:
        ConfigError: it cannot be read.
        DamagedData: its content is not a record.
    """
    table_HC = _table(path)
    hours_H = table_HC[:, HOUR]
    wrong_H = ~((np.diff(hours_H, prepend=0.0) >= 1) & (hours_H == np.floor(hours_H)))
    if wrong_H.any():
        raise _damaged(path, "whole, rising hours from 1 on as ICULOS", str(hours_H[wrong_H][0]))
    labels_H = table_HC[:, LABEL]
    wrong_H = ~np.isin(labels_H, (0, 1))
    if wrong_H.any():
        raise _damaged(path, "0 or 1 as SepsisLabel", str(labels_H[wrong_H][0]))
    measures_C = table_HC[0, AGE : ADMISSION_TIME + 1]
    if np.isnan(measures_C[:2]).any():
        raise _damaged(path, "an age and a gender", f"{measures_C[0]} and {measures_C[1]}")
    units_known_C = ~np.isnan(table_HC[0, UNIT_1 : UNIT_2 + 1])

    early = hours_H <= HOURS
    series_CT = np.full((SERIES, HOURS), np.nan, dtype=np.float32)
    series_CT[:, hours_H[early].astype(np.int64) - 1] = table_HC[early, :SERIES].T
    return Record(
        series=series_CT,
        static=np.concatenate([np.nan_to_num(measures_C), units_known_C]).astype(np.float32),
        hours=int(hours_H[early].max(initial=0)),
        has_sepsis=bool(labels_H.any()),
    )


def _paths(folder: Path) -> list[Path]:
    """The records of one of the two folders, by name, none missing."""
    hint = (
        "the records are not downloaded by this program: read their licence and fetch them at "
        "https://physionet.org/content/challenge-2019/1.0.0/, and put the folders "
        f"{' and '.join(RECORDS)} there, or name the folder above physionet2019/ that has them "
        f"with --data-dir or {DATA_VARIABLE}"
    )
    with reading(folder, hint):
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".psv")
    if len(paths) != RECORDS[folder.name]:
        raise DamagedData(
            f"expected {RECORDS[folder.name]} .psv files, got {len(paths)}",
            where=str(folder),
            hint="fetch or unpack the folder again",
        )
    return paths


def _table(path: Path) -> NDArray[np.float64]:
    """The numbers of a record, `(lines, 41)`, each a number or NaN."""
    with reading(path), path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise _damaged(path, "a short file", f"more than {MAX_BYTES} bytes")
    header, *lines = content.decode(errors="replace").splitlines() or [""]
    if header != COLUMNS:
        raise _damaged(path, f"the first line {COLUMNS}", repr(header[:400]))
    if not lines:
        raise _damaged(path, "at least one hour", "none")
    try:
        table_HC = np.loadtxt(lines, delimiter="|", ndmin=2, comments=None, dtype=np.float64)
    except ValueError as error:
        raise _damaged(path, "lines of numbers", str(error)) from error
    if table_HC.shape != (len(lines), LABEL + 1):
        raise _damaged(path, f"{LABEL + 1} numbers in every line", f"shape {table_HC.shape}")
    if np.isinf(table_HC).any():
        raise _damaged(path, "numbers or NaN", "an infinite number")
    return table_HC


def _damaged(path: Path, expected: str, got: str) -> DamagedData:
    return DamagedData(
        f"not a valid record: expected {expected}, got {got}",
        where=str(path),
        hint="fetch the file again",
    )


def _series(records: list[Record]) -> Tensor:
    """`(N, 34, 72)`"""
    return torch.from_numpy(np.stack([record.series for record in records]))


def _static(records: list[Record]) -> Tensor:
    """`(N, 7, 1)`"""
    return torch.from_numpy(np.stack([record.static for record in records])).unsqueeze(2)


def _split(records: list[Record], normalizers: _Normalizers) -> Split:
    series_NCT, static_NC1 = _series(records), _static(records)
    inputs_NCT = torch.empty(len(records), PHYSIONET2019.in_channels, HOURS)
    inputs_NCT[:, :SERIES] = (~series_NCT.isnan()).cumsum(2)
    inputs_NCT[:, SERIES : 2 * SERIES] = normalizers.series(series_NCT).nan_to_num_(nan=0.0)
    inputs_NCT[:, 2 * SERIES : -FLAGS] = normalizers.static(static_NC1[:, :MEASURES])
    inputs_NCT[:, -FLAGS:] = static_NC1[:, MEASURES:]
    return Split(inputs_NCT, torch.tensor([float(record.has_sepsis) for record in records]))


def _read_test(paths: list[Path], normalizers: _Normalizers) -> Split:
    return _split([read_record(path) for path in paths], normalizers)
