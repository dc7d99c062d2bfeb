"""The example's other files: what the deploy file names exists, and the recording is what its page says."""

from __future__ import annotations

import tomllib
import wave
from types import ModuleType
from typing import Any

import pytest

from tests.unit.examples.podcast_kit import EXAMPLE

Code = dict[str, ModuleType]
FUNCTIONS: list[dict[str, Any]] = tomllib.loads((EXAMPLE / "evenflow.toml").read_text("utf-8"))["functions"]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function["name"])
def test_every_handler_exists(function: dict[str, Any], clean_code: Code, index_code: Code) -> None:
    """The handler that the deploy file names is in the folder that it names."""
    code = {"clean": clean_code, "index": index_code}[function["code"]]
    module, attribute = function["handler"].split(".")
    assert callable(getattr(code[module], attribute))
    assert (EXAMPLE / function["code"] / f"{module}.py").is_file()


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function["name"])
def test_every_bucket_in_use_is_granted(function: dict[str, Any]) -> None:
    """A function may write where its environment sends it, and read what sets it off."""
    access = {bucket["name"]: bucket["access"] for bucket in function["buckets"]}
    assert all(access[bucket] == "write" for bucket in function["environment"].values())
    assert all(source["bucket"] in access for source in function.get("sources", []))


def test_the_chain_and_its_source() -> None:
    """`clean` is set off by any new file, WAV or not, and hands its successes to `index`."""
    by_name = {function["name"]: function for function in FUNCTIONS}
    assert set(by_name) == {"clean", "index"}
    (source,) = by_name["clean"]["sources"]
    assert source == {"bucket": "podcast-in", "events": ["s3:ObjectCreated:*"]}
    assert by_name["clean"]["async"]["on_success"] == {"function": "index"}
    assert "on_success" not in by_name["index"]["async"]


def test_the_recording_is_what_it_should_be(clean_code: Code) -> None:
    """A small file of 16 kHz, mono, 16 bits, too quiet, with its text, its recipe and its licence."""
    folder = EXAMPLE / "recordings"
    path = folder / "first-light.wav"
    assert path.stat().st_size <= 300_000
    with wave.open(str(path)) as audio:
        assert (audio.getnchannels(), audio.getsampwidth(), audio.getframerate()) == (1, 2, 16_000)
        assert 6 <= audio.getnframes() / 16_000 <= 9
    recording = clean_code["wav"].read_wav(path)
    assert clean_code["loudness"].integrated_lufs(recording.channels, 16_000) < -30
    span = clean_code["trim"].sounding_span(recording)
    assert span.begin > 0.8 * 16_000
    assert recording.frames - span.end > 0.8 * 16_000
    assert (folder / "first-light.txt").read_text("utf-8").strip()
    assert "CC0" in (folder / "LICENSE.md").read_text("utf-8")
    assert (folder / "make-recording.sh").stat().st_mode & 0o100
