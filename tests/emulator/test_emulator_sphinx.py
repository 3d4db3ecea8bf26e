"""PocketSphinx behind the seam: English over a telephone line, cut by energy, decoded off the event loop."""

import asyncio
from importlib.util import find_spec
from pathlib import Path

import pytest

from gateway.audio import g711
from gateway.emulator.faults import Faults
from gateway.emulator.recogniser import recognition
from gateway.emulator.server import Emulator
from gateway.errors import ConfigurationFault
from tests.emulator.wire import dial

SENTENCE = "i would like to change the address on my account"
SILENCE = b"\xff" * 8000
SPOKEN = (Path(__file__).parent / "data" / "address.ulaw").read_bytes()

installed = pytest.mark.skipif(find_spec("pocketsphinx") is None, reason="the extra `sphinx` is not installed")


@installed
async def test_a_sentence_is_heard() -> None:
    """Partials, then the whole sentence at its pause and again at the end, timed."""
    faults = Faults(begin_delay_seconds=0, speed=None)
    query = "encoding=pcm_mulaw&sample_rate=8000"
    async with Emulator(faults=faults, recogniser="sphinx") as emulator, dial(emulator, query) as client:
        await client.until("Begin")
        await client.play(SILENCE + SPOKEN + SILENCE + SPOKEN, 800)
        await client.terminate()
    finals = [message for message in client.messages if message.get("end_of_turn")]
    assert [final["transcript"] for final in finals] == [SENTENCE, SENTENCE]
    assert client.kinds.count("Turn") > 2
    first, last = finals[0]["words"][0], finals[0]["words"][-1]
    assert 1000 <= first["start"] <= 1500
    assert 1000 + len(SPOKEN) / 8 - 700 <= last["end"] <= 1000 + len(SPOKEN) / 8 + 100


@installed
async def test_decoding_does_not_hold_up_the_loop() -> None:
    """While a sentence is decoded, the event loop goes round and round."""
    rounds = 0
    async with recognition("sphinx") as english, asyncio.TaskGroup() as tasks:
        listener = english.listen(8000)
        audio = g711.decode(SPOKEN, "PCMU")
        for at in range(0, len(audio), 1600):
            listener.feed(audio[at : at + 1600])
        decoding = tasks.create_task(listener.cut())
        while not decoding.done():
            await asyncio.sleep(0)
            rounds += 1
    assert " ".join(word.text for word in decoding.result()) == SENTENCE
    assert rounds > 100


@installed
async def test_silence_is_no_speech() -> None:
    """Nothing is heard in nothing, and nothing is decoded for it."""
    async with recognition("sphinx") as english:
        listener = english.listen(16000)
        for _ in range(30):
            listener.feed(bytes(3200))
        assert (listener.heard_ms, listener.silence_ms, listener.since_ms) == (3000, 3000, None)
        assert [*await listener.words(), *await listener.cut(), *await listener.flush()] == []


@pytest.mark.skipif(find_spec("pocketsphinx") is not None, reason="the extra `sphinx` is installed")
def test_a_missing_extra_says_how_to_install_it() -> None:
    """The fault names the extra and the recogniser that needs nothing."""
    with pytest.raises(ConfigurationFault, match=r"pip install .*\[sphinx\]"):
        recognition("sphinx")


def test_an_unknown_recogniser_is_refused() -> None:
    """The names are listed."""
    with pytest.raises(ValueError, match="one of tones, sphinx"):
        recognition("ouija")
