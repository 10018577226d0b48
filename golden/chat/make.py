"""Writes `cases.json`: chat templates, conversations, and what Hugging Face makes of them.

    DIR/bin/python golden/chat/make.py            # DIR: see bench/peers/setup.sh
    DIR/bin/python golden/chat/make.py --check    # recompute and compare

The templates in `templates/` are ours: each `feature_*` exercises a part of the language, each
`style_*` is laid out as a family's released template is. Those of the built-in formats are read
from `crates/text/src/chat/formats`. All are rendered by `transformers`, with the tokens below.
"""

import argparse
import json
import sys
from pathlib import Path

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).resolve().parent
FORMATS = HERE.parents[1] / "crates/text/src/chat/formats"
TOKENS = {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>", "pad_token": "<｜▁pad▁｜>"}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a \"place\" — now, in °C & more <b>",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "default": 3}},
            "required": ["place"],
            "additionalProperties": False,
            "x": [1, 2.5, 1e-7, 1e20, None, True, [], {}],
        },
    },
}
TIME = {"type": "function", "function": {"name": "time", "description": "", "parameters": {"z": 1, "a": 2}}}


def call(name, arguments):
    return {"id": "call_" + name, "type": "function", "function": {"name": name, "arguments": arguments}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def tool(text):
    return {"role": "tool", "content": text, "tool_call_id": "call_x"}


CONVERSATIONS = {
    "question": [user("1+1?")],
    "turns": [user("Hi, who are you?"), assistant("A program.\n"), user("  spaces  \n\nand lines\t")],
    "system": [system("Be brief. 简洁。"), user("Größe?"), assistant("Ü"), user("π ≈ 3 🙂")],
    "systems": [system("One."), user("a"), system("Two."), assistant("b"), user("c")],
    "thinking": [user("2+2?"), assistant("<think>\neasy\n</think>\n\n4"), user("3+3?")],
    "thinking_twice": [user("q"), assistant("a</think>b</think>c"), user("r"), assistant("no thought")],
    "reasoning": [user("2+2?"), assistant("4", reasoning_content="easy"), user("3+3?"), assistant("6", reasoning_content="as easy")],
    "answered": [user("q"), assistant("a")],
    "empty": [user(""), assistant(""), user("")],
}
TOOLS = {
    "calls": [
        system("Use tools."),
        user("Weather in Paris and Rome?"),
        assistant(None, tool_calls=[call("get_weather", '{"place": "Paris"}'), call("get_weather", '{"place": "Rome", "days": 2}')]),
        tool('{"temp": 20}'),
        tool("25 °C"),
    ],
    "calls_answered": [
        user("Weather?"),
        assistant("I look.", tool_calls=[call("get_weather", "{}")]),
        tool("rain"),
        assistant("It rains."),
        user("And the time?"),
    ],
}


def cases():
    def case(template, conversation, tools=None, prompt=True, **variables):
        messages = (CONVERSATIONS | TOOLS)[conversation]
        return {
            "template": template,
            "conversation": conversation,
            "tools": tools or [],
            "add_generation_prompt": prompt,
            "variables": variables,
            "expected": render(template, messages, tools, prompt, variables),
        }

    for path in sorted((HERE / "templates").glob("*.jinja")):
        for conversation in CONVERSATIONS:
            yield case(path.stem, conversation)
        yield case(path.stem, "answered", prompt=False)
        yield case(path.stem, "turns", thinking=True, enable_thinking=True)
        yield case(path.stem, "turns", thinking=False, enable_thinking=False)
        if "tool" in path.read_text():
            for conversation in TOOLS:
                yield case(path.stem, conversation, tools=[WEATHER, TIME])
            yield case(path.stem, "system", tools=[TIME])
    for path in sorted(FORMATS.glob("*.jinja")):
        name = "built-in:" + path.stem
        for conversation in CONVERSATIONS:
            yield case(name, conversation)
        yield case(name, "answered", prompt=False)
        yield case(name, "turns", thinking=True)
        for conversation in TOOLS:
            yield case(name, conversation, tools=[WEATHER, TIME])
        yield case(name, "question", tools=[TIME])


def template_text(name):
    if name.startswith("built-in:"):
        return (FORMATS / (name.removeprefix("built-in:") + ".jinja")).read_text()
    return (HERE / "templates" / (name + ".jinja")).read_text()


def render(template, messages, tools, prompt, variables):
    try:
        texts, _ = render_jinja_template(
            conversations=[messages],
            tools=tools,
            chat_template=template_text(template),
            add_generation_prompt=prompt,
            **TOKENS,
            **variables,
        )
        return {"text": texts[0]}
    except (jinja2.exceptions.TemplateError, TypeError) as error:
        return {"error": type(error).__name__, "message": str(error)}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--check", action="store_true")
    check = arguments.parse_args().check
    made = {
        "source": f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}",
        "tokens": TOKENS,
        "conversations": CONVERSATIONS | TOOLS,
        "cases": list(cases()),
    }
    text = json.dumps(made, ensure_ascii=False, indent=1) + "\n"
    path = HERE / "cases.json"
    if check:
        same = json.loads(path.read_text())["cases"] == made["cases"]
        print("equal" if same else "different")
        sys.exit(not same)
    path.write_text(text)
    print(len(made["cases"]), "cases")


if __name__ == "__main__":
    main()
