"""What the routes of a CADDet cost during `fit`, as one metric with several numbers."""

from typing import Any

import keras
from keras import ops

from tfdet.losses import replicas
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class RouteStatistics(keras.metrics.Metric):
    """Costs of the images of an epoch, over all replicas.

    `result` has "hard_cost", "hard_cost_min", "hard_cost_max" and "hard_cost_std", in 10^9
    multiply-adds of backbone and neck; "soft_cost" and "budget", means, in parts of the whole that
    budgets are parts of; and "dead_gates", the part of all gates that was open for no image.

    Args:
        gates: how many gates there are.
    """

    def __init__(self, gates: int, name: str = "routes", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.gates = gates
        # Every replica sees the images of all: a minimum is no sum over replicas.
        self._count, self._mean, self._squares, self._soft, self._budget = (
            self._variable(n) for n in ("count", "mean", "squares", "soft", "budget")
        )
        self._least = self._variable("least", initial=float("inf"))
        self._most = self._variable("most", initial=-float("inf"))
        self._opened = self._variable("opened", (gates,))

    def _variable(self, name: str, shape: tuple[int, ...] = (), initial: float = 0.0) -> Any:
        return self.add_variable(
            shape,
            keras.initializers.Constant(initial),
            aggregation="only_first_replica",
            name=name,
        )

    def update_state(
        self, hard: Tensor, soft: Any, budget: Tensor, gates: Tensor, sample_weight: Tensor = None
    ) -> None:
        """Adds images.

        Args:
            hard, soft, budget: [B].
            gates: bool [B, gates], which are open.
            sample_weight: not used.
        """
        hard, soft, budget, gates = (
            replicas.gather_over_replicas(ops.stop_gradient(ops.cast(x, "float32")))[0]
            for x in (hard, soft, budget, gates)
        )
        new = ops.cast(ops.shape(hard)[0], "float32")
        count = self._count + new
        # Means and squared deviations of two parts together: sums of squares of large numbers
        # would leave nothing of a small deviation in float32.
        mean = ops.mean(hard)
        shift = mean - self._mean
        self._squares.assign_add(
            ops.sum(ops.square(hard - mean)) + ops.square(shift) * self._count * new / count
        )
        self._mean.assign_add(shift * new / count)
        for variable, values in ((self._soft, soft), (self._budget, budget)):
            variable.assign_add((ops.mean(values) - variable) * new / count)
        self._least.assign(ops.minimum(self._least, ops.min(hard)))
        self._most.assign(ops.maximum(self._most, ops.max(hard)))
        self._opened.assign(ops.maximum(self._opened, ops.max(gates, axis=0)))
        self._count.assign(count)

    def result(self) -> dict[str, Any]:
        variance = self._squares / ops.maximum(self._count, 1.0)
        return {
            "hard_cost": ops.convert_to_tensor(self._mean),
            "hard_cost_min": ops.convert_to_tensor(self._least),
            "hard_cost_max": ops.convert_to_tensor(self._most),
            "hard_cost_std": ops.sqrt(variance),
            "soft_cost": ops.convert_to_tensor(self._soft),
            "budget": ops.convert_to_tensor(self._budget),
            "dead_gates": 1.0 - ops.mean(ops.convert_to_tensor(self._opened)),
        }

    def reset_state(self) -> None:
        for variable in self.variables:
            variable.assign(ops.zeros(variable.shape))
        self._least.assign(float("inf"))
        self._most.assign(-float("inf"))

    def get_config(self) -> dict[str, Any]:
        return {"gates": self.gates, "name": self.name}
