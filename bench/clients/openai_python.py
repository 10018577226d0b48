"""The official `openai` package for Python against a running server.

Checks shapes and invariants, not wit: any model will do, also one that was trained for minutes. What the model says
is compared only with what it says in another way."""

import asyncio
import json
import sys

import jsonschema
import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, ConfigDict, Field
from typing import Literal

from checks import Checks, Skip, arguments, equal, expect, refused

args = arguments(__doc__).parse_args()
checks = Checks(f"openai (python) {openai.__version__}")
settings = {"api_key": args.key, "max_retries": 0, "timeout": 300}
client = OpenAI(base_url=f"{args.url}/v1", **settings)
beta = OpenAI(base_url=f"{args.url}/beta", **settings)
bare = OpenAI(base_url=args.url, **settings)

CHAT = "deepseek-chat"
REASONER = "deepseek-reasoner"
QUESTION = [{"role": "user", "content": "Tom has 3 apples and buys 4 more. How many apples does he have?"}]
JSON_QUESTION = [{"role": "user", "content": "Answer in json, please: what is 3 + 4?"}]
ADD = {
    "type": "function",
    "function": {
        "name": "add_numbers",
        "description": "Adds two numbers.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {
                "a": {"type": "integer", "minimum": 0, "maximum": 99},
                "b": {"type": "integer", "minimum": 0, "maximum": 99},
            },
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
SKY = {
    "type": "function",
    "function": {
        "name": "sky-color",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"when": {"type": "string", "enum": ["day", "night"]}},
            "required": ["when"],
            "additionalProperties": False,
        },
    },
}


def ask(**more):
    """A short seeded answer at once."""
    wanted = {"model": CHAT, "messages": QUESTION, "seed": 11, "max_tokens": 40, "temperature": 0.8, **more}
    return client.chat.completions.create(**wanted)


def joined(stream):
    """What a stream of one answer says: reasoning, content, why it ended, usage; its order is checked on the way."""
    reasoning, content, finish, usage, n_chunks = "", "", None, None, 0
    for chunk in stream:
        equal(chunk.object, "chat.completion.chunk", "object")
        n_chunks += 1
        if not chunk.choices:
            usage = chunk.usage
            continue
        expect(usage is None, "the usage comes last")
        expect(finish is None, "nothing comes after the finish_reason")
        choice = chunk.choices[0]
        if n_chunks == 1:
            equal(choice.delta.role, "assistant", "role of the first chunk")
        more = getattr(choice.delta, "reasoning_content", None)
        if more:
            expect(not content, "reasoning comes before content")
            reasoning += more
        content += choice.delta.content or ""
        finish = choice.finish_reason
    return reasoning, content, finish, usage


def reasoning_of(message):
    return getattr(message, "reasoning_content", None) or ""


def add_up(usage):
    """Checks that the parts of a usage make its whole."""
    equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total_tokens")
    hit, miss = usage.prompt_cache_hit_tokens, usage.prompt_cache_miss_tokens
    equal(hit + miss, usage.prompt_tokens, "hit + miss")
    equal(usage.prompt_tokens_details.cached_tokens, hit, "cached_tokens")
    expect(hit % 64 == 0, f"{hit} cached tokens are whole blocks")
    expect(usage.completion_tokens_details.reasoning_tokens <= usage.completion_tokens, "reasoning_tokens")


@checks.case
def models_are_listed_and_can_be_retrieved():
    names = [model.id for model in client.models.list()]
    expect(CHAT in names, f"{CHAT} is among {names}")
    for name in names:
        equal(client.models.retrieve(name).id, name)
    equal([model.id for model in bare.models.list()], names, "the list without /v1")
    return ", ".join(names)


@checks.case
def an_answer_has_its_shape_and_the_usage_adds_up():
    answer = ask()
    equal(answer.object, "chat.completion")
    expect(answer.id and answer.created > 1e9, "id and time")
    equal(answer.model, CHAT)
    choice = answer.choices[0]
    equal((choice.index, choice.message.role), (0, "assistant"))
    expect(choice.finish_reason in ("stop", "length"), choice.finish_reason)
    expect(isinstance(choice.message.content, str), "content is text")
    add_up(answer.usage)


@checks.case
def the_bare_and_the_beta_base_give_the_same_answer():
    wanted = {"model": CHAT, "messages": QUESTION, "seed": 11, "max_tokens": 40, "temperature": 0.8}
    texts = {c.chat.completions.create(**wanted).choices[0].message.content for c in (client, bare, beta)}
    equal(len(texts), 1, "different answers")


@checks.case
def a_stream_joined_is_the_whole_answer():
    for model in (CHAT, REASONER):
        try:
            whole = ask(model=model, max_tokens=80)
        except openai.NotFoundError:
            continue
        stream = ask(model=model, max_tokens=80, stream=True, stream_options={"include_usage": True})
        reasoning, content, finish, usage = joined(stream)
        choice = whole.choices[0]
        equal(reasoning, reasoning_of(choice.message), "reasoning")
        equal(content, choice.message.content or "", "content")
        equal(finish, choice.finish_reason)
        equal(usage.completion_tokens, whole.usage.completion_tokens)
        add_up(usage)


@checks.case
def a_stream_without_include_usage_has_no_usage():
    for chunk in ask(stream=True):
        expect(chunk.usage is None and chunk.choices, "no usage and no empty chunk")


@checks.case
def the_same_seed_gives_the_same_answer_and_another_seed_another():
    first, again = ask(temperature=1.0), ask(temperature=1.0)
    equal(again.choices[0].message.content, first.choices[0].message.content)
    others = {ask(temperature=1.5, seed=seed).choices[0].message.content for seed in range(6)}
    expect(len(others) > 1, "six seeds say the same")


@checks.case
def the_likeliest_answer_needs_no_seed():
    texts = {ask(temperature=0, seed=seed).choices[0].message.content for seed in (1, 2, 3)}
    equal(len(texts), 1, "different answers")


@checks.case
def several_answers_differ_and_the_first_is_the_one_given_alone():
    several = ask(n=4, temperature=1.2)
    equal([choice.index for choice in several.choices], [0, 1, 2, 3])
    expect(len({choice.message.content for choice in several.choices}) > 1, "four answers differ")
    alone = ask(temperature=1.2)
    equal(several.choices[0].message.content, alone.choices[0].message.content)
    equal(several.usage.prompt_tokens, alone.usage.prompt_tokens, "the prompt counts once")
    add_up(several.usage)


@checks.case
def streams_of_several_answers_are_told_apart_by_index():
    whole = ask(n=3, temperature=1.2)
    texts, ends = ["", "", ""], [None] * 3
    for chunk in ask(n=3, temperature=1.2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends[choice.index] = ends[choice.index] or choice.finish_reason
    equal(texts, [choice.message.content or "" for choice in whole.choices])
    equal(ends, [choice.finish_reason for choice in whole.choices])


@checks.case
def scores_of_tokens_make_the_text_and_are_the_same_in_a_stream():
    whole = ask(logprobs=True, top_logprobs=3)
    entries = whole.choices[0].logprobs.content
    check_scores(entries, whole.choices[0].message.content, 3)
    streamed = []
    for chunk in ask(logprobs=True, top_logprobs=3, stream=True):
        for choice in chunk.choices:
            streamed += (choice.logprobs and choice.logprobs.content) or []
    equal([(e.token, e.logprob) for e in streamed], [(e.token, e.logprob) for e in entries])
    expect(ask().choices[0].logprobs is None, "no scores unless asked for")


def check_scores(entries, text, n_top):
    """Entries are the tokens of the text, each with `n_top` alternatives in falling order."""
    raw = b"".join(bytes(entry.bytes or []) for entry in entries)
    # The token that ends the answer has a score and no text.
    expect(raw.decode(errors="replace").startswith(text), f"tokens make {raw!r}, not {text!r}")
    for entry in entries:
        expect(entry.logprob <= 1e-6, f"{entry.logprob} is a log-probability")
        equal(len(entry.top_logprobs), n_top, "alternatives")
        values = [top.logprob for top in entry.top_logprobs]
        equal(values, sorted(values, reverse=True), "alternatives in order")
        expect(entry.logprob <= values[0] + 1e-6, "the first alternative is the likeliest")


@checks.case
def scores_of_the_likeliest_answer_are_the_highest():
    for entry in ask(temperature=0, logprobs=True, top_logprobs=1).choices[0].logprobs.content:
        equal(entry.logprob, entry.top_logprobs[0].logprob)


@checks.case
def a_stop_string_ends_the_answer_before_it():
    text = ask(temperature=1.0).choices[0].message.content
    expect(len(text) > 8, f"{text!r} is long enough")
    stop = text[len(text) // 2 :][:3]
    for stream in (False, True):
        for stops in (stop, ["never to be found", stop]):
            answer = ask(temperature=1.0, stop=stops, stream=stream)
            found = (
                joined(answer)[1:3] if stream else (answer.choices[0].message.content, answer.choices[0].finish_reason)
            )
            equal(found, (text[: text.index(stop)], "stop"))


@checks.case
def an_answer_ends_at_its_length():
    for field in ("max_tokens", "max_completion_tokens"):
        answer = client.chat.completions.create(model=CHAT, messages=QUESTION, seed=1, temperature=1.5, **{field: 5})
        expect(answer.usage.completion_tokens <= 5, f"{answer.usage.completion_tokens} tokens")
        if answer.choices[0].finish_reason == "length":
            equal(answer.usage.completion_tokens, 5)


@checks.case
def a_bias_brings_a_token_and_penalties_change_an_answer():
    token = tokenize(" 7")[-1]
    answer = ask(temperature=0, logit_bias={str(token): 100}, max_tokens=4)
    equal(len(set(tokenize(answer.choices[0].message.content))), 1, "tokens of the answer")
    # Of two tokens that are wanted alike, each is punished more the oftener it came.
    both = {str(token): 100, str(tokenize("=")[-1]): 100}
    answer = ask(temperature=0, logit_bias=both, frequency_penalty=2, presence_penalty=2, max_tokens=60)
    equal(len(set(tokenize(answer.choices[0].message.content))), 2, "tokens of the punished answer")


def tokenize(text, **more):
    return client.post(f"{args.url}/tokenize", body={"content": text, **more}, cast_to=dict)["tokens"]


@checks.case
def thinking_is_apart_and_counts():
    try:
        answer = ask(model=REASONER, max_tokens=60)
    except openai.NotFoundError as error:
        raise Skip("the model never thinks") from error
    expect(reasoning_of(answer.choices[0].message), "there is a thinking")
    expect("<think>" not in reasoning_of(answer.choices[0].message), "without markers")
    expect(answer.usage.completion_tokens_details.reasoning_tokens > 0, "reasoning_tokens")
    at_once = ask(model=REASONER, extra_body={"thinking": {"type": "disabled"}})
    equal(reasoning_of(at_once.choices[0].message), "", "thinking that is turned off")
    own = client.models.list().data[0].id
    thinks = ask(model=own, extra_body={"thinking": {"type": "enabled"}}, max_tokens=60)
    expect(reasoning_of(thinks.choices[0].message), "thinking that is turned on")


@checks.case
def earlier_thinking_may_be_sent_back_and_is_not_read():
    turn = {"role": "assistant", "content": "7"}
    messages = [*QUESTION, turn, {"role": "user", "content": "And one more?"}]
    plain = ask(messages=messages)
    messages[1] = {**turn, "reasoning_content": "three and four, let me see"}
    thought = ask(messages=messages)
    equal(thought.usage.prompt_tokens, plain.usage.prompt_tokens)
    equal(thought.choices[0].message.content, plain.choices[0].message.content)


class Verdict(BaseModel):
    """What is asked for as JSON: bounded, so that every model comes to an end."""

    model_config = ConfigDict(extra="forbid")
    answer: int = Field(ge=0, le=999)
    certain: bool
    unit: Literal["apples", "pears", "苹果"]


@checks.case
def json_of_a_schema_parses_and_validates_with_every_seed():
    for seed in range(4):
        answer = client.chat.completions.parse(
            model=CHAT, messages=QUESTION, seed=seed, temperature=1.2, max_tokens=400, response_format=Verdict
        )
        choice = answer.choices[0]
        equal(choice.finish_reason, "stop")
        expect(choice.message.parsed is not None, "parsed")
        jsonschema.validate(json.loads(choice.message.content), Verdict.model_json_schema())


@checks.case
def json_of_a_schema_comes_after_the_thinking():
    form = {
        "type": "json_schema",
        "json_schema": {"name": "verdict", "strict": True, "schema": Verdict.model_json_schema()},
    }
    try:
        found = [ask(model=REASONER, seed=seed, max_tokens=450, response_format=form) for seed in range(3)]
    except openai.NotFoundError as error:
        raise Skip("the model never thinks") from error
    ended = [answer.choices[0].message for answer in found if answer.choices[0].finish_reason == "stop"]
    for message in ended:
        Verdict.model_validate_json(message.content)
    return f"{len(ended)} of {len(found)} thoughts came to an end"


@checks.case
def a_json_object_is_one_or_was_cut_off():
    n_whole = 0
    for seed in range(4):
        answer = ask(
            messages=JSON_QUESTION, seed=seed, max_tokens=400, temperature=1.0, response_format={"type": "json_object"}
        )
        choice = answer.choices[0]
        expect(choice.message.content.lstrip().startswith("{"), choice.message.content)
        if choice.finish_reason == "stop":
            expect(isinstance(json.loads(choice.message.content), dict), "an object")
            n_whole += 1
    return f"{n_whole} of 4 were complete"


@checks.case
def a_forced_call_parses_and_validates():
    for choice, names in (
        ("required", {"add_numbers", "sky-color"}),
        ({"type": "function", "function": {"name": "sky-color"}}, {"sky-color"}),
    ):
        for seed in range(3):
            answer = ask(seed=seed, tools=[ADD, SKY], tool_choice=choice, max_tokens=400, parallel_tool_calls=False)
            check_calls(answer.choices[0], names)


def check_calls(choice, names):
    """The answer calls one of `names`, with arguments of its schema."""
    equal(choice.finish_reason, "tool_calls")
    calls = choice.message.tool_calls
    equal(len(calls), 1, "calls")
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in (ADD, SKY)}
    for call in calls:
        equal(call.type, "function")
        expect(call.id, "an id")
        expect(call.function.name in names, call.function.name)
        jsonschema.validate(json.loads(call.function.arguments), schemas[call.function.name])


@checks.case
def a_streamed_call_is_the_whole_one():
    wanted = {"tools": [ADD, SKY], "tool_choice": "required", "max_tokens": 400, "parallel_tool_calls": False}
    whole = ask(**wanted).choices[0].message.tool_calls[0].function
    with client.chat.completions.stream(model=CHAT, messages=QUESTION, seed=11, temperature=0.8, **wanted) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    call = final.choices[0].message.tool_calls[0].function
    equal((call.name, json.loads(call.arguments)), (whole.name, json.loads(whole.arguments)))


@checks.case
def several_calls_may_stand_in_one_answer():
    most = 0
    for seed in range(4):
        answer = ask(seed=seed, tools=[ADD, SKY], tool_choice="required", max_tokens=160, temperature=1.5)
        calls = answer.choices[0].message.tool_calls or []
        equal(len({call.id for call in calls}), len(calls), "different ids")
        most = max(most, len(calls))
    return f"at most {most}"


@checks.case
def results_of_tools_are_read_and_no_tool_is_called_where_none_is_allowed():
    answer = ask(tools=[ADD], tool_choice="required", max_tokens=400, parallel_tool_calls=False)
    message = answer.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "7"}
    messages = [*QUESTION, message.model_dump(exclude_none=True), result]
    for choice in ("auto", "none"):
        next_turn = ask(messages=messages, tools=[ADD], tool_choice=choice)
        if choice == "none":
            expect(not next_turn.choices[0].message.tool_calls, "no calls")
    refused(openai.BadRequestError, lambda: ask(messages=messages[:2], tools=[ADD]))
    result["tool_call_id"] = "another"
    refused(openai.BadRequestError, lambda: ask(messages=messages, tools=[ADD]))


@checks.case
def a_prefix_goes_on():
    whole = ask(temperature=0).choices[0].message.content
    expect(len(whole) > 4, "an answer to begin with")
    begun = [*QUESTION, {"role": "assistant", "content": "The sum", "prefix": True}]
    answer = beta.chat.completions.create(model=CHAT, messages=begun, seed=3, max_tokens=20)
    expect(not answer.choices[0].message.content.startswith("The sum"), "only what is new")
    longer = [*QUESTION, {"role": "assistant", "content": "The sum of both numbers", "prefix": True}]
    expect(
        beta.chat.completions.create(model=CHAT, messages=longer, seed=3, max_tokens=20).usage.prompt_tokens
        > answer.usage.prompt_tokens,
        "the prefix is part of the prompt",
    )
    error = refused(openai.BadRequestError, lambda: ask(messages=begun))
    expect("beta" in error.message, error.message)


@checks.case
def text_goes_on_whole_and_streamed():
    wanted = {"model": CHAT, "prompt": "Tom has 3 apples", "seed": 5, "max_tokens": 30, "temperature": 0.9}
    whole = client.completions.create(**wanted)
    equal(whole.object, "text_completion")
    add_up(whole.usage)
    text = "".join(c.choices[0].text for c in client.completions.create(**wanted, stream=True) if c.choices)
    equal(text, whole.choices[0].text)
    ids = tokenize(wanted["prompt"], add_special=True)
    by_ids = client.completions.create(**{**wanted, "prompt": ids})
    equal(by_ids.choices[0].text, whole.choices[0].text, "token ids")
    equal(by_ids.usage.prompt_tokens, len(ids))


@checks.case
def several_prompts_are_answered_in_order():
    prompts = ["Tom has", "Anna buys 12", "小明有"]
    wanted = {"model": CHAT, "seed": 5, "max_tokens": 12, "temperature": 0.9}
    together = client.completions.create(prompt=prompts, **wanted)
    alone = [client.completions.create(prompt=prompt, **wanted) for prompt in prompts]
    equal([choice.text for choice in together.choices], [one.choices[0].text for one in alone])
    equal([choice.index for choice in together.choices], [0, 1, 2])
    equal(together.usage.total_tokens, sum(one.usage.total_tokens for one in alone))
    twice = client.completions.create(prompt=prompts[:2], n=2, **wanted)
    equal([choice.index for choice in twice.choices], [0, 1, 2, 3])


@checks.case
def an_echo_scores_the_prompt():
    prompt = "Tom has 3 apples and 4 pears."
    wanted = {"model": CHAT, "prompt": prompt, "echo": True, "logprobs": 2, "temperature": 0}
    scored = client.completions.create(max_tokens=0, **wanted).choices[0]
    equal(scored.text, prompt)
    scores = scored.logprobs
    n = len(scores.tokens)
    equal([len(scores.token_logprobs), len(scores.text_offset), len(scores.top_logprobs)], [n, n, n])
    expect(scores.token_logprobs[0] is None, "nothing stands before the first token")
    expect(all(score <= 0 for score in scores.token_logprobs[1:]), "log-probabilities")
    longer = client.completions.create(max_tokens=6, **wanted).choices[0]
    expect(longer.text.startswith(prompt), "prompt and answer")
    equal(longer.logprobs.token_logprobs[:n], scores.token_logprobs, "scores with and without an answer")
    # What was drawn greedily is the likeliest of its place.
    for score, top in list(zip(longer.logprobs.token_logprobs, longer.logprobs.top_logprobs))[n:]:
        equal(score, max(top.values()))


@checks.case
def a_text_has_the_same_scores_as_an_answer_and_as_a_prompt():
    wanted = {"model": CHAT, "logprobs": 0, "temperature": 0}
    n_compared = 0
    for text in ("Tom has 3 apples", "3 + 4 =", "小明有 3 个苹果", "How many", "She buys 12 more and", "7, 7, 7,"):
        ids = tokenize(text, add_special=True)
        drawn = client.completions.create(prompt=ids, max_tokens=6, **wanted).choices[0]
        more = tokenize(drawn.text)
        if len(more) != len(drawn.logprobs.tokens):
            continue  # the answer is made of other tokens than its text would be
        read = client.completions.create(prompt=ids + more, max_tokens=0, echo=True, **wanted).choices[0]
        equal(read.logprobs.token_logprobs[len(ids) :], drawn.logprobs.token_logprobs)
        n_compared += 1
    if not n_compared:
        raise Skip("no answer's text is made of the tokens that were drawn")
    return f"{n_compared} answers"


@checks.case
def a_hole_is_filled_or_refused_by_name():
    fill = lambda: beta.completions.create(
        model=CHAT, prompt="def add(a, b):\n", suffix="\n    return c", max_tokens=16, seed=1
    )
    try:
        expect(isinstance(fill().choices[0].text, str), "text")
        return "filled"
    except openai.BadRequestError as error:
        equal(error.param, "suffix")
        return f"refused: {error.body['message'].splitlines()[0]}"


@checks.case
def a_repeated_prompt_is_found_in_the_cache():
    words = " ".join(f"{n} apples and {n + 7} pears," for n in range(20))
    messages = [{"role": "user", "content": f"{words} how many?"}]
    first, again = (ask(messages=messages, max_tokens=16) for _ in range(2))
    expect(first.usage.prompt_tokens > 128, f"{first.usage.prompt_tokens} tokens are enough")
    hit = again.usage.prompt_cache_hit_tokens
    expect(hit >= 64, f"{hit} tokens were cached")
    equal(again.choices[0].message.content, first.choices[0].message.content)
    return f"{hit} of {again.usage.prompt_tokens} tokens"


@checks.case
def answers_given_together_are_those_given_alone():
    asked = [{"seed": seed, "max_tokens": 30, "temperature": 1.0} for seed in range(12)]
    alone = [ask(**one).choices[0].message.content for one in asked]

    async def together():
        async with AsyncOpenAI(base_url=f"{args.url}/v1", **settings) as many:
            calls = (many.chat.completions.create(model=CHAT, messages=QUESTION, **one) for one in asked)
            return [answer.choices[0].message.content for answer in await asyncio.gather(*calls)]

    equal(asyncio.run(together()), alone)


@checks.case
def a_stream_that_is_left_ends():
    stream = ask(max_tokens=400, temperature=1.5, stream=True)
    next(iter(stream))
    stream.close()
    equal(ask(max_tokens=5).object, "chat.completion")


@checks.case
def an_unknown_field_is_answered_with_a_warning():
    raw = client.chat.completions.with_raw_response.create(
        model=CHAT, messages=QUESTION, max_tokens=4, extra_body={"no_such_field": 1}
    )
    warning = raw.headers.get("x-fathom-warning") or ""
    expect("no_such_field" in warning, f"the warning is {warning!r}")
    expect("no_such_field" in str(raw.parse().model_extra.get("warnings")), "warnings in the body")


@checks.case
def the_explain_view_tells_every_token():
    choice = ask(extra_body={"explain": True}).choices[0]
    tokens = choice.model_extra["explain"]
    expect(tokens, "tokens")
    for token in tokens:
        expect({"id", "text", "logprob", "top", "experts"} <= token.keys(), f"{token}")
        expect(len(token["top"]) == 5, "five alternatives")
    expect("".join(token["text"] for token in tokens).startswith(choice.message.content[:4]), "their text")
    return f"{len(tokens)} tokens, {len(tokens[0]['experts'])} experts each"


@checks.case
def refusals_are_the_exceptions_that_programs_expect():
    wrong = [
        (openai.NotFoundError, {"model": "gpt-4o"}, {"param": "model", "code": "model_not_found"}),
        (openai.BadRequestError, {"messages": []}, {"param": "messages"}),
        (openai.BadRequestError, {"temperature": "hot"}, {"param": "temperature"}),
        (openai.UnprocessableEntityError, {"temperature": 3}, {"param": "temperature"}),
        (openai.UnprocessableEntityError, {"n": 100}, {"param": "n"}),
        (openai.UnprocessableEntityError, {"top_logprobs": 21, "logprobs": True}, {"param": "top_logprobs"}),
        (openai.BadRequestError, {"top_logprobs": 2}, {"param": "top_logprobs"}),
        (
            openai.BadRequestError,
            {"messages": [{"role": "user", "content": "x " * 300_000}]},
            {"code": "context_length_exceeded"},
        ),
        (openai.BadRequestError, {"tool_choice": "required"}, {"param": "tool_choice"}),
        (openai.BadRequestError, {"response_format": {"type": "json_object"}}, {"param": "response_format"}),
    ]
    for kind, fields, expected in wrong:
        refused(kind, lambda: ask(**fields), **expected)
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]
    error = refused(openai.BadRequestError, lambda: ask(messages=image))
    equal(error.param, "messages[0].content[0].type")


@checks.case
def what_is_not_there_is_not_found():
    for call in (
        lambda: client.embeddings.create(model=CHAT, input="x"),
        lambda: client.images.generate(model=CHAT, prompt="x"),
        lambda: client.responses.create(model=CHAT, input="x"),
        lambda: client.models.retrieve("gpt-4o"),
        lambda: client.files.list(),
    ):
        refused(openai.NotFoundError, call)


if __name__ == "__main__":
    sys.exit(checks.run(args))
