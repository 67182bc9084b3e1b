"""Train a small neural network on digit images and export it to ONNX.

Reads `train/<label>/*.png` in TAXIWAY_DATA_DIR; leaves `model/model.onnx`, `model/model.json` and `metrics.json` in
TAXIWAY_OUTPUT_DIR. The same data, parameters and seed give the same model, byte for byte.
"""

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image
from skl2onnx import to_onnx
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

# Modest on purpose: quick to train and good enough to serve; tuning finds better ones.
DEFAULTS = {"hidden": 16, "learning_rate": 0.001, "epochs": 3}
VALIDATION_SHARE = 0.2


def main() -> None:
    """Train with TAXIWAY_PARAMS over the defaults and TAXIWAY_SEED, and write the model and its metrics."""
    output = Path(os.environ["TAXIWAY_OUTPUT_DIR"])
    params = read_params(json.loads(os.environ.get("TAXIWAY_PARAMS", "{}")))
    pixels, labels = read_digits(Path(os.environ["TAXIWAY_DATA_DIR"]) / "train")
    # Split the same way whatever the seed, so that runs are compared on the same images.
    train_x, val_x, train_y, val_y = train_test_split(
        pixels, labels, test_size=VALIDATION_SHARE, stratify=labels, random_state=0
    )
    seed = int(os.environ.get("TAXIWAY_SEED", "0"))
    model, history = fit(params, seed, (train_x, train_y), (val_x, val_y))
    write_model(output / "model", model, params, history)
    metrics = {**history[-1], "train_images": len(train_y), "val_images": len(val_y)}
    (output / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")


def read_params(given: dict) -> dict:
    """Return the parameters to train with; a misspelt one is refused rather than ignored."""
    unknown = sorted(set(given) - set(DEFAULTS))
    if unknown:
        raise SystemExit(f"unknown parameters {unknown}; known are {sorted(DEFAULTS)}")
    return {name: type(default)(given.get(name, default)) for name, default in DEFAULTS.items()}


def read_digits(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels as float32 (images, 784) in 0..1 and labels as int64 (images,)."""
    paths = sorted(folder.glob("*/*.png"), key=lambda path: path.name)
    if not paths:
        raise SystemExit(
            f"no images in {folder}; expected train/<label>/<number>.png, as transform.py writes them"
        )
    pixels = np.stack([np.asarray(Image.open(path), dtype=np.float32).ravel() for path in paths]) / 255
    return pixels, np.array([int(path.parent.name) for path in paths])


def fit(params: dict, seed: int, train: tuple, validation: tuple) -> tuple[MLPClassifier, list[dict]]:
    """Return the trained network and its metrics after each epoch."""
    model = MLPClassifier(
        hidden_layer_sizes=(params["hidden"],),
        learning_rate_init=params["learning_rate"],
        batch_size=64,
        random_state=np.random.RandomState(seed),
    )
    history = []
    for epoch in range(params["epochs"]):
        model.partial_fit(*train, classes=np.arange(10))
        history.append(measure(model, *validation) | {"train_loss": float(model.loss_)})
        print(f"epoch {epoch + 1}: val_accuracy {history[-1]['val_accuracy']:.4f}", flush=True)
    return model, history


def measure(model: MLPClassifier, pixels: np.ndarray, labels: np.ndarray) -> dict:
    """Return accuracy and cross-entropy on images that the network was not trained on."""
    probabilities = model.predict_proba(pixels)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return {
        "val_accuracy": accuracy,
        "val_loss": float(log_loss(labels, probabilities, labels=np.arange(10))),
    }


def write_model(folder: Path, model: MLPClassifier, params: dict, history: list[dict]) -> None:
    """Write the network as ONNX, and beside it what one needs to know to use or to judge it."""
    folder.mkdir(parents=True, exist_ok=True)
    example = np.zeros((1, model.n_features_in_), dtype=np.float32)
    network = to_onnx(model, example, options={"zipmap": False})
    # The exporter keeps these in a set of texts, whose order changes from process to process.
    network.opset_import.sort(key=lambda each: each.domain)
    (folder / "model.onnx").write_bytes(network.SerializeToString())
    about = {"input": "float32 (n, 784), grey levels / 255", "params": params, "history": history}
    (folder / "model.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
