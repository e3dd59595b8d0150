package tokenize

import (
	"context"
	"slices"
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
