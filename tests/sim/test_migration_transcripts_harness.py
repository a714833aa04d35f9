# SPDX-License-Identifier: MIT
"""The replay of recordings notices what it is there to notice: a recording that was changed does not repeat."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim._replay import Replay
from tests.sim._replay_side import FOLDER, transcripts

#: recording, text in it, what stands there instead
CHANGES = [
    pytest.param("precopy-unix", '"event":"STOP"', '"event":"POWERDOWN"', id="event"),
    pytest.param("precopy-unix", '{"pass":2}', '{"pass":3}', id="data of an event"),
    pytest.param("precopy-unix", '"status":"postmigrate"', '"status":"paused"', id="run state"),
    pytest.param("precopy-unix", '"expected-downtime":300,', "", id="fields"),
    pytest.param("precopy-unix", '"normal":1536', '"normal":1535', id="counter of pages"),
    pytest.param("precopy-unix", '"transferred":6309', '"transferred":6409', id="counter of bytes"),
    pytest.param("precopy-unix", 'both sides":true', 'both sides":false', id="memory"),
    pytest.param("validate-uuid-mismatch", "UUID received is", "UUID got is", id="stderr"),
    pytest.param("validate-uuid-mismatch", '"rc":1', '"rc":0', id="exit status"),
    pytest.param("cut-active", '"error-desc":"Unable', '"error-desc":"Able', id="error text"),
    pytest.param("incoming-json-option", '"-S"', '"-no-user-config"', id="command line"),
    pytest.param("file", '"file size":6309477', '"file size":6309478', id="size of a file"),
    pytest.param("params-values", '"reads back":100000', '"reads back":100001', id="value of a parameter"),
    pytest.param("misc-errors", "migration has been started", "migration was started", id="reply"),
    pytest.param("caps-pairs", "Multifd is not compatible with xbzrle", "It is", id="set of capabilities"),
    pytest.param("incoming-arguments", "expecting key", "expecting a key", id="start that fails"),
]


@pytest.mark.parametrize(("name", "text", "instead"), CHANGES)
def test_a_change_is_noticed(name: str, text: str, instead: str, tmp_path: Path) -> None:
    recording = (FOLDER / "11.1" / f"{name}.jsonl").read_text()
    assert text in recording
    (tmp_path / "11.1").mkdir()
    (tmp_path / "11.1" / f"{name}.jsonl").write_text(recording.replace(text, instead))
    with pytest.raises(AssertionError):
        Replay(f"11.1/{name}", folder=tmp_path).run()


def test_all_recordings_are_there() -> None:
    assert len(transcripts()) == 141
