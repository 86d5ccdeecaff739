"""The server of `tfdet-serve` as a Ray Serve application, whose replicas follow the load.

    serve run tfdet.serving.ray_app:application folder=served/cells name=cells max_replicas=4

Two deployments: `Front` takes requests over HTTP and asks `Detector`, whose replicas each have the
whole application of `tfdet.serving.server`. A replica that dies takes no request with it: the front
asks another one, since detecting twice does no harm.
"""

import dataclasses
import pathlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from tfdet.errors import UserError

# A detector is asked again where its replica died; a request that kills every replica that looks at
# it must not go on for ever.
_TRIES = 4
_Answer = tuple[int, list[tuple[str, str]], bytes]
# Of a request the part that the application looks at, and that may be sent to another process.
_Scope = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class RayOptions:
    """What `serve run tfdet.serving.ray_app:application KEY=VALUE ...` takes.

    Attributes:
        folder: that `tfdet-export` wrote, or one of versions; every node has it at this path.
        name: of the model in requests.
        min_replicas, max_replicas: of the detector.
        target_requests: in progress per replica, above which there are more replicas.
        num_cpus: that Ray keeps for each replica.
        batch_size, max_wait_ms, effort, slo_ms: as the flags of `tfdet-serve`.
    """

    folder: str
    name: str = "model"
    min_replicas: int = 1
    max_replicas: int = 4
    target_requests: float = 8.0
    num_cpus: float = 1.0
    batch_size: int | None = None
    max_wait_ms: float = 5.0
    effort: float | None = None
    slo_ms: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise UserError(
                "min_replicas must be at least 1 and at most max_replicas, got "
                f"{self.min_replicas} and {self.max_replicas}"
            )
        if self.effort is not None and self.slo_ms is not None:
            raise UserError("give effort or slo_ms, with which the server chooses the effort")

    @classmethod
    def parse(cls, words: Mapping[str, str]) -> "RayOptions":
        """The options in words, as `serve run` passes them on."""
        from tfdet import documents, records

        texts = ("folder", "name")  # which may look like numbers
        values = {
            key: value
            if key in texts or not isinstance(value, str)
            else documents.parse_yaml(value, f"{key}={value}")
            for key, value in words.items()
        }
        return records.from_dict(cls, values)


class Detector:
    """A replica: the application of `tfdet-serve` around one model.

    Args:
        options: how it is served.
    """

    def __init__(self, options: RayOptions):
        from tfdet.serving.server.application import make_application
        from tfdet.serving.server.metrics import Metrics
        from tfdet.serving.server.page import default_samples
        from tfdet.serving.server.served_model import (
            ServedModel,
            ServingOptions,
            describe_metrics,
        )

        metrics, samples = Metrics(), default_samples()
        describe_metrics(metrics)
        serving = ServingOptions(
            batch_size=options.batch_size,
            max_wait_ms=options.max_wait_ms,
            effort=options.effort,
            slo_ms=options.slo_ms,
        )
        model = ServedModel(options.name, options.folder, serving, samples, metrics)
        self._application = make_application([model], metrics, samples)

    async def answer(self, scope: _Scope, body: bytes) -> _Answer:
        """The status, the headers and the body of the answer to a request."""
        return await exchange(self._application, scope, body)


class Front:
    """Passes requests on to replicas, and to another one where a replica died.

    Args:
        detector: handle of the deployment of `Detector`.
    """

    def __init__(self, detector: Any):
        self._detector = detector

    async def __call__(self, request: Any) -> Any:
        """The answer to a Starlette request."""
        from starlette.responses import Response

        body = await request.body()
        status, headers, content = await self.answer(portable_scope(request.scope), body)
        response = Response(content, status)
        for name, value in headers:
            if name.lower() != "content-length":
                response.headers[name] = value
        return response

    async def answer(self, scope: _Scope, body: bytes) -> _Answer:
        """As `Detector.answer`, by whichever replica lives."""
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import BackPressureError

        for _ in range(_TRIES):
            try:
                return await self._detector.answer.remote(scope, body)
            except RayActorError:
                continue
            except BackPressureError:
                return _busy("there is too much to do; try again")
        return _busy(f"{_TRIES} replicas died one after another; try again")


def _busy(sentence: str) -> _Answer:
    from tfdet.serving.server import answers

    headers = [("content-type", "application/json"), ("retry-after", "1")]
    return 503, headers, answers.error(sentence)


def portable_scope(scope: Mapping[str, Any]) -> _Scope:
    """What of an ASGI scope the application needs, without what only lives in this process."""
    names = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "root_path")
    kept = {name: scope[name] for name in (*names, "query_string", "headers") if name in scope}
    return {**kept, "headers": [tuple(pair) for pair in kept.get("headers", ())]}


async def exchange(
    application: Callable[..., Awaitable[None]], scope: _Scope, body: bytes
) -> _Answer:
    """Runs an ASGI application on one whole request; its whole answer."""
    status, headers, parts = 500, list[tuple[str, str]](), list[bytes]()
    is_sent = False

    async def receive() -> dict[str, Any]:
        nonlocal is_sent
        if is_sent:
            return {"type": "http.disconnect"}
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            pairs = message.get("headers", ())
            headers.extend((k.decode("latin-1"), v.decode("latin-1")) for k, v in pairs)
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    await application({**scope, "extensions": {}}, receive, send)
    return status, headers, b"".join(parts)


def application(words: Mapping[str, str]) -> Any:
    """The Ray Serve application; see `RayOptions` for the words.

    Example:
        from ray import serve
        serve.run(application({"folder": "served/cells", "max_replicas": 4}))
    """
    try:
        from ray import serve
    except ImportError as error:
        raise UserError(
            f"serving by Ray needs the package {error.name}; type `pip install 'tfdet[ray,serve]'`"
        ) from None
    options = RayOptions.parse(words)
    folder = str(pathlib.Path(options.folder).absolute())  # replicas have other working folders
    options = dataclasses.replace(options, folder=folder)
    scaling = {
        "min_replicas": options.min_replicas,
        "initial_replicas": options.min_replicas,
        "max_replicas": options.max_replicas,
        "target_ongoing_requests": options.target_requests,
    }
    # More than the target, so that a replica has enough to fill its batches while others start.
    most = max(4, round(4 * options.target_requests))
    detector = serve.deployment(
        name="Detector",
        autoscaling_config=scaling,
        max_ongoing_requests=most,
        ray_actor_options={"num_cpus": options.num_cpus},
    )(Detector)
    front = serve.deployment(
        name="Front",
        num_replicas=1,
        max_ongoing_requests=most * options.max_replicas,
        ray_actor_options={"num_cpus": 0.1},
    )(Front)
    return front.bind(detector.bind(options))
