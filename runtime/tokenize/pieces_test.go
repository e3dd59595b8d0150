package tokenize

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// sentencePieces is a small SentencePiece file: control tokens, all bytes, and words with their
// scores, to edit.
func sentencePieces(t testing.TB, edit func(map[string]any)) *gguf.File {
	t.Helper()
	tokens, kinds, scores := []string{"<unk>", "<s>", "</s>"}, []int32{2, 3, 3}, []float32{0, 0, 0}
	add := func(text string, kind int32, score float32) {
		tokens, kinds, scores = append(tokens, text), append(kinds, kind), append(scores, score)
	}
	for b := range 256 {
		add(fmt.Sprintf("<0x%02X>", b), 6, 0)
	}
	for i, text := range []string{"▁", "a", "b", "c", "ab", "▁a", "bc", "▁ab", "abc", "ca", ">", "<", "s", "s>", "<s", "ü", "üa", "▁▁", ">▁<", ">▁"} {
		add(text, 1, -float32(i))
	}
	add("<user>", 4, 0)
	add("  ", 4, 0)
	kv := map[string]any{
		"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds, "tokenizer.ggml.scores": scores,
		"tokenizer.ggml.bos_token_id": uint32(1), "tokenizer.ggml.eos_token_id": uint32(2), "tokenizer.ggml.add_space_prefix": false,
	}
	if edit != nil {
		edit(kv)
	}
	var kvs []gguf.KV
	for k, v := range kv {
		kvs = append(kvs, gguf.KV{Key: k, Value: v})
	}
	var b bytes.Buffer
	if err := gguf.Write(&b, kvs, nil); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// byText returns a function that tokenizes text without special tokens as the reference describes
// it, in quadratic time and with nothing of this package but the file's lists.
func byText(f *gguf.File) func(text string) []int32 {
	tokens, _ := f.Strings("tokenizer.ggml.tokens")
	kinds, _ := f.Ints("tokenizer.ggml.token_type")
	scores, _ := f.Floats("tokenizer.ggml.scores")
	ids := map[string]int32{}
	var bytesOf [256]int32
	for i := range tokens.Len() {
		switch kinds[i] {
		case 1:
			ids[string(tokens.At(i))] = int32(i)
		case 6:
			var b int
			fmt.Sscanf(string(tokens.At(i)), "<0x%X>", &b)
			bytesOf[b] = int32(i)
		}
	}
	return func(text string) []int32 { return merged(text, ids, scores, bytesOf) }
}

func merged(text string, ids map[string]int32, scores []float32, bytesOf [256]int32) []int32 {
	var parts []string
	for rest := strings.ReplaceAll(text, " ", blank); rest != ""; {
		_, n := utf8.DecodeRuneInString(rest)
		parts, rest = append(parts, rest[:n]), rest[n:]
	}
	for {
		best, at := float32(math.Inf(-1)), -1
		for i := range len(parts) - 1 {
			if id, ok := ids[parts[i]+parts[i+1]]; ok && (at < 0 || scores[id] > best) {
				best, at = scores[id], i
			}
		}
		if at < 0 {
			break
		}
		parts = slices.Replace(parts, at, at+2, parts[at]+parts[at+1])
	}
	var out []int32
	for _, part := range parts {
		if id, ok := ids[part]; ok {
			out = append(out, id)
			continue
		}
		for i := range len(part) {
			out = append(out, bytesOf[part[i]])
		}
	}
	return out
}

// TestPiecesEqualTheirDescription on random texts, with scores that fall with the number, that
// do not, and that are equal.
func TestPiecesEqualTheirDescription(t *testing.T) {
	for name, edit := range map[string]func(scores []float32, r *rand.Rand){
		"falling": nil,
		"any": func(scores []float32, r *rand.Rand) {
			for i := range scores {
				scores[i] = 10 - 20*r.Float32()
			}
		},
		"equal": func(scores []float32, _ *rand.Rand) { clear(scores) },
		"few": func(scores []float32, r *rand.Rand) {
			for i := range scores {
				scores[i] = float32(r.IntN(3)) - 1
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, 9))
			for range 20 {
				f := sentencePieces(t, func(kv map[string]any) {
					if edit != nil {
						edit(kv["tokenizer.ggml.scores"].([]float32), r)
					}
				})
				tok, described := newTokenizer(t, f), byText(f)
				if falls := tok.pieces.ranks == nil; falls != (edit == nil) {
					t.Fatalf("scores fall: %v", falls)
				}
				for range 200 {
					var b strings.Builder
					for range r.IntN(44) {
						b.WriteString([]string{"a", "b", "c", " ", "ü", ">", "<", "s", "▁", "\xff", "漢", "\n", "\xc3"}[r.IntN(13)])
					}
					text := b.String()
					if strings.Contains(text, "  ") { // is a token that is found first
						continue
					}
					if got, want := tok.Encode(text, false), described(text); !slices.Equal(got, want) {
						t.Fatalf("%q: got %v, want %v", text, got, want)
					}
				}
			}
		})
	}
}

// TestPiecesOfSpecialTexts: user-defined tokens match in plain text, control tokens never, not
// even where pairs of a text would merge into one.
func TestPiecesOfSpecialTexts(t *testing.T) {
	tok := newTokenizer(t, sentencePieces(t, nil))
	user, spaces := int32(tok.Size()-2), int32(tok.Size()-1)
	for _, c := range []struct {
		text    string
		special bool
		want    string
	}{
		{"a<user>a", false, "[260 279 260]"},
		{"a  a", false, "[260 280 260]"},
		{"a<s>", true, "[260 1]"},
		{"a<s>", false, "[260 270 272]"}, // "<" and "s>", although "<s>" is a token
		{"</s>", false, "[270 50 272]"},
		{"\n", false, "[13]"},
		{"> <", false, "[277]"},
	} {
		if got := fmt.Sprint(tok.Encode(c.text, c.special)); got != c.want {
			t.Errorf("%q, special %v: got %s, want %s", c.text, c.special, got, c.want)
		}
	}
	if string(tok.Piece(user)) != "<user>" || string(tok.Piece(spaces)) != "  " || string(tok.Piece(259)) != " " || string(tok.Piece(13)) != "\n" {
		t.Errorf("pieces %q %q %q %q", tok.Piece(user), tok.Piece(spaces), tok.Piece(259), tok.Piece(13))
	}
	if !tok.AddBOS() || tok.IsControl(user) || tok.IsControl(13) || !tok.IsControl(0) || !tok.IsEnd(2) {
		t.Error("markers")
	}
}

// TestPrefixedSpace goes before text that begins or follows a special token.
func TestPrefixedSpace(t *testing.T) {
	for _, named := range []bool{true, false} {
		tok := newTokenizer(t, sentencePieces(t, func(kv map[string]any) {
			kv["tokenizer.ggml.add_space_prefix"] = true
			if !named { // which is the default
				delete(kv, "tokenizer.ggml.add_space_prefix")
			}
		}))
		for text, want := range map[string]string{"ab": " ab", "<s>ab": "<s> ab", "a<user>b": " a<user> b", "<s><s>a": "<s><s> a", "": ""} {
			var got []byte
			for _, id := range tok.Encode(text, true) {
				got = append(got, tok.Piece(id)...)
			}
			if string(got) != want {
				t.Errorf("%q: got %q, want %q", text, got, want)
			}
		}
	}
}

func TestDamagedPiecesAreRefused(t *testing.T) {
	token := func(i int, text string) func(map[string]any) {
		return func(kv map[string]any) { kv["tokenizer.ggml.tokens"].([]string)[i] = text }
	}
	kind := func(i int, kind int32) func(map[string]any) {
		return func(kv map[string]any) { kv["tokenizer.ggml.token_type"].([]int32)[i] = kind }
	}
	for name, c := range map[string]struct {
		edit func(map[string]any)
		want string
	}{
		"no scores":         {func(kv map[string]any) { delete(kv, "tokenizer.ggml.scores") }, "scores"},
		"scores of others":  {func(kv map[string]any) { kv["tokenizer.ggml.scores"] = []float32{1} }, "scores"},
		"whole scores":      {func(kv map[string]any) { kv["tokenizer.ggml.scores"] = make([]int32, 281) }, "scores"},
		"no number":         {func(kv map[string]any) { kv["tokenizer.ggml.scores"].([]float32)[5] = float32(math.NaN()) }, "not a number"},
		"a prefix of 1":     {func(kv map[string]any) { kv["tokenizer.ggml.add_space_prefix"] = uint32(1) }, "add_space_prefix"},
		"a byte is missing": {kind(3, 3), "0x00"},
		"a byte's text":     {token(3, "<0x0>"), "0xFF"},
		"a byte in lower":   {token(13, "<0x0a>"), "0xFF"},
		"an unused token":   {kind(260, 5), "unused"},
		"a plain space":     {token(260, "a b"), "contains a space"},
		"no space":          {token(259, "x"), "no token is a space"},
		"a token twice":     {token(260, "b"), "both"},
		"control and word":  {token(1, "ab"), "both"},
		"control twice":     {token(1, "</s>"), "both"},
		"no BOS":            {func(kv map[string]any) { delete(kv, "tokenizer.ggml.bos_token_id") }, "BOS"},
		"phi3":              {func(kv map[string]any) { kv["general.architecture"] = "phi3" }, "phi-3"},
		"another named so":  {func(kv map[string]any) { kv["general.name"] = "My Phi-3 tune" }, "<|endoftext|>"},
	} {
		if _, err := New(sentencePieces(t, c.edit)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzPieces(f *testing.F) {
	for _, s := range []string{"ab abc", "  a<user>\n", "<s>ab</s>\xff", "漢▁ü> <", "\xc3\xe2\x96"} {
		f.Add(s)
	}
	file := sentencePieces(f, nil)
	tok, described := newTokenizer(f, file), byText(file)
	f.Fuzz(func(t *testing.T, text string) {
		ids := tok.Encode(text, false)
		var back []byte
		for _, id := range ids {
			if tok.IsControl(id) {
				t.Fatalf("%q makes the control token %d", text, id)
			}
			back = append(back, tok.Piece(id)...)
		}
		if want := strings.ReplaceAll(text, blank, " "); string(back) != want {
			t.Fatalf("%q came back as %q", text, back)
		}
		if !strings.Contains(text, "  ") && !strings.Contains(text, "<user>") && len(text) < 1<<10 {
			if want := described(text); !slices.Equal(ids, want) {
				t.Fatalf("%q: got %v, want %v", text, ids, want)
			}
		}
	})
}
