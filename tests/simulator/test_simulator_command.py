"""`gateway simulate` and `gateway demo` as people type them."""

import argparse
from pathlib import Path

import pytest
import yaml

from gateway.cli import demo, simulate

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose.yaml"


def parsed(*words: str) -> argparse.Namespace:
    """A command line."""
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    simulate.add_parser(subparsers)
    demo.add_parser(subparsers)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("24h", 86400), ("1d", 86400)]
)
def test_times(text: str, seconds: float) -> None:
    """In seconds, minutes, hours or days."""
    assert parsed("simulate", "--for", text).lasting == seconds


@pytest.mark.parametrize(
    "words",
    [
        ["--for", "soon"],
        ["--calls", "0"],
        ["--calls", "many"],
        ["--rate", "0"],
        ["--lose", "2"],
        ["--skip", "5:4"],
        ["--hang-up", "3:politely"],
        ["--sizes", "160,0"],
        ["--carrier", "pigeon"],
        ["--codec", "G722"],
    ],
)
def test_wrong_words_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and what is wrong."""
    with pytest.raises(SystemExit) as stopped:
        parsed("simulate", *words)
    assert stopped.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_the_stack_calls_it_rightly() -> None:
    """The demonstration stack's traffic is a command line it understands, at the gateway in its own network."""
    command = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]["traffic"]["command"]
    args = parsed(*command)
    assert (args.calls, args.lasting, args.url) == (6, 86400, "ws://127.0.0.1:8080")


@pytest.mark.parametrize("command", ["simulate", "demo"])
def test_help_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With examples, and what the exit codes mean."""
    with pytest.raises(SystemExit) as stopped:
        parsed(command, "--help")
    shown = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "examples:" in shown
    assert "exit code: 0 as promised" in shown


@pytest.mark.parametrize(
    ("words", "environ", "fault"),
    [
        (["--url", "http://127.0.0.1:8080"], {}, "not ws://HOST:PORT"),
        (["--url", "ws://127.0.0.1:1", "--wait", "0.1"], {}, "nobody answers at ws://127.0.0.1:1"),
        (["--url", "ws://127.0.0.1:1", "--receive", "0"], {}, "GATEWAY_WEBHOOK_SECRETS"),
        (["--audio", "/nowhere/call.wav"], {}, "/nowhere/call.wav"),
        (["--audio", __file__], {}, "not a WAV file"),
        (["--parameter", "profile"], {}, "not NAME=VALUE"),
        (["--url", "ws://127.0.0.1:1"], {"GATEWAY_CONFIG": "/nowhere"}, "GATEWAY_CONFIG"),
    ],
)
def test_what_cannot_begin_says_why(
    words: list[str], environ: dict[str, str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, in a sentence; exit code 2."""
    assert simulate.run(parsed("simulate", *words), environ) == 2
    assert fault in capsys.readouterr().err


def test_live_needs_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    """Asked for by the option or by LIVE=1."""
    asked: list[tuple[list[str], dict[str, str]]] = [(["--live"], {}), ([], {"LIVE": "1"})]
    for words, environ in asked:
        assert demo.run(parsed("demo", *words), environ) == 2
        assert "ASSEMBLYAI_API_KEY" in capsys.readouterr().err


def test_a_recording_wants_its_own_carrier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A Telnyx stream is not played as Twilio's."""
    path = tmp_path / "stream.ndjson"
    path.write_text('{"event":"start","start":{"call_control_id":"v3:1"},"stream_id":"1"}\n')
    assert simulate.run(parsed("simulate", "--audio", str(path)), {}) == 2
    assert "--carrier telnyx" in capsys.readouterr().err
