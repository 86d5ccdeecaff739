import struct
import zipfile

import pytest

from tfdet.errors import UserError
from tfdet.weights import zips


def archive(path, members, **kwargs):
    with zipfile.ZipFile(path, "w", **kwargs) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def test_members_are_read_and_their_sizes_checked(tmp_path):
    opened = zips.open_zip(archive(tmp_path / "x", [("a/b", b"content")]))
    assert zips.read_member(opened, "a/b", 7) == b"content"
    with pytest.raises(UserError, match="'a/b' in it has 7 bytes where 8 are expected"):
        zips.read_member(opened, "a/b", 8)
    with pytest.raises(UserError, match="'c' is missing"):
        zips.read_member(opened, "c")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "..\\x", "C:/x", "a/.."])
def test_names_that_lead_out_are_refused(name, tmp_path):
    with pytest.raises(UserError, match="leads out of the archive"):
        zips.open_zip(archive(tmp_path / "x", [(name, b"")]))


def test_packed_members(tmp_path):
    path = archive(tmp_path / "x", [("a", b"0" * 10**6)], compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="'a' in it is compressed"):
        zips.open_zip(path)
    with pytest.raises(UserError, match="claim 1000000 bytes, more than a file of"):
        zips.open_zip(path, 4)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path):
    with pytest.raises(UserError, match="two members named 'a'"):
        zips.open_zip(archive(tmp_path / "x", [("a", b"1"), ("a", b"2")]))


def test_members_that_lie_in_the_same_bytes(tmp_path):
    path = archive(tmp_path / "x", [("a", b"0" * 10000), ("b", b"1" * 10000)])
    content = bytearray(path.read_bytes())
    second = content.rindex(b"PK\1\2")
    struct.pack_into("<I", content, second + 42, 0)  # where the first begins
    path.write_bytes(content)
    opened = zips.open_zip(path)
    with pytest.raises(UserError, match="'b' in it cannot be read"):
        zips.read_member(opened, "b")


def test_a_flipped_bit_is_found(tmp_path):
    path = archive(tmp_path / "x", [("a", b"0" * 100)])
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"'a' in it cannot be read .*CRC"):
        zips.read_member(zips.open_zip(path), "a")


def test_a_long_list_of_members_is_refused_before_it_is_read(tmp_path):
    path = archive(tmp_path / "x", [("a", b"")])
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.rindex(b"PK\5\6") + 12, 2**31)
    path.write_bytes(content)
    with pytest.raises(UserError, match="list of members is too long"):
        zips.open_zip(path)
