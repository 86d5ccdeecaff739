"""Recipes and keys of recipes: damaged, odd, hostile, or just not as expected."""

import pathlib

from tests.faults.case import Case

TINY = (
    "--hparams=model.name=efficientdet-test,model.image_size=[64,64],train.batch_size=2,"
    "train.num_epochs=1,train.warmup_epochs=0,eval.pictures=0"
)
BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(9))}}}\n" for i in range(1, 12)
)


def recipe(text: str):
    """`tfdet-train` with a recipe of this text."""

    def make(folder: pathlib.Path) -> list[str]:
        (folder / "r.yaml").write_text(text)
        return ["tfdet-train", TINY, "--hparams=r.yaml", "--data=shapes:train:4", "--model_dir=m"]

    return make


def train(*flags: str):
    """`tfdet-train` of a tiny model with more flags."""
    data = [] if any(flag.startswith("--data") for flag in flags) else ["--data=shapes:train:4"]
    return lambda folder: ["tfdet-train", TINY, *data, "--model_dir=m", *flags]


CASES = [
    Case(
        "B17 an alias within itself",
        recipe("model: &a {name: efficientdet-test, x: *a}\n"),
        says=r"recipe r.yaml is not YAML in line 1: \*a stands within what it repeats",
        leaves=(),
    ),
    Case("B17 two thousand open brackets", recipe("[" * 2000), says="r.yaml .* nested too deep"),
    Case("B17 two thousand keys in keys", recipe("{a: " * 2000), says="nested too deep"),
    Case(
        "B17 a number of 5000 digits",
        recipe(f"train: {{seed: {'9' * 5000}}}\n"),
        says="r.yaml is not YAML in line 1: a number of 5000 digits is too long",
    ),
    Case("B17 aliases of aliases", recipe(BOMB), says="has more than 100000 values"),
    Case(
        "B17 an expression in train.frozen that never ends",
        train("--hparams=train.frozen='(([a-z_/0-9]+)+)+#'"),
        says="train.frozen: comparing .* takes more than 2 s; write it without a repeat within",
        leaves=(),
    ),
    Case(
        "B17 an expression in train.rates that never ends",
        train("--hparams=train.rates=[['(([a-z_/0-9]+)+)+#', 2]]"),
        says="train.rates: comparing .* takes more than 2 s",
        leaves=(),
    ),
    Case(
        "B17 a key of 5000 dots",
        train(f"--hparams={'a.' * 5000}b=1"),
        says="the key 'a.a.a.* has too many dots",
    ),
    Case(
        "B18 images of 100000 pixels a side",
        train("--hparams=model.image_size=[100000,100000]"),
        says=r"image_size must be at most \d+ pixels, such as 8192x8192, got 100000x100000",
    ),
    Case(
        "B18 images of 100000 pixels a side to pretrain with",
        lambda folder: [
            "tfdet-pretrain",
            "--hparams=data.image_size=[100000,100000]",
            "--data=x",
            "--model_dir=m",
        ],
        says=r"data.image_size must be 1 to \d+ pixels, got 100000x100000",
    ),
    Case(
        "B18 a million boxes",
        train("--hparams=data.max_boxes=1000000"),
        says="data.max_boxes must be at most 10000, got 1000000",
    ),
    Case(
        "B18 a million pictures of shapes",
        lambda folder: ["tfdet-data", "check", "--data=shapes:train:99999999"],
        says="expected 1 to 100000 images, got shapes:train:99999999",
    ),
    Case(
        "B18 a million pictures of shapes to write",
        lambda folder: ["tfdet-data", "make", "shapes", "--count=99999999", "--output=x"],
        says="expected 1 to 100000 images",
        leaves=(),
    ),
    Case(
        "B18 a million channels",
        train("--hparams=model.fpn_width=10000000"),
        says="fpn_width must be at most 1048576, got 10000000",
    ),
    Case(
        "B18 a whole number without end",
        train(f"--hparams=train.save_seconds=1,train.seed={'9' * 90}"),
        says="train.seed must be a whole number of 64 bits",
    ),
    Case(
        "B23 one name for two classes",
        train("--hparams=model.class_names=[circle,circle]"),
        says="class_names has 'circle' twice; give each class its own name",
    ),
    Case(
        "P6 one epoch with the warm-up of the default",
        train("--hparams=train.warmup_epochs=1"),
        says="below train.num_epochs=1, got 1; lower it too: train.warmup_epochs=0 is no warm-up",
    ),
    Case(
        "P7 an unknown key in one of two recipes",
        lambda folder: [*recipe("new_section: {a: 1}\n")(folder), "--hparams=train.seed=1"],
        says="r.yaml: unknown key 'new_section'",
    ),
    Case(
        "P30 a time where a number is expected",
        recipe("train: {num_epochs: 1:30}\n"),
        says="train.num_epochs must be a whole number, got '1:30'",
    ),
]

# Data sets
