"""`tfdet-serve`: exported detectors over HTTP, as TensorFlow Serving serves them."""

import pathlib
import re
import socket
import sys
import types
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from tfdet.cli import app, flags
from tfdet.data.image_names import is_image
from tfdet.errors import UserError

if TYPE_CHECKING:
    from tfdet.serving.server.served_model import ServedModel, ServingOptions

COMMAND = app.Command(
    name="tfdet-serve",
    purpose="Serves exported detectors: TensorFlow Serving's REST API, and a page to try them.",
    example="""
        tfdet-serve --model=cells=served/cells --port=8501
        tfdet-serve --model=cells=served/cells --model=fast=served/dynamic --slo_ms=150
    """,
    required=("model",),
)
absl_flags.DEFINE_multi_string(
    "model",
    [],
    "NAME=DIR, a name for requests and a folder that tfdet-export wrote, or a folder of such "
    "folders named 1, 2, ... of which the highest is served; may be repeated.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_integer(
    "port", 8501, "Port of HTTP; 0 for any that is free.", flag_values=COMMAND.flags
)
absl_flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "Address to listen on; with 0.0.0.0 other machines can send requests too.",
    flag_values=COMMAND.flags,
)
flags.define_batch_size(COMMAND.flags)
absl_flags.DEFINE_float(
    "max_wait_ms",
    5.0,
    "Milliseconds that an image waits for others to share a batch with.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_integer(
    "queue_size",
    None,
    "Images that are accepted at a time, per model; more are answered with 503. By default as many "
    "as 256 MB hold.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_float(
    "max_request_mb", 32.0, "Megabytes that a request may have.", flag_values=COMMAND.flags
)
absl_flags.DEFINE_float(
    "max_image_megapixels",
    25.0,
    "Megapixels that an encoded image may have; larger ones are not decoded.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_float(
    "effort",
    None,
    "Calibrated dynamic detectors: the effort for requests that name none, 0 to 1; by default the "
    "model's own.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_float(
    "slo_ms",
    None,
    "Calibrated dynamic detectors: the server chooses the effort of each batch, 1 when there is "
    "time, with the aim that 95 % of the answers take less than this many milliseconds.",
    flag_values=COMMAND.flags,
)
absl_flags.DEFINE_string(
    "samples",
    None,
    "Folder of images that the page offers; by default pictures of the built-in data set.",
    flag_values=COMMAND.flags,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_MOST_SAMPLES = 12
# Clients that are slower than this at the end are cut off; all that is computed is done by then.
_LAST_SECONDS = 60


def main(options: types.SimpleNamespace) -> int:
    """Serves until a signal."""
    folders = _folders(options.model)
    _check(options)
    _require_packages()
    listening = _bind(options.host, options.port)
    from tfdet.serving.server.application import BodyLimits, make_application
    from tfdet.serving.server.metrics import Metrics
    from tfdet.serving.server.served_model import ServingOptions, describe_metrics

    samples = _samples(options.samples)
    serving = ServingOptions(
        batch_size=options.batch_size,
        max_wait_ms=options.max_wait_ms,
        queue_size=options.queue_size,
        max_image_pixels=int(options.max_image_megapixels * 1e6),
        effort=options.effort,
        slo_ms=options.slo_ms,
    )
    metrics = Metrics()
    describe_metrics(metrics)
    models = [_load(name, folder, serving, samples, metrics) for name, folder in folders.items()]
    _check_effort(options, models)
    limits = BodyLimits(int(options.max_request_mb * 1e6))
    application = make_application(models, metrics, samples, limits)
    try:
        _run(application, listening, options.host)
    except KeyboardInterrupt as signalled:
        print(f"{signalled or 'stopped by Ctrl-C'}; all that was accepted was answered")
    return 0


def _folders(words: list[str]) -> dict[str, str]:
    folders: dict[str, str] = {}
    for word in words:
        name, _, folder = word.partition("=")
        if not _NAME.fullmatch(name) or not folder:
            raise app.UsageError(
                f"--model={word}: give NAME=DIR, with a name of letters, digits, '_', '.' and '-'"
            )
        if name in folders:
            raise app.UsageError(f"--model: there are two models named {name}")
        folders[name] = folder
    return folders


def _check(options: types.SimpleNamespace) -> None:
    flags.check_positive(
        options, "batch_size", "queue_size", "max_request_mb", "max_image_megapixels", "slo_ms"
    )
    if not 0 <= options.port < 1 << 16:
        raise app.UsageError(f"--port must be between 0 and 65535, got {options.port}")
    if options.max_wait_ms < 0:
        raise app.UsageError(f"--max_wait_ms must not be negative, got {options.max_wait_ms}")
    if options.effort is not None and not 0 <= options.effort <= 1:
        raise app.UsageError(f"--effort must be between 0 and 1, got {options.effort}")
    if options.effort is not None and options.slo_ms is not None:
        raise app.UsageError("give --effort or --slo_ms, with which the server chooses the effort")
    if (options.queue_size or 0) < (options.batch_size or 0) and options.queue_size:
        raise app.UsageError("--queue_size must be at least --batch_size")


def _require_packages() -> None:
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"tfdet-serve needs the package {error.name}: pip install 'tfdet[serve]'"
        ) from None


def _bind(host: str, port: int) -> socket.socket:
    """The address is taken before models are loaded; connections are refused until they are."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port} ({error.strerror}); give another --port or --host"
        ) from None
    return listening


def _samples(folder: str | None) -> list[bytes]:
    """Encoded images for the page, and to measure with."""
    from tfdet.serving.server import page

    if folder is None:
        return page.default_samples()
    if not pathlib.Path(folder).is_dir():
        raise UserError(f"--samples={folder} is not a folder")
    files = [path for path in sorted(pathlib.Path(folder).iterdir()) if is_image(path.name)]
    if not files:
        raise UserError(f"--samples={folder} has no images")
    return [_sample(path) for path in files[:_MOST_SAMPLES]]


def _sample(path: pathlib.Path) -> bytes:
    from tfdet.data import decode

    content = path.read_bytes()
    try:
        decode.decode_image(content)
    except decode.ImageError as error:
        raise UserError(f"--samples: {path} cannot be read ({error})") from None
    return content


def _load(
    name: str, folder: str, serving: "ServingOptions", samples: list[bytes], metrics: Any
) -> "ServedModel":
    from tfdet.serving.server.served_model import ServedModel

    print(f"loading {name} from {folder} and measuring its batches ...", flush=True)
    return ServedModel(name, folder, serving, samples, metrics)


def _check_effort(options: types.SimpleNamespace, models: list["ServedModel"]) -> None:
    given = next((x for x in ("effort", "slo_ms") if getattr(options, x) is not None), None)
    if given and not any(model.calibration for model in models):
        raise UserError(
            f"--{given} needs a calibrated dynamic model, and none of these is one; see "
            "`tfdet-eval --calibrate`"
        )
    for model in models:
        if given and not model.calibration:
            print(f"{model.name} has no calibration: --{given} does not apply to it", flush=True)
        if model.is_limit_too_low:
            print(
                f"{model.name}: a single image takes about as long as --slo_ms={options.slo_ms:g} "
                "on this machine with the least effort; few answers will be in time",
                flush=True,
            )


def _run(application: Any, listening: socket.socket, host: str) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            port = listening.getsockname()[1]
            shown = f"[{host}]" if ":" in host else host
            print(f"serving at http://{shown}:{port}; a page to try it is there", flush=True)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            application.state.stop()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        application,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_LAST_SECONDS,
    )
    Server(config).run(sockets=[listening])


def run() -> None:
    """The console script."""
    sys.exit(COMMAND.run(main))


if __name__ == "__main__":
    run()
