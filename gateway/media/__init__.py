"""Carriers' wires: a carrier's text messages in, media messages out; each handshake's proof beside its carrier. Pure: no clock, no socket."""
