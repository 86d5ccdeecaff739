"""Runs an exported model where nothing but TensorFlow is at hand.

`python replay.py INPUTS.npz OUTPUTS.npz MODEL [LIBRARY]`: each array SIGNATURE/BATCH/... of the
inputs is a batch of images, or one encoded image of a batch; outputs are SIGNATURE/BATCH/NAME. An
array GIVEN/NAME/SIGNATURE/BATCH goes to the input NAME of the signature. A library of native ops is
loaded first.
"""

import sys

import numpy as np
import tensorflow as tf


def main(source: str, target: str, model: str, library: str = "") -> None:
    if library:
        tf.load_op_library(library)
    served = tf.saved_model.load(model)
    inputs = np.load(source)
    batches: dict = {}
    given: dict = {}
    for key in inputs.files:
        if key.startswith("GIVEN/"):
            _, argument, name = key.split("/", 2)
            given.setdefault(name, {})[argument] = tf.constant(inputs[key])
            continue
        signature, batch, *item = key.split("/")
        name = f"{signature}/{batch}"
        if item:
            batches.setdefault(name, []).append(inputs[key].tobytes())
        else:
            batches[name] = inputs[key]
    outputs = {}
    for name, batch in batches.items():
        function = served.signatures[name.split("/")[0]]
        others = given.get(name, {})
        (argument,) = function.structured_input_signature[1].keys() - others.keys()
        found = function(**{argument: tf.constant(batch)}, **others)
        outputs.update({f"{name}/{key}": value.numpy() for key, value in found.items()})
    for key, value in served.signatures["metadata"]().items():
        array = np.array(value.numpy())
        if value.dtype == tf.string:  # bytes: text can be stored without pickling
            array = np.array([text.decode("utf-8") for text in np.atleast_1d(array)])
        outputs[f"metadata/{key}"] = array
    if "tfdet" in sys.modules:
        raise RuntimeError("the exported model was to be run without tfdet")
    np.savez(target, **outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
