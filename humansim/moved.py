"""A root that was moved takes the artifacts of its own MLflow database along; MLflow has no call for it."""

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import quote

HELD_IN = (("runs", "artifact_uri"), ("logged_models", "artifact_location"), ("model_versions", "storage_location"))


def follow(root: Path, uri: str) -> None:
    """Puts the artifacts of all experiments where they lie now; nothing if the store is not the root's own."""
    file = root / "mlflow.db"
    if uri != f"sqlite:///{file}" or not file.is_file():
        return
    with contextlib.closing(sqlite3.connect(file, timeout=60)) as store, store:
        found = store.execute("SELECT experiment_id, name, artifact_location FROM experiments").fetchall()
        for experiment, name, before in found:
            now = (root / "artifacts" / name).as_uri()
            if before == now or not before.endswith(f"/artifacts/{quote(name)}"):
                continue
            store.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (now, experiment))
            for table, column in HELD_IN:
                store.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (now, len(before) + 1, len(before) + 1, f"{before}/"),
                )
