"""Measure a trained model on the digits that training never saw.

Reads TAXIWAY_MODEL_DIR and `test/<label>/*.png` in TAXIWAY_DATA_DIR; writes into TAXIWAY_OUTPUT_DIR `metrics.json`
(`accuracy`, `accuracy_class_0` … `accuracy_class_9`, `images` and `latency_p99_ms`) and `predictions.csv`, a row for
each image, from which the gate compares versions, classes and slices, with intervals.
"""

import csv
import json
import os
import time
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

# Ink is a slice that is no label: thin strokes are harder to read.
THIN = 0.09
TIMED = 500


def main() -> None:
    """Evaluate the model of TAXIWAY_MODEL_DIR and write its metrics and its predictions."""
    output = Path(os.environ["TAXIWAY_OUTPUT_DIR"])
    names, pixels, labels = read_digits(Path(os.environ["TAXIWAY_DATA_DIR"]) / "test")
    network = load(Path(os.environ["TAXIWAY_MODEL_DIR"]) / "model.onnx")
    probabilities = predict(network, pixels)
    metrics = score(probabilities.argmax(axis=1), labels) | {"latency_p99_ms": p99_ms(network, pixels)}
    text = json.dumps(metrics, indent=2) + "\n"
    (output / "metrics.json").write_text(text)
    write_predictions(output / "predictions.csv", names, pixels, labels, probabilities)
    print(text, end="")


def read_digits(folder: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the images' names, pixels as float32 (images, 784) in 0..1 and labels as int64 (images,)."""
    paths = sorted(folder.glob("*/*.png"))
    if not paths:
        raise SystemExit(
            f"no images in {folder}; expected test/<label>/<number>.png, as transform.py writes them"
        )
    pixels = np.stack([np.asarray(Image.open(path), dtype=np.float32).ravel() for path in paths]) / 255
    return [path.stem for path in paths], pixels, np.array([int(path.parent.name) for path in paths])


def load(model: Path) -> onnxruntime.InferenceSession:
    """Return the network in ONNX Runtime, which also serves it, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def predict(network: onnxruntime.InferenceSession, pixels: np.ndarray) -> np.ndarray:
    """Return the probability of each label for each image, float32 (images, 10)."""
    return network.run(["probabilities"], {network.get_inputs()[0].name: pixels})[0]


def p99_ms(network: onnxruntime.InferenceSession, pixels: np.ndarray) -> float:
    """Return the 99th percentile of the time that one image takes, milliseconds: the model alone, no service."""
    seconds = []
    for row in pixels[:TIMED]:
        began = time.perf_counter()
        predict(network, row[None])
        seconds.append(time.perf_counter() - began)
    return float(np.quantile(seconds, 0.99) * 1000)


def score(predicted: np.ndarray, labels: np.ndarray) -> dict:
    """Return accuracy over all images and over each label's own."""
    correct = predicted == labels
    per_class = {
        f"accuracy_class_{label}": float(correct[labels == label].mean()) for label in np.unique(labels)
    }
    return {"accuracy": float(correct.mean()), **per_class, "images": len(labels)}


def write_predictions(
    path: Path, names: list[str], pixels: np.ndarray, labels: np.ndarray, probabilities: np.ndarray
) -> None:
    """Write a row for each image: its name, its label, the answer, how sure it is, and how much ink there is."""
    ink = np.where(pixels.mean(axis=1) < THIN, "thin", "bold")
    answers, scores = probabilities.argmax(axis=1), probabilities.max(axis=1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "prediction", "score", "ink"])
        writer.writerows(
            zip(names, labels, answers, [f"{min(score, 1.0):.6f}" for score in scores], ink, strict=True)
        )


if __name__ == "__main__":
    main()
