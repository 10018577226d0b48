"""Every endpoint and every refusal of a running server, as plain HTTP and as bytes that no client would send."""

import json
import re
import socket
import sys
import threading
import time

import wire
from checks import Checks, Skip, arguments, equal, expect

parser = arguments(__doc__)
parser.add_argument("--slow", action="store_true", help="also wait for time-outs (a minute and a half)")
args = parser.parse_args()
checks = Checks("http")

CHAT = "/v1/chat/completions"
MODEL = "deepseek-chat"
QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "What is 3 + 4?"}], "max_tokens": 8, "seed": 1}
POSTS = {
    "/chat/completions": QUESTION,
    "/v1/chat/completions": QUESTION,
    "/beta/chat/completions": QUESTION,
    "/beta/v1/chat/completions": QUESTION,
    "/completions": {"model": MODEL, "prompt": "3 + 4", "max_tokens": 4},
    "/v1/completions": {"model": MODEL, "prompt": "3 + 4", "max_tokens": 4},
    "/beta/completions": {"model": MODEL, "prompt": "3 + 4", "max_tokens": 4},
    "/beta/v1/completions": {"model": MODEL, "prompt": "3 + 4", "max_tokens": 4},
    "/tokenize": {"content": "3 + 4"},
    "/detokenize": {"tokens": [5, 6]},
    "/v1/messages": QUESTION,
    "/anthropic/v1/messages": QUESTION,
    "/v1/messages/count_tokens": {"model": MODEL, "messages": QUESTION["messages"]},
    "/anthropic/v1/messages/count_tokens": {"model": MODEL, "messages": QUESTION["messages"]},
}
for anthropic in ("/v1/messages", "/anthropic/v1/messages"):
    POSTS[anthropic] = {key: value for key, value in QUESTION.items() if key != "seed"}
GETS = [
    "/health",
    "/models",
    "/v1/models",
    "/beta/models",
    "/user/balance",
    "/metrics",
    "/api/info",
    "/api/conversations",
    "/",
]


def ask(path, body=None, **more):
    heads = {"authorization": f"Bearer {args.key}", **more.pop("headers", {})}
    return wire.ask(args.url, path, body, headers=heads, **more)


def raw(sent, **more):
    return wire.raw(args.url, sent, **more)


def is_refusal(reply, *statuses):
    """The reply says no in the shape of its protocol."""
    expect(reply.status in statuses, f"{reply.status} instead of {statuses}: {reply.body[:200]}")
    error = reply.json()["error"]
    expect(isinstance(error["message"], str) and error["message"], f"a message: {error}")
    expect(isinstance(error["type"], str), "a type")
    return error


@checks.case
def all_that_can_be_read_is_there():
    for path in GETS:
        reply = ask(path)
        equal(reply.status, 200, path)
        equal(reply.headers.get("x-content-type-options"), "nosniff", f"{path} nosniff")


@checks.case
def all_that_can_be_asked_answers():
    for path, body in POSTS.items():
        reply = ask(path, body)
        equal(reply.status, 200, f"{path} {reply.body[:200]}")
        expect("x-fathom-warning" not in reply.headers, f"{path}: {reply.headers.get('x-fathom-warning')}")


@checks.case
def the_page_loads_nothing_from_elsewhere():
    page = ask("/")
    policy = page.headers["content-security-policy"]
    expect("default-src" in policy and "unsafe-inline" not in policy.split("style-src")[0], policy)
    links = re.findall(r"""(?:src|href)=["']([^"'#]+)["']""", page.text)
    expect(links, "the page has parts")
    for link in links:
        expect(not link.startswith(("http:", "https:", "//")), f"{link} is elsewhere")
        if link.startswith("data:"):
            continue
        part = ask("/" + link.lstrip("/"))
        equal(part.status, 200, link)
        if tag := part.headers.get("etag"):
            equal(ask("/" + link.lstrip("/"), headers={"if-none-match": tag}).status, 304, f"{link} again")
    return f"{len(links)} parts"


@checks.case
def metrics_are_in_the_text_format():
    reply = ask("/metrics")
    expect(reply.headers["content-type"].startswith("text/plain"), reply.headers["content-type"])
    lines = [line for line in reply.text.splitlines() if line and not line.startswith("#")]
    pattern = re.compile(r'^[a-z_:][a-z0-9_:]*(\{([a-z_]+="[^"]*",?)*\})? [-+0-9.eE]+(Inf)?$')
    for line in lines:
        expect(pattern.match(line), line)
    for name in ("fathom_time_to_first_token_seconds_count", "fathom_jobs_waiting", "process_resident_memory_bytes"):
        expect(any(line.startswith(name) for line in lines), f"{name} is missing")
    return f"{len(lines)} lines"


@checks.case
def the_balance_has_its_shape():
    body = ask("/user/balance").json()
    expect(isinstance(body["is_available"], bool) and isinstance(body["balance_infos"], list), body)


@checks.case
def text_survives_tokens_and_back():
    for text in (
        "",
        "3 + 4 = 7",
        "小明有 3 个苹果。",
        "naïve 👩‍👩‍👧 \u0000 \t\r\n",
        "<｜User｜> </think> <|im_end|>",
    ):
        for special in (True, False):
            tokens = ask("/tokenize", {"content": text, "parse_special": special}).json()
            equal(tokens["count"], len(tokens["tokens"]))
            equal(ask("/detokenize", {"tokens": tokens["tokens"]}).json()["content"], text, f"{special}")


@checks.case
def a_stream_is_what_event_sources_read():
    came = raw(
        wire.post(
            CHAT, {**QUESTION, "stream": True}, heads=f"connection: close\r\nauthorization: Bearer {args.key}\r\n"
        )
    )
    head, _, body = came.partition(b"\r\n\r\n")
    expect(b"content-type: text/event-stream" in head.lower(), head)
    expect(b"cache-control: no-" in head.lower(), head)
    text = b"".join(re.split(rb"(?:^|\r\n)[0-9a-fA-F]+\r\n", body)).decode().rstrip("\r\n")
    events = text.split("\n\n")
    equal(events[-1], "data: [DONE]")
    for event in events[:-1]:
        expect(event.startswith("data: ") and "\n" not in event, event)
        json.loads(event[6:])


@checks.case
def bodies_that_are_no_json_are_refused_everywhere():
    broken = [
        b"",
        b" ",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b'{"model": ',
        b'{"model": "x",}',
        b"\xff\xfe",
        b"{'model': 1}",
        b"\x00" * 100,
        b"NaN",
    ]
    for path in POSTS:
        for body in broken:
            reply = ask(path, body, method="POST")
            expect(400 <= reply.status < 500, f"{path} {body[:20]}: {reply.status}")
            is_refusal(reply, reply.status)


@checks.case
def deep_nesting_and_strange_numbers_are_refused_without_harm():
    for body in (
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'{"model":"deepseek-chat","messages":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"model":"deepseek-chat","max_tokens":1e400,"messages":[{"role":"user","content":"x"}]}',
        b'{"model":"deepseek-chat","max_tokens":-1,"messages":[{"role":"user","content":"x"}]}',
        b'{"model":"deepseek-chat","max_tokens":1.5,"messages":[{"role":"user","content":"x"}]}',
        b'{"model":"deepseek-chat","seed":1e30,"messages":[{"role":"user","content":"x"}]}',
        b'{"model":"deepseek-chat","messages":[{"role":"user","content":"\\ud800"}]}',
    ):
        is_refusal(ask(CHAT, body, method="POST"), 400, 422)
    equal(ask("/health").status, 200)


@checks.case
def every_field_is_checked_and_named():
    wrong = {
        "model": [None, 1, "other"],
        "messages": [None, "x", [], [1], [{}], [{"role": "user"}], [{"role": "x", "content": "x"}]],
        "stream": ["yes", 1],
        "max_tokens": [0, -1, "9", 1.5],
        "n": [0, 17, "2"],
        "temperature": [-0.1, 2.1, "x"],
        "top_p": [0, 1.1, "x"],
        "top_k": [-1, "x"],
        "min_p": [-1, 2],
        "repetition_penalty": [0, 101],
        "frequency_penalty": [-2.1, 2.1],
        "presence_penalty": [-2.1, 2.1],
        "stop": [1, ["x"] * 17, [1]],
        "seed": ["x", 1.5],
        "logprobs": ["x", 1],
        "top_logprobs": [-1, 21],
        "logit_bias": [[], {"x": 1}, {"1": 101}, {"1": "x"}, {"99999999": 1}],
        "response_format": ["json", {}, {"type": "xml"}, {"type": "json_schema"}],
        "tools": ["x", [{}], [{"type": "function"}]],
        "tool_choice": ["perhaps", {"type": "function"}],
        "thinking": ["on", {}, {"type": "perhaps"}],
        "stream_options": [{"include_usage": True}, 1],
        "functions": [[{"name": "f"}]],
        "explain": ["x"],
    }
    for field, values in wrong.items():
        for value in values:
            error = is_refusal(ask(CHAT, {**QUESTION, field: value}), 400, 404, 422)
            expect(field in (error["param"] or "") or f"`{field}" in error["message"], f"{field}={value}: {error}")
    return f"{sum(map(len, wrong.values()))} refusals"


@checks.case
def fields_of_completions_are_checked_and_named():
    good = POSTS["/v1/completions"]
    wrong = {
        "prompt": [None, 1, [], [1.5], [-1], [99999999], {}, [[]], [["x"]]],
        "suffix": [1],
        "echo": ["x"],
        "logprobs": [21, True, "x"],
        "best_of": [5, "x"],
        "max_tokens": [0, -1],
        "n": [0, 129],
    }
    for field, values in wrong.items():
        for value in values:
            error = is_refusal(ask("/v1/completions", {**good, field: value}), 400, 422)
            expect(field in (error["param"] or "") or f"`{field}" in error["message"], f"{field}={value}: {error}")
    is_refusal(ask("/v1/completions", {**good, "echo": True, "suffix": "x"}), 400)
    is_refusal(ask("/detokenize", {"tokens": [99999999]}), 400, 422)


@checks.case
def a_prompt_beyond_the_context_is_refused_with_both_numbers():
    context = ask("/v1/models").json()["data"][0]["max_model_len"]
    error = is_refusal(ask(CHAT, {**QUESTION, "messages": [{"role": "user", "content": "7 " * (2 * context)}]}), 400)
    equal(error["code"], "context_length_exceeded")
    expect(str(context) in error["message"], error["message"])


@checks.case
def paths_and_methods_that_are_not_there():
    for path in (
        "/nothing",
        "/v1",
        "/v1/",
        "/v1/embeddings",
        "/v1/responses",
        "/api/nothing",
        "/assets/../Cargo.toml",
        "/v1/models/other",
        "/%2e%2e/etc/passwd",
    ):
        is_refusal(ask(path), 404)
    for path in POSTS:
        reply = ask(path)
        is_refusal(reply, 405)
        expect("POST" in reply.headers.get("allow", ""), f"{path}: allow is {reply.headers.get('allow')}")
    for path in ("/v1/models", "/health", "/metrics"):
        is_refusal(ask(path, {}, method="POST"), 405)
    equal(ask("/", method="HEAD").status, 200)
    for method in ("DELETE", "PUT", "PATCH", "TRACE", "NONSENSE"):
        is_refusal(ask(CHAT, b"{}", method=method), 405)


@checks.case
def foreign_hosts_and_pages_are_refused():
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example"):
        came = raw(f"GET /v1/models HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        equal(wire.status_of(came), 403, host)
        expect(b"host_not_allowed" in came, came[-200:])
    for origin in ("https://evil.example", "null"):
        is_refusal(ask(CHAT, QUESTION, headers={"origin": origin}), 403)
        reply = ask(CHAT, method="OPTIONS", headers={"origin": origin, "access-control-request-method": "POST"})
        expect("access-control-allow-origin" not in reply.headers, "no leave for others")
    own = args.url.removesuffix("/")
    equal(ask("/v1/models", headers={"origin": own}).status, 200)


@checks.case
def a_body_that_is_too_large_is_refused_before_it_comes():
    came = raw(
        f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {args.key}\r\ncontent-length: 99999999999\r\n\r\n".encode(),
        timeout=5,
    )
    equal(wire.status_of(came), 413)
    # A client may be in the midst of sending; it must get the answer all the same.
    large = b'{"model": "' + b"x" * (33 << 20) + b'"}'
    head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {args.key}\r\n"
    came = raw([f"{head}content-length: {len(large)}\r\n\r\n".encode(), large], timeout=5)
    equal(wire.status_of(came), 413, "while sending")


@checks.case
def a_body_in_pieces_is_read_and_one_without_end_is_refused():
    body = json.dumps(QUESTION).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {args.key}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(body[at : at + 7]), body[at : at + 7]) for at in range(0, len(body), 7))
    equal(wire.status_of(raw(head + pieces + b"0\r\n\r\n")), 200)
    piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    equal(wire.status_of(raw([head] + [piece] * 40, timeout=5)), 413)


@checks.case
def requests_that_are_no_http_are_refused_or_dropped():
    for sent in (
        b"\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\x00" * 1000,
        b"GET / HTTP/1.1\r\nhost: localhost\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: nonsense\r\n\r\n",
    ):
        status = wire.status_of(raw(sent, timeout=2, half_close=True))
        expect(status is None or 400 <= status < 500 or status == 505, f"{sent[:40]}: {status}")
    # Length and pieces together are how requests are smuggled past a proxy.
    came = raw(
        f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n".encode(),
        timeout=2,
    )
    expect(came.count(b"HTTP/1.1 ") == 1 or wire.status_of(came) == 400, f"{came.count(b'HTTP/1.1 ')} answers")
    equal(ask("/health").status, 200)


@checks.case
def one_connection_carries_many_requests():
    one = f"GET /health HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {args.key}\r\n".encode()
    came = raw((one + b"\r\n") * 20 + one + b"connection: close\r\n\r\n")
    equal(came.count(b"HTTP/1.1 200"), 21)
    old = raw(b"GET /health HTTP/1.0\r\n\r\n")
    equal(wire.status_of(old), 200)
    waits = wire.post(
        CHAT, QUESTION, heads=f"expect: 100-continue\r\nconnection: close\r\nauthorization: Bearer {args.key}\r\n"
    )
    expect(b"HTTP/1.1 200" in raw(waits), "an answer after 100")


@checks.case
def a_flood_of_bad_requests_does_no_harm():
    before = resident()
    bad = [wire.post(CHAT, {"model": MODEL, "messages": n}) for n in range(50)] + [wire.post("/nothing", {})] * 50
    statuses = []

    def flood():
        for _ in range(6):
            came = raw(b"".join(bad) + b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            statuses.extend(int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", came))

    began = time.time()
    threads = [threading.Thread(target=flood) for _ in range(8)]
    [thread.start() for thread in threads]
    equal(ask(CHAT, QUESTION).status, 200, "a good request meanwhile")
    [thread.join() for thread in threads]
    seconds = time.time() - began
    equal(len(statuses), 8 * 6 * 101)
    equal(set(statuses) - {400, 401, 404, 200}, set(), "other statuses")
    grown = resident() - before
    expect(grown < 64, f"memory grew by {grown:.0f} MiB")
    return f"{len(statuses) / seconds:.0f} requests a second, memory grew by {grown:.1f} MiB"


def resident():
    found = re.search(r"^process_resident_memory_bytes (\S+)", ask("/metrics").text, re.M)
    return float(found[1]) / 2**20


@checks.case
def clients_that_vanish_leave_nothing_behind():
    long = {**QUESTION, "max_tokens": 4000, "temperature": 2, "stream": True}
    for n in range(40):
        with socket.create_connection(wire.address(args.url)) as stream:
            stream.sendall(wire.post(CHAT, {**long, "seed": n}, heads=f"authorization: Bearer {args.key}\r\n"))
            if n % 2:
                stream.settimeout(30)
                stream.recv(1)
            if n % 4 == 3:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    whole = {**long, "stream": False}
    for n in range(10):
        with socket.create_connection(wire.address(args.url)) as stream:
            stream.sendall(wire.post(CHAT, {**whole, "seed": n}, heads=f"authorization: Bearer {args.key}\r\n"))
            time.sleep(0.02)
    until = time.time() + 30
    while (health := ask("/health").json())["running"] or health["waiting"]:
        expect(time.time() < until, f"still {health}")
        time.sleep(0.1)


@checks.case
def idle_connections_keep_nobody_out():
    idle = [socket.create_connection(wire.address(args.url)) for _ in range(300)]
    for n, stream in enumerate(idle):
        stream.sendall(b"POST /v1/chat" if n % 2 else b"")
    began = time.time()
    equal(ask(CHAT, QUESTION).status, 200)
    [stream.close() for stream in idle]
    return f"answered in {time.time() - began:.2f} s beside 300"


@checks.case
def heads_and_bodies_that_trickle_are_cut_off():
    if not args.slow:
        raise Skip("takes more than a minute; ask for it by --slow")
    ends = {}

    def trickle(name, first):
        began = time.time()
        with socket.create_connection(wire.address(args.url)) as stream:
            stream.settimeout(2)
            stream.sendall(first)
            while time.time() < began + 100:
                try:
                    if name != "idle":
                        stream.sendall(b"x")
                    if not stream.recv(4096):
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
        ends[name] = time.time() - began

    firsts = {
        "head": b"GET /health HTTP/1.1\r\nx: ",
        "body": f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {args.key}\r\ncontent-length: 1000\r\n\r\n".encode(),
        "idle": b"",
    }
    threads = [threading.Thread(target=trickle, args=item) for item in firsts.items()]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for name, seconds in ends.items():
        expect(seconds < 95, f"{name} was borne for {seconds:.0f} s")
    return ", ".join(f"{name} after {seconds:.0f} s" for name, seconds in sorted(ends.items()))


@checks.case
def conversations_are_kept_searched_exported_and_deleted():
    made = ask("/api/conversations", {"title": "Äpfel zählen"})
    expect(made.status in (200, 201), f"{made.status} {made.body[:200]}")
    where = f"/api/conversations/{made.json()['id']}"
    first = {"parent": None, "role": "user", "content": "How many <b>apples</b>?"}
    second = {"parent": "m1", "role": "assistant", "content": "7", "reasoning": "3 and 4", "meta": {"tokens": 3}}
    for name, message in (("m1", first), ("m2", second)):
        expect(ask(f"{where}/messages/{name}", message, method="PUT").status in (200, 201, 204), name)
    read = ask(where).json()
    equal([(m["id"], m["content"]) for m in read["messages"]], [("m1", first["content"]), ("m2", "7")])
    expect(ask(where, {"title": "Renamed"}, method="PATCH").status in (200, 204), "renamed")
    for query, n in (("renamed", 1), ("APPLES", 1), ("no such words 9876", 0)):
        found = ask(f"/api/conversations?q={query.replace(' ', '%20')}").json()
        equal(len([c for c in found if c["id"] == made.json()["id"]]), n, query)
    expect("apples" in ask(f"{where}/export?format=markdown").text, "export")
    equal(ask(f"{where}/export?format=json").json()["messages"][1]["content"], "7")
    is_refusal(ask(f"{where}/messages/m3", {**second, "parent": "nobody"}, method="PUT"), 400, 404, 409, 422)
    is_refusal(ask(where, {"colour": "red"}, method="PATCH"), 400, 422)
    is_refusal(ask("/api/conversations", b"{}", method="POST", headers={"content-type": "text/plain"}), 400, 415)
    expect(ask(where, method="DELETE").status in (200, 204), "deleted")
    is_refusal(ask(where), 404)


if __name__ == "__main__":
    sys.exit(checks.run(args))
