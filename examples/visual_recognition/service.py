"""Recognise handwritten digits over HTTP: a plain BentoML service that knows nothing of Taxiway but two variables.

`POST /predict` takes an image (the `image` field of a form, or the bare bytes) or a JSON tensor `{"pixels": [[...]]}`.
What it cannot use it refuses with 400 and a reason, never with 500.
"""

import asyncio
import gc
import os
from pathlib import Path
from typing import Annotated, Any, Self

import bentoml
import numpy as np
import onnxruntime
from pixels import SIDE, from_image, to_network
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

MAX_BODY_BYTES = 1_000_000
GreyLevel = Annotated[float, Field(ge=0, le=255, allow_inf_nan=False, strict=True)]
Row = Annotated[list[GreyLevel], Field(min_length=SIDE, max_length=SIDE)]


class Digit(bentoml.IODescriptor):
    """One request: 28 rows of 28 grey levels, 0 (paper) to 255 (ink)."""

    model_config = ConfigDict(extra="forbid")
    pixels: Annotated[list[Row], Field(min_length=SIDE, max_length=SIDE)]

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Self:  # noqa: ARG003
        """Read a form, an image or JSON. BentoML's own file fields answer 500 to a broken form, and fetch URLs."""
        request = Request(request.scope, bounded(request.receive))
        kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
        try:
            if kind == "multipart/form-data":
                return cls.from_levels(from_image(await uploaded(request)))
            if kind.startswith("image/"):
                return cls.from_levels(from_image(await request.body()))
            return cls.model_validate_json(await request.body())
        except ValidationError:
            raise
        except (ValueError, HTTPException) as exc:
            raise refusal(str(getattr(exc, "detail", exc))) from exc

    @classmethod
    def from_levels(cls, levels: np.ndarray) -> Self:
        """Return the request that a decoded image stands for; its levels need no second check."""
        return cls.model_construct(pixels=levels)


class Prediction(BaseModel):
    """One answer: the likeliest label, and how likely each label is."""

    label: int
    probabilities: list[float]


def bounded(receive: Receive) -> Receive:
    """Return `receive` with a limit on the body, so that no client fills the memory."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY_BYTES:
            raise ValueError(f"body is too large; send at most {MAX_BODY_BYTES:,} bytes")
        return message

    return counted


async def uploaded(request: Request) -> bytes:
    """Return the file in the form's one field, `image`."""
    async with request.form(max_files=1, max_fields=1) as form:
        file = form.get("image")
        if list(form) != ["image"] or isinstance(file, str):
            raise ValueError(f"send one file in the field 'image'; got the fields {sorted(form)}")
        return await file.read()


def refusal(reason: str) -> ValidationError:
    """Return the error that BentoML answers with 400, in the form of every other fault of a request."""
    fault = PydanticCustomError("unusable_body", "{reason}", {"reason": reason})
    return ValidationError.from_exception_data("Digit", [{"type": fault, "loc": ("body",), "input": None}])


@bentoml.service(
    name="visual_recognition",
    traffic={"timeout": 10, "max_concurrency": 256},
    envs=[{"name": "TAXIWAY_MODEL_DIR"}, {"name": "TAXIWAY_MODEL_VERSION"}],
)
class VisualRecognition:
    """Answer which digit an image shows."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.network = onnxruntime.InferenceSession(
            Path(os.environ["TAXIWAY_MODEL_DIR"]) / "model.onnx", options, providers=["CPUExecutionProvider"]
        )
        self.input = self.network.get_inputs()[0].name
        # Few inferences in each turn of the event loop: in between, arrivals are counted, and refused when too many.
        self.turn = asyncio.Semaphore(8)
        # A collection over all that is imported by now would stop the service for 50 ms, again and again.
        gc.freeze()
        print(f"serving version {os.environ['TAXIWAY_MODEL_VERSION']}")

    @bentoml.api
    async def predict(self, digit: Digit, /) -> Prediction:
        """Return the digit's label and the probability of each label."""
        levels = to_network(np.asarray(digit.pixels, dtype=np.float32))
        async with self.turn:
            await asyncio.sleep(0)
            probabilities = self.network.run(["probabilities"], {self.input: levels})[0][0]
        return Prediction(label=int(probabilities.argmax()), probabilities=probabilities.tolist())
