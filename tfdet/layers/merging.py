"""From a network as it is trained to its merged form for inference."""

import keras


def copy_merged(source: keras.layers.Layer, merged: keras.layers.Layer) -> None:
    """Gives `merged`, built as the merged form of `source`, the weights that make them equal.

    Layers correspond by their names. One with a method `merged_weights`, and a field `merged` that
    says whether it is merged already, tells the weights of its merged form; those of other layers
    are copied. Layers that the merged form lacks are left out.
    """
    if hasattr(source, "merged_weights") and not source.merged:
        merged.set_weights(source.merged_weights())
        return
    parts = {part.name: part for part in _parts(source)}
    for part in _parts(merged):
        copy_merged(parts[part.name], part)
    for variable, own in zip(_variables(source), _variables(merged), strict=True):
        own.assign(variable)


def _parts(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    return [*layer._trainable_variables, *layer._non_trainable_variables]
