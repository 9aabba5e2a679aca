"""A registered metric as MLflow serves it: this file is run where `mlflow models serve` runs.

A row has `a` and `b`: two images, each a path that the server sees or the base64 of a file. The answer has `distance`.
With a column `query` too, also `p_closer`, the probability that a person finds b closer to the query than a, and
`distance` is that of a to b all the same.
"""

import base64
import binascii
import io
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from PIL import Image, UnidentifiedImageError

from humansim.errors import BadInput

COLUMNS = ("a", "b")


class Served(PythonModel):
    def load_context(self, context: Any) -> None:
        from humansim.loading import read_folder
        from humansim.machine import place_of

        self.metric = read_folder(Path(context.artifacts["metric"])).to(place_of(None))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        for column in COLUMNS:
            if column not in model_input:
                raise BadInput(f"no column {column!r}: a row has a and b, paths or base64 of image files; maybe query")
        names = [
            column for column in ("query", *COLUMNS) if column in model_input and model_input[column].notna().all()
        ]
        given = {name: [picture(one) for one in model_input[name]] for name in names}
        found = {"distance": self.metric.distance(given["a"], given["b"]).tolist()}
        if "query" in given:
            found["p_closer"] = self.metric.p_closer(given["query"], given["a"], given["b"]).tolist()
        return pd.DataFrame(found)


def picture(given: str) -> str | Image.Image:
    """A path as it is, base64 as the picture that it holds."""
    if len(given) < 4096 and Path(given).is_file():
        return given
    try:
        return Image.open(io.BytesIO(base64.b64decode(given, validate=True)))
    except (binascii.Error, ValueError, UnidentifiedImageError):
        raise BadInput(f"{given[:60]!r} is neither the path of a file here nor the base64 of an image") from None


set_model(Served())
