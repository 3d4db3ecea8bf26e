"""
The configuration: one environment and one TOML file in, `Settings` out, or every fault at once.

`settings.py` is what was told, `profiles.py` and `speech.py` what a call's number chooses, `load.py` reads and checks,
`values.py` says how values are written. Nobody reads the environment after this.
"""

from gateway.config.load import TokenSettings, load, load_tokens
from gateway.config.profiles import LegProfile, Profile
from gateway.config.settings import DEFAULT_EVENTS, EVENT_TYPES, Settings
from gateway.config.speech import Audio

__all__ = [
    "DEFAULT_EVENTS",
    "EVENT_TYPES",
    "Audio",
    "LegProfile",
    "Profile",
    "Settings",
    "TokenSettings",
    "load",
    "load_tokens",
]
