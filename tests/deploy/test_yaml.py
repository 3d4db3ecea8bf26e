"""Every YAML file of the deployment, linted."""

from pathlib import Path

import pytest
import yaml
from yamllint import linter  # type: ignore[import-untyped]  # ships no types
from yamllint.config import YamlLintConfig  # type: ignore[import-untyped]  # ships no types

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path
    for folder in ("deploy", "grafana")
    for suffix in ("*.yml", "*.yaml")
    for path in (ROOT / folder).rglob(suffix)
    if "templates" not in path.parts  # those are text until they are rendered
)
CONFIG = YamlLintConfig(
    yaml.safe_dump(
        {
            "extends": "default",
            "rules": {
                "line-length": "disable",  # expressions and sentences are read, not wrapped
                "document-start": "disable",
                "truthy": {"check-keys": False},
                "braces": {"max-spaces-inside": 0},
                "comments": {"min-spaces-from-content": 2},
            },
        }
    )
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_yaml_is_clean(path: Path) -> None:
    """Yamllint finds nothing: no duplicate key, no crooked indentation."""
    assert [str(problem) for problem in linter.run(path.read_text(encoding="utf-8"), CONFIG)] == []
