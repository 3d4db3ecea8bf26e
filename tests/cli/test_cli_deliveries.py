"""`gateway deliveries`, through a running server and on the file."""

import argparse
import asyncio
import json
from pathlib import Path

import pytest

from gateway.cli.deliveries import add_parser, parse_time, run
from gateway.outbox.sqlite import SqliteOutbox
from tests.http.test_http_deliveries import TOKENS, fill, serving
from tests.outbox.contract import HOOK


async def command(environ: dict[str, str], *arguments: str) -> int:
    """Run the command as a process would, beside whatever runs here."""
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["deliveries", *arguments])
    return await asyncio.to_thread(run, args, environ)


def store(path: Path) -> dict[str, str]:
    """The environment that names a store."""
    return {"GATEWAY_STORE": f"sqlite:///{path / 'gateway.db'}"}


def names(path: Path) -> list[str]:
    """What lies in a directory."""
    return sorted(file.name for file in path.iterdir())


async def test_on_the_file_while_no_server_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """List, show, replay and enable work on the file itself, and nothing else in it changes."""
    async with SqliteOutbox(tmp_path / "gateway.db") as outbox:
        await fill(outbox)
    environ = store(tmp_path)

    assert await command(environ, "list") == 0
    assert "msg_A-1" in (table := capsys.readouterr().out)
    assert "3 owed, 1 dead letters" in table
    assert await command(environ, "list", "--json", "--state", "dead") == 0
    assert [one["id"] for one in json.loads(capsys.readouterr().out)["deliveries"]] == ["msg_A-1"]
    assert await command(environ, "show", "msg_A-1", "--body") == 0
    assert '"A-1"' in capsys.readouterr().out
    assert await command(environ, "show", "msg_A-1", "--json") == 0
    assert "body" not in json.loads(capsys.readouterr().out)
    assert await command(environ, "show", "msg_none") == 1
    assert await command(environ, "replay", "--call", "A", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"revived": 1, "hastened": 0}
    assert await command(environ, "replay", "msg_none") == 1
    assert await command(environ, "replay") == 2
    assert await command(environ, "enable", HOOK) == 0
    assert await command(environ, "enable", "https://unknown.example/") == 1
    capsys.readouterr()
    assert await command(environ, "list", "--json", "--call", "A", "--since", "1970-01-01", "--until", "1d") == 0
    assert len(json.loads(capsys.readouterr().out)["deliveries"]) == 3


async def test_through_the_server_that_holds_the_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While a server holds the store it is asked, where its lock file says, with the API token."""
    async with serving(tmp_path, tokens=TOKENS) as admin:
        await fill(admin.outbox)
        environ = store(tmp_path)
        assert await command(environ, "list") == 2
        assert "GATEWAY_ADMIN_PORT" in capsys.readouterr().err
        admin.outbox.announce(admin.base)
        assert await command(environ, "list") == 2
        assert "GATEWAY_API_TOKENS" in capsys.readouterr().err
        environ["GATEWAY_API_TOKENS"] = TOKENS[1]
        assert await command(environ, "list", "--json", "--call", "A", "--limit", "2") == 0
        assert [one["id"] for one in json.loads(capsys.readouterr().out)["deliveries"]] == ["msg_A-1", "msg_A-2"]
        assert await command(environ, "show", "msg_A-1", "--body", "--json") == 0
        assert json.loads(capsys.readouterr().out)["body"] == '"A-1"'
        assert await command(environ, "show", "msg/none?") == 1
        assert await command(environ, "replay", "msg_A-1") == 0
        assert admin.outbox.dead_letters() == 0
        assert await command(environ, "enable", HOOK) == 0
        assert await command(environ, "enable", "https://unknown.example/") == 1


async def test_the_environment_names_the_admin_port_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no store is at hand, the admin port of the environment is asked; where it does not answer, that is said."""
    async with serving(tmp_path) as admin:
        await fill(admin.outbox)
        port = admin.base.rpartition(":")[2]
        environ = {
            "GATEWAY_STORE": f"sqlite:///{tmp_path}/elsewhere.db",
            "GATEWAY_ADMIN_HOST": "0.0.0.0",
            "GATEWAY_ADMIN_PORT": port,
        }
        assert await command(environ, "list", "--json") == 0
        assert json.loads(capsys.readouterr().out)["owed"] == 3
    assert await command(environ, "list") == 2
    assert "does not answer" in capsys.readouterr().err


async def test_what_cannot_be_found_is_said_and_nothing_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No store and no server: exit 2, and no file is created; so with settings that cannot be used."""
    assert await command(store(tmp_path), "list") == 2
    assert "no store" in capsys.readouterr().err
    assert names(tmp_path) == []
    assert await command({"GATEWAY_STORE": "nats://x"}, "list") == 2
    assert await command({"GATEWAY_CONFIG": str(tmp_path / "none.toml")}, "list") == 2


async def test_the_configuration_file_names_the_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The store is found by the TOML file as the server finds it."""
    async with SqliteOutbox(tmp_path / "gateway.db") as outbox:
        await fill(outbox)
    (tmp_path / "gateway.toml").write_text(f'store = "sqlite:///{tmp_path}/gateway.db"\n')

    assert await command({"GATEWAY_CONFIG": str(tmp_path / "gateway.toml")}, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["owed"] == 3


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("90s", 910),
        ("2m", 880),
        ("1h", -2600),
        ("1970-01-01T00:00:05Z", 5),
        ("1970-01-01T01:00:05+01:00", 5),
        ("1970-01-01", 0),
    ],
)
def test_times_are_iso_or_ago(text: str, at: float) -> None:
    """A time is a date, in UTC unless it says otherwise, or how long ago."""
    assert parse_time(text, 1000.0) == at


@pytest.mark.parametrize("text", ["", "soon", "2x", "-5m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Anything else is a ValueError."""
    with pytest.raises(ValueError, match=r".*"):
        parse_time(text, 1000.0)
