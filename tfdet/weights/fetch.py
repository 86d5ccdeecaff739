"""Downloads of published weights: resumed where they broke off, kept only if they are right.

A download grows in a `.part` file beside its place, with a note of what is downloaded. It is moved
to its place when its length and its published checksum are right, so that whatever is in the cache
is whole, whenever a download is killed.
"""

import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

from tfdet import cache_folder, documents, files
from tfdet.errors import UserError
from tfdet.weights import cache
from tfdet.weights.catalog import Entry

_CHUNK = 1 << 18
_STALL_SECONDS = 30.0  # without a byte
_ATTEMPTS = 5  # without progress
_PAUSE_SECONDS = 1.0
_MOST_BYTES = 8 << 30
_UNPACKED_RATIO = 4  # of an archive; weights hardly can be packed
# Files of a TensorFlow checkpoint, and those of PyTorch. An archive may be a whole package.
_OF_WEIGHTS = re.compile(
    r"checkpoint|[\w-][\w.-]*\.(index|meta|data-\d+-of-\d+|pth|pt|h5|safetensors)"
)
_MOST_MEMBERS = 1000

# Called with (bytes that are there, bytes in all or None).
Progress = Callable[[int, int | None], None]


class _Broken(Exception):
    """A download that broke off, and may be resumed."""


class _Part(NamedTuple):
    """What a `.part` file is the beginning of: a file of this length, by the server's own mark."""

    url: str
    length: int | None
    mark: str  # the ETag or the date of the file, for If-Range


def fetch(
    entry: Entry,
    progress: Progress = lambda done, total: None,
    say: Callable[[str], None] = lambda sentence: None,
    stall_seconds: float = _STALL_SECONDS,
    pause_seconds: float = _PAUSE_SECONDS,
) -> pathlib.Path:
    """Downloads a file into the cache, if it is not there; returns its place.

    Args:
        entry: of the catalog.
        progress: called with how much is there.
        say: called with what happens, in sentences.
        stall_seconds: a server that sends nothing for so long is asked again.
        pause_seconds: before it is.
    """
    place = cache.place_of(entry)
    if place.exists():
        say(f"{place} is there already")
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{place.parent} cannot be made ({error.strerror}); set {cache_folder.VARIABLE} to a "
            "folder that can be written to"
        ) from None
    part = place.with_name(f"{place.name}.part")
    with _alone(part) as file:
        if place.exists():  # another process has just finished
            part.unlink(missing_ok=True)
            return place
        _download(entry, part, file, progress, say, stall_seconds, pause_seconds)
        digest = _verified(entry, part)
        if not entry.checksum:
            say(f"{entry.source} publishes no checksum of it; its SHA-256 is {digest}")
        if cache.is_archive(entry):
            _unpack(part, place)
            part.unlink()
        else:
            os.fsync(file.fileno())
            os.replace(part, place)
        _note_of(part).unlink(missing_ok=True)
    return place


@contextlib.contextmanager
def _alone(part: pathlib.Path) -> Iterator[BinaryIO]:
    """The `.part` file, open, which no other process can write to within the block."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(part, flags, 0o666)
    except OSError as error:
        raise UserError(
            f"{part} cannot be written ({error.strerror}); set {cache_folder.VARIABLE} to a folder "
            "that can be written to"
        ) from None
    with os.fdopen(descriptor, "r+b") as file:
        with contextlib.suppress(ImportError):  # Windows
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another process is downloading {part.name.removesuffix('.part')}; wait for it"
                ) from None
        yield file


def _note_of(part: pathlib.Path) -> pathlib.Path:
    return part.with_name(f"{part.name}.json")


def _download(
    entry: Entry,
    part: pathlib.Path,
    file: BinaryIO,
    progress: Progress,
    say: Callable[[str], None],
    stall_seconds: float,
    pause_seconds: float,
) -> None:
    """Fills the `.part` file, in as many attempts as bring it further."""
    failures, furthest = 0, file.seek(0, os.SEEK_END)
    while True:
        try:
            _attempt(entry, part, file, progress, stall_seconds)
            return
        except _Broken as error:
            if isinstance(error, _Mixed):
                _restart(file)
            reached = file.seek(0, os.SEEK_END)
            # Bytes that were there before, and had to be thrown away, are no progress.
            failures = 0 if reached > furthest else failures + 1
            furthest = max(furthest, reached)
            if failures >= _ATTEMPTS:
                kept = (
                    f"{reached} bytes are kept; the same command resumes"
                    if reached
                    else "On a machine without network, give the path of a file that was "
                    "downloaded on another one, in place of the name"
                )
                raise UserError(f"{entry.url} could not be downloaded: {error}. {kept}") from None
            say(f"{error} after {reached} bytes; resuming")
            time.sleep(pause_seconds)
        except OSError as error:  # of the file: those of the net are _Broken
            raise UserError(
                f"{part} cannot be written ({error.strerror}); make room, and run the same command "
                "again: it resumes"
            ) from None


def _attempt(
    entry: Entry, part: pathlib.Path, file: BinaryIO, progress: Progress, stall_seconds: float
) -> None:
    known = _noted(part, entry.url)
    start = file.seek(0, os.SEEK_END)
    if start and (known is None or not (known.mark or entry.checksum)):
        start = _restart(file)  # it cannot be told that the rest belongs to it
    if known and known.length is not None and start == known.length:
        return
    headers = {"User-Agent": "tfdet-weights", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if known and known.mark:
            headers["If-Range"] = known.mark
    with _asked(urllib.request.Request(entry.url, headers=headers), stall_seconds) as answer:
        if answer.status == 416:  # there is no more: what is there is not its beginning
            _restart(file)
            raise _Broken("the server has nothing more")
        start, length = _place_and_length(answer, start, known)
        if length is not None and length > _MOST_BYTES:
            raise UserError(f"{entry.url} claims {length} bytes, which no weights have")
        if not start:
            _restart(file)
        _keep_note(part, _Part(entry.url, length, _mark(answer)))
        _receive(answer, file, start, length, progress)


def _restart(file: BinaryIO) -> int:
    file.truncate(0)
    return 0


@contextlib.contextmanager
def _asked(request: urllib.request.Request, stall_seconds: float) -> Iterator[Any]:
    """The answer of a server; what another try may mend is `_Broken`, all else a `UserError`."""
    opener = urllib.request.build_opener(_SafeRedirects)
    try:
        with opener.open(request, timeout=stall_seconds) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        if error.code == 416:
            with error:
                yield error
            return
        if error.code in (408, 429) or error.code >= 500:
            raise _Broken(f"the server answered {error.code} {error.reason}") from None
        raise UserError(
            f"{request.full_url} cannot be downloaded: the server answered {error.code} "
            f"{error.reason}"
        ) from None
    except urllib.error.URLError as error:
        raise _Broken(f"the server cannot be reached ({error.reason})") from None
    except TimeoutError:
        raise _Broken(f"the server sent nothing for {stall_seconds:g} s") from None
    except (http.client.HTTPException, ConnectionError):
        raise _Broken("the connection broke off") from None


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a server elsewhere, but never from https to what can be changed on the way."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, url: str
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https:") and not url.startswith("https:"):
            raise UserError(f"{req.full_url} leads to {url[:200]}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, url)


def _place_and_length(answer: Any, start: int, known: _Part | None) -> tuple[int, int | None]:
    """Where in the file an answer begins, and how long the file is."""
    claimed = answer.headers.get("Content-Length")
    length = int(claimed) if claimed and claimed.isdigit() else None
    if answer.status != 206:
        return 0, length
    try:
        unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
        span, _, total = rest.partition("/")
        first, whole = int(span.partition("-")[0]), None if total == "*" else int(total)
    except ValueError:
        raise _Broken("the server does not name the part that it sends") from None
    changed = known is not None and None not in (known.length, whole) and known.length != whole
    if unit != "bytes" or first != start or changed:
        # The next attempt begins again.
        raise _Mixed("the server sends another part, or another file, than before")
    return start, whole


class _Mixed(_Broken):
    """What is there and what is sent do not belong together."""


def _receive(
    answer: Any, file: BinaryIO, start: int, length: int | None, progress: Progress
) -> None:
    done = file.seek(start)
    while chunk := answer.read1(_CHUNK):  # what has come, and not all or nothing
        done += len(chunk)
        if done > _MOST_BYTES:
            raise UserError("the server sends without end; nothing was kept")
        file.write(chunk)
        progress(done, length)
    file.flush()
    if length is not None and done < length:
        raise _Broken(f"the server ended at {done} of {length} bytes")


def _mark(answer: Any) -> str:
    """What tells this file from another at the same address: a strong ETag, or its date."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")


def _noted(part: pathlib.Path, url: str) -> _Part | None:
    note = _note_of(part)
    if not note.is_file():
        return None
    try:
        found = _Part(**documents.parse_json(documents.read_text(note, "note"), str(note)))
    except (UserError, TypeError):
        return None
    is_sound = isinstance(found.mark, str) and isinstance(found.length, int | None)
    return found if is_sound and found.url == url else None


def _keep_note(part: pathlib.Path, facts: _Part) -> None:
    files.write_text(_note_of(part), json.dumps(facts._asdict()))


def _verified(entry: Entry, part: pathlib.Path) -> str:
    """The SHA-256 of a download; one that is not the published file is removed and refused."""
    kind, _, published = (entry.checksum or "sha256:").partition(":")
    with open(part, "rb") as file:
        digest = hashlib.new(kind)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    found = digest.hexdigest()
    if not found.startswith(published.lower()):
        part.unlink()
        _note_of(part).unlink(missing_ok=True)
        raise UserError(
            f"what {entry.url} sent has the {kind.upper()} {found[:16]}..., and the published one "
            f"begins with {published}: it is another file, or was changed on the way. It was not "
            "kept"
        )
    return found


# Archives


def _unpack(archive: pathlib.Path, place: pathlib.Path) -> None:
    """Unpacks an archive's weights into a new folder, all or none, whatever their paths are."""
    fresh = place.with_name(f"{place.name}.unpacked")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    left = _UNPACKED_RATIO * archive.stat().st_size + _CHUNK
    try:
        with tarfile.open(archive) as content:
            for number, member in enumerate(content):
                if number >= _MOST_MEMBERS or member.size > left:
                    raise UserError(f"{archive} unpacks to more than weights can have")
                name = member.name.rpartition("/")[2]
                is_wanted = member.isfile() and _OF_WEIGHTS.fullmatch(name)
                packed = content.extractfile(member) if is_wanted else None
                if packed is None:
                    continue
                left -= member.size
                with open(fresh / name, "xb") as target:
                    shutil.copyfileobj(packed, target)
                    os.fsync(target.fileno())
        os.replace(fresh, place)
    except FileExistsError:
        raise UserError(f"{archive} has two files of one name") from None
    except (tarfile.TarError, EOFError, zlib.error) as error:
        archive.unlink()
        raise UserError(f"{archive.name} is damaged ({error}); it was not kept") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
