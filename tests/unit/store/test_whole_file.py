"""JSON files: what was there stays until the new content is whole."""

from __future__ import annotations

import json

import pytest

from erray.store import write_json


def test_a_file_is_replaced_by_a_whole_one(tmp_path):
    path = tmp_path / "new" / "study.json"
    write_json(path, {"a": [1, None]})
    write_json(path, {"b": "é"})
    assert json.loads(path.read_text("utf-8")) == {"b": "é"}
    assert [p.name for p in path.parent.iterdir()] == ["study.json"]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "study.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, [object()])
    assert json.loads(path.read_text("utf-8")) == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["study.json"]
