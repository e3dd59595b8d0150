#!/usr/bin/env bash
# Chat templates in the two engines that Hugging Face uses, Jinja2 3.1.6 as transformers sets it up and
# @huggingface/jinja 0.5.13 (of transformers.js and node-llama-cpp): what {% set %} gives a name in a loop's body
# lives for one round in Jinja2. @huggingface/jinja keeps it for the rounds after, within that loop alone; behind
# the loop both have the value from before it. A template that sets something for some messages only (a
# name, a list of tool calls, a reasoning text) so writes the earlier message's value into the later
# message's part of the prompt, with no error. minijinja-js 2.11.0 does likewise. A namespace, which
# is to live on, and a name that each round sets anew are rendered alike by all three.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check jinja2==3.1.6
cd "$dir"
npm init -y >/dev/null && npm install --no-audit --no-fund --silent --ignore-scripts @huggingface/jinja@0.5.13 minijinja-js@2.11.0
cat >render.js <<'JS'
const { Template } = require("@huggingface/jinja");
const { Environment } = require("minijinja-js");
const { templates, context } = JSON.parse(require("fs").readFileSync(0));
const environment = new Environment();
console.log(JSON.stringify(templates.map((t) => [new Template(t).render(context), environment.renderStr(t, context)])));
JS
cat >observe.py <<'PY'
import json, subprocess, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment

context = {"messages": [{"role": "user", "name": "Ann", "content": "one"}, {"role": "user", "name": "", "content": "two"}]}
templates = {
    "set in some rounds": "{% for m in messages %}{% if m.name %}{% set who = ' ' + m.name %}{% endif %}<{{ m.role }}{{ who if who is defined else '' }}>{{ m.content }}{% endfor %}",
    "set before, and in some rounds": "{% set who = ' nobody' %}{% for m in messages %}{% if m.name %}{% set who = ' ' + m.name %}{% endif %}<{{ m.role }}{{ who }}>{{ m.content }}{% endfor %}, then{{ who }}",
    "set in each round": "{% for m in messages %}{% set who = ' ' + m.name %}<{{ m.role }}{{ who }}>{{ m.content }}{% endfor %}",
    "namespace": "{% set kept = namespace(who='') %}{% for m in messages %}{% if m.name %}{% set kept.who = ' ' + m.name %}{% endif %}<{{ m.role }}{{ kept.who }}>{{ m.content }}{% endfor %}",
}
python = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
ran = subprocess.run(["node", "render.js"], input=json.dumps({"templates": list(templates.values()), "context": context}),
                     capture_output=True, text=True, check=True)
same = True
for (what, text), (huggingface, minijinja) in zip(templates.items(), json.loads(ran.stdout)):
    want = python.from_string(text).render(**context)
    print(f"{what}\n  Jinja2             {want}\n  @huggingface/jinja {huggingface}\n  minijinja-js       {minijinja}")
    carried = "<user Ann>one<user Ann>two" + (", then nobody" if "then" in text else "")
    if "some" in what:
        same = same and want != carried and huggingface == minijinja == carried
    else:
        same = same and want == huggingface == minijinja
print("as stated" if same else "CHANGED: this is not what the finding states")
sys.exit(not same)
PY
venv/bin/python observe.py
