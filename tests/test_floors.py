"""The house stands: imports go down only, and nothing inside it knows the emulator or the simulator."""

import ast
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "gateway"

FLOORS: dict[str, int] = {
    "call": 0, "delivery": 0, "errors": 0, "events": 0, "config": 0,
    "media": 1, "timeline": 1, "audio": 1, "placement": 1, "quiet": 1, "transcript": 1, "rehearing": 1, "resume": 1, "cost": 0,
    "speech.protocol": 1, "speech.losses": 1, "speech.pacing": 1, "speech.liveness": 1, "speech.parameters": 1,
    "webhooks.signing": 1, "webhooks.retry": 1, "webhooks.breaker": 1,
    "buffer": 2, "speech": 2, "outbox": 2, "webhooks": 2, "metrics": 2, "log": 2, "systemd": 2, "looplag": 2, "tasks": 2,
    "stream": 3, "leg": 3, "ear": 3, "span": 3, "feed": 3, "livecall": 3, "calls": 3, "webhooks.worker": 3, "webhooks.desk": 3,
    "http": 4, "cli": 4,
    "app": 5, "__main__": 5, "__init__": 0,
    "emulator": 6, "simulator": 6,
}  # fmt: skip
"""The longest name that fits counts. The commands may reach the roof and what stands beside the house."""


def name_of(path: Path) -> str:
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def floor(module: str) -> int:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (found := FLOORS.get(".".join(parts[:length]))) is not None:
            return found
    raise AssertionError(f"{module} stands on no floor: the map in gateway/__init__.py and this test want to know it")


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "gateway":
            base = node.module.removeprefix("gateway").removeprefix(".")
            for alias in node.names:
                deeper = f"{base}.{alias.name}".removeprefix(".")
                is_module = (HOUSE / Path(*deeper.split("."))).is_dir() or (
                    HOUSE / Path(*deeper.split("."))
                ).with_suffix(".py").exists()
                found.append(deeper if is_module else base)
        elif isinstance(node, ast.Import):
            found += [alias.name.removeprefix("gateway.") for alias in node.names if alias.name.startswith("gateway.")]
    return [name for name in found if name]


@pytest.mark.parametrize("path", sorted(HOUSE.rglob("*.py")), ids=name_of)
def test_imports_go_down(path: Path) -> None:
    """No module imports one of a higher floor; commands may import anything."""
    module = name_of(path)
    if module.startswith(("cli", "simulator", "emulator", "__main__")):
        return
    here = floor(module)
    above = [name for name in imports(path) if floor(name) > here]
    assert above == []


def test_the_map_names_every_room() -> None:
    """What stands in the house stands on its map."""
    text = (HOUSE / "__init__.py").read_text(encoding="utf-8")
    rooms = {path.stem for path in HOUSE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert [room for room in sorted(rooms - {"__init__", "__main__"}) if room not in text] == []
