"""Keys, limits and money, on a server of its own: what is refused with 401, 402 and 429, and what an answer costs.

DIR/bin/python bench/clients/keys.py MODEL --fathom target/release/fathom"""

import argparse
import concurrent.futures
import os
import subprocess
import sys
import tempfile

import server
import wire
from checks import Checks, equal, expect

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", help="a model for `fathom serve`")
parser.add_argument("--fathom", default="target/release/fathom")
parser.add_argument("--only", help="only checks whose name has this in it")
parser.add_argument("--trace", action="store_true", help="show where a check failed")
args = parser.parse_args()
checks = Checks("keys")
scratch = tempfile.TemporaryDirectory()
STORE = f"{scratch.name}/store.sqlite"
CHAT = "/v1/chat/completions"
QUESTION = {"model": "deepseek-chat", "messages": [{"role": "user", "content": "What is 3 + 4?"}], "max_tokens": 8}


def fathom_key(*words):
    """What `fathom key` says."""
    done = subprocess.run([args.fathom, "key", *words, "--store", STORE], capture_output=True, text=True)
    equal(done.returncode, 0, f"fathom key {' '.join(words)}: {done.stderr}")
    return done.stdout


def new_key(name, *more):
    said = fathom_key("add", name, *more)
    return next(word for word in said.split() if word.startswith("sk-fathom-"))


def ask(key=None, path=CHAT, body=QUESTION, **heads):
    if key:
        heads["authorization"] = f"Bearer {key}"
    return wire.ask(one.url, path, body, headers=heads)


def is_refused(reply, status):
    equal(reply.status, status, reply.body[:200])
    return reply.json()["error"]


@checks.case
def without_keys_everybody_may_ask_and_the_first_key_closes_the_door():
    equal(ask().status, 200)
    key = new_key("first")
    is_refused(ask(), 401)
    is_refused(ask("sk-fathom-wrong"), 401)
    equal(ask(key).status, 200)
    equal(wire.ask(one.url, CHAT, QUESTION, headers={"x-api-key": key}).status, 200)


@checks.case
def all_but_the_page_and_its_health_needs_a_key():
    for path in ("/v1/models", "/metrics", "/user/balance", "/api/conversations"):
        is_refused(wire.ask(one.url, path), 401)
    for path in ("/", "/health", "/api/info"):
        equal(wire.ask(one.url, path).status, 200, path)
    refused = wire.ask(one.url, "/v1/messages", QUESTION)
    equal((refused.status, refused.json()["type"]), (401, "error"))
    equal(refused.json()["error"]["type"], "authentication_error")


@checks.case
def money_is_spent_and_ends():
    fathom_key("prices", "--input", "1000", "--cached", "1000", "--output", "1000")
    key = new_key("poor", "--balance", "0.03")
    before = float(ask(key, "/user/balance", None).json()["balance_infos"][0]["total_balance"])
    equal(before, 0.03)
    used = 0
    while (reply := ask(key)).status == 200:
        used += reply.json()["usage"]["total_tokens"]
        expect(used < 1000, "the balance never ends")
    is_refused(reply, 402)
    info = ask(key, "/user/balance", None).json()
    equal(info["is_available"], False)
    return f"{used} tokens for 0.03 at 1000 a million"


@checks.case
def requests_a_minute_and_at_a_time_are_limited():
    key = new_key("slow", "--rpm", "2")
    equal([ask(key).status for _ in range(2)], [200, 200])
    reply = ask(key)
    is_refused(reply, 429)
    expect(int(reply.headers["retry-after"]) >= 1, reply.headers)
    key = new_key("single", "--concurrent", "1")
    long = {**QUESTION, "max_tokens": 400, "temperature": 2, "stream": True}
    with concurrent.futures.ThreadPoolExecutor(6) as many:
        statuses = list(many.map(lambda _: ask(key, body=long).status, range(6)))
    expect(200 in statuses and set(statuses) <= {200, 429}, statuses)
    return f"six at once: {sorted(statuses)}"


@checks.case
def conversations_belong_to_their_key():
    ann, bob = new_key("ann"), new_key("bob")
    made = ask(ann, "/api/conversations", {"title": "secret"}).json()["id"]
    equal(ask(ann, f"/api/conversations/{made}", None).status, 200)
    is_refused(ask(bob, f"/api/conversations/{made}", None), 404)
    equal(ask(bob, "/api/conversations", None).json(), [])


@checks.case
def cached_prompts_belong_to_their_key():
    words = " ".join(f"{n} apples and {n + 7} pears," for n in range(30))
    long = {**QUESTION, "messages": [{"role": "user", "content": words}], "max_tokens": 2}
    hits = lambda key: ask(key, body=long).json()["usage"]["prompt_cache_hit_tokens"]
    carol, dave = new_key("carol"), new_key("dave")
    equal(hits(carol), 0)
    expect(hits(carol) > 0, "her own prompt")
    equal(hits(dave), 0, "somebody else's prompt")


@checks.case
def a_revoked_key_is_refused_at_once():
    key = new_key("gone")
    equal(ask(key).status, 200)
    fathom_key("revoke", "gone")
    is_refused(ask(key), 401)


@checks.case
def keys_are_not_kept_in_clear():
    key = new_key("hidden")
    for name in os.listdir(scratch.name):
        if name.startswith("store"):
            content = open(f"{scratch.name}/{name}", "rb").read()
            expect(key.encode() not in content and key[10:].encode() not in content, f"{name} holds a key")


if __name__ == "__main__":
    command = [args.fathom, "serve", args.model, "--port", "{port}", "--quiet", "--store", STORE]
    with server.Server(command) as one:
        sys.exit(checks.run(args))
