"""The receiver: signatures, failing to order, and what it keeps. Signed with an independent library."""

import base64
import json
import time
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from standardwebhooks.webhooks import Webhook

from gateway.simulator.receiver import Arrival, Failing, Receiver


async def post(
    receiver: Receiver, event: Any, *, webhook_id: str = "msg_1", secret: str | None = None, at: float | None = None
) -> int:
    """Deliver an event, signed with a secret (the receiver's own by default)."""
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    sent = time.time() if at is None else at
    signature = Webhook(secret or receiver.secret).sign(webhook_id, datetime.fromtimestamp(sent, UTC), body.decode())
    headers = {"webhook-id": webhook_id, "webhook-timestamp": str(int(sent)), "webhook-signature": signature}
    async with aiohttp.ClientSession() as http, http.post(receiver.url, data=body, headers=headers) as answer:
        return answer.status


def event(kind: str = "call.started", sequence: int = 1, **data: Any) -> dict[str, Any]:
    """An event of one call."""
    return {
        "type": kind,
        "timestamp": "2026-01-01T00:00:00Z",
        "data": {"call": {"id": "CA1"}, "sequence": sequence, **data},
    }


async def test_a_signed_event_is_kept() -> None:
    """Accepted, counted, checked with its call, and told to whoever watches."""
    seen: list[Arrival] = []
    async with Receiver(watch=seen.append) as receiver:
        assert await post(receiver, event()) == 204
        assert await post(receiver, event("call.ended", 2, transcript=[]), webhook_id="msg_2") == 204
        assert await receiver.until(lambda: receiver.ended("CA1"), 1)
        assert receiver.calls["CA1"].faults == []
        assert receiver.counts == {"accepted": 2}
    assert [(one.event.type, one.accepted, one.webhook_id) for one in seen] == [
        ("call.started", True, "msg_1"),
        ("call.ended", True, "msg_2"),
    ]
    assert abs(seen[0].at - time.time()) < 60


async def test_a_wrong_signature_is_refused() -> None:
    """Another's secret, an old timestamp, and no signature at all: 401, and nothing is kept."""
    other = "whsec_" + base64.b64encode(bytes(32)).decode()
    async with Receiver() as receiver:
        assert await post(receiver, event(), secret=other) == 401
        assert await post(receiver, event(), at=time.time() - 400) == 401
        async with aiohttp.ClientSession() as http, http.post(receiver.url, json=event()) as answer:
            assert answer.status == 401
        assert receiver.counts == {"unsigned": 3}
        assert not receiver.calls


async def test_one_of_several_signatures_is_enough() -> None:
    """While secrets rotate, each signs."""
    body = json.dumps(event()).encode()
    async with Receiver() as receiver:
        now = datetime.now(UTC)
        right = Webhook(receiver.secret).sign("msg_1", now, body.decode())
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": f"v1,AAAA {right}",
        }
        async with aiohttp.ClientSession() as http, http.post(receiver.url, data=body, headers=headers) as answer:
            assert answer.status == 204


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"type":"x","timestamp":"","data":{}}'])
async def test_what_is_no_event_is_refused(body: bytes) -> None:
    """400, and counted."""
    async with Receiver() as receiver:
        assert await post(receiver, body) == 400
        assert receiver.counts == {"malformed": 1}


async def test_an_event_that_cannot_be_read_is_a_fault_of_its_call() -> None:
    """Signed and of a call, but without what its type promises."""
    async with Receiver() as receiver:
        await post(receiver, event())
        assert await post(receiver, event("turn.final", 2), webhook_id="msg_2") == 204
        (fault,) = receiver.calls["CA1"].faults
        assert fault.startswith("turn.final cannot be read")


async def test_it_fails_for_a_while() -> None:
    """From the first event on; what is refused is not kept, and is accepted when it comes again."""
    async with Receiver(failing=Failing(seconds=0.05, status=503)) as receiver:
        assert await post(receiver, event()) == 503
        assert not receiver.calls
        while (status := await post(receiver, event())) == 503:
            pass
        assert status == 204
        assert receiver.calls["CA1"].events == 1
        assert receiver.counts["refused"] >= 1


async def test_it_may_be_gone() -> None:
    """410 is a knob like any other."""
    async with Receiver(failing=Failing(seconds=60, status=410)) as receiver:
        assert await post(receiver, event()) == 410


async def test_it_may_be_slow() -> None:
    """Each answer takes its time."""
    async with Receiver(failing=Failing(slow_seconds=0.05)) as receiver:
        began = time.monotonic()
        assert await post(receiver, event()) == 204
        assert time.monotonic() - began >= 0.05


async def test_waiting_in_vain_ends() -> None:
    """False, not an exception."""
    async with Receiver() as receiver:
        assert not await receiver.until(lambda: receiver.ended("CA1"), 0.01)
