"""Downloads from a server on this machine that stalls, breaks off and lies."""

import fcntl
import hashlib
import http.server
import io
import json
import tarfile
import threading
import time

import pytest

from tfdet import cache_folder
from tfdet.errors import UserError
from tfdet.weights import cache, fetch
from tfdet.weights.catalog import Entry

CONTENT = bytes(range(256)) * 4000  # a megabyte
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; `behaviour` is called with (handler, how many requests came before)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviour = serve
        self.requests = []  # (path, range)
        self.released = threading.Event()  # of handlers that stall

    def handle_error(self, request, client_address):
        pass  # clients hang up


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        number = len(self.server.requests)
        self.server.requests.append((self.path, self.headers.get("Range")))
        self.server.behaviour(self, number)

    def log_message(self, *args):
        pass


def start_of(handler):
    asked = handler.headers.get("Range")
    return int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0


def head(handler, content, length=None, tag='"one"', start=0):
    """Answers as an honest server would, but for the length."""
    if start and handler.headers.get("If-Range") not in (None, tag):
        start = 0
    if start >= len(content):
        handler.send_response(416)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return None
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    handler.send_header("Content-Length", str(len(content) - start if length is None else length))
    if tag:
        handler.send_header("ETag", tag)
    handler.end_headers()
    return start


def serve(handler, number, content=CONTENT, tag='"one"'):
    start = head(handler, content, tag=tag, start=start_of(handler))
    if start is not None:
        handler.wfile.write(content[start:])


def breaking(times, after=300_000):
    """Hangs up after some bytes, so often."""

    def behave(handler, number):
        start = head(handler, CONTENT, start=start_of(handler))
        end = start + after if number < times else len(CONTENT)
        handler.wfile.write(CONTENT[start:end])

    return behave


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv(cache_folder.VARIABLE, str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def entry(server, checksum=f"sha256:{DIGEST[:8]}", file="x.pth"):
    url = f"http://127.0.0.1:{server.server_port}/models/{file}"
    return Entry("x", "torchvision", "coco", (), "MIT", url, checksum=checksum)


def fetched(wanted, said=None, **kwargs):
    kwargs = {"stall_seconds": 0.3, "pause_seconds": 0.01, **kwargs}
    return fetch.fetch(wanted, say=(said if said is not None else []).append, **kwargs)


def refused(wanted, says, keeps=()):
    """The download ends in this sentence, and the cache holds nothing but what may be resumed."""
    with pytest.raises(UserError, match=says) as caught:
        fetched(wanted)
    assert "\n" not in str(caught.value)
    place = cache.place_of(wanted)
    assert not place.exists()
    assert sorted(x.name for x in place.parent.iterdir()) == sorted(keeps)


PART = ("x.pth.part", "x.pth.part.json")


def test_a_file_comes_into_the_cache_once(server):
    shown = []
    place = fetched(entry(server), progress=lambda done, total: shown.append((done, total)))
    assert place == cache.place_of(entry(server))
    assert place.read_bytes() == CONTENT
    assert shown[-1] == (len(CONTENT), len(CONTENT))
    assert [x.name for x in place.parent.iterdir()] == ["x.pth"]
    assert cache.path_of(entry(server)) == str(place)
    said = []
    fetched(entry(server), said)
    assert said == [f"{place} is there already"]
    assert len(server.requests) == 1


def test_what_breaks_off_is_resumed_where_it_was(server):
    server.behaviour = breaking(2)
    said = []
    assert fetched(entry(server), said).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=300000-", "bytes=600000-"]
    assert "ended at 300000 of 1024000 bytes" in said[0] or "broke off" in said[0]


def test_a_later_call_resumes_an_earlier_one(server):
    server.behaviour = breaking(10**6, after=0)

    def first(handler, number):
        breaking(10**6, 300_000 if number == 0 else 0)(handler, number)

    server.behaviour = first
    refused(entry(server), "could not be downloaded: .* 300000 bytes are kept; the same", PART)
    server.behaviour = serve
    assert fetched(entry(server)).read_bytes() == CONTENT
    assert server.requests[-1][1] == "bytes=300000-"


def test_a_server_that_stalls_is_asked_again(server):
    def stall(handler, number):
        start = head(handler, CONTENT, start=start_of(handler))
        if number == 0:
            handler.wfile.write(CONTENT[:5000])
            handler.wfile.flush()
            server.released.wait(20)
        else:
            handler.wfile.write(CONTENT[start:])

    server.behaviour = stall
    said = []
    began = time.monotonic()
    assert fetched(entry(server), said).read_bytes() == CONTENT
    assert "sent nothing for 0.3 s after 5000 bytes; resuming" in said[0]
    assert time.monotonic() - began < 10


def test_a_server_that_never_answers(server):
    server.behaviour = lambda handler, number: server.released.wait(20)
    refused(
        entry(server),
        r"sent nothing for 0\.3 s\. On a machine without network, give the path",
        ("x.pth.part",),
    )
    assert len(server.requests) == 5


def test_a_wrong_hash_is_refused_and_not_kept(server):
    server.behaviour = lambda handler, number: serve(handler, number, b"evil" * 1000)
    refused(entry(server), f"has the SHA256 .* published one begins with {DIGEST[:8]}")
    md5 = hashlib.md5(CONTENT).hexdigest()
    refused(entry(server, f"md5:{md5}"), "has the MD5")
    server.behaviour = serve
    assert fetched(entry(server, f"md5:{md5}")).read_bytes() == CONTENT


def test_a_length_that_is_too_short(server):
    """The rest would be cut off without a word, but for the checksum."""

    def lie(handler, number):
        head(handler, CONTENT, length=1000)
        handler.wfile.write(CONTENT)

    server.behaviour = lie
    refused(entry(server), "has the SHA256")


def test_a_length_that_is_too_long(server):
    def lie(handler, number):
        start = start_of(handler)
        if start:
            head(handler, CONTENT, start=start)  # 416: there is no more
            return
        head(handler, CONTENT, length=len(CONTENT) + 1000)
        handler.wfile.write(CONTENT)

    server.behaviour = lie
    with pytest.raises(UserError, match="could not be downloaded"):
        fetched(entry(server))
    assert not cache.place_of(entry(server)).exists()


def test_a_length_without_end(server):
    server.behaviour = lambda handler, number: head(handler, CONTENT, length=10**13)
    refused(entry(server), "claims 10000000000000 bytes", ("x.pth.part",))


def test_a_file_that_changes_on_the_way_is_begun_again(server):
    other = CONTENT[::-1]

    def change(handler, number):
        if number == 0:
            breaking(1)(handler, number)
        else:
            serve(handler, number, other, '"two"')

    server.behaviour = change
    wanted = entry(server, f"sha256:{hashlib.sha256(other).hexdigest()}")
    assert fetched(wanted).read_bytes() == other
    assert [asked for _, asked in server.requests] == [None, "bytes=300000-"]


def test_a_part_of_another_file_is_never_taken_for_the_right_one(server):
    """The server neither knows ETags nor sends what was asked for."""

    def lie(handler, number):
        if number == 0:
            breaking(1)(handler, number)
            return
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 500000-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.send_header("Content-Length", str(len(CONTENT) - 500_000))
        handler.end_headers()
        handler.wfile.write(CONTENT[500_000:])

    def then_honest(handler, number):
        (lie if number < 2 else serve)(handler, number)

    server.behaviour = then_honest
    assert fetched(entry(server)).read_bytes() == CONTENT
    assert server.requests[2][1] is None


def test_servers_that_know_no_ranges_start_again(server):
    def whole(handler, number):
        head(handler, CONTENT)
        handler.wfile.write(CONTENT if number else CONTENT[:300_000])

    server.behaviour = whole
    assert fetched(entry(server)).read_bytes() == CONTENT


def test_without_any_mark_nothing_is_resumed(server):
    def unmarked(handler, number):
        start = head(handler, CONTENT, tag="", start=start_of(handler))
        handler.wfile.write(CONTENT[start:] if number else CONTENT[:300_000])

    server.behaviour = unmarked
    said = []
    place = fetched(entry(server, ""), said)
    assert place.read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, None]
    assert f"publishes no checksum of it; its SHA-256 is {DIGEST}" in said[-1]


def test_a_note_that_somebody_changed_is_of_no_harm(server):
    wanted = entry(server)
    place = cache.place_of(wanted)
    place.parent.mkdir(parents=True)
    place.with_name("x.pth.part").write_bytes(b"x" * len(CONTENT))
    facts = {"url": wanted.url, "length": len(CONTENT), "mark": '"one"'}
    place.with_name("x.pth.part.json").write_text(json.dumps(facts))
    refused(wanted, "has the SHA256")
    place.with_name("x.pth.part").write_bytes(b"x" * 10)
    place.with_name("x.pth.part.json").write_text('{"url": 3}')
    assert fetched(wanted).read_bytes() == CONTENT


def test_answers_that_stay_and_answers_that_pass(server):
    def missing(handler, number):
        handler.send_error(404)

    def busy(handler, number):
        if number < 3:
            handler.send_error(503)
        else:
            serve(handler, number)

    server.behaviour = missing
    refused(entry(server), "the server answered 404 Not Found", ("x.pth.part",))
    assert len(server.requests) == 1
    server.requests.clear()
    server.behaviour = busy
    assert fetched(entry(server)).read_bytes() == CONTENT


def test_https_never_leads_to_http():
    import urllib.request

    request = urllib.request.Request("https://example.org/x.pth")
    for url in ("http://example.org/x.pth", "ftp://example.org/x", "file:///etc/passwd"):
        with pytest.raises(UserError, match=r"leads to .*, which is not https"):
            fetch._SafeRedirects().redirect_request(request, None, 302, "Found", {}, url)


def test_nobody_listens(server):
    wanted = entry(server)
    server.shutdown()
    server.server_close()
    says = "the server cannot be reached .* give the path of a file that was downloaded on another"
    refused(wanted, says, ("x.pth.part",))


def test_a_cache_that_cannot_be_made_is_named(server, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(cache_folder.VARIABLE, str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"file.* cannot be made .*; set TFDET_CACHE to a folder"):
        fetched(entry(server))


def test_two_at_a_time_are_refused(server):
    place = cache.place_of(entry(server))
    place.parent.mkdir(parents=True)
    with open(place.with_name("x.pth.part"), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"another process is downloading x\.pth; wait"):
            fetched(entry(server))
    assert fetched(entry(server)).read_bytes() == CONTENT


# Archives


def packed(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def test_archives_are_unpacked_into_one_folder_whatever_their_paths(server, tmp_path):
    noise = hashlib.sha256(b"").digest() * 100
    members = {
        "d0/model.index": noise,
        "../../out.index": noise,
        "/abs/model.data-00000-of-00001": noise,
        "d0/link": "/etc/passwd",
    }
    content = packed(members)
    server.behaviour = lambda handler, number: serve(handler, number, content)
    place = fetched(entry(server, "", "d0.tar.gz"))
    assert place.name == "d0"
    names = ["model.data-00000-of-00001", "model.index", "out.index"]
    assert sorted(x.name for x in place.iterdir()) == names
    assert [x.name for x in place.parent.iterdir()] == ["d0"]
    assert not list(tmp_path.glob("out.index"))


def test_of_a_package_the_weights_alone_are_kept(server):
    noise = hashlib.sha256(b"").digest() * 100
    members = {"p/PKG-INFO": noise, "p/x/PKG-INFO": noise, "p/x/w.pth": noise, "p/setup.py": noise}
    content = packed(members)
    server.behaviour = lambda handler, number: serve(handler, number, content)
    wanted = entry(server, "", "p.tar.gz")
    place = fetched(wanted)
    assert [x.name for x in place.iterdir()] == ["w.pth"]
    assert cache.path_of(wanted) == str(place / "w.pth")


def test_archives_that_are_bombs_or_cut(server):
    bomb, cut = packed({"a": bytes(10**8)}), packed({"a": DIGEST.encode() * 1000})[:-40]
    for content, says in ((bomb, "unpacks to more than weights can have"), (cut, "is damaged")):
        server.behaviour = lambda handler, number, c=content: serve(handler, number, c)
        wanted = entry(server, "", f"{says[-3:]}.tgz")
        with pytest.raises(UserError, match=says):
            fetched(wanted)
        assert not cache.place_of(wanted).exists()
