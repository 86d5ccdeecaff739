"""From a network as it is trained to its merged form for inference."""

import keras


def copy_merged(source: keras.layers.Layer, merged: keras.layers.Layer) -> None:
    """Gives `merged`, built as the merged form of `source`, the weights that make them equal.

    Layers correspond by their names. One with a method `merged_weights`, and a field `merged` that
    says whether it is merged already, has the weights of its merged form; those of other layers
    are copied. Layers that the merged form lacks are left out.
    """
    if hasattr(source, "merged_weights") and not source.merged:
        merged.set_weights(source.merged_weights())
        return
    parts = _parts(source)
    for key, part in _parts(merged).items():
        copy_merged(parts[key], part)
    for variable, own in zip(_variables(source), _variables(merged), strict=True):
        own.assign(variable)


def _parts(layer: keras.layers.Layer) -> dict[tuple[str, int], keras.layers.Layer]:
    """The layers that a layer is made of, by name and by how many of that name come before."""
    parts: dict[tuple[str, int], keras.layers.Layer] = {}
    for part in layer._flatten_layers(include_self=False, recursive=False):
        before = sum(part.name == name for name, _ in parts)
        parts[part.name, before] = part
    return parts


def _variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    return [*layer._trainable_variables, *layer._non_trainable_variables]
