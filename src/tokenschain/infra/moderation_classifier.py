"""The local classifier's weights, read from the package when the first policy asks for it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from tokenschain.core.moderation.normalization import Normalizer

if TYPE_CHECKING:
    from tokenschain.core.moderation.classifier import ClassifierWeights, TextClassifier

WEIGHTS = "moderation_classifier.npz"


def load_classifier(normalizer: Normalizer) -> TextClassifier:
    """The classifier that comes with the platform; takes some 0.2 s."""
    from tokenschain.core.moderation.classifier import TextClassifier  # noqa: PLC0415 - numpy: 0.2 s

    with (files("tokenschain") / "data" / WEIGHTS).open("rb") as file:
        return TextClassifier(normalizer, read_weights(Path(file.name)))


def read_weights(path: Path) -> ClassifierWeights:
    """Weights as `bench.moderation_classifier` writes them."""
    import numpy as np  # noqa: PLC0415 - see above

    from tokenschain.core.moderation.classifier import ClassifierWeights  # noqa: PLC0415

    with np.load(path, allow_pickle=False) as kept:
        return ClassifierWeights(
            kept["table"], float(kept["scale"]), float(kept["bias"]),
            kept["topics"], float(kept["topic_scale"]),
        )  # fmt: skip
