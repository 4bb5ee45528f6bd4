"""Hostile and broken archives: whatever they hold, nothing appears outside of their folder."""

import gzip
import hashlib
import io
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckconv_sweep.data.archives import unpack
from ckconv_sweep.errors import CannotWrite, ConfigError, DamagedData

LIMITS = {"checksum": None, "max_bytes": 1_000_000, "max_files": 50}


def tar(*members):
    """A .tar.gz: each member a (name, content) or a TarInfo."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                name, content = member
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zipped(*members, method=zipfile.ZIP_DEFLATED):
    """A .zip: each member a (name, content) or a (ZipInfo, content)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def zip_link(name, target):
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, target.encode()


@pytest.fixture
def place(tmp_path):
    """`place(content)`: the path of an archive in a folder where a second file must stay alone."""
    folder = tmp_path / "sets" / "one"
    folder.mkdir(parents=True)
    (tmp_path / "sets" / "victim").write_text("mine")

    def put(content):
        path = folder / "archive"
        path.write_bytes(content)
        return path

    return put


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


ORDINARY = [("set/a/one.txt", b"1"), ("set/b.txt", b"22"), ("other/c.txt", b"333")]


@pytest.mark.parametrize("build", [tar, zipped])
class TestOrdinary:
    def test_files_come_out_as_they_went_in(self, build, place, tmp_path):
        archive = place(build(*ORDINARY))
        folder = unpack(archive, archive.parent / "out", **LIMITS)
        for name, content in ORDINARY:
            assert (folder / name).read_bytes() == content
        assert everything(archive.parent) == sorted(
            [".lock", "archive", "out", "out/other", "out/set", "out/set/a"]
            + [f"out/{name}" for name, _ in ORDINARY]
        )

    def test_one_folder_of_it_can_be_unpacked_without_its_name(self, build, place):
        archive = place(build(*ORDINARY))
        folder = unpack(archive, archive.parent / "out", inside="set", **LIMITS)
        assert everything(folder) == ["a", "a/one.txt", "b.txt"]

    def test_only_names_that_are_wanted_are_written(self, build, place):
        archive = place(build(*ORDINARY))
        folder = unpack(
            archive, archive.parent / "out", inside="set", wanted="b.txt".__eq__, **LIMITS
        )
        assert everything(folder) == ["b.txt"]

    def test_an_archive_without_any_file_that_is_wanted_is_refused(self, build, place):
        archive = place(build(*ORDINARY))
        with pytest.raises(DamagedData, match="none of the needed files"):
            unpack(archive, archive.parent / "out", inside="elsewhere", **LIMITS)

    def test_a_folder_that_is_there_is_not_unpacked_again(self, build, place):
        archive = place(build(*ORDINARY))
        folder = unpack(archive, archive.parent / "out", **LIMITS)
        archive.unlink()
        assert unpack(archive, folder, **LIMITS) == folder

    def test_a_known_checksum_is_checked_before_anything_is_unpacked(self, build, place):
        content = build(*ORDINARY)
        archive = place(content)
        for name in ("md5", "sha256"):
            right = f"{name}:{hashlib.new(name, content).hexdigest()}"
            wrong = f"{name}:{hashlib.new(name, b'').hexdigest()}"
            with pytest.raises(DamagedData) as error:
                unpack(archive, archive.parent / name, **LIMITS | {"checksum": wrong})
            assert str(error.value).startswith(f"{archive}: ")
            assert f"expected {wrong}, got {right}" in str(error.value)
            assert not (archive.parent / name).exists()
            unpack(archive, archive.parent / name, **LIMITS | {"checksum": right})

    def test_what_a_killed_process_left_is_cleared_away(self, build, place):
        archive = place(build(*ORDINARY))
        (archive.parent / ".out.part" / "set").mkdir(parents=True)
        (archive.parent / ".out.part" / "set" / "b.txt").write_text("half")
        folder = unpack(archive, archive.parent / "out", **LIMITS)
        assert (folder / "set" / "b.txt").read_bytes() == b"22"
        assert not (archive.parent / ".out.part").exists()

    @pytest.mark.parametrize("limit", [{"max_bytes": 5}, {"max_files": 2}], ids=str)
    def test_a_limit_holds_exactly(self, build, place, limit):
        archive = place(build(*ORDINARY))
        for change in (0, 1):
            name, value = next(iter(limit.items()))
            arguments = LIMITS | {name: value + change}
            if change == 0:
                with pytest.raises(DamagedData, match="more than"):
                    unpack(archive, archive.parent / "out", **arguments)
            else:
                unpack(archive, archive.parent / "out", **arguments)


def lying_zip(claim):
    """A .zip of a million zeros that says, in both its headers, that there are `claim`."""
    content = bytearray(zipped(("a", bytes(1_000_000))))
    central = content.index(b"PK\x01\x02")
    content[22:26] = content[central + 24 : central + 28] = struct.pack("<I", claim)
    return bytes(content)


def long_header(size):
    """A .tar.gz whose first header says that a name of `size` bytes follows."""
    info = special("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    info.size = size
    return gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(100_000))


def sparse():
    info = special("a", tarfile.GNUTYPE_SPARSE)
    return tar(info)


def huge_member():
    info = tarfile.TarInfo("a")
    info.size = 2**60
    return gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))


def encrypted():
    content = bytearray(zipped(("a", b"secret")))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


VICTIM = f"{tempfile.gettempdir()}/ckconv-victim"
LINK, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
HOSTILE = {
    "tar-up": tar(("../victim", b"x")),
    "tar-up-inside": tar(("a/../../victim", b"x")),
    "tar-up-and-back": tar(("a/../b", b"x")),
    "tar-absolute": tar((VICTIM, b"x")),
    "tar-backslash": tar(("..\\victim", b"x")),
    "tar-drive": tar(("C:victim", b"x")),
    "tar-newline": tar(("a\nb", b"x")),
    "tar-control": tar(("a\x1b[2J", b"x")),
    "tar-surrogate": tar(("a\udcff", b"x")),
    "tar-no-name": tar(("./.", b"x")),
    "tar-long-name": tar(("a" * 256, b"x")),
    "tar-deep": tar(("a/" * 100 + "b", b"x")),
    "tar-link": tar(special("a", LINK, "../victim")),
    "tar-link-then-file": tar(special("a", LINK, ".."), ("a/victim", b"x")),
    "tar-link-chain": tar(
        special("a", LINK, "b"), special("b", LINK, ".."), special("c", LINK, "a/victim")
    ),
    "tar-link-inside": tar(("b", b"x"), special("a", LINK, "b")),
    "tar-hard-link": tar(special("a", HARD, "../victim"), ("a", b"x")),
    "tar-device": tar(special("a", tarfile.CHRTYPE)),
    "tar-block-device": tar(special("a", tarfile.BLKTYPE)),
    "tar-pipe": tar(special("a", tarfile.FIFOTYPE)),
    "tar-sparse": sparse(),
    "tar-folder-up": tar(special("../new", tarfile.DIRTYPE), ("ok", b"x")),
    "tar-case": tar(("data/One", b"x"), ("data/one", b"y")),
    "tar-case-of-folder": tar(("Data/one", b"x"), ("data/two", b"y")),
    "tar-twice": tar(("one", b"x"), ("one", b"y")),
    "tar-same-letter": tar(("caf\u00e9", b"x"), ("cafe\u0301", b"y")),
    "tar-file-as-folder": tar(("one", b"x"), ("one/two", b"y")),
    "tar-folder-as-file": tar(("one/two", b"x"), ("one", b"y")),
    "tar-bomb": tar(("zeros", bytes(50_000_000))),
    "tar-many": tar(*((f"{i}", b"") for i in range(60))),
    "tar-huge-member": huge_member(),
    "tar-long-header": long_header(90_000),
    "tar-endless-header": long_header(2**40),
    "gzip-of-no-tar": gzip.compress(b"no tar" * 1_000),
    "gzip-empty": gzip.compress(b""),
    "zip-up": zipped(("../victim", b"x")),
    "zip-absolute": zipped((VICTIM, b"x")),
    "zip-backslash": zipped(("a\\..\\victim", b"x")),
    "zip-nul": zipped(("a", b"x")).replace(b"a", b"\0"),
    "zip-link": zipped(zip_link("a", "../victim")),
    "zip-link-then-file": zipped(zip_link("a", ".."), ("a/victim", b"x")),
    "zip-case": zipped(("data/One", b"x"), ("data/one", b"y")),
    "zip-bomb": zipped(("zeros", bytes(50_000_000))),
    "zip-bombs": zipped(*((f"{i}", bytes(100_000)) for i in range(20))),
    "zip-says-less": lying_zip(10),
    "zip-says-more": lying_zip(2**31),
    "zip-many": zipped(*((f"{i}", b"") for i in range(60))),
    "zip-encrypted": encrypted(),
    "zip-bzip2": zipped(("a", b"x"), method=zipfile.ZIP_BZIP2),
    "zip-lzma": zipped(("a", b"x"), method=zipfile.ZIP_LZMA),
    "zip-empty": zipped(),
    "empty": b"",
    "html": b"<html>please log in</html>",
    "tar-plain": gzip.decompress(tar(("a", b"x"))),
}


REASONS = {
    "is not allowed": "tar-up tar-up-inside tar-up-and-back tar-absolute tar-backslash tar-drive "
    "tar-newline tar-control tar-surrogate tar-no-name tar-long-name tar-deep tar-folder-up zip-up "
    "zip-absolute zip-backslash",
    "is no regular file": "tar-link tar-link-then-file tar-link-chain tar-link-inside "
    "tar-hard-link tar-device tar-block-device tar-pipe tar-sparse zip-link zip-link-then-file",
    "two of its names are one": "tar-case tar-case-of-folder tar-twice tar-same-letter "
    "tar-file-as-folder tar-folder-as-file zip-case",
    "it unpacks to more than 1000000 bytes": "tar-bomb tar-huge-member zip-bomb zip-bombs "
    "zip-says-more",
    "it has more than 50 files": "tar-many zip-many",
    "it has a header of more than": "tar-long-header tar-endless-header",
    "it cannot be unpacked": "gzip-of-no-tar gzip-empty zip-nul zip-says-less",
    "encrypted or packed in an unusual way": "zip-encrypted zip-bzip2 zip-lzma",
    "it is neither": "zip-empty empty html tar-plain",
}
CASES = [(kind, reason) for reason, kinds in REASONS.items() for kind in kinds.split()]
assert {kind for kind, _ in CASES} == set(HOSTILE)


@pytest.mark.fault("archives")
@pytest.mark.parametrize(("kind", "reason"), CASES)
def test_a_hostile_archive_is_refused_and_leaves_nothing_anywhere(place, tmp_path, kind, reason):
    archive = place(HOSTILE[kind])
    before = everything(tmp_path)
    with pytest.raises(DamagedData, match=f"this archive is refused: .*{reason}") as error:
        unpack(archive, archive.parent / "out", **LIMITS)
    assert error.value.where == str(archive)
    assert str(error.value).count("\n") == 1  # message and hint; a name brings no line of its own
    assert [path for path in everything(tmp_path) if path not in before] == ["sets/one/.lock"]
    assert (tmp_path / "sets" / "victim").read_text() == "mine"
    assert not os.path.lexists(VICTIM)


def test_names_that_are_not_wanted_are_checked_all_the_same(place):
    archive = place(tar(("set/a", b"x"), ("../victim", b"x")))
    with pytest.raises(DamagedData, match="not allowed"):
        unpack(archive, archive.parent / "out", inside="set", **LIMITS)


def test_what_is_not_wanted_counts_towards_the_limits(place):
    archive = place(tar(("set/a", b"x"), ("zeros", bytes(5_000_000))))
    with pytest.raises(DamagedData, match="more than 1000000 bytes"):
        unpack(archive, archive.parent / "out", inside="set", **LIMITS)


@pytest.mark.fault("damaged-data")
@pytest.mark.parametrize("build", [tar, zipped])
def test_an_archive_cut_anywhere_is_refused(build, place):
    whole = build(*ORDINARY)
    for length in range(0, len(whole) - 1, 7):
        archive = place(whole[:length])
        with pytest.raises(DamagedData):
            unpack(archive, archive.parent / "out", **LIMITS)
    assert everything(archive.parent) == [".lock", "archive"]


@pytest.mark.fault("damaged-data")
def test_a_flipped_bit_in_a_packed_tar_is_told_by_its_own_checksum(place):
    content = bytearray(tar(*ORDINARY))
    content[-6] ^= 1
    archive = place(bytes(content))
    with pytest.raises(DamagedData, match="CRC"):
        unpack(archive, archive.parent / "out", **LIMITS)


PLAIN_TAR, ZIP = gzip.decompress(tar(*ORDINARY)), zipped(*ORDINARY)


@pytest.fixture(scope="module")
def playground(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


# HYPOTHESIS_EXAMPLES=5000 searches longer than `make test` has time for.
@pytest.mark.fault("archives")
@settings(
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_change_of_an_archive_gives_files_inside_or_our_error(playground, data):
    content = bytearray(data.draw(st.sampled_from([PLAIN_TAR, ZIP])))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    archive = playground / "set" / "archive"
    archive.parent.mkdir(exist_ok=True)
    archive.write_bytes(content if content[:2] == b"PK" else gzip.compress(content, 1))
    before = everything(playground)
    out = archive.parent / f"out{len(before)}"
    try:
        unpack(archive, out, **LIMITS)
    except DamagedData:
        assert not out.exists()
    new = {path for path in everything(playground) if path not in before}
    assert all(path.startswith((f"set/{out.name}", "set/.lock")) for path in new)
    assert not any(path.is_symlink() for path in playground.rglob("*"))
    shutil.rmtree(out, ignore_errors=True)


def test_an_archive_that_cannot_be_read_is_told_as_such(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read") as error:
        unpack(tmp_path / "none", tmp_path / "out", **LIMITS)
    assert not isinstance(error.value, DamagedData)


def test_a_folder_that_cannot_be_written_is_one_message(place, tmp_path):
    archive = place(tar(*ORDINARY))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CannotWrite, match="--data-dir"):
        unpack(archive, tmp_path / "file" / "out", **LIMITS)


@pytest.mark.fault("disk-full")
def test_a_full_disk_is_no_damage_and_leaves_nothing(place, monkeypatch):
    archive = place(tar(*ORDINARY))

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ckconv_sweep.data.archives.os.fdopen", full)
    with pytest.raises(CannotWrite, match="No space left on device"):
        unpack(archive, archive.parent / "out", **LIMITS)
    assert everything(archive.parent) == [".lock", "archive"]
