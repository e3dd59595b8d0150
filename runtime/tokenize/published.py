"""What jinja2 makes of conversations with chat templates, set as Hugging Face's apply_chat_template sets it.

usage: published.py DIRECTORY TEMPLATE... < conversations.json > answers.json
"""
import datetime, json, os, sys
from jinja2 import ext, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "of <a> place & \"time\"", "parameters": {"type": "object",
        "properties": {"place": {"type": "string", "description": "town"}, "days": {"type": "integer", "default": 3}}, "required": ["place"]}}},
    {"type": "function", "function": {"name": "now", "description": "the time", "parameters": {"type": "object", "properties": {}}}},
]


class Refusal(Exception):
    pass


class Generation(ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("render"), [], [], body).set_lineno(line)

    def render(self, caller): return caller()


def refuse(text): raise Refusal(text)


env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols])
env.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
env.globals["raise_exception"] = refuse
env.globals["strftime_now"] = lambda form: datetime.datetime(2026, 7, 4).strftime(form)

answers = {}
conversations = json.load(sys.stdin)
for name in sys.argv[2:]:
    template = env.from_string(open(os.path.join(sys.argv[1], name + ".jinja")).read())
    answers[name] = []
    for c in conversations:
        variables = {"messages": c["messages"], "add_generation_prompt": not c.get("end"), "bos_token": "<s>", "eos_token": "</s>", "tools": TOOLS if c.get("tools") else None, "documents": None}
        if "enable_thinking" in c:
            variables["enable_thinking"] = c["enable_thinking"]
        answer = {"Variables": variables}
        try:
            answer["Text"] = template.render(**variables)
        except Refusal as e:
            answer["Refusal"] = str(e)
        except Exception as e:  # of the template, which takes what is not there
            answer["Refusal"] = "%s: %s" % (type(e).__name__, e)
        answers[name].append(answer)
json.dump(answers, sys.stdout)
