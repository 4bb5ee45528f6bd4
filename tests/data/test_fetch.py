"""Downloads through a real server on this machine that does all the wrong things."""

import gzip
import hashlib
import json
import logging
import random
import subprocess
import sys

import pytest

from ckconv_sweep.data import fetch
from ckconv_sweep.data.fetch import find_or_download, find_or_download_archive, read_content
from ckconv_sweep.errors import CannotWrite, ConfigError, DamagedData

CONTENT = random.Random(0).randbytes(5_000)
ARCHIVE = gzip.compress(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NOBODY_LISTENS = "http://127.0.0.1:1/"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / "set"


def get(folder, *mirrors):
    return find_or_download(folder, {"file": SHA256}, [getattr(m, "address", m) for m in mirrors])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_missing_file_is_downloaded_and_nothing_else_is_left(folder, mirror):
    mirror.files["file.gz"] = ARCHIVE
    paths = get(folder, mirror)
    assert paths == {"file": folder / "file.gz"}
    assert read_content(paths["file"], SHA256) == CONTENT
    assert names(folder) == [".lock", "file.gz"]


def test_a_file_that_is_there_is_not_asked_for(folder, mirror):
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(CONTENT)
    assert get(folder, mirror) == {"file": folder / "file"}
    assert mirror.requested == []


def test_another_archive_of_the_same_content_is_accepted(folder, mirror):
    mirror.files["file.gz"] = gzip.compress(CONTENT, compresslevel=1, mtime=1)
    assert get(folder, mirror)


@pytest.mark.fault("interrupted-download")
@pytest.mark.parametrize("seed", range(20))
def test_a_connection_cut_anywhere_is_tried_again(folder, mirror, seed):
    rng = random.Random(seed)
    mirror.files["file.gz"] = ARCHIVE
    mirror.cuts = [rng.randrange(len(ARCHIVE)) for _ in range(2)]
    mirror.tells_length = bool(seed % 2)  # without a length, only the content tells
    paths = get(folder, mirror)
    assert read_content(paths["file"], SHA256) == CONTENT
    assert len(mirror.requested) == 3
    assert names(folder) == [".lock", "file.gz"]


@pytest.mark.fault("interrupted-download")
def test_a_connection_that_is_always_cut_leaves_nothing(folder, mirror):
    mirror.files["file.gz"] = ARCHIVE
    mirror.cuts = [100] * 9
    with pytest.raises(ConfigError, match=r"file\.gz: this file is missing and could not be"):
        get(folder, mirror)
    assert len(mirror.requested) == fetch.ROUNDS
    assert names(folder) == [".lock"]


@pytest.mark.fault("downloads")
def test_wrong_bytes_are_refused_and_nothing_is_left(folder, mirror):
    other = b"not these"
    mirror.files["file.gz"] = gzip.compress(other)
    with pytest.raises(DamagedData) as error:
        get(folder, mirror)
    for part in (SHA256, hashlib.sha256(other).hexdigest(), mirror.address, str(folder)):
        assert part in str(error.value)
    assert names(folder) == [".lock"]


def test_wrong_bytes_of_one_mirror_do_not_hide_the_right_ones_of_another(folder, make_mirror):
    bad, good = make_mirror(), make_mirror()
    bad.files["file.gz"] = b"<html>please log in</html>"
    good.files["file.gz"] = ARCHIVE
    assert read_content(get(folder, bad, good)["file"], SHA256) == CONTENT


def test_a_mirror_without_the_file_is_asked_once_and_the_next_one_helps(folder, make_mirror):
    without, having = make_mirror(), make_mirror()
    having.files["file.gz"] = ARCHIVE
    having.statuses = [503]  # and is busy at first
    assert get(folder, without, having)
    assert [len(without.requested), len(having.requested)] == [1, 2]


@pytest.mark.fault("downloads")
def test_an_endless_answer_is_cut_off(folder, mirror, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 2_000)
    mirror.files["file.gz"] = ARCHIVE
    with pytest.raises(ConfigError, match="sent more than 2000 bytes"):
        get(folder, mirror)
    assert len(mirror.requested) == 1
    assert names(folder) == [".lock"]


@pytest.mark.fault("damaged-data")
def test_an_archive_that_unpacks_without_end_is_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 100_000)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(1_000_000)))
    with pytest.raises(DamagedData, match="got more than 100000 bytes"):
        read_content(path, SHA256)


@pytest.mark.fault("damaged-data")
def test_without_a_network_one_message_says_what_was_tried_and_what_to_do(folder):
    with pytest.raises(ConfigError) as error:
        get(folder, NOBODY_LISTENS, "http://127.0.0.1:2/")
    for part in (
        str(folder / "file.gz"),
        NOBODY_LISTENS + "file.gz",
        "http://127.0.0.1:2/file.gz",
        "--data-dir",
        "CKCONV_DATA",
    ):
        assert part in str(error.value)
    assert not isinstance(error.value, DamagedData)


@pytest.mark.fault("downloads")
@pytest.mark.parametrize(
    "address", ["http://192.0.2.1/", "ftp://127.0.0.1/", "file:///etc/", "http://localhost/"]
)
def test_an_address_that_is_not_https_is_refused_before_anything_is_sent(folder, address):
    with pytest.raises(ConfigError, match="must go over https"):
        get(folder, address)


@pytest.mark.fault("downloads")
@pytest.mark.parametrize("target", ["http://192.0.2.1/file.gz", "file:///etc/passwd"])
def test_a_redirect_away_from_https_is_not_followed(folder, mirror, target):
    mirror.redirect_to = target
    with pytest.raises(ConfigError, match="which is not https"):
        get(folder, mirror)
    assert len(mirror.requested) == 1


@pytest.mark.fault("downloads")
def test_a_redirect_from_https_to_this_machine_is_not_followed():
    class Answer:
        is_redirect = True
        url = "https://example.org/file.gz"
        headers = {"location": "http://127.0.0.1:8080/secret"}  # noqa: RUF012

    with pytest.raises(fetch._FinalDownloadError):
        fetch._refuse_unsafe_redirect(Answer())


@pytest.mark.fault("interrupted-download")
def test_the_rest_of_a_killed_download_is_written_over(folder, mirror):
    folder.mkdir(parents=True)
    (folder / "file.gz.part").write_bytes(b"half")
    mirror.files["file.gz"] = ARCHIVE
    get(folder, mirror)
    assert names(folder) == [".lock", "file.gz"]


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path, mirror):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CannotWrite, match="--data-dir"):
        get(tmp_path / "file" / "set", mirror)


# Runs in a process of its own: `ready` is printed just before the download begins.
CHILD = """
import json, resource, sys
from pathlib import Path
from ckconv_sweep.data import fetch
from ckconv_sweep.errors import CkconvSweepError
folder, sha256, address, size_limit = json.loads(sys.argv[1])
if size_limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_limit, size_limit))
print("ready", flush=True)
try:
    paths = fetch.find_or_download(Path(folder), {"file": sha256}, [address])
    print(len(fetch.read_content(paths["file"], sha256)), end="")
except CkconvSweepError as error:
    print(type(error).__name__, error, end="")
"""


@pytest.fixture
def start(folder, mirror):
    children = []

    def start_child(size_limit=0):
        arguments = json.dumps([str(folder), SHA256, mirror.address, size_limit])
        command = [sys.executable, "-c", CHILD, arguments]
        children.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return children[-1]

    yield start_child
    for child in children:
        child.kill()
        child.communicate()


@pytest.mark.fault("interrupted-download")
def test_two_processes_share_one_download(folder, mirror, start):
    mirror.files["file.gz"] = ARCHIVE
    mirror.gate.clear()  # no answer before both have begun
    children = [start(), start()]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    mirror.gate.wait(0.3)
    mirror.gate.set()
    assert [child.communicate(timeout=60)[0] for child in children] == ["5000", "5000"]
    assert mirror.requested == ["file.gz"]


def test_the_one_that_waits_says_so(folder, mirror, caplog):
    mirror.files["file.gz"] = ARCHIVE
    caplog.set_level(logging.INFO, logger=fetch.__name__)
    folder.mkdir(parents=True)
    holder = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
    holder += "print('held', flush=True); import time; time.sleep(0.5)"
    command = [sys.executable, "-c", holder, str(folder / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        assert get(folder, mirror)
    assert "waiting for another process" in caplog.text


@pytest.mark.fault("disk-full")
def test_a_full_disk_is_one_message_and_leaves_nothing(folder, mirror, start):
    mirror.files["file.gz"] = ARCHIVE
    out = start(size_limit=1_000).communicate(timeout=60)[0]
    assert out.startswith(f"ready\nCannotWrite {folder}")
    assert names(folder) == [".lock"]


def get_archive(folder, *mirrors, algorithm="sha256", max_bytes=10_000):
    checksum = algorithm and f"{algorithm}:{hashlib.new(algorithm, ARCHIVE).hexdigest()}"
    addresses = [mirror.address for mirror in mirrors]
    return find_or_download_archive(
        folder, "set.tar.gz", addresses, checksum=checksum, max_bytes=max_bytes
    )


@pytest.mark.parametrize("algorithm", ["sha256", "md5", None])
def test_an_archive_is_downloaded_once_under_its_own_name(folder, mirror, algorithm):
    mirror.files["set.tar.gz"] = ARCHIVE
    for _ in range(2):
        assert get_archive(folder, mirror, algorithm=algorithm).read_bytes() == ARCHIVE
    assert mirror.requested == ["set.tar.gz"]
    assert names(folder) == [".lock", "set.tar.gz"]


@pytest.mark.fault("downloads")
@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_another_archive_is_refused_and_the_next_mirror_helps(folder, make_mirror, algorithm):
    bad, good = make_mirror(), make_mirror()
    bad.files["set.tar.gz"] = ARCHIVE[:-1]
    with pytest.raises(DamagedData, match=f"expected {algorithm}:"):
        get_archive(folder, bad, algorithm=algorithm)
    assert names(folder) == [".lock"]
    good.files["set.tar.gz"] = ARCHIVE
    assert get_archive(folder, bad, good, algorithm=algorithm).read_bytes() == ARCHIVE


def test_an_archive_larger_than_its_data_set_says_is_cut_off(folder, mirror):
    mirror.files["set.tar.gz"] = ARCHIVE
    with pytest.raises(ConfigError, match="sent more than 2000 bytes"):
        get_archive(folder, mirror, max_bytes=2_000)
    assert names(folder) == [".lock"]


@pytest.mark.fault("interrupted-download")
def test_an_archive_cut_on_its_way_is_asked_for_again(folder, mirror):
    mirror.files["set.tar.gz"] = ARCHIVE
    mirror.cuts = [10, 1_000]
    assert get_archive(folder, mirror).read_bytes() == ARCHIVE


def test_a_folder_that_cannot_hold_an_archive_is_one_message(tmp_path, mirror):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CannotWrite, match="--data-dir"):
        get_archive(tmp_path / "file" / "set", mirror)
