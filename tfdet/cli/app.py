"""What every command shares: its flags, its help, one-sentence errors and exit codes.

A command is a module of this shape; whatever needs TensorFlow is imported inside `main`, never at
the top, so that `--help` answers at once and start-up chatter can be hushed first:

    COMMAND = app.Command(
        name="tfdet-eval",
        purpose="Measures the average precision of a trained detector.",
        example="tfdet-eval --model_dir=runs/shapes --data=shapes:val",
        required=("data",),
    )
    flags.DEFINE_string("data", None, "Data set to measure on.", flag_values=COMMAND.flags)

    def main(options):
        print(options.data, "model_dir" in options.given)

    def run():
        sys.exit(COMMAND.run(main))

    if __name__ == "__main__":
        run()

A `~` at the beginning of a path is the user's home folder, since shells leave it as it is in
`--flag=~/x`. Whatever is printed is safe for the terminal, see `terminal.AnyText`.

Exit codes: 0 done, 1 a mistake that the user can mend, 2 wrong flags, 130 Ctrl-C, 143 SIGTERM.
"""

import contextlib
import difflib
import logging
import os
import re
import shlex
import signal
import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence

from absl import flags as absl_flags

from tfdet import memory, quiet
from tfdet.cli import terminal
from tfdet.errors import Interrupted, UserError
from tfdet.printable import printable
from tfdet.version import __version__

_HELP_FLAGS = {"-h", "-help", "--help", "--helpshort", "--helpfull"}
_WIDTH = 96
# What absl calls the types of flags, in words for people.
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}


class UsageError(UserError):
    """Flags or arguments that do not make a command; exit code 2."""


class Command:
    """A console command: its own flags, apart from those of every other module.

    Args:
        name: What the user types, for example `tfdet-eval`.
        purpose: One line about what the command does.
        example: One command line (or several lines) that works.
        arguments: How the words without dashes read in the usage line; empty when none are taken.
        required: Names of the flags that must be given.

    `flags` is an `absl.flags.FlagValues`; define flags with `flag_values=command.flags`. Where the
    name of a boolean flag is in `listings`, it prints what the function there returns, in place
    of the work, and needs no other flag.
    """

    def __init__(
        self,
        name: str,
        purpose: str,
        example: str,
        arguments: str = "",
        required: Sequence[str] = (),
    ):
        self.name = name
        self.purpose = purpose
        self.example = example
        self.arguments = arguments
        self.required = tuple(required)
        self.listings: dict[str, Callable[[], str]] = {}
        self.flags = absl_flags.FlagValues()
        self.flags.set_gnu_getopt(True)  # `tfdet-data check --data=...` has a word before its flags

    def run(
        self,
        main: Callable[[types.SimpleNamespace], int | None],
        argv: Sequence[str] | None = None,
    ) -> int:
        """Parses `argv` (default: the process's), calls `main(options)`, returns the exit code.

        `options` holds one attribute per flag, `options.args` (the words without dashes),
        `options.given` (the set of flag names that the user typed) and `options.typed` (the whole
        command line).
        """
        argv = list(sys.argv[1:] if argv is None else argv)
        keep_standard_files()
        with terminal.any_text(), _sigterm_stops():
            try:
                return self._run(main, argv)
            except KeyboardInterrupt as error:
                if not isinstance(error, Interrupted):
                    error = Interrupted("stopped by Ctrl-C", signal.SIGINT)
                return self._complain(str(error), 128 + error.number)
            except BrokenPipeError:  # `tfdet-inspect | head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 141
            except UsageError as error:
                join = " See" if str(error).endswith("?") else "; see"
                return self._complain(f"{error}{join} `{self.name} --help`", 2)
            except UserError as error:
                return self._complain(str(error), 1)
            except OSError as error:
                if error.strerror is None:
                    raise
                where = f": {error.filename}" if error.filename else ""
                return self._complain(f"{error.strerror}{where}", 1)
            except Exception as error:
                if _is_out_of_disk(error):  # TensorFlow's words: FILE; No space left on device
                    return self._complain(str(error).partition("\n")[0], 1)
                if memory.is_exhausted(error):
                    return self._complain(self._too_large(), 1)
                raise

    def _run(self, main: Callable[[types.SimpleNamespace], int | None], argv: list[str]) -> int:
        if _HELP_FLAGS.intersection(argv):
            print(self.help())
            return 0
        if "--version" in argv:
            print(f"{self.name} {__version__}")
            return 0
        options = self.parse(argv)
        for name in self._asked_listings(vars(options)):
            print(self.listings[name]())
            return 0
        memory.keep_freed_memory()
        hush_tensorflow()
        with _warnings_of(self.name):
            code = main(options) or 0
        if sys.stdout is not None:
            sys.stdout.flush()  # a closed pipe shows up here and not at interpreter exit
        return code

    def parse(self, argv: Sequence[str]) -> types.SimpleNamespace:
        """Reads flags and words; raises `UsageError` for whatever is not declared."""
        self.flags.unparse_flags()  # a second run in one process starts from the defaults
        try:
            words = self.flags([self.name, *argv])[1:]
        except absl_flags.UnrecognizedFlagError as error:
            raise UsageError(self._unknown(error.flagname)) from None
        except absl_flags.IllegalFlagValueError as error:
            raise UsageError(self._illegal(str(error))) from None
        except (absl_flags.Error, OSError) as error:
            raise UsageError(" ".join(str(error).replace("ERROR:: ", "").split())) from None
        if words and not self.arguments:
            raise UsageError(f"{words[0]!r} is not understood: flags are written --name=value")
        words = [with_home(word) for word in words]
        values = {name: _with_homes(self.flags[name].value) for name in self._own_flags()}
        given = {name for name in values if self.flags[name].present}
        missing = [f"--{name}" for name in self.required if values[name] in (None, "")]
        if missing and not self._asked_listings(values):
            raise UsageError(f"{' and '.join(missing)} must be given")
        typed = shlex.join([self.name, *argv])
        return types.SimpleNamespace(**values, args=words, given=given, typed=typed)

    def _asked_listings(self, values: Mapping[str, object]) -> list[str]:
        return [name for name in self.listings if values[name]]

    def help(self) -> str:
        """The whole help text: purpose, usage, example, and each flag with its default."""
        usage = " ".join(part for part in (self.name, self.arguments, "[--flag=value ...]") if part)
        example = textwrap.indent(textwrap.dedent(self.example).strip(), "  ")
        lines = [self.purpose, "", f"Usage: {usage}", "", "Example:", example, "", "Flags:"]
        for name in self._own_flags():
            lines.extend(self._flag_help(name))
        return "\n".join(lines)

    def _flag_help(self, name: str) -> list[str]:
        flag = self.flags[name]
        notes = []
        if getattr(flag.parser, "enum_values", None):
            notes.append("one of " + ", ".join(v or '""' for v in flag.parser.enum_values))
        if name in self.required:
            notes.append("required")
        elif flag.default not in (None, "", []):
            default = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
            notes.append(f"default: {str(default).lower() if flag.boolean else default}")
        # absl writes the choices before the text of an enum, and how to repeat a flag behind it.
        text = re.sub(r"^<[^>]*>: |;\s+repeat this option.*$", "", flag.help, flags=re.DOTALL)
        text += f" ({'; '.join(notes)})" if notes else ""
        title = f"  --[no]{name}" if flag.boolean else f"  --{name}"
        indent = " " * 6
        return [
            title,
            *textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent),
        ]

    def _own_flags(self) -> list[str]:
        # In the order of their definitions; absl's own lists group them by module.
        return list(dict.fromkeys(self.flags[name].name for name in self.flags))

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name.removeprefix("no"), self._own_flags(), 1, 0.5)
        hint = f"; did you mean --{near[0]}?" if near else ""
        return f"there is no flag --{name}{hint}"

    def _illegal(self, sentence: str) -> str:
        """absl's `flag --size=big: invalid literal ...` as a sentence about what is expected."""
        found = re.match(r"flag --(\w+)=(.*?): ", sentence, re.DOTALL)
        if not found or found.group(1) not in self.flags:
            return " ".join(sentence.split())
        flag = self.flags[found.group(1)]
        choices = getattr(flag.parser, "enum_values", None) or ["valid"]
        kind = _KINDS.get(flag.flag_type(), "one of " + ", ".join(v or '""' for v in choices))
        return f"--{flag.name} must be {kind}, got {found.group(2)!r}"

    def _complain(self, sentence: str, code: int) -> int:
        print(f"{self.name}: {printable(sentence)}", file=sys.stderr)
        return code

    def _too_large(self) -> str:
        size = "--batch_size" if "batch_size" in self._own_flags() else "train.batch_size"
        return f"out of memory: give a smaller {size}, or a smaller model.image_size"


def _is_out_of_disk(error: BaseException) -> bool:
    # By its name: TensorFlow may not be imported, and then nothing of it can have been raised.
    return type(error).__name__ == "ResourceExhaustedError" and "No space left" in str(error)


def with_home(text: str) -> str:
    """A path or a data set's name with the home folders that `~` and `~user` stand for.

    Shells replace them at the beginning of a word alone, not in `--output=~/x`; a folder named `~`
    in the working directory is never what was meant.
    """
    if text.startswith("~") and not os.path.exists(text):
        expanded = os.path.expanduser(text)
        if expanded.startswith("~"):
            user = re.split(r"[/\\]", text[1:])[0]
            raise UserError(
                f"{text}: there is no user {user!r}; write ./{text} for such a name here"
            )
        text = expanded
    # As in coco:~/a.json:~/images, or in --hparams=data.val=yolo:~/data.yaml:val.
    return re.sub(r"(?<=[:=,])~[\w.-]*(?=/)", lambda found: os.path.expanduser(found[0]), text)


def _with_homes(value: object) -> object:
    if isinstance(value, list):
        return [_with_homes(item) for item in value]
    return with_home(value) if isinstance(value, str) else value


def keep_standard_files() -> None:
    """Opens those of the files 0, 1 and 2 that are closed, as by `2>&-`, on nothing.

    The next file to be opened would take such a number, and have all warnings written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the least number that is free


@contextlib.contextmanager
def _sigterm_stops() -> Iterator[None]:
    """Within the block SIGTERM, as schedulers send it, ends the work as Ctrl-C does.

    A second one ends the process at once.
    """
    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    )
    if not is_ours:
        yield
        return

    def stop(number: int, frame: types.FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Interrupted("stopped by SIGTERM", number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def _warnings_of(name: str) -> Iterator[None]:
    """Within the block warnings look like the command's own sentences on standard error."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print(f"{name}: {record.getMessage()}", file=sys.stderr)

    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    # absl makes a handler that writes to the terminal where it finds none: each warning twice.
    others = [one for one in before if type(one) is not logging.StreamHandler]
    root.handlers[:] = [*others, Handler(logging.WARNING)]
    try:
        yield
    finally:
        root.handlers[:] = before


def hush_tensorflow() -> None:
    """Picks the backend and imports TensorFlow without its start-up chatter.

    A user's own choice of `TF_CPP_MIN_LOG_LEVEL` (0 everything ... 3 almost nothing) is kept, and
    with it whatever TensorFlow writes.
    """
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # ~/.keras/keras.json may name another one
    if level == "3" and "tensorflow" not in sys.modules:
        # The variable has no effect on what TensorFlow >= 2.20 writes while it is loaded and while
        # it first looks for devices. Looking does not set them up: threads can still be chosen.
        with quiet.no_stderr():
            import tensorflow as tf

            tf.config.list_physical_devices()
