package tokenize

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
)

// markerNames are the texts by which llama.cpp takes a token for one that ends a turn or belongs to
// infilling, whatever type the file gives it (src/llama-vocab.cpp, llama_vocab::impl::load).
const markerNames = "<|eot_id|> <|im_end|> <|end|> <end_of_turn> <|endoftext|> <|end_of_text|> <EOT> _<EOT> [EOT] <｜end▁of▁sentence｜> <end_of_utterance> <|eom_id|> <|return|> <|call|> <|flush|> <|calls|> </s> [EOS] <eos> " +
	"<|fim_prefix|> <fim-prefix> <fim_prefix> <｜fim▁begin｜> <PRE> <|code_prefix|> <|prefix|> <|fim_suffix|> <fim-suffix> <fim_suffix> <｜fim▁hole｜> <SUF> <|code_suffix|> <|suffix|> " +
	"<|fim_middle|> <fim-middle> <fim_middle> <｜fim▁end｜> <MID> <|code_middle|> <|middle|> <|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD] <|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame> <|file_sep|>"

// TestMarkersOfEveryTypeEqualLlamaCpp: a token of each of these texts, as a user-defined and as a control
// token, is found in plain text, in text with special tokens, and ends a turn where it does in llama.cpp.
func TestMarkersOfEveryTypeEqualLlamaCpp(t *testing.T) {
	longtest.Arithmetic(t, "llama.cpp loads a hundred files")
	dir := t.TempDir()
	var jobs []gguftest.Job
	var toks []*Tokenizer
	for i, name := range strings.Fields(markerNames) {
		for _, kind := range []int32{3, 4} {
			m := gguftest.New(1)
			tokens, kinds := m.Value("tokenizer.ggml.tokens").([]string), m.Value("tokenizer.ggml.token_type").([]int32)
			tokens[len(tokens)-2], tokens[len(tokens)-1] = "<begin>", "<end>"
			m.Set("tokenizer.ggml.tokens", append(tokens, name))
			m.Set("tokenizer.ggml.token_type", append(kinds, kind))
			m.Tensors = nil
			b, err := m.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, fmt.Sprintf("%d-%d.gguf", i, kind))
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			job := gguftest.Job{File: path, Texts: []string{"a" + name + "b", name, name + name + " the"}, Vocabulary: true, Ends: true}
			special := job
			special.Special = true
			jobs, toks = append(jobs, job, special), append(toks, newTokenizer(t, openFile(t, path)))
		}
	}
	answers, err := gguftest.AskLlamaCpp(t.Context(), jobs)
	if errors.Is(err, gguftest.ErrNoLlamaCpp) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, job := range jobs {
		tok, a := toks[i/2], answers[i]
		name := tok.Piece(int32(tok.Size() - 1))
		if a.Error != "" {
			t.Fatalf("%s: %s", name, a.Error)
		}
		for k, text := range job.Texts {
			if got := tok.Encode(text, job.Special); !slices.Equal(got, a.IDs[k]) {
				t.Errorf("%s of file %s, special %v: %v, llama.cpp %v", name, filepath.Base(job.File), job.Special, names(tok, got), names(tok, a.IDs[k]))
				break
			}
		}
		var ends []int32
		for id := range int32(tok.Size()) {
			if tok.IsEnd(id) {
				ends = append(ends, id)
			}
		}
		if !slices.Equal(ends, a.Ends) {
			t.Errorf("%s of file %s ends a turn at %v, in llama.cpp at %v", name, filepath.Base(job.File), ends, a.Ends)
		}
	}
}

// TestTokensThatEndATurn: some names do as llama.cpp has it, whatever the file says of them,
// and others where it says that they are control tokens.
func TestTokensThatEndATurn(t *testing.T) {
	for _, name := range endNames {
		for _, kind := range []int32{1, 3, 4} {
			if tok, _ := withToken(t, name, kind, "x"); !tok.IsEnd(10) || !tok.IsControl(10) {
				t.Errorf("%s of type %d: ends %v, control %v", name, kind, tok.IsEnd(10), tok.IsControl(10))
			}
		}
	}
	for _, name := range endControls {
		if name == "</s>" { // is in the vocabulary already
			continue
		}
		for kind, want := range map[int32]bool{1: false, 3: true, 4: true} {
			if tok, _ := withToken(t, name, kind, "x"); tok.IsEnd(10) != want || tok.IsControl(10) != want {
				t.Errorf("%s of type %d: ends %v, control %v", name, kind, tok.IsEnd(10), tok.IsControl(10))
			}
		}
	}
}

// TestTokensOfInfilling are control tokens, user-defined or not, unless the file names others; three of
// the roles end a turn.
func TestTokensOfInfilling(t *testing.T) {
	for _, role := range roles {
		for _, name := range strings.Fields(role.names) {
			for _, named := range []bool{false, true} {
				f, err := tiny(t, func(kv map[string]any) {
					kv["tokenizer.ggml.tokens"] = append(kv["tokenizer.ggml.tokens"].([]string), name)
					kv["tokenizer.ggml.token_type"] = append(kv["tokenizer.ggml.token_type"].([]int32), 4)
					if named {
						kv[role.key] = uint32(9)
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				tok := newTokenizer(t, f)
				if tok.IsControl(10) == named || tok.IsEnd(10) != (role.ends && !named) || tok.IsEnd(9) != (role.ends && named) {
					t.Errorf("%s, the file names another: %v: control %v, ends %v", name, named, tok.IsControl(10), tok.IsEnd(10))
				}
				if plain := tok.Encode("a"+name, false); slices.Contains(plain, 10) != named {
					t.Errorf("%s, the file names another: %v: plain text becomes %v", name, named, plain)
				}
			}
		}
	}
}

// TestTheOldEndOfText ends a turn as llama.cpp has it, although files of Qwen list it as the
// result of a merge: their words never contain it.
func TestTheOldEndOfText(t *testing.T) {
	for _, kind := range []int32{1, 3, 4} {
		f, err := tiny(t, func(kv map[string]any) {
			kv["tokenizer.ggml.tokens"] = []string{"<s>", "</s>", "<", "/", "s", ">", "</", "s>", "Ġ", "x"}
			kv["tokenizer.ggml.token_type"] = []int32{3, kind, 1, 1, 1, 1, 1, 1, 1, 1}
			kv["tokenizer.ggml.merges"] = []string{"< /", "s >", "</ s>"}
			delete(kv, "tokenizer.ggml.eos_token_id")
		})
		if err != nil {
			t.Fatal(err)
		}
		tok := newTokenizer(t, f)
		if !tok.IsEnd(1) || !tok.IsControl(1) {
			t.Errorf("type %d: ends %v, control %v", kind, tok.IsEnd(1), tok.IsControl(1))
		}
		if plain, special := tok.Encode("x</s>", false), tok.Encode("x</s>", true); !slices.Equal(plain, []int32{9, 6, 4, 5}) || !slices.Equal(special, []int32{9, 1}) {
			t.Errorf("type %d: %v in plain text, %v as a special token", kind, plain, special)
		}
	}
}
