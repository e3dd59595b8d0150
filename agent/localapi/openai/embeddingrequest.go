package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/rawjson"
)

// embeddingRequest is a decoded request for vectors.
type embeddingRequest struct {
	raw        []byte // as sent: what the receipt commits to
	model      string
	words      []string  // texts, or
	numbers    [][]int32 // their tokens
	base64     bool
	dimensions int  // 0: those of the model
	truncate   bool // cut texts that are too long, as Ollama does
}

func (q *embeddingRequest) texts() int { return len(q.words) + len(q.numbers) }

// parseEmbedding decodes a body. All that is left in the object after the known parameters were
// taken is refused by name.
func parseEmbedding(raw []byte, ollama bool) (*embeddingRequest, error) {
	f, err := object(raw)
	if err != nil {
		return nil, err
	}
	q := &embeddingRequest{raw: raw}
	if err := f.take("model", &q.model); err != nil {
		return nil, err
	}
	if q.model == "" {
		return nil, localapi.BadRequest("model", "missing-parameter", "model is required")
	}
	if err := f.takeInputs(q); err != nil {
		return nil, err
	}
	if err := f.take("dimensions", &q.dimensions); err != nil {
		return nil, err
	}
	if q.dimensions < 0 {
		return nil, localapi.BadRequest("dimensions", "invalid-value", "dimensions must be positive")
	}
	if ollama {
		err = f.takeOllamaEmbed(q)
	} else {
		err = f.takeEncoding(q)
	}
	if err != nil {
		return nil, err
	}
	return q, f.none()
}

// takeEncoding takes what only OpenAI's form has.
func (f fields) takeEncoding(q *embeddingRequest) error {
	encoding := "float"
	if err := f.take("encoding_format", &encoding); err != nil {
		return err
	}
	if encoding != "float" && encoding != "base64" {
		return localapi.BadRequest("encoding_format", "invalid-value", `encoding_format must be "float" or "base64"`)
	}
	q.base64 = encoding == "base64"
	return f.takeNeutral(inEmbeddings)(nil)
}

// takeOllamaEmbed takes what only Ollama's form has.
func (f fields) takeOllamaEmbed(q *embeddingRequest) error {
	q.model = strings.TrimSuffix(q.model, ":latest") // which clients add
	q.truncate = true
	if err := f.take("truncate", &q.truncate); err != nil {
		return err
	}
	if raw, ok := f["options"]; ok {
		members, err := rawjson.Members(raw)
		if err != nil {
			return localapi.BadRequest("options", "invalid-type", "options must be an object")
		}
		options := fields(members)
		if err := options.takeNeutral(inEmbedOptions)(nil); err != nil {
			return err
		}
		if err := options.noneOf("options"); err != nil {
			return err
		}
		delete(f, "options")
	}
	return f.takeNeutral(inEmbed)(nil)
}

// takeInputs reads a text, a list of texts, the tokens of a text, or a list of those.
func (f fields) takeInputs(q *embeddingRequest) error {
	raw, ok := f["input"]
	if !ok {
		return localapi.BadRequest("input", "missing-parameter", "input is required")
	}
	delete(f, "input")
	wrong := localapi.BadRequest("input", "invalid-type", "input must be a string, a list of strings, a list of tokens, or a list of such lists")
	if raw[0] == '"' {
		raw = slices.Concat([]byte{'['}, raw, []byte{']'})
	}
	var tokens []int32 // of the one text, if the list is of numbers
	err := rawjson.Elements(raw, func(element []byte) error {
		if q.texts() == maxInputs || len(tokens) == 1<<16 {
			return localapi.BadRequest("input", "too-many-inputs", fmt.Sprintf("input has more than %d texts, or a text of more than %d tokens", maxInputs, 1<<16))
		}
		switch {
		case element[0] == '"' && q.numbers == nil && tokens == nil:
			var text strings.Builder
			text.Grow(len(element))
			if rawjson.Text(&text, element) != nil {
				return wrong
			}
			q.words = append(q.words, text.String())
		case element[0] == '[' && q.words == nil && tokens == nil:
			ids, err := tokenList(element)
			if err != nil {
				return wrong
			}
			q.numbers = append(q.numbers, ids)
		case q.texts() == 0:
			var id int32
			if rawjson.Null(element) || json.Unmarshal(element, &id) != nil {
				return wrong
			}
			tokens = append(tokens, id)
		default:
			return wrong
		}
		return nil
	})
	if errors.Is(err, rawjson.ErrKind) {
		return wrong
	}
	if tokens != nil {
		q.numbers = [][]int32{tokens}
	}
	if err == nil && (q.texts() == 0 || slices.Contains(q.words, "")) {
		return localapi.BadRequest("input", "invalid-value", "input must not be empty, nor a text of it")
	}
	return err
}

// tokenList reads a list of tokens. A number has at least two bytes of the text with its comma, and
// takes four.
func tokenList(raw []byte) (ids []int32, err error) {
	ids = make([]int32, 0, min(len(raw)/2, 1<<16))
	err = rawjson.Elements(raw, func(element []byte) error {
		var id int32
		if rawjson.Null(element) || json.Unmarshal(element, &id) != nil {
			return rawjson.ErrKind
		}
		ids = append(ids, id)
		return nil
	})
	return ids, err
}
