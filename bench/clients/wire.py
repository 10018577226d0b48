"""HTTP as bytes on a socket: for what clients never send, and for load, where a client library would cost more than the
server that is measured (both share this machine's processor)."""

import asyncio
import http.client
import json
import socket
import time
import urllib.parse


def address(url):
    """Host and port of a URL."""
    parts = urllib.parse.urlsplit(url)
    return parts.hostname, parts.port or 80


class Reply:
    """Status, heads by lower-case name, body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    @property
    def text(self):
        return self.body.decode()


def ask(url, path, body=None, method=None, headers=None, timeout=300):
    """One request on a connection of its own. A body that is no bytes is sent as JSON."""
    connection = http.client.HTTPConnection(*address(url), timeout=timeout)
    heads = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        heads.setdefault("content-type", "application/json")
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, heads)
        reply = connection.getresponse()
        return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
    finally:
        connection.close()


def raw(url, sent, timeout=10, half_close=False):
    """Sends bytes and gives all that comes until the server hangs up or `timeout` seconds passed without a byte."""
    with socket.create_connection(address(url), timeout=timeout) as stream:
        try:
            for part in [sent] if isinstance(sent, bytes) else sent:
                stream.sendall(part)
            if half_close:
                stream.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server may answer and hang up before it has read all
        came = b""
        try:
            while part := stream.recv(65536):
                came += part
        except (TimeoutError, ConnectionResetError):
            pass
        return came


def status_of(came):
    """The status of raw bytes; None where nothing came."""
    return int(came.split(b" ", 2)[1]) if came.startswith(b"HTTP/1.") else None


def post(path, body, host="127.0.0.1", heads=""):
    """The bytes of a request with a JSON body."""
    payload = json.dumps(body).encode()
    return (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(payload)}\r\n{heads}\r\n"
    ).encode() + payload


class Stream:
    """An answer that comes as events, and when each of them came."""

    def __init__(self):
        self.status = None
        self.retry_after = None
        self.asked = time.perf_counter()
        self.texts = []  # what was said
        self.times = []  # seconds from the request to each event that says something
        self.calls = []  # [name, arguments] of each call of a tool
        self.usage = None
        self.finish = None
        self.n_comments = 0
        self.done = False
        self.error = None

    @property
    def text(self):
        return "".join(self.texts)


def texts_of(data):
    """What a chunk of chat or of completions says, whether that is a token, and why the answer ended."""
    for choice in data.get("choices") or []:
        finish, delta = choice.get("finish_reason"), choice.get("delta")
        if delta is None:
            # A token that is a part of a character has no text yet; it came all the same.
            yield choice.get("text") or "", not finish or bool(choice.get("text")), finish
        else:
            text = (delta.get("reasoning_content") or "") + (delta.get("content") or "")
            yield text, bool(text), finish


async def stream(url, path, body, heads="", pause=0.0, leave_after=None, limit=1800):
    """Asks for a streamed answer and reads it to its end; never raises for what the network does.

    `pause`: seconds before each read, for a reader that is slow. `leave_after`: hang up after so many events."""
    came = Stream()
    writer = None
    try:
        async with asyncio.timeout(limit):
            reader, writer = await asyncio.open_connection(*address(url), limit=1 << 22)
            came.asked = time.perf_counter()
            writer.write(post(path, body, heads="connection: close\r\n" + heads))
            await read_events(reader, came, pause, leave_after)
    except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
        came.error = came.error or f"{type(error).__name__}: {error}"
    finally:
        if writer:
            writer.close()
    return came


async def read_events(reader, came, pause, leave_after):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    came.status = int(head[0].split(" ")[1])
    heads = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    came.retry_after = heads.get("retry-after")
    chunked = heads.get("transfer-encoding") == "chunked"
    if came.status != 200:
        body = await (reader.read() if not chunked else read_chunks(reader))
        came.error = body.decode(errors="replace")[:300]
        return
    pending, n_events = b"", 0
    while True:
        if pause:
            await asyncio.sleep(pause)
        part = await (read_chunk(reader) if chunked else reader.read(65536))
        if not part:
            break
        now = time.perf_counter() - came.asked
        *events, pending = (pending + part).split(b"\n\n")
        for event in events:
            take_event(event, now, came)
            n_events += 1
        if leave_after is not None and n_events >= leave_after:
            return
    if not came.done and not came.error:
        came.error = "the stream ended without [DONE]"


async def read_chunk(reader):
    size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
    return (await reader.readexactly(size + 2))[:-2]


async def read_chunks(reader):
    parts = []
    while part := await read_chunk(reader):
        parts.append(part)
    return b"".join(parts)


def take_event(event, now, came):
    for line in event.split(b"\n"):
        if line.startswith(b":"):
            came.n_comments += 1
        elif line == b"data: [DONE]":
            came.done = True
        elif line.startswith(b"data: "):
            data = json.loads(line[6:])
            if "error" in data:
                came.error = json.dumps(data["error"])[:300]
            came.usage = data.get("usage") or came.usage
            take_calls(data, came)
            for text, is_token, finish in texts_of(data):
                came.finish = finish or came.finish
                came.texts.append(text)
                if is_token:
                    came.times.append(now)


def take_calls(data, came):
    for choice in data.get("choices") or []:
        for call in (choice.get("delta") or {}).get("tool_calls") or []:
            while len(came.calls) <= call["index"]:
                came.calls.append(["", ""])
            told = call.get("function") or {}
            came.calls[call["index"]][0] += told.get("name") or ""
            came.calls[call["index"]][1] += told.get("arguments") or ""
