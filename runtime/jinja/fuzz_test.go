package jinja

import (
	"context"
	"testing"
)

func FuzzTemplate(f *testing.F) {
	for _, c := range cases {
		f.Add(c.source)
	}
	f.Add("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nx<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
	f.Fuzz(func(t *testing.T, source string) {
		tmpl, err := Compile(source)
		if err != nil {
			return
		}
		out, err := tmpl.Render(context.Background(), conversation)
		if err == nil && len(out) > MaxOutputBytes {
			t.Errorf("%d bytes of output", len(out))
		}
		again, errAgain := tmpl.Render(context.Background(), conversation)
		if again != out || (err == nil) != (errAgain == nil) {
			t.Error("two renderings differ")
		}
	})
}
