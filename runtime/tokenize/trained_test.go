package tokenize

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/gguf"
)

//go:embed trained.py
var trainedPy string

// training is a small vocabulary to be trained, and texts for it.
type training struct {
	Kind    string         `json:"kind"`
	Options map[string]any `json:"options"`
	Corpus  []string       `json:"corpus"`
	Texts   []string       `json:"texts"`
}

// trained is the vocabulary, and the tokens that its own library makes of the texts.
type trained struct {
	Tokens   []string  `json:"tokens"`
	Scores   []float32 `json:"scores"`
	Kinds    []int32   `json:"kinds"`
	Charsmap []int     `json:"charsmap"`
	IDs      [][]int32 `json:"ids"`
}

// python is the interpreter with SentencePiece, Hugging Face's tokenizers and jinja2, or none.
func python(t testing.TB) string {
	t.Helper()
	path := filepath.Join(os.Getenv("ANCHORHOLD_PEERS"), "tokenizers/bin/python")
	if _, err := os.Stat(path); err != nil || os.Getenv("ANCHORHOLD_PEERS") == "" {
		t.Skip("NOT COMPARED with SentencePiece and tokenizers: set ANCHORHOLD_PEERS to what `make peers` installs")
	}
	return path
}

func train(ctx context.Context, t *testing.T, job training) (answer trained) {
	t.Helper()
	in, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, python(t), "-c", trainedPy)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &answer); err != nil || len(answer.IDs) != len(job.Texts) {
		t.Fatal(err, len(answer.IDs))
	}
	return answer
}

// corpus are texts to train on: words of several scripts, often the same ones.
func corpus(seed uint64) (texts []string) {
	r := rand.New(rand.NewPCG(seed, 99))
	words := strings.Fields("the The of OF and a to in is it you that he was for on are with as I his they be at one have this from or had by hot but some what there we can out other were all your when up use word how said an each she " +
		"Straße naïve café Ünïcödé İstanbul ΣΊΣΥΦΟΣ Ελληνικά привет Мир 日本語 漢字 かな 한국어 مرحبا हिन्दी ไทย ﬁne ½ x² don't I'll e-mail 1234 3.14 foo_bar ＡＢＣ １２３")
	for range 1500 {
		var b strings.Builder
		for range 3 + r.IntN(10) {
			b.WriteString(words[int(float64(len(words))*r.Float64()*r.Float64())])
			b.WriteString([]string{" ", " ", " ", ", ", ". ", "", "  ", "\t", "! "}[r.IntN(9)])
		}
		texts = append(texts, b.String())
	}
	return texts
}

// randomTexts are several thousand texts of words and of odd characters: controls, marks, long runs,
// texts of special tokens, white space of every kind.
func randomTexts(n int, seed uint64) []string {
	r := rand.New(rand.NewPCG(seed, 5))
	parts := append(slices.Clone(peerTexts), "the", " The", "of ", "Straße", "naïve", "İ", "ı", "Σ", "ς", "ﬁ", "ﷺ", "½", "①", "ｶﾞ", "Å", "e\u0301", "a\u0323\u0307", "\u1161", "각", "\u00ad", "\u200b", "\u200d", "\ufeff", "\u2028",
		"\u0085", "\u00a0", "\u3000", "\x00", "\x01", "\x1f", "\x7f", "\u0080", "\ufffd", "\ue000", "▁", "▁▁", " ", "  ", "\t", "\n", "\r\n", "<s>", "</s>", "<unk>", "<pad>", "[UNK]", "[CLS]", "<0x0A>", "##", "##s", "𝔘", "🇩🇪", "\U000e0001", "\U0010ffff", "漢", "かな", "\u0300\u0301\u0302",
		strings.Repeat("a", 150), strings.Repeat(" ", 70), strings.Repeat("é", 101), strings.Repeat("!", 90), "¨", "´x", "\u037a")
	texts := append(slices.Clone(peerTexts), wordPieceTexts()...)
	for len(texts) < n {
		var b strings.Builder
		for range 1 + r.IntN(10) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		texts = append(texts, b.String())
	}
	return texts
}

// writeKeys writes a file of these keys alone, and opens it.
func writeKeys(t testing.TB, kv map[string]any) (*gguf.File, string) {
	t.Helper()
	var kvs []gguf.KV
	for _, key := range slices.Sorted(maps.Keys(kv)) {
		kvs = append(kvs, gguf.KV{Key: key, Value: kv[key]})
	}
	var b bytes.Buffer
	if err := gguf.Write(&b, kvs, nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "vocabulary.gguf")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return openFile(t, path), path
}

// unigramKeys are a file's of a trained unigram vocabulary.
func unigramKeys(v trained) map[string]any {
	kv := map[string]any{
		"general.architecture": "bert", "tokenizer.ggml.model": "t5", "tokenizer.ggml.tokens": v.Tokens, "tokenizer.ggml.token_type": v.Kinds, "tokenizer.ggml.scores": v.Scores,
		"tokenizer.ggml.unknown_token_id": uint32(0), "tokenizer.ggml.bos_token_id": uint32(1), "tokenizer.ggml.eos_token_id": uint32(2), "tokenizer.ggml.add_bos_token": true, "tokenizer.ggml.add_eos_token": true,
		"tokenizer.ggml.add_space_prefix": true, "tokenizer.ggml.remove_extra_whitespaces": true,
	}
	if len(v.Charsmap) > 0 {
		raw := make([]uint8, len(v.Charsmap))
		for i, b := range v.Charsmap {
			raw[i] = uint8(b)
		}
		kv[charsmapKey] = raw
	}
	return kv
}

// TestUnigramEqualsSentencePiece and llama.cpp: vocabularies of several sizes, trained on random texts,
// with each of SentencePiece's normalizations. A blank that ends a text is a space to SentencePiece alone,
// and not compared with it.
func TestUnigramEqualsSentencePiece(t *testing.T) {
	longtest.Arithmetic(t, "vocabularies are trained, and three libraries asked")
	python(t)
	for i, c := range []struct {
		normal string
		size   int
		split  bool
	}{{"nmt_nfkc", 500, true}, {"nmt_nfkc_cf", 300, true}, {"nfkc", 800, true}, {"identity", 400, true}, {"nmt_nfkc", 700, false}} {
		t.Run(fmt.Sprintf("%s %d %v", c.normal, c.size, c.split), func(t *testing.T) {
			texts := randomTexts(3000, uint64(i))
			v := train(t.Context(), t, training{"unigram", map[string]any{"vocab_size": c.size, "normalization_rule_name": c.normal, "split_by_whitespace": c.split, "character_coverage": 0.995}, corpus(uint64(i)), texts})
			f, path := writeKeys(t, unigramKeys(v))
			tok := newTokenizer(t, f)
			wrong := 0
			for k, text := range texts {
				if got := tok.Encode(text, false); !slices.Equal(got, v.IDs[k]) && !strings.Contains(text, blank) {
					if wrong++; wrong <= 5 {
						t.Errorf("%q: %v, SentencePiece %v", text, names(tok, got), names(tok, v.IDs[k]))
					}
				}
			}
			equalsLlamaCpp(t, tok, path, texts)
		})
	}
}

// TestPiecesEqualSentencePiece: BPE of SentencePiece with bytes for what is no token.
func TestPiecesEqualSentencePiece(t *testing.T) {
	longtest.Arithmetic(t, "vocabularies are trained, and three libraries asked")
	python(t)
	for i, size := range []int{450, 1000} {
		texts := randomTexts(3000, uint64(10+i))
		v := train(t.Context(), t, training{"bpe", map[string]any{"vocab_size": size, "normalization_rule_name": "identity", "byte_fallback": true, "remove_extra_whitespaces": false, "character_coverage": 0.995}, corpus(uint64(i)), texts})
		f, path := writeKeys(t, map[string]any{
			"general.architecture": "llama", "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": v.Tokens, "tokenizer.ggml.token_type": v.Kinds, "tokenizer.ggml.scores": v.Scores,
			"tokenizer.ggml.unknown_token_id": uint32(0), "tokenizer.ggml.bos_token_id": uint32(1), "tokenizer.ggml.eos_token_id": uint32(2),
		})
		tok := newTokenizer(t, f)
		for k, text := range texts {
			if got := tok.Encode(text, false); !slices.Equal(got, v.IDs[k]) {
				t.Errorf("%q: %v, SentencePiece %v", text, names(tok, got), names(tok, v.IDs[k]))
			}
		}
		equalsLlamaCpp(t, tok, path, texts)
	}
}

// TestCasedWordPieceEqualsHuggingFace: every combination of the two keys.
func TestCasedWordPieceEqualsHuggingFace(t *testing.T) {
	longtest.Arithmetic(t, "vocabularies are trained by another library")
	python(t)
	for i, n := range []normalizer{{}, {lower: true}, {strip: true}, {lower: true, strip: true}} {
		t.Run(fmt.Sprintf("%+v", n), func(t *testing.T) {
			texts := randomTexts(3000, uint64(20+i))
			v := train(t.Context(), t, training{"wordpiece", map[string]any{"size": 600, "lowercase": n.lower, "strip_accents": n.strip}, corpus(uint64(i)), texts})
			f, _ := writeKeys(t, map[string]any{
				"general.architecture": "bert", "tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": v.Tokens, "tokenizer.ggml.token_type": v.Kinds, lowercaseKey: n.lower, accentsKey: n.strip,
				"tokenizer.ggml.unknown_token_id": uint32(1), "tokenizer.ggml.bos_token_id": uint32(2), "tokenizer.ggml.seperator_token_id": uint32(3),
			})
			tok := newTokenizer(t, f)
			wrong := 0
			for k, text := range texts {
				if got := tok.Encode(text, false); !slices.Equal(got, v.IDs[k]) {
					if wrong++; wrong <= 10 {
						t.Errorf("%q: %v, Hugging Face %v", text, names(tok, got), names(tok, v.IDs[k]))
					}
				}
			}
		})
	}
}
