import json
import struct
import zlib

import pytest
from PIL import Image

from tfdet.data.check import check, report_text


def _png_bomb(side=60000) -> bytes:
    def chunk(name, content):
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def _exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.fixture
def ruined(tmp_path, scenes):
    """A COCO set with one of every problem; gives its --data string."""
    scenes.write_coco(tmp_path)
    content = json.loads((tmp_path / "instances.json").read_text())
    images = content["images"]

    def add_image(number, file_name, content=None, size=(30, 50), **options):
        image = {"id": number, "file_name": file_name, "height": size[0], "width": size[1]}
        images.append(image)
        path = tmp_path / "images" / file_name
        if content is not None:
            path.write_bytes(content)
        elif options:
            scenes.save_image(path, (30, 50), **options)

    add_image(100, "missing.jpg")
    add_image(101, "text.jpg", b"no image")
    scenes.save_image(tmp_path / "whole.jpg", (200, 200))
    add_image(102, "cut.jpg", (tmp_path / "whole.jpg").read_bytes()[:-900], (200, 200))
    add_image(103, "bomb.png", _png_bomb())
    add_image(104, "turned.jpg", size=(50, 30), exif=_exif(6))
    add_image(105, "as_stored.jpg", size=(30, 50), exif=_exif(6))
    add_image(106, "other_size.jpg", size=(31, 50), quality=90)
    add_image(100, "again.jpg", quality=90)
    good = {"image_id": 3, "category_id": 5, "iscrowd": 0}
    content["annotations"] += [
        good | {"id": 50, "bbox": [50, 30, 30, 5]},
        good | {"id": 51, "bbox": [5, 5, 0, 5]},
        good | {"id": 52, "bbox": [5, 5, float("nan"), 5]},
        good | {"id": 53, "bbox": [5, 5, 5, 5], "category_id": 999},
        good | {"id": 54, "bbox": [5, 5, 5, 5], "iscrowd": 1},
        good | {"id": 54, "bbox": [5, 5, 9, 9]},
        good | {"id": 55, "bbox": [5, 5, 9, 9], "image_id": 12345},
    ]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return f"coco:{tmp_path}/instances.json:{tmp_path}/images"


def test_every_problem_is_found_counted_and_named(ruined):
    report = check(ruined)
    found = {
        kind: (entry["count"], entry["examples"]) for kind, entry in report["problems"].items()
    }
    missing = found.pop("missing_image")
    assert missing[0] == 1 and missing[1][0].endswith("missing.jpg")
    # again.jpg has the id of missing.jpg, which came first.
    assert found.pop("duplicate_id") == (2, ["a1.jpg (box id 54)", "again.jpg"])
    assert found == {
        "unreadable_image": (1, ["text.jpg"]),
        "truncated_image": (1, ["cut.jpg"]),
        "oversized_image": (1, ["bomb.png"]),
        "exif_rotation": (1, ["turned.jpg"]),
        "exif_ignored": (1, ["as_stored.jpg"]),
        "size_mismatch": (1, ["other_size.jpg"]),
        "box_outside": (1, ["a1.jpg"]),
        "box_no_area": (1, ["a1.jpg"]),
        "box_not_finite": (1, ["a1.jpg"]),
        "unknown_class": (1, ["a1.jpg"]),
        "unknown_image": (1, ["image id 12345"]),
        "crowd": (1, ["a1.jpg"]),
        "empty_image": (7, ["b2.jpg", "text.jpg", "cut.jpg", "bomb.png", "turned.jpg"]),
    }


def test_report_says_what_is_done_about_each(ruined):
    report = check(ruined)
    assert json.loads(json.dumps(report)) == report
    text = report_text(report)
    for entry in report["problems"].values():
        assert entry["found"] in text and entry["action"] in text
    assert "cut.jpg" in text and "..." in text
    assert report["damaged"] == 12
    assert "12 of these lose" in text


def test_sound_set_is_called_sound():
    report = check("shapes:val:6")
    assert report["problems"] == {} and report["images"] == 6
    assert "nothing is wrong" in report_text(report)
    assert sum(report["classes"].values()) == report["boxes"] > 0


def test_progress_begins_before_the_work_and_reaches_the_end():
    calls = []
    check("shapes:val:70", lambda done, total: calls.append((done, total)))
    # The first call is what speeds are measured from: after the first images they would be wrong.
    assert calls == [(0, 70), (64, 70), (70, 70)]
