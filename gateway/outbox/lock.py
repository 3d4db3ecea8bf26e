"""
Who holds the store: an advisory lock on `STORE.lock`, which goes with its process however that ends.

The file stays; while it is locked it says where the holder's admin routes are, so that `gateway deliveries` finds them.
"""

import fcntl
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.errors import StoreFault, StoreLocked

LOOKS = 3
"""Tries again when the lock is held: `held` holds it too, for a moment."""


def lock_path(store: Path) -> Path:
    """Give the lock file's path: beside the database itself, wherever links to it stand."""
    real = store.resolve()
    return real.with_name(real.name + ".lock")


class StoreLock:
    """The lock, held from `__enter__` to `__exit__`."""

    def __init__(self, store: Path) -> None:
        self._path = lock_path(store)
        self._file = -1

    def __enter__(self) -> Self:
        """
        Take the lock; blocks for some milliseconds where it is held.

        Raises:
            StoreLocked: If another process holds it.
            StoreFault: If the lock file cannot be opened.

        """
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreFault(f"cannot open {self._path}: {error.strerror}") from error
        for attempt in range(LOOKS, -1, -1):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt:
                    time.sleep(0.02)
                    continue
                os.close(file)
                holder = announced(self._path)[0]
                who = f" (process {holder})" if holder else ""
                raise StoreLocked(f"another process{who} holds the store: {self._path}") from None
            except OSError as error:
                os.close(file)
                raise StoreFault(f"cannot lock {self._path}: {error.strerror}") from error
        self._file = file
        self._write(None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            os.ftruncate(self._file, 0)
        except OSError:
            pass  # a full disk: what stands there names a process that is gone, and nobody holds the lock
        finally:
            os.close(self._file)

    def announce(self, admin_url: str) -> None:
        """Say where the admin routes are; a disk that takes nothing now keeps it a secret."""
        self._write(admin_url)

    def _write(self, admin_url: str | None) -> None:
        text = json.dumps({"pid": os.getpid(), "admin": admin_url}).encode() + b"\n"
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, text, 0)
        except OSError:
            pass  # only the finding of the admin port hangs on it, and that can be told by environment


def announced(path: Path) -> tuple[int | None, str | None]:
    """Read a lock file: the holder's process id and admin URL, each None where it is not said."""
    try:
        said = json.loads(path.read_bytes() or b"{}")
    except (OSError, ValueError):
        return None, None
    if not isinstance(said, dict):
        return None, None
    pid, admin = said.get("pid"), said.get("admin")
    return pid if isinstance(pid, int) else None, admin if isinstance(admin, str) else None


def held(store: Path) -> bool:
    """Whether a process holds the store now. Nothing is created."""
    try:
        file = os.open(lock_path(store), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
