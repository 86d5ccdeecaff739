"""Optimizers whose gradients are summed over replicas, measured and clipped, in this order."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
import tensorflow as tf
from keras import ops

from tfdet import expressions, renames
from tfdet.config import TrainConfig
from tfdet.errors import UserError
from tfdet.losses import replicas
from tfdet.training import schedules
from tfdet.training.accumulation import AccumulatedGradients, Mixin

# How the names of biases end, those of norms too; `NesterovSGD` has a schedule of its own for them.
_BIASES = ("bias", "beta")


class ClippedGradients(Mixin):
    """Clips gradients to a norm, keeps the norm before clipping; each variable has its own rate.

    Keras's own clipping looks at one replica's gradients. Here the sum over replicas is clipped, so
    that two replicas step exactly as one with both batches.

    Args:
        clip_norm: the norm; 0 clips nothing.
        clip: "each_and_global": each gradient, then all of them together; "global": all of them
            together, as PyTorch's `clip_grad_norm_` does.
        rates: rules (regular expression, factor) of a recipe's `train.rates`.
        root: name of the model. Rules see the path of a variable within it: without this name.
    """

    def __init__(
        self,
        *args: Any,
        clip_norm: float = 0.0,
        clip: Literal["each_and_global", "global"] = "each_and_global",
        rates: Sequence[tuple[str, float]] = (),
        root: str = "",
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.clip_norm = clip_norm
        self.clip = clip
        self.rates: list[Any] = [list(rule) for rule in rates]  # as it comes back from JSON
        self.root = root

    def build(self, variables: list[keras.Variable]) -> None:
        if not self.built:
            self.gradient_norm = self.add_variable(
                shape=(),
                dtype="float32",
                aggregation="only_first_replica",
                name="gradient_norm",
            )
            # By position: the copies of other replicas have other names.
            self._factors = self._factors_of(self.paths_of(variables))
        super().build(variables)

    def paths_of(self, variables: list[keras.Variable]) -> list[str]:
        """Paths within the model; whole ones of variables that are not the model's."""
        return [v.path.removeprefix(f"{self.root}/") for v in variables]

    def _factors_of(self, paths: list[str]) -> list[float]:
        factors = [1.0] * len(paths)
        for expression, factor in self.rates:
            for i in matching(expression, paths, "train.rates"):
                factors[i] *= factor
        return factors

    def rate_of(self, variable: tf.Variable, learning_rate: Any) -> Any:
        """The learning rate of one variable."""
        factor = self._factors[self._get_variable_index(variable)]
        return learning_rate if factor == 1.0 else factor * learning_rate

    def _all_reduce_sum_gradients(self, grads_and_vars: list[Any]) -> list[Any]:
        """Keras's sum over replicas, measured and clipped.

        Private in Keras, but there is no other place: before it a replica sees its own gradients
        only, and after it `update_step` has one of them at a time.
        """
        reduced = list(grads_and_vars)
        if replicas.count() > 1:  # Keras would copy the gradients of one
            reduced = super()._all_reduce_sum_gradients(reduced)
        # Those of gathered rows are of another kind.
        gradients = [tf.convert_to_tensor(gradient) for gradient, _ in reduced]
        squares = 2 * tf.stack([tf.cast(tf.nn.l2_loss(g), tf.float32) for g in gradients])
        self.gradient_norm.assign(tf.sqrt(tf.reduce_sum(squares)))
        if self.clip_norm > 0:
            gradients = self._clipped(gradients, squares)
        return [(g, variable) for g, (_, variable) in zip(gradients, reduced, strict=True)]

    def _clipped(self, gradients: list[tf.Tensor], squares: tf.Tensor) -> list[tf.Tensor]:
        """The gradients, each multiplied once; `squares` [N] has the square of each norm."""
        if self.clip == "global":
            norm = tf.sqrt(tf.reduce_sum(squares))
            factor = tf.minimum(1.0, self.clip_norm / (norm + 1e-6))  # PyTorch's epsilon
            factors = [factor] * len(gradients)
        else:
            each = self.clip_norm / tf.maximum(tf.sqrt(squares), self.clip_norm)
            together = tf.sqrt(tf.reduce_sum(squares * each**2))
            factors = tf.unstack(each * self.clip_norm / tf.maximum(together, self.clip_norm))
        return [g * tf.cast(f, g.dtype) for g, f in zip(gradients, factors, strict=True)]

    def get_config(self) -> dict[str, Any]:
        names = ("clip_norm", "clip", "rates", "root")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        # That of a model which was saved with its optimizer may have old keys; they had the same
        # names as in recipes.
        config = renames.current({"train": config})["train"]
        return super().from_config(config, custom_objects)


def matching(expression: str, paths: list[str], key: str) -> list[int]:
    """Positions of the paths in which a regular expression is found; `key` is where it stands."""
    found = expressions.positions(key, expression, paths)
    if not found:
        heads = ", ".join(sorted({path.partition("/")[0] for path in paths}))
        raise UserError(
            f"{key}: {expression!r} matches no variable that is trained; their paths begin with "
            f"{heads}"
        )
    return found


class FusedSteps(AccumulatedGradients, ClippedGradients):
    """Moves each variable by one operation of TensorFlow, with Keras's formulas.

    Keras writes an update in single operations, Adam's in 35 for each variable: half of the graph
    of a training step, and half of the time until its first one.
    """

    def shared(self) -> tuple[tf.Tensor, ...]:
        """What `step` wants that is equal for all variables; evaluated once in an update."""
        return ()

    def step(self, variable: Any, gradient: tf.Tensor, rate: tf.Tensor, *shared: Any) -> None:
        """Moves the copy of a variable on one replica; all tensors have its type."""
        raise NotImplementedError

    def _update(self, distribution: Any, grads_and_vars: list[Any], learning_rate: Any) -> None:
        arguments = (learning_rate, *self.shared())
        for gradient, variable in grads_and_vars:
            update = distribution.extended.update
            update(variable, self._move, args=(gradient, *arguments), group=False)

    def _move(self, variable: Any, *arguments: Any) -> None:
        # Here, on one replica: outside, rate and gradient may be values of several.
        gradient, rate, *shared = (tf.cast(x, variable.dtype) for x in arguments)
        self.step(variable, gradient, self.rate_of(variable, rate), *shared)

    def slot(self, slots: list[keras.Variable], variable: tf.Variable) -> Any:
        """The handle of what an optimizer remembers of a variable."""
        return slots[self._get_variable_index(variable)].value.handle


@keras.saving.register_keras_serializable(package="tfdet")
class SGD(FusedSteps, keras.optimizers.SGD):
    """Keras's SGD with `FusedSteps`."""

    def shared(self) -> tuple[tf.Tensor, ...]:
        return (tf.constant(self.momentum, tf.float32),)

    def step(self, variable: Any, gradient: tf.Tensor, rate: tf.Tensor, *shared: Any) -> None:
        if self.momentum == 0:
            tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate, delta=gradient)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.slot(self.momentums, variable),
            lr=rate,
            grad=gradient,
            momentum=shared[0],
            use_nesterov=self.nesterov,
        )


class _AdamSteps(FusedSteps):
    """The steps of Adam, but for AMSGrad, which is not among TensorFlow's operations."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.amsgrad:
            raise UserError(f"{type(self).__name__} has no amsgrad; set it to False")

    def shared(self) -> tuple[tf.Tensor, ...]:
        # Constants too: each is one of the graph, not one for each variable.
        step = tf.cast(self.iterations + 1, tf.float32)
        betas = [tf.constant(beta) for beta in (self.beta_1, self.beta_2)]
        return (*betas, *(tf.pow(beta, step) for beta in betas), tf.constant(self.epsilon))

    def step(self, variable: Any, gradient: tf.Tensor, rate: tf.Tensor, *shared: Any) -> None:
        beta_1, beta_2, beta_1_power, beta_2_power, epsilon = shared
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self.slot(self._momentums, variable),
            v=self.slot(self._velocities, variable),
            beta1_power=beta_1_power,
            beta2_power=beta_2_power,
            lr=rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=epsilon,
            grad=gradient,
        )


@keras.saving.register_keras_serializable(package="tfdet")
class Adam(_AdamSteps, keras.optimizers.Adam):
    """Keras's Adam with `FusedSteps`."""


class ChosenDecay(Mixin):
    """Decay of chosen variables, which the subclass takes care of in its update.

    Keras's own decay comes after every batch, also after one whose gradients are only added up, and
    with one learning rate for all variables.

    Args:
        decayed: expression for the paths of the variables, as in `rates`.
    """

    def __init__(self, *args: Any, decayed: str = "kernel$", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.decayed = decayed

    def build(self, variables: list[keras.Variable]) -> None:
        # By position: the copies of other replicas have other names.
        self._is_decayed = [False] * len(variables)
        if self.weight_decay:
            for i in matching(self.decayed, self.paths_of(variables), "train.decayed"):
                self._is_decayed[i] = True
        super().build(variables)

    def decay_of(self, variable: tf.Variable) -> float:
        return self.weight_decay if self._is_decayed[self._get_variable_index(variable)] else 0.0

    def _apply_weight_decay(self, variables: list[Any]) -> None:
        """Nothing: the decay is part of each variable's own update."""

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decayed": self.decayed}


@keras.saving.register_keras_serializable(package="tfdet")
class AdamW(ChosenDecay, _AdamSteps, keras.optimizers.AdamW):
    """Keras's AdamW with decay of chosen variables, each at its own learning rate."""

    def step(self, variable: Any, gradient: tf.Tensor, rate: tf.Tensor, *shared: Any) -> None:
        decay = self.decay_of(variable)
        if decay:
            variable.assign_sub(variable * (decay * rate))
        super().step(variable, gradient, rate, *shared)


@keras.saving.register_keras_serializable(package="tfdet")
class NesterovSGD(ChosenDecay, FusedSteps, keras.optimizers.Optimizer):
    """SGD with Nesterov momentum as PyTorch has it, and a schedule of its own for biases.

    The velocity is a sum of gradients, without the learning rate that Keras's form keeps in it; the
    two differ while learning rate or momentum change. Decay is added to the gradient.

    Args:
        learning_rate: a schedule.
        bias_rate: a schedule for biases, those of norms too.
        momentum: a schedule.
        weight_decay: of the variables that `decayed` chooses.
    """

    def __init__(
        self,
        learning_rate: Any,
        bias_rate: Any,
        momentum: Any,
        weight_decay: float = 0.0,
        name: str = "nesterov_sgd",
        **kwargs: Any,
    ):
        super().__init__(learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.bias_rate = bias_rate
        self.momentum = momentum

    def build(self, variables: list[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        self._biases = tuple(v.name.endswith(_BIASES) for v in variables)
        self._velocities = self.add_optimizer_variables(variables, "velocity")

    def shared(self) -> tuple[tf.Tensor, ...]:
        return self.momentum(self._iterations), self.bias_rate(self._iterations)

    def step(self, variable: Any, gradient: tf.Tensor, rate: tf.Tensor, *shared: Any) -> None:
        momentum, bias_rate = shared
        if self._biases[self._get_variable_index(variable)]:
            rate = self.rate_of(variable, bias_rate)
        decay = self.decay_of(variable)
        if decay:
            gradient = gradient + decay * variable
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=self.slot(self._velocities, variable),
            lr=rate,
            grad=gradient,
            momentum=momentum,
            use_nesterov=True,
        )

    def get_config(self) -> dict[str, Any]:
        own = {
            name: keras.saving.serialize_keras_object(getattr(self, name))
            for name in ("bias_rate", "momentum")
        }
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="tfdet")
class LossScaling(keras.optimizers.LossScaleOptimizer):
    """Dynamic loss scaling that skips a step when any replica's gradients are not finite.

    Keras 3.15 asks the first replica only, before the gradients are summed; an overflow on another
    replica would then reach the weights.
    """

    def check_finite(self, grads: list[Any]) -> Any:
        broken = ops.cast(ops.logical_not(super().check_finite(grads)), "float32")
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            broken = context.all_reduce(tf.distribute.ReduceOp.SUM, broken)
        return ops.equal(broken, 0.0)

    @property
    def gradient_norm(self) -> Any:
        return self.inner_optimizer.gradient_norm


def make_optimizer(
    config: TrainConfig, steps_per_epoch: int, root: str = ""
) -> keras.optimizers.Optimizer:
    """The optimizer that a recipe's `train` section asks for.

    Args:
        config: the section.
        steps_per_epoch: length of an epoch.
        root: name of the model; the expressions of `rates` and `decayed` are for paths within it.
    """
    schedule = schedules.make_schedule(config, steps_per_epoch)
    ours: dict[str, Any] = {
        "clip_norm": config.clip_gradients_norm,
        "clip": config.clip,
        "rates": config.rates,
        "root": root,
        "batches": schedules.make_accumulation(config, steps_per_epoch),
    }
    decaying: dict[str, Any] = {"weight_decay": _weight_decay(config), "decayed": config.decayed}
    if config.optimizer == "adam":
        optimizer = Adam(schedule, beta_1=config.momentum, **ours)
    elif config.optimizer == "adamw":
        optimizer = AdamW(schedule, beta_1=config.momentum, epsilon=1e-8, **decaying, **ours)
    elif config.optimizer == "nesterov":
        bias_rate = schedules.make_schedule(config, steps_per_epoch, config.bias_warmup_init)
        momentum = schedules.make_momentum(config, steps_per_epoch)
        optimizer = NesterovSGD(schedule, bias_rate, momentum, **decaying, **ours)
    else:
        optimizer = SGD(schedule, momentum=config.momentum, **ours)
    return LossScaling(optimizer) if config.mixed_precision == "float16" else optimizer


def _weight_decay(config: TrainConfig) -> float:
    """The recipe's decay, in proportion to the images of an update after the warm-up."""
    if not config.accumulate_batch:
        return config.weight_decay
    batches = schedules.batches_per_update(config)
    return config.weight_decay * config.batch_size * batches / config.accumulate_batch
