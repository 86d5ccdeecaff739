import dataclasses

import numpy as np
import pytest

from tfdet.data import sources
from tfdet.errors import UserError
from tfdet.training import fingerprint


def test_fingerprints_come_back_and_are_kept_by_name(tmp_path):
    train, val = sources.open_dataset("shapes:train:3"), sources.open_dataset("shapes:val:2")
    assert fingerprint.read(tmp_path) == {}
    fingerprint.write(tmp_path, fingerprint.of_all(train=train, val=val))
    fingerprint.write(tmp_path, fingerprint.of_all(train=train, val=None))
    again = fingerprint.read(tmp_path)
    assert again == {"train": fingerprint.of(train), "val": fingerprint.of(val)}
    assert fingerprint.difference(again["val"], fingerprint.of(val)) == ""


def test_data_in_another_place_has_the_same_fingerprint():
    here = sources.open_dataset("shapes:train:3")
    there = dataclasses.replace(here, name="there", files=np.array(["/there/x"] * 3))
    assert fingerprint.of(here) == fingerprint.of(there)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"train": 3}', '{"train": {"images": "x"}}', "[" * 10**5]
)
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(UserError, match=r"data\.json is damaged .* remove it to resume without it"):
        fingerprint.read(tmp_path)
