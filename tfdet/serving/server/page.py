"""The page at `/`: a few files that are read when the server starts, and what they ask for."""

import importlib.resources
from collections.abc import Awaitable, Callable, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tfdet.data import decode, shapes
from tfdet.serving.server import answers
from tfdet.serving.server.served_model import ServedModel

_FILES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_HEADERS = {
    # Nothing from elsewhere, and no script in the page itself.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def default_samples() -> list[bytes]:
    """Encoded pictures of the built-in data set, which the page offers where it is given none."""
    pictures = shapes.open_shapes("val", 60)
    return [pictures.encoded(i) for i in range(0, 60, 10)]


def routes(models: Sequence[ServedModel], samples: Sequence[bytes]) -> list[Route]:
    """The page's addresses.

    Args:
        models: that it offers.
        samples: encoded images that it offers.
    """
    folder = importlib.resources.files("tfdet.serving.server").joinpath("page_files")
    files = {
        path: (folder.joinpath(name).read_bytes(), kind) for path, (name, kind) in _FILES.items()
    }
    kinds = [f"image/{decode.image_format(sample).lower()}" for sample in samples]

    async def describe(request: Request) -> Response:
        about = {"models": [model.about() for model in models], "samples": len(samples)}
        return Response(answers.to_json(about), headers=_HEADERS, media_type="application/json")

    async def sample(request: Request) -> Response:
        i = request.path_params["i"]
        if i >= len(samples):
            raise HTTPException(404, f"there are {len(samples)} samples")
        return Response(samples[i], headers=_HEADERS, media_type=kinds[i])

    fixed = [Route(path, _answer(*file)) for path, file in files.items()]
    return [*fixed, Route("/page/about", describe), Route("/page/samples/{i:int}", sample)]


def _answer(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return Response(content, headers=_HEADERS, media_type=kind)

    return answer
