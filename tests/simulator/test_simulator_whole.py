"""The commands, whole: real processes of emulator and gateway, real pace."""

import argparse
import json
from collections.abc import Sequence
from importlib.util import find_spec

import pytest

from gateway.audio.path import Audio
from gateway.call import CARRIERS
from gateway.cli import demo, simulate
from gateway.simulator import bench

pytestmark = pytest.mark.slow


def run(*words: str) -> int:
    """A command line, with an environment of nothing; its exit code."""
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    for command in (simulate, demo):
        command.add_parser(subparsers).set_defaults(run=command.run)
    args = parser.parse_args(words)
    code: int = args.run(args, {})
    return code


@pytest.mark.parametrize(
    "faults",
    [
        [],
        ["--path-token", "--wobble", "2", "--repeat", "0.05"],
        ["--burst", "233", "--lose", "0.01", "--skip", "2:2.5"],
        ["--hang-up", "4:abort", "--mid-word"],
        ["--mulaw"],
        ["--receiver-fails", "3:503"],
    ],
    ids=" ".join,
)
def test_simulated_calls_come_out_word_for_word(faults: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Two calls through a gateway, whatever the carrier does to them; the report says so."""
    assert run("simulate", "--calls", "2", "--seconds", "6", "--json", *faults) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["played"], told["ended"], told["troubles"]) == (2, 2, [])
    assert told["words"]["spoken"] > 10
    assert told["ledger"] | {"opened": 4, "terminated": 4, "abandoned": 0} == told["ledger"]
    assert told["figures"]["audio_delay"]["p95_ms"] > 0
    assert told["figures"]["cpu_ms_per_leg_second"] > 0


@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_carrier_is_simulated(carrier: str) -> None:
    """Telnyx in A-law, out of order, and back after a reset."""
    telnyx = ["--codec", "PCMA", "--shuffle", "4", "--reconnect", "3"] if carrier == "telnyx" else []
    assert run("simulate", "--carrier", carrier, "--seconds", "6", *telnyx) == 0


@pytest.mark.skipif(find_spec("pocketsphinx") is None, reason="the extra `sphinx` is not installed")
def test_the_demonstration(capsys: pytest.CaptureFixture[str]) -> None:
    """The conversation of both parties, its cost and its ledger."""
    assert run("demo") == 0
    shown = capsys.readouterr().out
    assert "customer A  eleven hundred and ninety" in shown
    assert "agent A" in shown
    assert "sessions opened 2, terminated 2, abandoned 0" in shown
    assert "every signature right, in order" in shown


@pytest.mark.parametrize("path", bench.AUDIO)
@pytest.mark.parametrize("server", ["floor", "gateway"])
async def test_the_benchmark_finds_every_leg(server: bench.Server, path: Audio) -> None:
    """Of each leg every frame of the window is found at the service again."""
    measured = await bench.measure(server, path, 4, 2.0, silent=False)
    assert measured.unmatched_legs == 0
    assert measured.frames == pytest.approx(400, abs=12)
    assert 0 < measured.delay_p50_ms < 500
    assert measured.cpu_ms_per_leg_second > 0
