"""Every call that lives here, by its carrier's id: found by its streams, its webhooks, and once a second by the watchdog."""

import asyncio
import time
from typing import Final, Protocol

import msgspec
import structlog

from gateway.call import TRACKS, Call, Carrier, Party
from gateway.config import Settings
from gateway.delivery import CallRecord, Interrupted
from gateway.errors import ProtocolFault, StoreFault
from gateway.events import rfc3339
from gateway.livecall import House, Kept, KeptTurn, LiveCall
from gateway.media.messages import Started
from gateway.speech.ledger import StoredSession
from gateway.stream import Stream

_log = structlog.get_logger()

LOOK_UP_SECONDS: Final = 2.0
"""A store that does not answer must not keep a call waiting; without it the call's numbers begin anew."""


class Archive(Protocol):
    """What is asked of the store about a call that is not live."""

    async def call(self, call_id: str) -> CallRecord | None: ...


class Calls:
    """The registry. `house` is what all calls share."""

    def __init__(self, settings: Settings, archive: Archive) -> None:
        self.house: House
        """Set before the first call."""
        self._settings = settings
        self._archive = archive
        self._calls: dict[str, LiveCall] = {}
        self._loop = asyncio.get_running_loop()
        self._stopping = False

    def active(self) -> int:
        """Calls now."""
        return sum(call.open for call in self._calls.values())

    def legs(self) -> int:
        """Parties being transcribed now."""
        return sum(len(call.legs) for call in self._calls.values() if call.open)

    async def join(self, stream: Stream, started: Started) -> LiveCall:
        """The call of a stream that starts: live, known to the store, or new. The caller attaches the stream at once."""
        call = self._calls.get(started.call_id)
        if call is None:
            kept = await self._kept(started.call_id)
            if kept is not None and kept.call.carrier != stream.carrier:
                raise ProtocolFault("the call is another carrier's", reason="wrong_call")
            call = self._calls.get(started.call_id)  # two streams may have looked at once
            if call is None:
                self._admit()
                call = self._calls[started.call_id] = self._new(stream, started, kept)
        if call.info.carrier != stream.carrier:
            raise ProtocolFault("the call is another carrier's", reason="wrong_call")
        self._admit()
        return call

    def _admit(self) -> None:
        if self._stopping:
            raise ProtocolFault("the gateway stops", reason="draining", code=1012)

    def carrier_event(self, carrier: Carrier, call_id: str, stream_id: str | None, kind: str) -> None:
        """A carrier's webhook told what became of a stream or call."""
        call = self._calls.get(call_id)
        if call is not None and call.info.carrier == carrier:
            call.carrier_says(stream_id, kind)

    def sweep(self) -> None:
        """Once a second: silence, age, reconnect times."""
        now = self._loop.time()
        for call in list(self._calls.values()):
            call.sweep(now)
            self._let_go(call)

    def end_all(self, seconds: float) -> None:
        """End every call as if it were hung up; lost tails are tried for so long."""
        self._stopping = True
        for call in list(self._calls.values()):
            call.hurry(seconds)
            call.end("drained")

    def close_streams(self) -> None:
        """Close the sockets that are still there: the process stops."""
        for call in list(self._calls.values()):
            for stream in list(call.streams):
                stream.close()

    def restore(self, interrupted: list[Interrupted]) -> None:
        """What a crash left open: zombies are said, calls wait for their carriers or their end."""
        for one in interrupted:
            try:
                kept = msgspec.json.decode(one.call.state, type=Kept)
                turns = [msgspec.json.decode(record.body, type=KeptTurn) for record in one.turns]
                sessions = [msgspec.json.decode(record.body, type=StoredSession) for record in one.sessions]
            except msgspec.MsgspecError as error:
                _log.error("an interrupted call cannot be read", call_id=one.call.call_id, fault=str(error))
                continue
            profile = self._settings.profile_for(kept.call.profile, None)
            call = LiveCall(self.house, kept.call, profile, "PCMU", kept)
            self._calls[call.id] = call
            call.adopt(kept, turns)
            for session in sessions:
                call.say_zombie(session)
            _log.warning("call was interrupted", call_id=call.id, turns=len(turns), sessions=len(sessions))

    def listening(self) -> None:
        """From now on carriers can come back: interrupted calls wait so long."""
        for call in self._calls.values():
            call.wait_for_carrier()

    def ended(self, call: LiveCall) -> None:
        """A call said its last event."""
        self._let_go(call)

    def _let_go(self, call: LiveCall) -> None:
        if not call.open and not call.streams and self._calls.get(call.id) is call:
            del self._calls[call.id]

    def _new(self, stream: Stream, started: Started, kept: Kept | None) -> LiveCall:
        profile = self._settings.profile_for(started.profile, started.to or started.attributes.get("to"))
        info = Call(
            id=started.call_id,
            carrier=stream.carrier,
            stream_id=started.stream_id,
            account_id=started.account_id,
            from_=started.from_,
            to=started.to,
            started_at=kept.call.started_at if kept is not None else rfc3339(time.time()),
            attributes=started.attributes,
            profile=profile.name,
        )
        call = LiveCall(self.house, info, profile, started.encoding, kept)
        tracks = started.tracks or TRACKS
        call.parties_are(
            tuple(Party(track, started.parties.get(track) or profile.leg(track).party) for track in tracks)
        )
        return call

    async def _kept(self, call_id: str) -> Kept | None:
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                record = await self._archive.call(call_id)
            return None if record is None else msgspec.json.decode(record.state, type=Kept)
        except (StoreFault, TimeoutError, msgspec.MsgspecError) as error:
            _log.warning("call could not be looked up", call_id=call_id, fault=type(error).__name__)
            return None
