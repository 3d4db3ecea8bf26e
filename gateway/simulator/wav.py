"""
WAV files, as telephony has them: PCM of 16 bits, mu-law or A-law, of any rate and number of channels.

The standard library's `wave` reads PCM alone (and on Python 3.11 not even that where the format says "extensible").
"""

import struct
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.audio import g711

PCM: Final = 1
ALAW: Final = 6
MULAW: Final = 7
_EXTENSIBLE: Final = 0xFFFE
_NAMES: Final = "PCM of 16 bits, mu-law or A-law"

Samples = npt.NDArray[np.int16]


class WavFault(ValueError):
    """The file is none that can be played; the message says why."""


class Wav(NamedTuple):
    """What a file holds: `samples` has a row a moment and a column a channel."""

    rate_hz: int
    samples: Samples


def read(path: Path) -> Wav:
    """
    Read a file whole.

    Raises:
        WavFault: It is no WAV file, or in a format that is not taken.
        OSError: It cannot be read.
    """
    data = path.read_bytes()
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise WavFault(f"{path}: not a WAV file")
    at, form, payload = 12, None, None
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + size]  # a file that was cut off, or written to a pipe, ends early
        if name == b"fmt " and len(body) >= 16:
            form = body
        elif name == b"data":
            payload = body
            break
        at += 8 + size + size % 2
    if form is None or payload is None:
        raise WavFault(f"{path}: no audio in it")
    tag, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", form)
    if tag == _EXTENSIBLE and len(form) >= 26:
        tag = int.from_bytes(form[24:26], "little")
    if not channels or not 1000 <= rate_hz <= 384_000:
        raise WavFault(f"{path}: {channels} channels at {rate_hz} Hz")
    match (tag, bits):
        case (1, 16):
            pcm = payload
        case (7, 8):
            pcm = g711.decode(payload, "PCMU")
        case (6, 8):
            pcm = g711.decode(payload, "PCMA")
        case _:
            raise WavFault(f"{path}: format {tag} of {bits} bits; {_NAMES} are taken")
    whole = len(pcm) // (2 * channels)
    samples = np.frombuffer(pcm, "<i2", count=whole * channels).reshape(whole, channels)
    return Wav(rate_hz, samples.astype(np.int16))


def write_mulaw(path: Path, channels: list[bytes], rate_hz: int = g711.RATE_HZ) -> None:
    """Write mu-law bytes, all channels of one length, as a file of that many channels."""
    interleaved = np.stack([np.frombuffer(channel, np.uint8) for channel in channels], axis=1).tobytes()
    count = len(channels)
    form = struct.pack("<HHIIHHH", MULAW, count, rate_hz, rate_hz * count, count, 8, 0)
    fact = struct.pack("<I", len(channels[0]))
    chunks = b"".join(
        name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
        for name, body in ((b"fmt ", form), (b"fact", fact), (b"data", interleaved))
    )
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
