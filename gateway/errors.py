"""
What can go wrong, as a tree; the type says whose fault it was.

    GatewayError
    ├── ConfigurationFault    the operator's: every fault of the configuration at once
    ├── ProtocolFault         the peer's: it broke its wire (a carrier, or AssemblyAI)
    ├── StoreFault            the disk's: the store cannot be read or written now
    │   └── StoreLocked       another process holds the store
    └── StateFault            ours: an event that this state does not allow
"""

from collections.abc import Iterable


class GatewayError(Exception):
    """The gateway cannot do what was asked."""


class ConfigurationFault(GatewayError):
    """The configuration cannot be used; `faults` holds one sentence for each thing to mend."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


class ProtocolFault(GatewayError):
    """A peer broke its protocol. `code` is the WebSocket close code that answers it, `reason` a bounded metric label."""

    def __init__(self, message: str, *, reason: str, code: int = 1008) -> None:
        super().__init__(message)
        self.reason = reason
        self.code = code


class StoreFault(GatewayError):
    """The store cannot be read or written now."""


class StoreLocked(StoreFault):
    """Another process holds the store."""


class StateFault(GatewayError):
    """An event came that this state does not allow: a bug of ours. The message names event and state."""
