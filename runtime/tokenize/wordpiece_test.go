package tokenize

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
)

// wordPieceTexts are peerTexts, what WordPiece alone does, and random characters of many scripts.
func wordPieceTexts() []string {
	texts := append(slices.Clone(peerTexts),
		"[CLS] forged [SEP] [MASK][UNK]", "unaffable embeddings", strings.Repeat("a", 100), strings.Repeat("a", 101), strings.Repeat("é", 100), strings.Repeat("漢", 120),
		"İstanbul ISPARTA ıi ß ẞ ﬁ ǅ", "Ελληνικά ΣΊΣΥΦΟΣ ϓ", "Å Å Å", "각 한글 각", "\u0930\u094d\u0915 क़ ড়", "豈更 丽 \U0002f800 \U00020000 \U0002b820 \U0002b920", "a\u200db\u00adc\ufeffd",
		"\u0085\u2028\u2029 \v\f x", "\ufffd\ue000\U000f0000", "word\u0301s\u0327", "\u037e\u1fef\u2126", "x\U0001f600y", "１２３ ＡＢＣ", "\U0001d11e \U0001d15e", "##ing ## #", "▁under", "\u1734\u166d\U000111c9\u1dfa",
		"can't.stop?!(now)", "🇩🇪🏳️‍🌈", "T\u00ea\u0301 Vi\u1ec7t", "\u202eabc\u202c", "日本語をtokenize", "email@example.org", "C:\\dir\\file_name.txt", "0123456789012345678901234567890123456789")
	rng := rand.New(rand.NewPCG(41, 42))
	ranges := [][2]rune{{0x20, 0x7e}, {0xa0, 0x24f}, {0x300, 0x36f}, {0x370, 0x52f}, {0x590, 0x6ff}, {0x900, 0xd7f}, {0xe00, 0x10ff}, {0x1100, 0x11ff}, {0x1e00, 0x206f},
		{0x2070, 0x2bff}, {0x3000, 0x33ff}, {0x4e00, 0x9fff}, {0xac00, 0xd7a3}, {0xf900, 0xffff}, {0x10000, 0x11fff}, {0x1d000, 0x1f9ff}, {0x20000, 0x2ffff}}
	for len(texts) < 260 {
		var b strings.Builder
		for range 1 + rng.IntN(40) {
			span := ranges[rng.IntN(len(ranges))]
			if rng.IntN(3) > 0 {
				span = ranges[rng.IntN(2)]
			}
			b.WriteRune(span[0] + rng.Int32N(span[1]-span[0]+1))
		}
		texts = append(texts, b.String())
	}
	return texts
}

// TestWordPieceEqualsHuggingFace compares the tokens of real vocabulary with those of Hugging
// Face's library: of texts, and what becomes of every character there is.
func TestWordPieceEqualsHuggingFace(t *testing.T) {
	longtest.Arithmetic(t, "a million characters go through another library")
	path, err := gguftest.MiniLMPath()
	if err != nil {
		t.Skip(err)
	}
	job := gguftest.MiniLMJob{Texts: wordPieceTexts()}
	for r := rune(1); r <= unicode.MaxRune; r++ {
		// Case mappings that came after Unicode 15, which is Go's, are not compared.
		if r != 0x1c89 && (r < 0xa7cb || r > 0xa7dc) && (r < 0x10d50 || r > 0x10d65) && (r < 0x16ea0 || r > 0x16eb8) && (r < 0xd800 || r > 0xdfff) {
			job.Normalize = append(job.Normalize, r)
		}
	}
	answer, err := gguftest.AskMiniLM(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	tok := newTokenizer(t, openFile(t, path))
	begin, end, ok := tok.Enclosed()
	if !ok {
		t.Fatal("no tokens around a text")
	}
	for i, text := range job.Texts {
		got := append(append([]int32{begin}, tok.Encode(text, false)...), end)
		if !slices.Equal(got, answer.IDs[i]) {
			t.Errorf("%q: %v, want %v", text, got, answer.IDs[i])
		}
	}
	wrong := 0
	for i, r := range job.Normalize {
		if got := wordsOf("x" + string(r) + "y"); got != answer.Words[i] {
			if wrong++; wrong < 20 {
				t.Errorf("%U: %q, want %q", r, got, answer.Words[i])
			}
		}
	}
	t.Logf("%d texts and %d characters compared, %d of these differ", len(job.Texts), len(job.Normalize), wrong)
}

// wordsOf are the words into which a text is cut, with spaces between them.
func wordsOf(text string) string { return wordsAs(normalizer{lower: true, strip: true}, text) }

func wordsAs(n normalizer, text string) string {
	var b strings.Builder
	n.runes(text, func(r rune) bool {
		if punctuation(r) {
			b.WriteString(" " + string(r) + " ")
		} else {
			b.WriteRune(r)
		}
		return true
	})
	return strings.Join(strings.FieldsFunc(b.String(), func(r rune) bool { return r == ' ' }), " ")
}

// bertFile is a vocabulary of WordPiece, with an edit.
func bertFile(t testing.TB, edit func(*gguftest.Model)) *gguf.File {
	t.Helper()
	m := gguftest.Of("bert", 1)
	if edit != nil {
		edit(m)
	}
	b, err := m.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWordsAreTheLongestTokens(t *testing.T) {
	tok := newTokenizer(t, bertFile(t, nil))
	text := func(ids []int32) (list []string) {
		for _, id := range ids {
			list = append(list, string(tok.Piece(id)))
		}
		return list
	}
	for in, want := range map[string][]string{
		"":                         nil,
		" \t\n":                    nil,
		"The THE thé":              {" the", " the", " the"},
		"then":                     {" the", "n"},
		"them!":                    {" the", "m", " !"},
		"the_the":                  {" the", "[UNK]", " the"},
		"漢the":                     {"[UNK]", " the"},
		strings.Repeat("n", 100):   append([]string{" n"}, slices.Repeat([]string{"n"}, 99)...),
		strings.Repeat("n", 101):   {"[UNK]"},
		strings.Repeat("n", 1<<20): {"[UNK]"},
		"[CLS]":                    {"[UNK]", " c", "l", "s", "[UNK]"},
		"the\x00n the\ufffdn":      {" the", "n", " the", "n"},
	} {
		if got := text(tok.Encode(in, false)); !slices.Equal(got, want) {
			t.Errorf("%.40q: %q, want %q", in, got, want)
		}
	}
	if begin, end, ok := tok.Enclosed(); !ok || string(tok.Piece(begin)) != "[CLS]" || string(tok.Piece(end)) != "[SEP]" {
		t.Errorf("texts are between %d and %d, %t", begin, end, ok)
	}
}

// TestWordPieceStopsAtItsLimit: a text of a megabyte costs no more than what the context holds.
func TestWordPieceStopsAtItsLimit(t *testing.T) {
	tok := newTokenizer(t, bertFile(t, nil))
	text := strings.Repeat("n ", 1<<19)
	ids, err := tok.EncodeAtMost(t.Context(), text, false, 100)
	if err != nil || len(ids) < 101 || len(ids) > 202 {
		t.Errorf("%d tokens, %v", len(ids), err)
	}
}

// TestALongWordIsNotKept: no word takes memory by its length.
func TestALongWordIsNotKept(t *testing.T) {
	tok := newTokenizer(t, bertFile(t, nil))
	text := strings.Repeat("n", 1<<22)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ids, err := tok.EncodeAtMost(t.Context(), text, false, 100)
	runtime.ReadMemStats(&after)
	if err != nil || len(ids) != 1 {
		t.Errorf("%d tokens, %v", len(ids), err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("a word of 4 MiB took %d bytes", took)
	}
}

func TestWordPieceFilesThatAreRefused(t *testing.T) {
	edits := map[string]func(*gguftest.Model){
		"capital": func(m *gguftest.Model) {
			tokens := slices.Clone(m.Value("tokenizer.ggml.tokens").([]string))
			tokens[len(tokens)-1] = "▁The"
			m.Set("tokenizer.ggml.tokens", tokens)
		},
		"tokenizer.ggml.unknown_token_id is missing":   func(m *gguftest.Model) { m.Unset("tokenizer.ggml.unknown_token_id") },
		"tokenizer.ggml.cls_token_id is missing":       func(m *gguftest.Model) { m.Unset("tokenizer.ggml.bos_token_id") },
		"tokenizer.ggml.seperator_token_id is missing": func(m *gguftest.Model) { m.Unset("tokenizer.ggml.seperator_token_id") },
		"another key for the same token":               func(m *gguftest.Model) { m.Set("tokenizer.ggml.cls_token_id", uint32(4)) },
		"not a token of the vocabulary":                func(m *gguftest.Model) { m.Set("tokenizer.ggml.cls_token_id", uint32(1<<20)) },
		"add_bos_token is not true":                    func(m *gguftest.Model) { m.Set("tokenizer.ggml.add_bos_token", false) },
		"add_sep_token is not true":                    func(m *gguftest.Model) { m.Set("tokenizer.ggml.add_sep_token", "yes") },
	}
	for want, edit := range edits {
		if _, err := New(bertFile(t, edit)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// FuzzWordPiece: whatever the text, tokens are of the vocabulary and none is a control token but
// the unknown one, and what is normalized stays as it is when normalized again.
func FuzzWordPiece(f *testing.F) {
	for _, text := range wordPieceTexts()[:80] {
		f.Add(text)
	}
	tok := newTokenizer(f, bertFile(f, nil))
	f.Fuzz(func(t *testing.T, text string) {
		for _, id := range tok.Encode(text, false) {
			if tok.Piece(id) == nil || tok.IsControl(id) && id != tok.wordPieces.unknown {
				t.Errorf("%q yields token %d", text, id)
			}
		}
		if once := wordsOf(text); wordsOf(once) != once {
			t.Errorf("%q becomes %q and then %q", text, once, wordsOf(once))
		}
	})
}
