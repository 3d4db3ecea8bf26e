"""
G.711 (ITU-T): the carriers' bytes and PCM16, little endian.

One byte is one sample at 8 kHz in both laws. Silence is 0xFF in mu-law and 0xD5 in A-law: padding mu-law with
zeros would be a full-scale click.
"""

import warnings
from typing import Final, Literal

with warnings.catch_warnings():
    # Python 3.11 and 3.12 warn that audioop goes; from 3.13 on it is the package audioop-lts.
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

Encoding = Literal["PCMU", "PCMA"]

RATE_HZ: Final = 8000

SILENCE: Final[dict[Encoding, bytes]] = {"PCMU": b"\xff", "PCMA": b"\xd5"}


def decode(payload: bytes, encoding: Encoding) -> bytes:
    """PCM16LE of G.711 bytes, two bytes for one."""
    pcm: bytes = audioop.ulaw2lin(payload, 2) if encoding == "PCMU" else audioop.alaw2lin(payload, 2)
    return pcm


def encode_mulaw(pcm: bytes) -> bytes:
    """Mu-law of PCM16LE."""
    payload: bytes = audioop.lin2ulaw(pcm, 2)
    return payload


def encode_alaw(pcm: bytes) -> bytes:
    """A-law of PCM16LE."""
    payload: bytes = audioop.lin2alaw(pcm, 2)
    return payload


def rms(payload: bytes, encoding: Encoding) -> int:
    """Loudness of G.711 bytes, 0..32767."""
    loudness: int = audioop.rms(decode(payload, encoding), 2)
    return loudness
