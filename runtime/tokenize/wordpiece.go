package tokenize

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// maxWordRunes is the longest word that WordPiece takes apart; a longer one is unknown. It is part
// of the models: max_input_chars_per_word of their tokenizer files.
const maxWordRunes = 100

// wordPieces is what WordPiece adds to a vocabulary. A word is the longest token that it begins
// with, then the longest that what is left begins with, and so on; if something is left, the whole
// word is unknown. The vocabulary has a space before tokens that begin a word.
type wordPieces struct {
	unknown, begin, end int32
	most                int // bytes of the longest token
	normal              normalizer
}

// The keys that say what is done to letters (llama.cpp's src/llama-arch.cpp).
const (
	lowercaseKey = "tokenizer.ggml.normalizer.lowercase"
	accentsKey   = "tokenizer.ggml.normalizer.strip_accents"
)

// loadNormalizer reads what is done to letters; capital is a token with a capital letter, or -1. Files
// that do not say it are of uncased models if no token has a capital letter; another is refused.
func (t *Tokenizer) loadNormalizer(f *gguf.File, capital int32) (n normalizer, err error) {
	flag := func(key string, otherwise bool) bool {
		value, ok := f.Bool(key)
		if f.Has(key) && !ok {
			err = fmt.Errorf("%s is not a boolean", key)
		}
		if !f.Has(key) {
			return otherwise
		}
		return value
	}
	n.lower = flag(lowercaseKey, true)
	n.strip = flag(accentsKey, n.lower)
	if capital >= 0 && !f.Has(lowercaseKey) && err == nil {
		err = fmt.Errorf("token %d is %q: models that tell capital letters from small ones are supported if %s is false, which newer converters write; convert the model again", capital, t.vocab.bytes(capital), lowercaseKey)
	}
	return n, err
}

// loadWordPiece reads what WordPiece needs.
func (t *Tokenizer) loadWordPiece(f *gguf.File) (err error) {
	if t.vocab, err = loadVocabulary(f, wordPieceStyle, true); err != nil {
		return err
	}
	w, capital := &wordPieces{}, int32(-1)
	for id := range int32(t.Size()) {
		if t.vocab.kindOf(id) != kindNormal {
			continue
		}
		text := t.vocab.bytes(id)
		if w.most = max(w.most, len(text)); capital < 0 && strings.ContainsFunc(string(text), func(r rune) bool { return lower(r) != r }) {
			capital = id
		}
	}
	if w.normal, err = t.loadNormalizer(f, capital); err != nil {
		return err
	}
	if w.unknown, err = t.marker(f, "tokenizer.ggml.unknown_token_id"); err != nil {
		return err
	}
	if w.begin, err = t.marker(f, "tokenizer.ggml.cls_token_id", "tokenizer.ggml.bos_token_id"); err != nil {
		return err
	}
	if w.end, err = t.marker(f, "tokenizer.ggml.seperator_token_id", "tokenizer.ggml.separator_token_id", "tokenizer.ggml.eos_token_id"); err != nil {
		return err
	}
	for _, key := range []string{"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_sep_token", "tokenizer.ggml.add_eos_token"} {
		if adds, ok := f.Bool(key); f.Has(key) && !(ok && adds) {
			return fmt.Errorf("%s is not true; with WordPiece, texts begin with the token [CLS] and end with [SEP]", key)
		}
	}
	t.wordPieces = w
	return nil
}

// marker reads a token that is named by one or more keys, which then agree.
func (t *Tokenizer) marker(f *gguf.File, keys ...string) (int32, error) {
	id := int32(-1)
	for _, key := range keys {
		if !f.Has(key) {
			continue
		}
		n, ok := f.Uint(key)
		if !ok || n >= uint64(t.Size()) {
			return -1, fmt.Errorf("%s is not a token of the vocabulary", key)
		}
		if id >= 0 && id != int32(n) {
			return -1, fmt.Errorf("%s is %d, and another key for the same token says %d", key, n, id)
		}
		id = int32(n)
	}
	if id < 0 {
		return -1, errors.New(keys[0] + " is missing")
	}
	return id, nil
}

// Enclosed reports whether the model expects a token before each text and one behind it, and which.
// Encode does not add them.
func (t *Tokenizer) Enclosed() (begin, end int32, ok bool) {
	switch {
	case t.wordPieces != nil:
		return t.wordPieces.begin, t.wordPieces.end, true
	case t.unigram != nil:
		return t.unigram.begin, t.unigram.end, true
	case t.around != nil:
		return t.around.begin, t.around.end, true
	}
	return -1, -1, false
}

// pieceText encodes text that holds no special token.
func (w *wordPieces) pieceText(e *encoder, text string) {
	word := make([]byte, 1, 64)
	word[0] = ' '
	runes := 0
	flush := func() (more bool) {
		if runes > 0 {
			w.word(e, word, runes)
		}
		word, runes = word[:1], 0
		return !e.full()
	}
	more := true
	w.normal.runes(text, func(r rune) bool {
		alone := punctuation(r)
		if r == ' ' || alone {
			more = flush()
		}
		if r == ' ' {
			return more
		}
		if runes++; runes <= maxWordRunes { // of a longer word no more is needed than that it is
			word = utf8.AppendRune(word, r)
		}
		if alone && more {
			more = flush()
		}
		return more
	})
	if more {
		flush()
	}
}

// word encodes a word, which has a space before it.
func (w *wordPieces) word(e *encoder, word []byte, runes int) {
	begun := len(e.out)
	for len(word) > 0 && runes <= maxWordRunes {
		size := min(len(word), w.most)
		for size > 0 {
			if size == len(word) || utf8.RuneStart(word[size]) {
				if id := e.t.vocab.find(word[:size]); id >= 0 {
					e.out = append(e.out, id)
					break
				}
			}
			size--
		}
		if size == 0 {
			break
		}
		word = word[size:]
	}
	if len(word) > 0 {
		e.out = append(e.out[:begun], w.unknown)
	}
}
