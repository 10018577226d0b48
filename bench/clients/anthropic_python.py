"""The official `anthropic` package for Python against a running server: shapes and invariants, as openai_python.py.

Anthropic's interface has no seed, so answers are compared at temperature 0. Newer versions of the package do not know
`temperature`; it goes in as a further field of the body, where older ones put it too."""

import json
import sys

import anthropic
import jsonschema
from anthropic import Anthropic

import wire
from checks import Checks, Skip, arguments, equal, expect, refused

args = arguments(__doc__).parse_args()
checks = Checks(f"anthropic (python) {anthropic.__version__}")
settings = {"api_key": args.key, "max_retries": 0, "timeout": 300}
client = Anthropic(base_url=f"{args.url}/anthropic", **settings)
short = Anthropic(base_url=args.url, **settings)

MODEL = "deepseek-chat"
QUESTION = [{"role": "user", "content": "Tom has 3 apples and buys 4 more. How many apples does he have?"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "a": {"type": "integer", "minimum": 0, "maximum": 99},
        "unit": {"type": "string", "enum": ["apples", "pears"]},
    },
    "required": ["a", "unit"],
    "additionalProperties": False,
}
TOOL = {"name": "count_things", "description": "Counts things.", "strict": True, "input_schema": SCHEMA}


LIKELIEST = {"extra_body": {"temperature": 0}}


def ask(on=client, temperature=0, body=None, **more):
    wanted = {"model": MODEL, "messages": QUESTION, "max_tokens": 40, **more}
    return on.messages.create(**wanted, extra_body={"temperature": temperature, **(body or {})})


def need_room():
    """The description of a tool and its call take several hundred tokens of a small vocabulary."""
    context = wire.ask(args.url, "/v1/models", headers={"x-api-key": args.key}).json()["data"][0]["max_model_len"]
    if context < 1024:
        raise Skip("the model's context is too small")


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def said(message):
    """The blocks without what is new every time."""
    return [block.model_dump(exclude={"id"}) for block in message.content]


@checks.case
def a_message_has_its_shape():
    message = ask()
    equal((message.type, message.role, message.model), ("message", "assistant", MODEL))
    expect(message.id.startswith("msg_"), message.id)
    expect(message.stop_reason in ("end_turn", "max_tokens"), message.stop_reason)
    expect(message.usage.output_tokens > 0 and message.usage.input_tokens >= 0, "usage")
    expect(message._request_id, "a request id")


@checks.case
def both_paths_give_the_same_message():
    equal(said(ask(short)), said(ask()))


@checks.case
def the_streamed_message_is_the_whole_one():
    whole = ask(max_tokens=80)
    with client.messages.stream(model=MODEL, messages=QUESTION, max_tokens=80, **LIKELIEST) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    equal(text, text_of(whole))
    equal(said(final), said(whole))
    equal(final.stop_reason, whole.stop_reason)
    equal(final.usage.output_tokens, whole.usage.output_tokens)


@checks.case
def events_come_in_their_order():
    kinds = [event.type for event in ask(stream=True) if event.type != "ping"]
    equal((kinds[0], kinds[-2], kinds[-1]), ("message_start", "message_delta", "message_stop"))
    equal(kinds.count("content_block_start"), kinds.count("content_block_stop"))


@checks.case
def counted_tokens_are_those_of_the_usage():
    system = "You count things. " * 12
    counted = client.messages.count_tokens(model=MODEL, messages=QUESTION, system=system).input_tokens
    for _ in range(2):
        usage = ask(system=system).usage
        equal(usage.input_tokens + (usage.cache_read_input_tokens or 0), counted)
    expect(
        counted > client.messages.count_tokens(model=MODEL, messages=QUESTION).input_tokens, "the system text counts"
    )


@checks.case
def system_text_may_be_blocks_and_messages_may_be_blocks():
    blocks = [{"type": "text", "text": QUESTION[0]["content"], "cache_control": {"type": "ephemeral"}}]
    plain = ask(system="Count.")
    equal(
        said(ask(system=[{"type": "text", "text": "Count."}], messages=[{"role": "user", "content": blocks}])),
        said(plain),
    )


@checks.case
def a_stop_sequence_ends_the_message():
    text = text_of(ask())
    expect(len(text) > 8, f"{text!r} is long enough")
    stop = text[len(text) // 2 :].strip()[:3]
    message = ask(stop_sequences=[stop])
    equal((message.stop_reason, message.stop_sequence), ("stop_sequence", stop))
    equal(text_of(message), text[: text.index(stop)])


@checks.case
def thinking_comes_as_a_block_and_may_be_sent_back():
    message = ask(thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=400)
    if message.content and message.content[0].type != "thinking":
        raise Skip("the model never thinks")
    expect(message.content[0].signature, "a signature")
    with client.messages.stream(
        model=MODEL, messages=QUESTION, max_tokens=120, **LIKELIEST, thinking={"type": "enabled", "budget_tokens": 1024}
    ) as stream:
        equal(said(stream.get_final_message()), said(message))
    turn = {"role": "assistant", "content": [block.model_dump() for block in message.content]}
    turn["content"].append({"type": "text", "text": "7"})
    later = ask(messages=[*QUESTION, turn, {"role": "user", "content": "And one more?"}])
    equal(later.type, "message")
    expect(all(block.type != "thinking" for block in ask(thinking={"type": "disabled"}).content), "no thinking")


@checks.case
def a_forced_tool_is_used_and_its_result_is_read():
    need_room()
    for choice in ({"type": "any"}, {"type": "tool", "name": "count_things"}):
        message = ask(tools=[TOOL], tool_choice={**choice, "disable_parallel_tool_use": True}, max_tokens=400)
        equal(message.stop_reason, "tool_use")
        use = message.content[-1]
        equal((use.type, use.name), ("tool_use", "count_things"))
        jsonschema.validate(use.input, SCHEMA)
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "7"}]}
    turns = [
        *QUESTION,
        {"role": "assistant", "content": [block.model_dump() for block in message.content]},
        {"role": "user", "content": [result]},
    ]
    equal(ask(messages=turns, tools=[TOOL]).type, "message")
    expect(
        all(b.type != "tool_use" for b in ask(messages=turns, tools=[TOOL], tool_choice={"type": "none"}).content),
        "no use",
    )
    refused(anthropic.BadRequestError, lambda: ask(messages=turns[:2], tools=[TOOL]))


@checks.case
def a_streamed_tool_use_is_the_whole_one():
    need_room()
    wanted = {"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}, "max_tokens": 400}
    whole = ask(**wanted)
    with client.messages.stream(model=MODEL, messages=QUESTION, **LIKELIEST, **wanted) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    equal(said(final), said(whole))
    equal(json.loads("".join(pieces)), whole.content[-1].input)


@checks.case
def an_answer_held_to_a_schema_validates():
    config = {"format": {"type": "json_schema", "schema": SCHEMA}}
    message = ask(body={"output_config": config}, max_tokens=400, temperature=1.2)
    jsonschema.validate(json.loads(text_of(message)), SCHEMA)


@checks.case
def an_answer_that_was_begun_goes_on():
    begun = [*QUESTION, {"role": "assistant", "content": "The sum"}]
    message = ask(messages=begun)
    expect(not text_of(message).startswith("The sum"), "only what is new")


@checks.case
def other_names_are_answered_by_the_model_that_is_here():
    equal(ask(model="claude-sonnet-4-5").model, "claude-sonnet-4-5")


@checks.case
def refusals_are_the_exceptions_that_programs_expect():
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    wrong = [
        (anthropic.BadRequestError, {"messages": []}),
        (anthropic.BadRequestError, {"messages": [{"role": "user", "content": [image]}]}),
        (anthropic.BadRequestError, {"messages": [{"role": "robot", "content": "x"}]}),
        (anthropic.BadRequestError, {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}}),
        (anthropic.BadRequestError, {"messages": [{"role": "user", "content": "x " * 300_000}]}),
        (anthropic.UnprocessableEntityError, {"temperature": 3}),
    ]
    for kind, fields in wrong:
        error = refused(kind, lambda: ask(**fields))
        equal(error.body["type"], "error")
        equal(error.body["error"]["type"], "invalid_request_error")
        expect(error.body["error"]["message"], "a message")
    refused(
        anthropic.BadRequestError,
        lambda: client.post("/v1/messages", body={"model": MODEL, "messages": QUESTION}, cast_to=dict),
    )


@checks.case
def what_is_not_there_is_not_found():
    refused(anthropic.NotFoundError, lambda: client.messages.batches.list())


@checks.case
def a_stream_that_is_left_ends():
    stream = ask(stream=True, max_tokens=400, temperature=1.5)
    next(iter(stream))
    stream.close()
    equal(ask(max_tokens=4).type, "message")


if __name__ == "__main__":
    sys.exit(checks.run(args))
