"""
The log: JSON lines on standard error, or readable ones on a terminal.

One canonical line a leg, a call and a delivery ("leg ended", "call ended", "delivered"); `call_id` joins them with webhooks
and with the exemplars of metrics. Never in it: what was said, a secret, a whole phone number.
"""

import logging
import sys
from typing import Any, Final, TextIO

import structlog

_SHARED: Final[list[Any]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


def set_up(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Send every log line of the process to *stream*; standard error where none is named."""
    out = stream or sys.stderr
    terminal = out.isatty()
    # Plain tracebacks: one with its frames' variables would hold what was said.
    render: list[Any] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*_SHARED, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    # What libraries log (aiohttp: a handler that failed) becomes the same kind of line.
    root = logging.StreamHandler(out)
    root.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[root], level=logging.WARNING, force=True)
    # Its debug and info lines hold what was said and with what key.
    logging.getLogger("aiohttp.access").setLevel(logging.ERROR)
