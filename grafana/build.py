"""`python -m grafana.build`: write the boards' JSON anew, and the chart's copies of boards and rules."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana import calls, process, transcription, webhooks
from grafana.parts import Board

BOARDS: Final = (calls.BOARD, transcription.BOARD, webhooks.BOARD, process.BOARD)
DASHBOARDS: Final = Path(__file__).parent / "dashboards"
_DEPLOY: Final = Path(__file__).parents[1] / "deploy"
CHART_FILES: Final = _DEPLOY / "helm" / "gateway" / "files"
RULES: Final = tuple(_DEPLOY / "prometheus" / name for name in ("rules.yml", "alerts.yml"))


def written(board: Board) -> str:
    """A board's JSON as it is committed: sorted keys, so that a diff shows what changed."""
    tree: dict[str, Any] = json.loads(JSONEncoder().encode(board.build()))
    for annotation in tree["annotations"]["list"]:
        # The SDK's type of an annotation ends at `expr`; these say what the mark reads.
        annotation.update(titleFormat="{{alertname}}", textFormat="{{severity}} {{instance}}", step="60s")
    for control in (*tree["annotations"]["list"], *tree["links"]):
        del control["placement"]  # the SDK's default hides them in a menu; without it they stand above the board
    return json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def files() -> Mapping[str, str]:
    """Every file's name and text."""
    return {f"{board.uid}.json": written(board) for board in BOARDS}


def chart_copies() -> Mapping[str, str]:
    """What Helm needs inside the chart, by its path there: real copies, since links do not survive every way a tree travels."""
    boards = {f"dashboards/{name}": text for name, text in files().items()}
    return boards | {path.name: path.read_text(encoding="utf-8") for path in RULES}


def main() -> None:
    _write(DASHBOARDS, files())
    _write(CHART_FILES, chart_copies())


def _write(folder: Path, wanted: Mapping[str, str]) -> None:
    for path in folder.rglob("*.*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
