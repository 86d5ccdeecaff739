from tests.nas import teacher_cases
from tfdet import config
from tfdet.training import additions


def test_nothing_is_wrapped_without_being_asked_for():
    student = teacher_cases.detector(0)
    assert additions.with_additions(student, config.TrainConfig()) is student


def test_recipes_wrap_the_student_once_in_each_addition():
    settings = config.TrainConfig(elastic=teacher_cases.CONFIG, gamma_l1=1e-5)
    model = teacher_cases.super_network()
    wrapped = additions.with_additions(model, settings, teacher=teacher_cases.super_network(1))
    assert type(wrapped).__name__ == "Elastic" and wrapped.bare() is model
    assert wrapped.image_size == teacher_cases.SIZE
    assert wrapped.loss_names == (
        *model.term_names,
        "distill_feature_loss",
        "distill_class_loss",
        "distill_box_loss",
        "gamma_loss",
        "l2_loss",
    )
