"""Measure a trained model on the digits that training never saw.

Reads TAXIWAY_MODEL_DIR and `test/<label>/*.png` in TAXIWAY_DATA_DIR; writes `metrics.json` into TAXIWAY_OUTPUT_DIR:
`accuracy`, `accuracy_class_0` … `accuracy_class_9` and `images`.
"""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def main() -> None:
    """Evaluate the model of TAXIWAY_MODEL_DIR and write its metrics."""
    pixels, labels = read_digits(Path(os.environ["TAXIWAY_DATA_DIR"]) / "test")
    predicted = predict(Path(os.environ["TAXIWAY_MODEL_DIR"]) / "model.onnx", pixels)
    metrics = score(predicted, labels)
    text = json.dumps(metrics, indent=2) + "\n"
    (Path(os.environ["TAXIWAY_OUTPUT_DIR"]) / "metrics.json").write_text(text)
    print(text, end="")


def read_digits(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels as float32 (images, 784) in 0..1 and labels as int64 (images,)."""
    paths = sorted(folder.glob("*/*.png"))
    if not paths:
        raise SystemExit(
            f"no images in {folder}; expected test/<label>/<number>.png, as transform.py writes them"
        )
    pixels = np.stack([np.asarray(Image.open(path), dtype=np.float32).ravel() for path in paths]) / 255
    return pixels, np.array([int(path.parent.name) for path in paths])


def predict(model: Path, pixels: np.ndarray) -> np.ndarray:
    """Return the label that ONNX Runtime, which also serves the model, gives each image."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {session.get_inputs()[0].name: pixels})[0].argmax(axis=1)


def score(predicted: np.ndarray, labels: np.ndarray) -> dict:
    """Return accuracy over all images and over each label's own."""
    correct = predicted == labels
    per_class = {
        f"accuracy_class_{label}": float(correct[labels == label].mean()) for label in np.unique(labels)
    }
    return {"accuracy": float(correct.mean()), **per_class, "images": len(labels)}


if __name__ == "__main__":
    main()
