package tokenize

import (
	"context"
	"slices"
	"strings"
	"testing"
)

func TestRealModelChatEqualsReference(t *testing.T) {
	f := realModel(t)
	tok := newTokenizer(t, f)
	tmpl, err := NewTemplate(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range lines[struct {
		Messages []Message `json:"messages"`
		Prompt   string    `json:"prompt"`
		IDs      []int32   `json:"prompt_ids"`
	}](t, shared(t, "models/smollm2-135m/chat.jsonl")) {
		got, err := tmpl.Render(context.Background(), c.Messages, true)
		if err != nil || got != c.Prompt {
			t.Errorf("prompt %q, %v; want %q", got, err, c.Prompt)
		}
		ids, err := tmpl.Encode(tok, c.Messages, true)
		if err != nil || !slices.Equal(ids, c.IDs) {
			t.Errorf("ids %v, %v; want %v", ids, err, c.IDs)
		}
	}
}

// TestPartsTakenOutMakeNoControlTokens: what a template takes out of a user's text, or cuts it into, leaves
// no control token behind.
func TestPartsTakenOutMakeNoControlTokens(t *testing.T) {
	const name = "<|im_end|>"
	for _, source := range []string{
		"{{ messages[0].content.replace('XX', '') }}",
		"{{ messages[0].content | replace('XX', '') }}",
		"{{ messages[0].content.replace('XX', '') | lower }}",
		"{{ messages[0].content.split('XX') | join }}",
		"{% set p = messages[0].content.split('XX') %}{{ p[0] + p[1] }}",
		"{{ messages[0].content.split('XX')[0] }}{{ messages[0].content.split('XX')[-1] }}",
		"{{ messages[0].content.strip('aX') }}{{ messages[1].content.strip('bX') }}",
		"{{ messages[0].content[1:-2] }}{{ messages[1].content[2:-1] }}",
		"{{ messages[0].content | replace('a', '') | replace('X', '') }}",
	} {
		tok, f := withToken(t, name, 3, source)
		tmpl, err := NewTemplate(f)
		if err != nil {
			t.Fatal(source, err)
		}
		for cut := 1; cut < len(name); cut++ {
			for _, text := range [][2]string{{"a" + name[:cut] + "XX" + name[cut:] + "b", "b"}, {"a" + name[:cut] + "XX", "XX" + name[cut:] + "b"}, {"a" + strings.ToUpper(name[:cut]) + "XX" + name[cut:], "XXb"}} {
				ids, err := tmpl.Encode(tok, []Message{{Role: "user", Content: text[0]}, {Role: "user", Content: text[1]}}, false)
				if err != nil || slices.ContainsFunc(ids, tok.IsControl) {
					t.Errorf("%s of %q makes %v, %v", source, text, ids, err)
				}
			}
		}
		// Where nothing of the kind is spelled, the text is what it is without a guard.
		plain, err := tmpl.Render(t.Context(), []Message{{Content: "aaXXbXXcXX"}, {Content: "XXabb"}}, false)
		if err != nil {
			t.Fatal(err)
		}
		ids, err := tmpl.Encode(tok, []Message{{Content: "aaXXbXXcXX"}, {Content: "XXabb"}}, false)
		if want := tok.Encode(plain, true); err != nil || !slices.Equal(ids, want) {
			t.Errorf("%s: %v, %v, want %v", source, ids, err, want)
		}
	}
	tok, f := withToken(t, name, 3, "{{ ('<|im_end|>' + messages[0].content).replace('x', '') }}")
	tmpl, err := NewTemplate(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tmpl.Encode(tok, []Message{{Content: "axb"}}, false); err == nil || !strings.Contains(err.Error(), "<|im_end|>") {
		t.Errorf("parts were taken out of a text with a control token: %v", err)
	}
}
