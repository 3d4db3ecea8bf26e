"""`gateway token`: a token that the route takes, alone on standard output."""

import argparse
import time

import pytest

from gateway.cli import token
from gateway.media.tokens import BoundToken, verify


def run(environ: dict[str, str], *words: str) -> int:
    """The command's exit status."""
    parser = argparse.ArgumentParser()
    token.add_parser(parser.add_subparsers())
    return token.run(parser.parse_args(["token", *words]), environ)


@pytest.mark.parametrize("carrier", ["twilio", "telnyx", "signalwire"])
def test_a_minted_token_is_taken(carrier: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The token verifies under the first secret, for its call, and stands alone on its line."""
    assert run({"GATEWAY_TOKEN_SECRET": "new-secret,old-secret"}, carrier, "CA1") == 0
    said = capsys.readouterr()
    bound = verify([b"new-secret"], carrier, said.out.strip(), time.time())  # type: ignore[arg-type]  # a carrier's name
    assert isinstance(bound, BoundToken)
    assert bound.allows("CA1")
    assert "warning" not in said.err


def test_a_random_secret_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a configured secret the token is worthless, and the command says so beside it."""
    assert run({}, "twilio", "CA1") == 0
    assert "GATEWAY_TOKEN_SECRET is not set" in capsys.readouterr().err


def test_what_cannot_be_minted(capsys: pytest.CaptureFixture[str]) -> None:
    """An id that no carrier has, and settings that cannot be read, end in 2 with the reason."""
    assert run({}, "twilio", "C A\n") == 2
    assert run({"GATEWAY_MAX_CALL_SECONDS": "never"}, "telnyx", "v3:1") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "GATEWAY_MAX_CALL_SECONDS" in said.err


def test_unknown_carriers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A carrier that has no route is a usage error."""
    with pytest.raises(SystemExit) as caught:
        run({}, "vonage", "CA1")
    assert caught.value.code == 2
    assert "vonage" in capsys.readouterr().err
