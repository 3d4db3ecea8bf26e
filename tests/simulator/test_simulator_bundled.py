"""The bundled call: whole, and heard by PocketSphinx as it is written."""

import json
from importlib.util import find_spec

import aiohttp
import pytest

from gateway.audio.path import Audio, open_path
from gateway.call import TRACKS, Track
from gateway.emulator.faults import Faults
from gateway.emulator.server import Emulator
from gateway.simulator import audio, bundled
from gateway.simulator.count import errors, words_of

QUERY: dict[Audio, str] = {
    "resampled": "encoding=pcm_s16le&sample_rate=16000",
    "mulaw": "encoding=pcm_mulaw&sample_rate=8000",
}


def test_both_parties_speak_and_nobody_interrupts() -> None:
    """Two tracks of one length; the sentences lie within it, one after the other, and sound where they are written."""
    sound = audio.from_wav(bundled.AUDIO)
    assert list(sound.tracks) == list(TRACKS)
    assert 25 <= sound.seconds <= 42
    last_ms = 0
    for sentence in bundled.sentences():
        assert last_ms <= sentence.start_ms < sentence.end_ms <= sound.seconds * 1000
        last_ms = sentence.end_ms
        other: Track = "inbound" if sentence.track == "outbound" else "outbound"
        begin, end = sentence.start_ms * 8, sentence.end_ms * 8
        assert set(sound.tracks[other][begin:end]) == {0xFF}
        assert len(set(sound.tracks[sentence.track][begin:end])) > 100
    assert {sentence.track for sentence in bundled.sentences()} == set(TRACKS)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("pocketsphinx") is None, reason="the extra `sphinx` is not installed")
@pytest.mark.parametrize("path", ["resampled", "mulaw"])
@pytest.mark.parametrize("track", TRACKS)
async def test_it_is_heard(path: Audio, track: Track) -> None:
    """The word error rate is at most 5 %, on each leg, over each audio path."""
    chain = open_path(path, "PCMU")
    spoken = audio.from_wav(bundled.AUDIO).tracks[track]
    chunks = chain.push(spoken) + chain.finish()
    finals: list[str] = []
    faults = Faults(begin_delay_seconds=0, speed=None)
    async with Emulator(faults=faults, recogniser="sphinx") as emulator, aiohttp.ClientSession() as http:
        url = f"{emulator.url}/v3/ws?{QUERY[path]}&speech_model=universal-3-5-pro"
        async with http.ws_connect(url, headers={"Authorization": "key"}) as ws:
            for chunk in chunks:
                await ws.send_bytes(chunk)
            await ws.send_str('{"type":"Terminate"}')
            async for message in ws:
                said = json.loads(message.data)
                if said["type"] == "Turn" and said["end_of_turn"]:
                    finals.append(said["transcript"])
    reference = bundled.reference(track)
    assert errors(reference, words_of(" ".join(finals))) / len(reference) <= 0.05, finals
