"""Commands as processes: ready, ended in order, and their last words where they would not start."""

import asyncio
import os
import signal

import pytest

from gateway.simulator.process import Command, NotStarted, inherited, run, usage


def script(text: str, **options: float) -> Command:
    """A Python program in place of the gateway."""
    return Command(expects=("a", "b"), program=("-c", text), **options)  # type: ignore[arg-type]


READY = "import time; print('listening a=http://x:1'); print('listening b=http://y:2', flush=True); time.sleep(60)"


async def test_it_is_ready_when_all_addresses_are_printed() -> None:
    """They are there on entering; leaving ends it."""
    async with script(READY) as command:
        assert dict(command.listening) == {"a": "http://x:1", "b": "http://y:2"}
        assert command.exit_code is None
        assert usage(command.pid)[1] > 1_000_000
    assert command.exit_code == -signal.SIGTERM


async def test_its_exit_says_why() -> None:
    """The code, and what it wrote on standard error."""
    with pytest.raises(NotStarted, match=r"exited with 2:\nthe store is full"):
        async with script("import sys; print('the store is full', file=sys.stderr); sys.exit(2)"):
            pass
    with pytest.raises(NotStarted, match="without a word"):
        async with script("import sys; sys.exit(2)"):
            pass


async def test_saying_too_little_is_not_ready() -> None:
    """One of two addresses, in time, is none."""
    with pytest.raises(NotStarted, match=r"not ready within 0\.5 s"):
        async with script(
            "import time; print('listening a=http://x:1', flush=True); time.sleep(60)", start_seconds=0.5
        ):
            pass


async def test_one_that_does_not_heed_is_killed() -> None:
    """After its patience."""
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY
    async with script(stubborn, stop_seconds=0.2) as command:
        assert await command.stop() == -signal.SIGKILL


async def test_it_does_not_outlive_a_parent_that_is_killed() -> None:
    """SIGKILL leaves no time to end anything; the system does it."""
    parent = (
        "import asyncio, os, signal\n"
        "from gateway.simulator.process import Command\n"
        "async def main():\n"
        f"    async with Command(expects=('a',), program=('-c', {READY!r})) as child:\n"
        "        print('listening child=' + str(child.pid), flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    async with asyncio.timeout(20), Command(expects=("child",), program=("-c", parent)) as command:
        child = os.pidfd_open(int(command.listening["child"]))
        os.kill(command.pid, signal.SIGKILL)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(child, ended.set)
        await ended.wait()
        asyncio.get_running_loop().remove_reader(child)
        os.close(child)


async def test_its_end_can_be_awaited() -> None:
    """Its code is known then, and so are its last words."""
    text = "import os, sys, time; print('listening a=1\\nlistening b=2', flush=True); time.sleep(0.5); sys.stderr.write('bye'); sys.exit(3)"
    async with asyncio.timeout(10), script(text) as command:
        await command.exited()
        assert (command.exit_code, command.last_words) == (3, "bye")


def test_the_operators_settings_are_not_inherited() -> None:
    """GATEWAY_* and the key come from nowhere but what the process is given; the rest of the world is its own."""
    world = {"PATH": "/bin", "GATEWAY_PORT": "80", "ASSEMBLYAI_API_KEY": "secret"}
    assert inherited(world) == {"PATH": "/bin"}


def test_a_signal_ends_a_command_in_order() -> None:
    """What was opened is closed; the code is 130."""
    closed: list[bool] = []

    async def work() -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            closed.append(True)
        return 0

    assert run(work()) == 130
    assert closed == [True]


def test_a_process_that_is_gone_has_used_nothing() -> None:
    """No error."""
    assert usage(2**22 + 1) == (0.0, 0)
