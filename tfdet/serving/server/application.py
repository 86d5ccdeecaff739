"""The server as an ASGI application: addresses, limits, answers."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from starlette import exceptions
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tfdet.serving.server import answers, page, requests, routes, saved_model
from tfdet.serving.server.batching import QueueClosed, QueueFull, Ticket
from tfdet.serving.server.bodies import BodyReader
from tfdet.serving.server.metrics import Metrics
from tfdet.serving.server.refusal import Refusal, invalid
from tfdet.serving.server.served_model import Prepared, Row, ServedModel

_MOST_THREADS = 8
_BODIES_HELD = 8  # times the largest body
_MOST_DIGITS = 18  # of a version
_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]


@dataclasses.dataclass(frozen=True)
class BodyLimits:
    """Of requests: bytes of a body, and seconds that a client may take to send it."""

    most_bytes: int = 32 << 20
    seconds: float = 30.0


def make_application(
    models: Sequence[ServedModel],
    metrics: Metrics,
    samples: Sequence[bytes] = (),
    limits: BodyLimits = BodyLimits(),  # it is frozen
) -> Starlette:
    """The application that serves models; its end answers what was accepted.

    `application.state.stop()` has nothing more accepted, and is called before a server waits for
    its last answers: images would else wait for others to share a batch with.

    Args:
        models: with different names.
        metrics: that the models count in.
        samples: encoded images that the page offers.
        limits: of requests.
    """
    server = _Server({model.name: model for model in models}, metrics, limits)
    paths: list[tuple[str, Callable[[Request], Awaitable[Response]], list[str]]] = [
        ("/healthz", server.health, ["GET"]),
        ("/metrics", server.metrics_text, ["GET"]),
        # Both, since TensorFlow Serving's addresses may be in capitals.
        ("/v1/{rest:path}", server.rest, _METHODS),
        ("/V1/{rest:path}", server.rest, _METHODS),
    ]
    application = Starlette(
        routes=[
            *(Route(path, end, methods=methods) for path, end, methods in paths),
            *page.routes(models, samples),
        ],
        exception_handlers={exceptions.HTTPException: _http_error},
        lifespan=server.lifespan,
    )
    application.state.stop = server.stop
    return application


class _Server:
    """Answers requests.

    Bodies are read in the thread of the event loop; parsing, decoding and writing JSON have threads
    of their own; each model computes in one more.
    """

    def __init__(self, models: Mapping[str, ServedModel], metrics: Metrics, limits: BodyLimits):
        self._models = models
        self._metrics = metrics
        self._bodies = BodyReader(
            limits.most_bytes, _BODIES_HELD * limits.most_bytes, limits.seconds
        )
        threads = max(2, min(os.cpu_count() or 1, _MOST_THREADS))
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, "tfdet-serve")

    @contextlib.asynccontextmanager
    async def lifespan(self, application: Starlette) -> AsyncIterator[None]:
        """Until the end, at which nothing is left unanswered."""
        yield
        for model in self._models.values():
            await asyncio.to_thread(model.queue.close)
        self._pool.shutdown()

    def stop(self) -> None:
        """Accepts nothing more."""
        for model in self._models.values():
            model.queue.stop()

    async def health(self, request: Request) -> Response:
        return _json(200, answers.to_json({"status": "ok", "models": list(self._models)}))

    async def metrics_text(self, request: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def rest(self, request: Request) -> Response:
        """A request in TensorFlow Serving's form."""
        arrived = time.monotonic()
        label = "none"
        try:
            target = routes.match(request.method, request.url.path)
            if target is None:
                raise invalid(f"malformed request: {request.method} {request.url.path[:200]}")
            model = self._model(target)
            label = model.name
            response = await self._answer(target, model, request, arrived)
        except Refusal as refusal:
            response = _refused(refusal)
        except ClientDisconnect:
            response = Response(status_code=499)  # nobody reads it
        except Exception:
            logging.getLogger(__name__).exception("a request failed")
            response = _json(500, answers.error("an error in the server; its log has more"))
        self._metrics.add("requests_total", model=label, code=str(response.status_code))
        if request.method == "POST":
            self._metrics.observe("request_seconds", time.monotonic() - arrived, model=label)
        return response

    def _model(self, target: routes.Target) -> ServedModel:
        model = self._models.get(target.name)
        if model is None:
            names = ", ".join(self._models)
            sentence = f"there is no model {target.name[:100]}; there are: {names}"
            raise Refusal(404, sentence, "unknown_model")
        if target.label is not None:
            raise invalid(f"no version of {model.name} has the label {target.label[:100]}")
        if target.version is not None and not _is_version(target.version, model.version):
            sentence = (
                f"there is no version {target.version[:30]} of model {model.name}; "
                f"version {model.version} is served"
            )
            raise Refusal(404, sentence, "unknown_version")
        return model

    async def _answer(
        self, target: routes.Target, model: ServedModel, request: Request, arrived: float
    ) -> Response:
        if target.method == "status":
            return _json(200, answers.to_json(saved_model.status_json(model.version)))
        if target.method == "metadata":
            return _json(200, answers.to_json(model.metadata))
        if target.method != "predict":
            raise invalid(f"{model.name} has no signature to {target.method}; use :predict")
        body = await self._bodies.read(request.headers, request.stream())
        try:
            parsed = await self._in_pool(requests.parse_predict, body, model.inputs)
        finally:
            self._bodies.let_go(body)
            del body
        return await self._predict(model, parsed, arrived)

    async def _predict(
        self, model: ServedModel, request: requests.PredictRequest, arrived: float
    ) -> Response:
        model.check(request)
        tickets = self._reserve(model, model.count_images(request), arrived)
        found = await asyncio.gather(
            *(self._detect(model, request, i, ticket) for i, ticket in enumerate(tickets)),
            return_exceptions=True,
        )
        refusals = {i: one for i, one in enumerate(found) if isinstance(one, Refusal)}
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, Refusal):
                raise one
            outcome = one.reason if isinstance(one, Refusal) else "detected"
            self._metrics.add("images_total", model=model.name, outcome=outcome)
        if refusals and len(refusals) == len(found):
            raise _of_all(refusals, request)
        rows = [model.refused(one) if isinstance(one, Refusal) else one for one in found]
        write = functools.partial(
            answers.predictions,
            [row.outputs for row in rows],  # type: ignore[union-attr]  # errors were raised
            model.output_names(request.signature),
            request.is_row,
            {i: refusal.message for i, refusal in refusals.items()},
        )
        return _json(200, await self._in_pool(write), _timing(rows, arrived))  # type: ignore[arg-type]

    def _reserve(
        self, model: ServedModel, count: int, arrived: float
    ) -> list[Ticket[Prepared, Row]]:
        try:
            return model.reserve(count, arrived)
        except QueueFull:
            raise Refusal(503, f"{model.name} has too much to do; try again", "busy") from None
        except QueueClosed:
            raise Refusal(503, "the server is being shut down", "closed") from None

    async def _detect(
        self,
        model: ServedModel,
        request: requests.PredictRequest,
        i: int,
        ticket: Ticket[Prepared, Row],
    ) -> Row:
        await self._in_pool(_prepare, model, request, i, ticket)
        return await asyncio.wrap_future(ticket.result)

    def _in_pool(self, function: Callable, *arguments: object) -> Awaitable:
        return asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


def _is_version(text: str, version: int) -> bool:
    return len(text) <= _MOST_DIGITS and int(text) == version


def _prepare(
    model: ServedModel,
    request: requests.PredictRequest,
    i: int,
    ticket: Ticket[Prepared, Row],
) -> None:
    try:
        item = model.prepare(request, i)
    except BaseException:
        model.queue.give_back(ticket)
        raise
    model.queue.put(ticket, item, model.key(item))


def _of_all(refusals: Mapping[int, Refusal], request: requests.PredictRequest) -> Refusal:
    """One refusal where no image of a request can be used."""
    name = "instances" if request.is_row else "inputs"
    sentences = "; ".join(f"{name}[{i}]: {one.message}" for i, one in refusals.items())
    statuses = {one.status for one in refusals.values()}
    status = statuses.pop() if len(statuses) == 1 else 400
    return Refusal(status, sentences, next(iter(refusals.values())).reason)


def _timing(rows: Sequence[Row], arrived: float) -> dict[str, str]:
    """What browsers show, and programs may read, of where the time went."""
    total = 1e3 * (time.monotonic() - arrived)
    parts = {
        "queue": max((row.queue_ms for row in rows), default=0.0),
        "detect": max((row.detect_ms for row in rows), default=0.0),
        "total": total,
    }
    return {"Server-Timing": ", ".join(f"{name};dur={ms:.1f}" for name, ms in parts.items())}


def _json(status: int, content: bytes, headers: Mapping[str, str] | None = None) -> Response:
    return Response(content, status, headers, "application/json")


def _refused(refusal: Refusal) -> Response:
    headers = {"Retry-After": "1"} if refusal.status == 503 else None
    return _json(refusal.status, answers.error(refusal.message), headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, exceptions.HTTPException)
    return _json(error.status_code, answers.error(error.detail), error.headers)
