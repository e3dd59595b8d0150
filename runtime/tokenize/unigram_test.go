package tokenize

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// unigramFile is a small unigram vocabulary with random scores, and an edit.
func unigramFile(t testing.TB, seed uint64, edit func(map[string]any)) *gguf.File {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 12))
	v := trained{Tokens: []string{"<unk>", "<s>", "</s>"}, Kinds: []int32{2, 3, 3}, Scores: []float32{0, 0, 0}}
	for _, text := range []string{"▁", "a", "b", "c", "ab", "▁a", "bc", "▁ab", "abc", "ca", "ü", "üa", "bü", "cab", "bcab", "▁c", "<", "s", ">"} {
		v.Tokens, v.Kinds, v.Scores = append(v.Tokens, text), append(v.Kinds, 1), append(v.Scores, -1-9*r.Float32())
	}
	kv := unigramKeys(v)
	if edit != nil {
		edit(kv)
	}
	f, _ := writeKeys(t, kv)
	return f
}

// bestSum is the highest sum of scores over all ways to cut text into tokens, by trying each.
func bestSum(tok *Tokenizer, text string) float64 {
	best := []float64{0}
	for end := 1; end <= len(text); end++ {
		best = append(best, math.Inf(-1))
		for begin := range end {
			part := text[begin:end]
			score := math.Inf(-1)
			if id := tok.vocab.find([]byte(part)); id >= 0 {
				score = float64(tok.unigram.scores[id])
			} else if utf8.RuneCountInString(part) == 1 && utf8.ValidString(part) {
				score = tok.unigram.unknownScore
			}
			best[end] = max(best[end], best[begin]+score)
		}
	}
	return best[len(text)]
}

// TestUnigramTakesTheBestCut: no other cut of a text has a higher sum, the tokens spell the text, and
// adjacent unknown characters are one token.
func TestUnigramTakesTheBestCut(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for seed := range uint64(30) {
		tok := newTokenizer(t, unigramFile(t, seed, nil))
		for range 100 {
			var b strings.Builder
			for range 1 + r.IntN(12) {
				b.WriteString([]string{"a", "b", "c", " ", "ü", "x", "y"}[r.IntN(7)])
			}
			words := strings.Fields(b.String())
			text := " " + strings.Join(words, " ")
			if len(words) == 0 {
				text = ""
			}
			ids := tok.Encode(b.String(), false)
			sum, rest := 0.0, text
			for i, id := range ids {
				if id == tok.unigram.unknown {
					if i > 0 && ids[i-1] == id {
						t.Fatalf("%q: two unknown tokens: %v", text, ids)
					}
					for strings.HasPrefix(rest, "x") || strings.HasPrefix(rest, "y") {
						sum, rest = sum+tok.unigram.unknownScore, rest[1:]
					}
					continue
				}
				sum += float64(tok.unigram.scores[id])
				after, ok := strings.CutPrefix(rest, string(tok.Piece(id)))
				if !ok {
					t.Fatalf("%q: %v", text, names(tok, ids))
				}
				rest = after
			}
			if want := bestSum(tok, text); rest != "" || sum != want {
				t.Fatalf("%q: %v have %g, want %g; %q is left", text, names(tok, ids), sum, want, rest)
			}
		}
	}
}

func TestUnigramMarkers(t *testing.T) {
	tok := newTokenizer(t, unigramFile(t, 1, nil))
	if begin, end, ok := tok.Enclosed(); !ok || begin != 1 || end != 2 || tok.BOS() != -1 || tok.EOS() != -1 {
		t.Errorf("texts are between %d and %d, %t", begin, end, ok)
	}
	if ids := tok.Encode("<s>a</s>", false); slices.ContainsFunc(ids, func(id int32) bool { return id == 1 || id == 2 }) {
		t.Errorf("plain text becomes control tokens: %v", ids)
	}
	if ids := tok.Encode("<s>a", true); len(ids) != 2 && ids[0] != 1 {
		t.Errorf("%v", names(tok, ids))
	}
}

// TestUnigramCostsWhatTheContextDoes, not what a text of megabytes or a word without end does.
func TestUnigramCostsWhatTheContextDoes(t *testing.T) {
	tok := newTokenizer(t, unigramFile(t, 1, nil))
	for name, unit := range map[string]string{"words": "ab ca ", "a word": "bc", "unknown": "x", "spaces": " ", "blanks": blank} {
		text := strings.Repeat(unit, 1<<22/len(unit))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		ids, err := tok.EncodeAtMost(t.Context(), text, false, 100)
		runtime.ReadMemStats(&after)
		if err != nil || len(ids) > 101+maxWordBytes {
			t.Errorf("%s: %d tokens, %v", name, len(ids), err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 6<<20 {
			t.Errorf("%s: %d bytes for a context of 100 tokens", name, took)
		}
	}
}

func TestUnigramFilesThatAreRefused(t *testing.T) {
	kind := func(i int, kind int32) func(map[string]any) {
		return func(kv map[string]any) { kv["tokenizer.ggml.token_type"].([]int32)[i] = kind }
	}
	score := func(i int, score float32) func(map[string]any) {
		return func(kv map[string]any) { kv[scoresKey].([]float32)[i] = score }
	}
	set := func(key string, value any) func(map[string]any) { return func(kv map[string]any) { kv[key] = value } }
	unset := func(key string) func(map[string]any) { return func(kv map[string]any) { delete(kv, key) } }
	table := func(units []uint32, texts string) func(map[string]any) {
		raw := binary.LittleEndian.AppendUint32(nil, uint32(4*len(units)))
		for _, u := range units {
			raw = binary.LittleEndian.AppendUint32(raw, u)
		}
		return set(charsmapKey, append(raw, texts...))
	}
	for want, edits := range map[string][]func(map[string]any){
		"is not a list of 22 floating-point numbers": {unset(scoresKey), set(scoresKey, []float32{1}), set(scoresKey, make([]int32, 22))},
		"not a finite number":                        {score(5, float32(math.NaN())), score(7, float32(math.Inf(-1)))},
		"is not true":                                {unset("tokenizer.ggml.add_space_prefix"), set("tokenizer.ggml.remove_extra_whitespaces", false), set("tokenizer.ggml.add_bos_token", false), set("tokenizer.ggml.add_eos_token", uint32(1))},
		"unknown_token_id is missing":                {unset("tokenizer.ggml.unknown_token_id")},
		"bos_token_id is missing":                    {unset("tokenizer.ggml.bos_token_id")},
		"eos_token_id is not a token":                {set("tokenizer.ggml.eos_token_id", uint32(99))},
		"beside the unigram model is not defined":    {kind(6, 4)},
		`not written as "<0xFF>"`:                    {kind(6, 6)},
		"some readers use it":                        {kind(6, 5)},
		"the limit of the unigram model is 256":      {func(kv map[string]any) { kv["tokenizer.ggml.tokens"].([]string)[6] = strings.Repeat("x", 257) }},
		"no token is a normal one": {func(kv map[string]any) {
			copy(kv["tokenizer.ggml.token_type"].([]int32), slices.Repeat([]int32{3}, 22))
		}},
		"is not a list of bytes":                   {set(charsmapKey, "text"), set(charsmapKey, []int32{256})},
		"has a replacement of more than 256 bytes": {table([]uint32{1 << 31}, strings.Repeat("x", 257)+"\x00")},
		"precompiled_charsmap is damaged":          {set(charsmapKey, []uint8{1, 2}), set(charsmapKey, []uint8{8, 0, 0, 0, 1}), table([]uint32{0}, "x"), table([]uint32{1<<31 | 2}, "x\x00"), table(nil, "\x00")},
	} {
		for _, edit := range edits {
			if _, err := New(unigramFile(t, 1, edit)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
	}
	unused := func(kv map[string]any) { kind(6, 5)(kv); score(6, -10000)(kv) }
	tok := newTokenizer(t, unigramFile(t, 1, unused))
	if ids := tok.Encode("c", false); slices.Contains(ids, 6) {
		t.Errorf("an unused token is used: %v", ids)
	}
}

// small is a table that replaces "A" by "ab" and "Ab" by a space.
func small() charsmap {
	units := make([]uint32, 512)
	// The root's successors are at 256; a unit's bits are as charsmap has them.
	units[0] = 256 << 10
	units[256^'A'] = 'A' | 1<<8 | (256^'A'^1)<<10 // successors from 1: the text itself at 1^0
	units[1] = 1 << 31
	units[1^'b'] = 'b' | 1<<8 | (1^'b'^2)<<10
	units[2] = 1<<31 | 3
	return charsmap{units, "ab\x00 \x00"}
}

func TestCharsmapTakesTheLongest(t *testing.T) {
	m := small()
	for text, want := range map[string]string{"A": "ab 1", "Ab": "  2", "Ac": "ab 1", "b": "b 1", "ü": "ü 2", "\xffA": "\ufffd 1", "\x00": "\x00 1", "A\x00": "ab 1"} {
		if part, n := m.prefix(text); fmt.Sprint(part, " ", n) != want {
			t.Errorf("%q: %q, %d, want %q", text, part, n, want)
		}
	}
}

// TestALoopInACharsmapEnds: each character of a text once cost as much as all behind it.
func TestALoopInACharsmapEnds(t *testing.T) {
	units := make([]uint32, 256)
	units[0] = 1 << 10 // the root's successors are at 1
	units[1^'a'] = 'a' | (1^'a'^1)<<10
	m := charsmap{units, "\x00"}
	text := strings.Repeat("a", 1<<20)
	for rest := text; rest != ""; {
		part, n := m.prefix(rest)
		if part != "a" || n != 1 {
			t.Fatalf("%q, %d", part, n)
		}
		rest = rest[n:]
	}
	units[1^'a'] |= 1 << 8
	units[1] = 1 << 31 // and now each of the loop's turns ends with a replacement by nothing
	if part, n := m.prefix(text); part != "" || n != maxReplacement {
		t.Errorf("%q, %d", part, n)
	}
}

// FuzzCharsmap: whatever the table and the text, something of the text is replaced by a part of either.
func FuzzCharsmap(f *testing.F) {
	m := small()
	raw := binary.LittleEndian.AppendUint32(nil, uint32(4*len(m.units)))
	for _, u := range m.units {
		raw = binary.LittleEndian.AppendUint32(raw, u)
	}
	f.Add(append(raw, m.texts...), "AbA\xffü")
	f.Add([]byte{4, 0, 0, 0, 1, 2, 3, 4, 0}, "a")
	f.Fuzz(func(t *testing.T, table []byte, text string) {
		var b bytes.Buffer
		if err := gguf.Write(&b, []gguf.KV{{Key: charsmapKey, Value: table}}, nil); err != nil {
			t.Fatal(err)
		}
		file, err := gguf.Parse(bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err != nil {
			t.Skip()
		}
		m, err := loadCharsmap(file)
		if err != nil {
			return
		}
		for text != "" {
			part, n := m.prefix(text)
			if n <= 0 || n > len(text) || strings.Contains(part, "\x00") && text[0] != 0 {
				t.Fatalf("%q becomes %q, %d", text, part, n)
			}
			text = text[n:]
		}
	})
}

// FuzzUnigram: tokens of any text are normal ones or the unknown one.
func FuzzUnigram(f *testing.F) {
	for _, s := range []string{"ab abc", "  a<s>\n", "\xffü▁x", "\xc3\xe2\x96", "xy xy"} {
		f.Add(s)
	}
	tok := newTokenizer(f, unigramFile(f, 3, nil))
	f.Fuzz(func(t *testing.T, text string) {
		for _, id := range tok.Encode(text, false) {
			if tok.Piece(id) == nil || tok.vocab.kindOf(id) != kindNormal && id != tok.unigram.unknown {
				t.Errorf("%q yields token %d", text, id)
			}
		}
	})
}
