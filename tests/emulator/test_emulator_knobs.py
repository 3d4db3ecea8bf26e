"""The knobs as values: read from JSON and TOML, refused where they cannot be, laid over one session."""

from pathlib import Path
from typing import Any

import pytest

from gateway.emulator.faults import (
    SERVICE_KNOBS,
    SESSION_KNOBS,
    Cut,
    Failure,
    Faults,
    as_mapping,
    from_file,
    from_mapping,
)
from gateway.errors import ConfigurationFault


def test_knobs_of_one_session() -> None:
    """What stands under `at` holds for that session only, over what holds for all."""
    faults = Faults(
        speed=None,
        at={0: Cut(second=3.2, how="fin"), 1: Failure(code=3005, text="x", second=1), 2: {"never_begin": True}},
    )
    assert faults.of(0).cut == Cut(second=3.2, how="fin")
    assert faults.of(1).failure == Failure(code=3005, text="x", second=1)
    assert (faults.of(2).never_begin, faults.of(2).speed) == (True, None)
    assert faults.of(3) == faults


def test_knobs_go_through_json() -> None:
    """What is shown can be set."""
    faults = Faults(malformed=("binary",), at={4: Cut(second=1)})
    assert from_mapping(as_mapping(faults)) == faults
    assert from_mapping({"at": {"0": {"cut": {"second": 2}}}}).of(0).cut == Cut(second=2)


@pytest.mark.parametrize(
    "knobs",
    [
        {"sparkle": 1},
        {"speed": "fast"},
        {"cut": {"second": 1, "how": "gently"}},
        {"malformed": ["thoroughly"]},
        {"at": {"first": {}}},
        {"at": {"0": {"sessions_per_minute": 1}}},
        {"at": {"0": {"sparkle": 1}}},
        {"at": {"0": 3}},
        {"at": 3},
        [1],
    ],
)
def test_what_is_no_knob(knobs: Any) -> None:
    """Unknown names and wrong values are configuration faults."""
    with pytest.raises(ConfigurationFault, match="faults: "):
        from_mapping(knobs)


def test_a_value_that_cannot_be_is_refused_in_process() -> None:
    """`at` is checked where it is written."""
    with pytest.raises(TypeError, match="session 0"):
        Faults(at={0: 3})
    with pytest.raises(ValueError, match="at"):
        Faults(at={0: {"at": {}}})


def test_knobs_from_files(tmp_path: Path) -> None:
    """TOML and JSON; what cannot be read is a configuration fault that names the file."""
    toml, json, other = tmp_path / "faults.toml", tmp_path / "faults.json", tmp_path / "list.json"
    toml.write_text('begin_delay_seconds = 1.2\nat.0.cut = {second = 3.2, how = "rst"}\n')
    json.write_text('{"begin_delay_seconds": 1.2, "at": {"0": {"second": 3.2}}}')
    other.write_text("[]")
    assert from_file(toml).of(0) == from_file(json).of(0).but(at=from_file(toml).of(0).at)
    for path in (other, tmp_path / "missing.json", toml.rename(tmp_path / "toml.json")):
        with pytest.raises(ConfigurationFault):
            from_file(path)


def test_each_knob_belongs_to_the_service_or_to_a_session() -> None:
    """No name is misspelt in either list."""
    assert set(Faults.__struct_fields__) >= SERVICE_KNOBS
    assert set(Faults.__struct_fields__) == SERVICE_KNOBS | SESSION_KNOBS
