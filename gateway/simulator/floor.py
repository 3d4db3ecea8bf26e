"""
The floor: what a server of this kind cannot do without, and nothing else. The benchmark holds the gateway against it.

The same framework and loop, the same typed decode, the same audio path in the same chunks, one connection a track. Missing:
proof, order, clocks, gaps, buffers, pacing, sessions' states, turns, events, a store, deliveries, metrics, logs, and
any error but the end. It is a yardstick and never a server.

    python -m gateway.simulator.floor --sink ws://127.0.0.1:PORT [--mulaw]
"""

import argparse
import asyncio
import signal
from typing import Final

import msgspec
import uvloop
from aiohttp import ClientSession, ClientWebSocketResponse, TCPConnector, WSMsgType, web

from gateway.audio.path import Audio, Path, open_path
from gateway.media import twilio
from gateway.media.wire import CommonWire, MediaWire

_decoder: Final = msgspec.json.Decoder(CommonWire | twilio.StartWire | twilio.StopWire, strict=False)
_TERMINATE: Final = '{"type":"Terminate"}'
_QUERY: Final[dict[Audio, str]] = {
    "resampled": "encoding=pcm_s16le&sample_rate=16000",
    "mulaw": "encoding=pcm_mulaw&sample_rate=8000",
}


class Floor:
    """Frames in, chunks out."""

    def __init__(self, http: ClientSession, sink: str, audio: Audio) -> None:
        self._http = http
        self._url = f"{sink}/v3/ws?{_QUERY[audio]}"
        self._audio = audio

    async def media(self, request: web.Request) -> web.WebSocketResponse:
        """One stream."""
        ws = web.WebSocketResponse(compress=False, max_msg_size=64 * 1024, decode_text=False)
        await ws.prepare(request)
        legs: dict[str, tuple[ClientWebSocketResponse, Path]] = {}
        async with asyncio.TaskGroup() as listening:
            async for said in ws:
                if said.type is not WSMsgType.TEXT:
                    continue
                message = _decoder.decode(said.data)
                if type(message) is MediaWire:
                    body = message.media
                    session, path = legs[body.track]
                    for chunk in path.push(body.payload):
                        await session.send_bytes(chunk)
                elif type(message) is twilio.StartWire:
                    for track in message.start.tracks:
                        session = await self._http.ws_connect(self._url, compress=0)
                        legs[track] = (session, open_path(self._audio, "PCMU"))
                        listening.create_task(_listen(session))
                elif type(message) is twilio.StopWire:
                    for session, path in legs.values():
                        for chunk in path.finish():
                            await session.send_bytes(chunk)
                        await session.send_str(_TERMINATE)
        return ws


async def _listen(session: ClientWebSocketResponse) -> None:
    async for _ in session:
        pass


async def serve(sink: str, audio: Audio) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with ClientSession(connector=TCPConnector(limit=0)) as http:
        app = web.Application()
        app.router.add_get("/media/twilio", Floor(http, sink, audio).media)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print("listening carriers=http://{}:{}".format(*runner.addresses[0][:2]), flush=True)  # noqa: T201
        await stop.wait()
        await runner.cleanup()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sink", required=True)
    parser.add_argument("--mulaw", action="store_true")
    args = parser.parse_args()
    uvloop.run(serve(args.sink, "mulaw" if args.mulaw else "resampled"))


if __name__ == "__main__":
    main()
