"""A test module that names loops (`LOOPS`) is run on each of them."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
from hypothesis import settings

# A law is no race: the machine may be busy with something else.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

Factory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Factory]:
    named: Mapping[str, Factory] | None = getattr(getattr(item, "module", None), "LOOPS", None)
    return named or {"asyncio": asyncio.SelectorEventLoop}
