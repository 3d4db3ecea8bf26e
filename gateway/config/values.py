"""Settings as they are written: from the environment and one TOML table, each read once, every fault kept."""

import difflib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

TRUE: Final = frozenset({"1", "true", "yes", "on"})
FALSE: Final = frozenset({"0", "false", "no", "off"})

PREFIX: Final = "GATEWAY_"
VENDOR: Final[Mapping[str, str]] = {"assemblyai_api_key": "ASSEMBLYAI_API_KEY"}
"""The setting whose variable is not ours."""


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return VENDOR.get(name, PREFIX + name.upper())


def nearest(name: str, known: Collection[str]) -> str:
    """A hint at the known name that was probably meant, or nothing."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong (`faults`) and what is doubtful (`warnings`), a sentence each, in the order found; never a value."""

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Written:
    """
    Where settings are looked up. Empty is the same as not written; the environment wins over the file.

    Faults name the variable, or the file's key, and never a value: any value may be a secret in the wrong place.
    """

    def __init__(self, environ: Mapping[str, str], table: Mapping[str, Any], findings: Findings) -> None:
        self.findings = findings
        self._environ = environ
        self._table = table
        self.read: set[str] = set()
        """Names asked for: every other key of the file is unknown."""

    def raw(self, name: str) -> tuple[Any, str]:
        """The value, or None; and what to call it in a fault."""
        self.read.add(name)
        said = self._environ.get(variable(name), "").strip()
        if said:
            return said, variable(name)
        value = self._table.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None, variable(name)
        return value, f"{name} (in the configuration file)"

    def fault(self, sentence: str) -> None:
        self.findings.faults.append(sentence)

    def text(self, name: str) -> str | None:
        """One line of text, or None."""
        value, label = self.raw(name)
        if value is None:
            return None
        if not isinstance(value, str):
            self.fault(f"{label} must be a string")
            return None
        if not value.strip().isprintable():
            self.fault(f"{label} must be one line of printable characters")
            return None
        return value.strip()

    def entries(self, name: str) -> tuple[str, ...]:
        """A comma-separated string, or in the file also a list of strings; empty entries do not count."""
        value, label = self.raw(name)
        if value is None:
            return ()
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            self.fault(f"{label} must be a comma-separated string or a list of strings")
            return ()
        found = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
        if not all(part.isprintable() for part in found):
            self.fault(f"{label} holds characters that are not printable")
            return ()
        return found

    def secrets(self, name: str) -> tuple[str, ...]:
        """Entries that travel in HTTP headers or URLs: ASCII without spaces."""
        found = self.entries(name)
        if any(not part.isascii() or " " in part for part in found):
            self.fault(f"{self.raw(name)[1]} holds an entry with spaces or characters beyond ASCII")
            return ()
        return found

    def flag(self, name: str) -> bool:
        """1 or 0, false where it is not written."""
        value, label = self.raw(name)
        if value is None:
            return False
        said = str(value).lower()
        if said in TRUE:
            return True
        if said not in FALSE:
            self.fault(f"{label} must be 1 or 0")
        return False

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number within bounds, both allowed; the default where it is not written or faulty."""
        found = self.optional_number(name, low, high)
        return default if found is None else found

    def optional_number(self, name: str, low: float, high: float) -> float | None:
        value, label = self.raw(name)
        if value is None:
            return None
        number = as_number(value)
        if number is None or not low <= number <= high:
            self.fault(f"{label} must be a number from {low:g} to {high:g}")
            return None
        return number

    def integer(self, name: str, default: int, low: int, high: int, hint: str = "") -> int:
        """A whole number within bounds, both allowed."""
        value, label = self.raw(name)
        if value is None:
            return default
        number = as_number(value)
        if number is None or not number.is_integer() or not low <= number <= high:
            self.fault(f"{label} must be a whole number from {low} to {high}{hint}")
            return default
        return int(number)


def as_number(value: object) -> float | None:
    """A finite number written as such or as a string; booleans are none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
