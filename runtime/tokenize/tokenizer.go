// Package tokenize turns text into a model's token ids and back, and renders conversations
// through a model's chat template.
//
// A [Tokenizer] gives the ids that the model was trained with: byte-level BPE with the
// pre-tokenizer that the model file names, SentencePiece BPE or unigram, or WordPiece. A file that names a tokenizer, pre-tokenizer or
// template construct that is not implemented is refused by name when it is loaded, rather than
// tokenized almost right. Plain text never yields a control token, so a user's input cannot forge
// a turn of the conversation. Time is linear in the text up to a logarithm, templates run under
// limits on steps and output, and a vocabulary costs some 12 bytes a token beside its text.
//
// The package relies on the model file, which is authenticated before it gets here, for meaning
// but not for safety: damaged metadata is an error, never a panic.
//
// The inference engine and the agent call it.
package tokenize

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// Limits on a vocabulary.
const (
	maxVocabulary = 1 << 20
	maxTokenBytes = 4096
)

// tokenKind is a token's type, numbered as in tokenizer.ggml.token_type.
type tokenKind uint8

const (
	kindNormal      tokenKind = 1
	kindUnknown     tokenKind = 2
	kindControl     tokenKind = 3
	kindUserDefined tokenKind = 4
	kindUnused      tokenKind = 5
	kindByte        tokenKind = 6
)

// Tokenizer is immutable after New and safe for concurrent use.
type Tokenizer struct {
	vocab      vocabulary
	merges     merges      // of byte-level BPE
	pieces     *pieces     // of SentencePiece, else nil
	wordPieces *wordPieces // of WordPiece, else nil
	unigram    *unigram    // of SentencePiece's unigram model, else nil
	special    specials    // control and unknown tokens, parsed only when asked
	defined    specials    // user-defined tokens, parsed always
	all        specials    // both
	strips     stripping
	split      preTokenizer

	byteID         [256]int32 // -1: the vocabulary lacks this byte
	bos, eos       int32
	ends           []int32 // tokens that end a turn
	addBOS, direct bool    // direct: a word that is a token needs no merging
	around         *around // of byte-level BPE that is for embedding models, else nil
}

// around are the tokens that a text is between.
type around struct{ begin, end int32 }

// New builds the tokenizer that the file describes. It keeps nothing of the file.
func New(f *gguf.File) (*Tokenizer, error) {
	t, err := load(f)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	return t, nil
}

func load(f *gguf.File) (*Tokenizer, error) {
	t := &Tokenizer{}
	var err error
	switch model, _ := f.String("tokenizer.ggml.model"); model {
	case "gpt2":
		err = t.loadBPE(f)
	case "llama":
		err = t.loadSentencePiece(f)
	case "bert":
		err = t.loadWordPiece(f)
	case "t5":
		err = t.loadUnigram(f)
	case "":
		err = errors.New("the file has no tokenizer (tokenizer.ggml.model is missing)")
	default:
		err = fmt.Errorf(`model %.100q is not supported, only "gpt2" (byte-level BPE), "llama" (SentencePiece BPE), "bert" (WordPiece) and "t5" (unigram)`, model)
	}
	if err != nil {
		return nil, err
	}
	t.special = newSpecials(&t.vocab, kindControl, kindUnknown)
	t.defined = newSpecials(&t.vocab, kindUserDefined)
	t.all = newSpecials(&t.vocab, kindControl, kindUnknown, kindUserDefined)
	if err := t.distinct(); err != nil {
		return nil, err
	}
	if t.split.embeds {
		err = t.loadAround(f)
	} else if t.wordPieces == nil && t.unigram == nil {
		err = t.loadStripping(f)
	}
	if err != nil {
		return nil, err
	}
	if t.pieces == nil && t.wordPieces == nil && t.unigram == nil && !t.direct {
		t.vocab.forgetTexts() // merges go by numbers
	}
	if _, _, embeds := t.Enclosed(); embeds { // it writes no answers
		t.bos, t.eos = -1, -1
		return t, nil
	}
	return t, t.loadMarkers(f)
}

// loadBPE reads what byte-level BPE needs.
func (t *Tokenizer) loadBPE(f *gguf.File) (err error) {
	if t.split, err = newPreTokenizer(f); err != nil {
		return err
	}
	t.direct = t.split.direct
	whole := false // a word may be </s>
	t.split.words(closing, func(word string) bool { whole = word == closing; return true })
	if t.vocab, err = loadVocabulary(f, byteLevelStyle, whole); err != nil {
		return err
	}
	if t.merges, err = loadMerges(f, &t.vocab); err != nil {
		return err
	}
	for b := range t.byteID {
		t.byteID[b] = t.vocab.find([]byte{byte(b)})
	}
	return nil
}

// loadAround reads which tokens a text is between. Files of RoBERTa and its kin say that both are added;
// without them, readers would leave them out.
func (t *Tokenizer) loadAround(f *gguf.File) (err error) {
	for _, key := range []string{"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"} {
		if on, ok := f.Bool(key); !ok || !on {
			return fmt.Errorf("%s is not true; with this pre-tokenizer, a text is between the tokens that begin and end it", key)
		}
	}
	t.around = &around{}
	if t.around.begin, err = t.marker(f, "tokenizer.ggml.bos_token_id"); err != nil {
		return err
	}
	t.around.end, err = t.marker(f, "tokenizer.ggml.eos_token_id")
	return err
}

// loadSentencePiece reads what SentencePiece BPE needs. Prompts begin with BOS unless the file
// says otherwise.
func (t *Tokenizer) loadSentencePiece(f *gguf.File) (err error) {
	if t.vocab, err = loadVocabulary(f, sentencePieceStyle, true); err != nil {
		return err
	}
	if t.pieces, err = loadPieces(f, &t.vocab); err != nil {
		return err
	}
	t.split.addBOS = true
	return t.loadBytes()
}

// endNames are the texts of tokens that end a turn, whatever else a file names. They are
// control tokens whatever type a file gives them, as llama.cpp has it: as another type, a
// user's text could end a turn and a model's answer would not.
var endNames = [...]string{"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|EOT|>", "<|end_of_text|>", "<|return|>", "<|call|>",
	"<end_of_turn>", "<end_of_utterance>", "<EOT>", "_<EOT>"}

// endControls are more of them, where a file says that they are control or user-defined tokens: as
// others, they may be words of a vocabulary.
var endControls = [...]string{"</s>", "<eos>", "[EOS]", "[EOT]", "<|flush|>", "<|calls|>", "<｜end▁of▁sentence｜>"}

// roles are the tokens of infilling: a file names the token of a role by its key, or one of these texts
// is it, as llama.cpp has it. Then it is a control token, user-defined or not: as another, a user's text
// could contain it.
var roles = [...]struct {
	key, names string
	ends       bool // a turn: what it begins is no part of an answer
}{
	{"tokenizer.ggml.fim_pre_token_id", "<|fim_prefix|> <fim-prefix> <fim_prefix> <｜fim▁begin｜> <PRE> ▁<PRE> <|code_prefix|> <|prefix|>", false},
	{"tokenizer.ggml.fim_suf_token_id", "<|fim_suffix|> <fim-suffix> <fim_suffix> <｜fim▁hole｜> <SUF> ▁<SUF> <|code_suffix|> <|suffix|>", false},
	{"tokenizer.ggml.fim_mid_token_id", "<|fim_middle|> <fim-middle> <fim_middle> <｜fim▁end｜> <MID> ▁<MID> <|code_middle|> <|middle|>", false},
	{"tokenizer.ggml.fim_pad_token_id", "<|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD]", true},
	{"tokenizer.ggml.fim_rep_token_id", "<|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame>", true},
	{"tokenizer.ggml.fim_sep_token_id", "<|file_sep|>", true},
}

// isControl says whether a token that a file calls user-defined is a control token.
func isControl(f *gguf.File, text string) bool {
	if slices.Contains(endControls[:], text) {
		return true
	}
	for _, role := range roles {
		if slices.Contains(strings.Fields(role.names), text) {
			return !f.Has(role.key)
		}
	}
	return false
}

// isEnd says whether a token of this text ends a turn, and so is a control token.
func isEnd(text string, kind tokenKind, whole bool) bool {
	// llama.cpp has it so for </s> as well, which files of Gemma and Qwen list as a token of
	// another type: but as a word, it stays one.
	return slices.Contains(endNames[:], text) || text == closing && (kind == kindUserDefined || kind == kindNormal && !whole)
}

const closing = "</s>"

// distinct refuses vocabularies in which a text could mean one token or another.
func (t *Tokenizer) distinct() error {
	for i, id := range t.all.ids {
		text := t.vocab.bytes(id)
		if i > 0 && bytes.Equal(text, t.vocab.bytes(t.all.ids[i-1])) {
			return fmt.Errorf("tokens %d and %d are both %q", t.all.ids[i-1], id, text)
		}
		if t.pieces == nil && t.wordPieces == nil && t.unigram == nil {
			text = appendBytes(nil, text)
		} else if t.vocab.kindOf(id) == kindUserDefined {
			continue // is found first
		}
		if other := t.vocab.find(text); other >= 0 {
			return fmt.Errorf("tokens %d and %d are both %q, and only one of them is a normal token", other, id, text)
		}
	}
	return nil
}

// loadMarkers reads which tokens begin and end a text.
func (t *Tokenizer) loadMarkers(f *gguf.File) error {
	marker := func(key string) (int32, error) {
		if !f.Has(key) {
			return -1, nil
		}
		n, ok := f.Uint(key)
		if !ok || n >= uint64(t.Size()) {
			return -1, fmt.Errorf("%s is not a token of the vocabulary", key)
		}
		return int32(n), nil
	}
	var err error
	if t.bos, err = marker("tokenizer.ggml.bos_token_id"); err != nil {
		return err
	}
	if t.eos, err = marker("tokenizer.ggml.eos_token_id"); err != nil {
		return err
	}
	// Files name one end token; chat models stop at their template's as well.
	names := slices.Concat(endNames[:], endControls[:])
	keys := []string{"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}
	for _, role := range roles {
		if role.ends && !f.Has(role.key) {
			names = append(names, strings.Fields(role.names)...)
		}
		if role.ends {
			keys = append(keys, role.key)
		}
	}
	for _, name := range names {
		if id := t.special.exact(&t.vocab, name); id >= 0 {
			t.ends = append(t.ends, id)
		}
	}
	for _, key := range keys {
		id, err := marker(key)
		if err != nil {
			return err
		}
		if id >= 0 {
			t.ends = append(t.ends, id)
		}
	}
	const key = "tokenizer.ggml.add_bos_token"
	if t.addBOS = t.split.addBOS; f.Has(key) {
		var ok bool
		if t.addBOS, ok = f.Bool(key); !ok {
			return fmt.Errorf("%s is not a boolean", key)
		}
	}
	if t.addBOS && t.bos < 0 {
		return errors.New("prompts must begin with a BOS token (tokenizer.ggml.add_bos_token, or the pre-tokenizer's default), but the file names none (tokenizer.ggml.bos_token_id)")
	}
	return nil
}

// Size returns the number of tokens; ids lie in [0, Size).
func (t *Tokenizer) Size() int { return t.vocab.size() }

// EOS returns the token that ends a text, or -1 if the file names none.
func (t *Tokenizer) EOS() int32 { return t.eos }

// BOS returns the token that begins a text, or -1 if the file names none.
func (t *Tokenizer) BOS() int32 { return t.bos }

// AddBOS reports whether the model expects BOS before every prompt that does not already begin
// with it. Encode does not add it.
func (t *Tokenizer) AddBOS() bool { return t.addBOS }

// IsEnd reports whether a model that emits id has finished its turn.
func (t *Tokenizer) IsEnd(id int32) bool {
	if id >= 0 && id == t.eos {
		return true
	}
	for _, end := range t.ends {
		if id == end {
			return true
		}
	}
	return false
}

// IsControl reports whether id is a control token, whose text is not part of an
// answer. Ids outside the vocabulary are not.
func (t *Tokenizer) IsControl(id int32) bool {
	return id >= 0 && int(id) < t.Size() && (t.vocab.kindOf(id) == kindControl || t.vocab.kindOf(id) == kindUnknown)
}

// Piece returns the bytes that a token stands for, which may be part of a UTF-8
// sequence; nil for an id outside the vocabulary. The slice must not be changed.
func (t *Tokenizer) Piece(id int32) []byte {
	if id < 0 || int(id) >= t.Size() {
		return nil
	}
	return t.vocab.bytes(id)
}

// Encode returns the tokens of text. With special set, the text of a control token becomes that
// token, and GuardByte is removed; without it, such text is plain and never yields a control
// token. Bytes that are not in the vocabulary are left out, as in the reference implementation.
func (t *Tokenizer) Encode(text string, special bool) []int32 {
	ids, _ := t.EncodeAtMost(context.Background(), text, special, math.MaxInt) // which does not end
	return ids
}

// EncodeAtMost is Encode for a context of so many tokens: of a text that has more it
// returns some more, and not the rest, which would take many times the text's memory. Its
// one error is that ctx ended.
func (t *Tokenizer) EncodeAtMost(ctx context.Context, text string, special bool, limit int) ([]int32, error) {
	e := encoder{t: t, ended: func() bool { return ctx.Err() != nil }, out: make([]int32, 0, min(len(text)/3, limit)+8), limit: limit}
	set := &t.defined
	if special {
		set = &t.all
	}
	for text != "" && !e.full() {
		skip, size, id := set.next(&t.vocab, text)
		plain := text[:skip]
		if special {
			plain = dropGuards(plain)
		}
		if t.pieces != nil {
			plain = t.pieces.spaced(plain)
		}
		e.plain(plain)
		if size == 0 || e.full() {
			break
		}
		e.out = append(e.out, id)
		text = t.strips.behind(id, text[skip+size:])
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	return e.out, nil
}
