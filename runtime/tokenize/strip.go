package tokenize

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// stripping says whether special tokens take the white space behind them along, as those of Phi-3 do
// ("rstrip" in its tokenizer.json). No key says so: llama.cpp goes by general.name, and so does this.
type stripping struct {
	on     bool
	except []int32 // tokens that do not
}

// loadStripping recognizes the models whose special tokens take white space along. Of the architecture
// phi3, SentencePiece files under another name are refused: their publisher's tokenizer takes it along,
// and llama.cpp does not.
func (t *Tokenizer) loadStripping(f *gguf.File) error {
	const key = "general.name"
	full, _ := f.String(key)
	name := strings.ToLower(full)
	if !strings.Contains(name, "phi-3") && !strings.Contains(name, "phi3") {
		if architecture, _ := f.String("general.architecture"); architecture == "phi3" && t.pieces != nil {
			return fmt.Errorf(`%s is %.60q, and special tokens of models with this tokenizer take white space along only where the name contains "phi-3"; name it so (gguf_new_metadata --general-name "Phi-3.5 mini")`, key, full)
		}
		return nil
	}
	for _, text := range []string{closing, "<unk>", "<s>", "<|endoftext|>"} {
		id := t.all.exact(&t.vocab, text)
		if id < 0 {
			id = t.vocab.find([]byte(text))
		}
		if id < 0 {
			return fmt.Errorf("%s is %.60q, but the vocabulary lacks the token %q of Phi-3, so it is unclear whether its special tokens take white space along; name the model otherwise (gguf_new_metadata --general-name)", key, full, text)
		}
		if text != closing {
			t.strips.except = append(t.strips.except, id)
		}
	}
	t.strips.on = true
	return nil
}

// behind is what is left of the text behind a special token. White space is isspace's of C.
func (s *stripping) behind(id int32, text string) string {
	if !s.on || slices.Contains(s.except, id) {
		return text
	}
	return strings.TrimLeft(text, " \t\n\v\f\r")
}
