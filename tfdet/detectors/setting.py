"""A number of a model that can be changed without building its graphs again."""

import keras


class Setting:
    """Holds a variable where Keras does not look for weights: neither averaged nor trained."""

    def __init__(self, value: float, name: str):
        self.variable = keras.Variable(
            keras.initializers.Constant(value), shape=(), trainable=False, name=name
        )

    def __float__(self) -> float:
        return float(keras.ops.convert_to_numpy(self.variable))
