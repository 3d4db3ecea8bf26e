"""The proxy samples: understood by their programs, and a real WebSocket through nginx that outlives its time-outs."""

import asyncio
import datetime as dt
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.tools import tool

PROXIES = Path(__file__).parents[2] / "deploy" / "proxies"
SILENCE = 1.0
"""Seconds: the sample's hour, scaled down."""


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of nobody's for the sample's name, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "voice.example.com")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, private


def sample(folder: Path, port: int, upstream: int) -> Path:
    """The nginx sample with this machine's ports and certificate, and its hour made a second."""
    pem, key = certificate(folder)
    text = (PROXIES / "nginx.conf").read_text(encoding="utf-8")
    for pattern, replacement in (
        (r"listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (r"ssl_certificate  .*", f"ssl_certificate {pem};"),
        (r"ssl_certificate_key .*", f"ssl_certificate_key {key};"),
        (r"127\.0\.0\.1:8080", f"127.0.0.1:{upstream}"),
        (r"3600s", f"{SILENCE:g}s"),
        (r"worker_processes auto;", f"worker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;"),
        (r"worker_connections 16384", "worker_connections 64"),
        (
            r"(?m)^http \{",
            "http {\n"
            + "".join(
                f"    {kind}_temp_path {folder}/{kind};\n"
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            ),
        ),
    ):
        text, count = re.subn(pattern, replacement, text)
        assert count, pattern
    config = folder / "nginx.conf"
    config.write_text(text, encoding="utf-8")
    return config


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_nginx_understands_the_sample(tmp_path: Path) -> None:
    """`nginx -t` accepts the sample."""
    config = sample(tmp_path, free_port(), free_port())
    done = subprocess.run([tool("nginx"), "-t", "-c", config], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_nginx_sample_sets_no_age_limit() -> None:
    """No worker_shutdown_timeout: with one, each reload cuts the running calls."""
    directives = re.sub(r"#.*", "", (PROXIES / "nginx.conf").read_text(encoding="utf-8"))
    assert "worker_shutdown_timeout" not in directives
    assert "proxy_read_timeout 3600s" in directives


def test_caddy_understands_the_sample(tmp_path: Path) -> None:
    """Caddy accepts the sample and finds it formatted; Debian's 2.6 knows all of it but the one line of 2.7."""
    text = (PROXIES / "Caddyfile").read_text(encoding="utf-8")
    assert "stream_close_delay 5h" in text
    path = tmp_path / "Caddyfile"
    path.write_text("".join(line for line in text.splitlines(keepends=True) if "stream_close_delay" not in line))
    for command in (["validate", "--adapter", "caddyfile", "--config", str(path)], ["fmt", "--diff", str(path)]):
        environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            [tool("caddy"), *command], capture_output=True, text=True, timeout=60, check=False, env=environ
        )
        assert done.returncode == 0, done.stderr + done.stdout


@asynccontextmanager
async def through_nginx(folder: Path, heartbeat: float | None) -> AsyncIterator[tuple[str, int]]:
    """A WebSocket echo behind nginx with our sample: the stream's address, and nginx' process id."""

    async def media(request: web.Request) -> web.WebSocketResponse:
        socket_ = web.WebSocketResponse(heartbeat=heartbeat, compress=False)
        await socket_.prepare(request)
        async for message in socket_:
            await socket_.send_str(message.data)
        return socket_

    app = web.Application()
    app.router.add_get("/media/twilio", media)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = free_port()
    config = sample(folder, port, runner.addresses[0][1])
    nginx = await asyncio.create_subprocess_exec(tool("nginx"), "-c", str(config), "-g", "daemon off;")
    try:
        async with asyncio.timeout(20):
            while True:  # a program outside tells nobody when it listens
                assert nginx.returncode is None, (folder / "error.log").read_text(encoding="utf-8")
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    await writer.wait_closed()
                    break
        yield f"wss://127.0.0.1:{port}/media/twilio", nginx.pid
    finally:
        nginx.terminate()
        await nginx.wait()
        await runner.cleanup()


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.mark.slow
async def test_a_stream_outlives_nginx_timeouts(tmp_path: Path) -> None:
    """Silent for three times nginx' time-out, with only the gateway's pings on the wire, a WebSocket still carries audio."""
    async with (
        through_nginx(tmp_path, heartbeat=SILENCE / 4) as (url, _),
        aiohttp.ClientSession() as session,
        session.ws_connect(url, ssl=trusting()) as stream,
    ):
        with pytest.raises(TimeoutError):  # not by receive(timeout=…), which every ping starts anew
            async with asyncio.timeout(3 * SILENCE):
                await stream.receive()
        await stream.send_str("still here")
        async with asyncio.timeout(5):
            assert (await stream.receive()).data == "still here"


@pytest.mark.slow
async def test_the_timeouts_are_real(tmp_path: Path) -> None:
    """Without pings the same stream is cut after that time: what the first test shows is not an accident."""
    async with (
        through_nginx(tmp_path, heartbeat=None) as (url, _),
        aiohttp.ClientSession() as session,
        session.ws_connect(url, ssl=trusting()) as stream,
    ):
        async with asyncio.timeout(5 * SILENCE):
            message = await stream.receive()
        assert message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}


@pytest.mark.slow
async def test_a_stream_outlives_a_reload(tmp_path: Path) -> None:
    """After nginx reloads its configuration, the stream that was open before goes on."""
    async with (
        through_nginx(tmp_path, heartbeat=SILENCE / 4) as (url, pid),
        aiohttp.ClientSession() as session,
        session.ws_connect(url, ssl=trusting()) as stream,
    ):
        reload = await asyncio.create_subprocess_exec("kill", "-HUP", str(pid))
        await reload.wait()
        with pytest.raises(TimeoutError):  # not by receive(timeout=…), which every ping starts anew
            async with asyncio.timeout(2 * SILENCE):
                await stream.receive()
        await stream.send_str("still here")
        async with asyncio.timeout(5):
            assert (await stream.receive()).data == "still here"
