package tokenize

import (
	"slices"
	"strings"
	"testing"
)

// robertaKeys make the tiny vocabulary that of an embedding model.
func robertaKeys(kv map[string]any) {
	kv["tokenizer.ggml.pre"] = "roberta-bpe"
	kv["tokenizer.ggml.add_bos_token"], kv["tokenizer.ggml.add_eos_token"] = true, true
}

func TestTextsOfRoBERTaAreEnclosed(t *testing.T) {
	f, err := tiny(t, robertaKeys)
	if err != nil {
		t.Fatal(err)
	}
	tok := newTokenizer(t, f)
	if begin, end, ok := tok.Enclosed(); !ok || begin != 0 || end != 1 || tok.BOS() != -1 || tok.EOS() != -1 || tok.IsEnd(1) {
		t.Errorf("texts are between %d and %d, %t", begin, end, ok)
	}
	if ids := tok.Encode(" abc</s>", false); !slices.Equal(ids, []int32{7, 6}) {
		t.Errorf("plain text becomes %v", ids)
	}
}

func TestRoBERTaFilesThatAreRefused(t *testing.T) {
	for want, edit := range map[string]func(map[string]any){
		"add_bos_token is not true":   func(kv map[string]any) { kv["tokenizer.ggml.add_bos_token"] = false },
		"add_eos_token is not true":   func(kv map[string]any) { delete(kv, "tokenizer.ggml.add_eos_token") },
		"bos_token_id is missing":     func(kv map[string]any) { delete(kv, "tokenizer.ggml.bos_token_id") },
		"eos_token_id is not a token": func(kv map[string]any) { kv["tokenizer.ggml.eos_token_id"] = uint32(10) },
		"merges":                      func(kv map[string]any) { delete(kv, "tokenizer.ggml.merges") },
	} {
		f, err := tiny(t, func(kv map[string]any) { robertaKeys(kv); edit(kv) })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
