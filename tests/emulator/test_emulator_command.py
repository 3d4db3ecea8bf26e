"""`gateway emulator`: its flags become knobs, it says where it listens, and sums up when it is stopped."""

import argparse
import asyncio
import re
import signal
import sys
from pathlib import Path

import pytest

from gateway.cli import emulator
from gateway.emulator.faults import Cut, Faults

RUN = """\
import argparse, sys
from gateway.cli import emulator
parser = argparse.ArgumentParser()
emulator.add_parser(parser.add_subparsers())
sys.exit(emulator.run(parser.parse_args()))
"""


def parse(*args: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    emulator.add_parser(parser.add_subparsers())
    return parser.parse_args(["emulator", *args])


def test_help_names_every_knob(capsys: pytest.CaptureFixture[str]) -> None:
    """What can be set is listed with its ordinary value."""
    with pytest.raises(SystemExit):
        parse("--help")
    text = capsys.readouterr().out
    for knob in Faults.__struct_fields__:
        assert f"  {knob} = " in text


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--set", "sparkle=1"), "sparkle"),
        (("--set", "speed"), "not KNOB=VALUE"),
        (("--set", "speed=fast"), "speed"),
        (("--cut", "0"), "--cut 0"),
        (("--cut", "0:1:gently"), "gently"),
        (("--faults", "/nowhere.toml"), "/nowhere.toml"),
        (("--host", "256.256.256.256"), "cannot listen"),
    ],
)
def test_what_cannot_be_exits_2(args: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line says what was wrong."""
    assert emulator.run(parse(*args)) == 2
    assert sentence in capsys.readouterr().err


def test_flags_become_knobs(tmp_path: Path) -> None:
    """A file, then --set, then --cut."""
    path = tmp_path / "faults.toml"
    path.write_text("begin_delay_seconds = 1.2\nspeakers = 2\nat.2.never_begin = true\n")
    args = parse(
        "--faults",
        str(path),
        "--set",
        "speakers=3",
        "--set",
        "refuse_status=429",
        "--cut",
        "0:3.2",
        "--cut",
        "1:5:1011",
    )
    assert emulator.faults_of(args) == Faults(
        begin_delay_seconds=1.2,
        speakers=3,
        refuse_status=429,
        at={2: {"never_begin": True}, 0: Cut(second=3.2), 1: Cut(second=5, how="close", code=1011)},
    )


async def test_it_runs_until_it_is_stopped() -> None:
    """The listening line comes first, the ledger's totals last, and the exit status is 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUN, "emulator", "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
    assert re.fullmatch(r"listening emulator=ws://127\.0\.0\.1:\d+\n", line)
    process.send_signal(signal.SIGTERM)
    rest, _ = await asyncio.wait_for(process.communicate(), 20)
    assert rest.decode().startswith("sessions opened 0, terminated 0, still open 0, abandoned 0;")
    assert process.returncode == 0
