package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/rawjson"
)

// Limits on texts of tokens.
const (
	maxTokens = 1 << 16
	// tokenCost is the memory of a token of either direction: its number, and as JSON with
	// its text.
	tokenCost = 64
)

// tokenized is one token in the long form.
type tokenized struct {
	ID    int32 `json:"id"`
	Piece any   `json:"piece"` // a string, or the bytes of what is none
}

// tokenize answers /tokenize in llama-server's form. The model may be left out if there is one.
func (s *Service) tokenize(w http.ResponseWriter, r *http.Request) error {
	var text string
	begin, special, pieces := false, true, false
	decode := func(f fields) error {
		content, ok := f["content"]
		if !ok {
			return localapi.BadRequest("content", "missing-parameter", "content is required")
		}
		delete(f, "content")
		var b strings.Builder
		if rawjson.Text(&b, content) != nil {
			return localapi.BadRequest("content", "invalid-type", "content must be a string")
		}
		text = b.String()
		for name, v := range map[string]*bool{"add_special": &begin, "parse_special": &special, "with_pieces": &pieces} {
			if err := f.take(name, v); err != nil {
				return err
			}
		}
		return nil
	}
	return s.onTokens(w, r, decode, func() int { return min(len(text), maxTokens) }, func(ctx context.Context, e Engine) (any, error) {
		ids, err := e.Tokens(ctx, text, begin, special, maxTokens)
		switch {
		case err != nil:
			return nil, err
		case len(ids) > maxTokens:
			return nil, tooManyTokens("content")
		case !pieces:
			return map[string]any{"tokens": append([]int32{}, ids...)}, nil
		}
		list := make([]tokenized, len(ids))
		for i, id := range ids {
			piece := e.Piece(id)
			if list[i] = (tokenized{id, string(piece)}); !utf8.Valid(piece) {
				list[i].Piece = numbers(piece)
			}
		}
		return map[string]any{"tokens": list}, nil
	})
}

// detokenize answers /detokenize in llama-server's form: control tokens are written out.
func (s *Service) detokenize(w http.ResponseWriter, r *http.Request) error {
	var ids []int32
	decode := func(f fields) error {
		raw, ok := f["tokens"]
		if !ok {
			return localapi.BadRequest("tokens", "missing-parameter", "tokens is required")
		}
		delete(f, "tokens")
		err := rawjson.Elements(raw, func(element []byte) error {
			if len(ids) == maxTokens {
				return tooManyTokens("tokens")
			}
			var id int32
			if rawjson.Null(element) || json.Unmarshal(element, &id) != nil {
				return rawjson.ErrKind
			}
			ids = append(ids, id)
			return nil
		})
		if errors.Is(err, rawjson.ErrKind) {
			return localapi.BadRequest("tokens", "invalid-type", "tokens must be a list of numbers")
		}
		return err
	}
	return s.onTokens(w, r, decode, func() int { return len(ids) }, func(_ context.Context, e Engine) (any, error) {
		var b strings.Builder
		for _, id := range ids {
			piece := e.Piece(id)
			if piece == nil {
				return nil, localapi.BadRequest("tokens", "invalid-value", fmt.Sprintf("the model has no token %d", id))
			}
			if b.Write(piece); b.Len() > tokenCost/4*maxTokens {
				return nil, tooManyTokens("tokens")
			}
		}
		return map[string]string{"content": printable([]byte(b.String()))}, nil
	})
}

func tooManyTokens(param string) error {
	return &localapi.Error{Status: http.StatusRequestEntityTooLarge, Type: "invalid_request_error", Param: param, Code: string(localapi.ReasonTooLarge),
		Message: fmt.Sprintf("%s has more than %d tokens, or a text too long for so many", param, maxTokens)}
}

func numbers(piece []byte) []int {
	out := make([]int, len(piece))
	for i, b := range piece {
		out[i] = int(b)
	}
	return out
}

// onTokens answers a request about tokens in its turn, like a completion: tokenizing takes the
// processor too.
func (s *Service) onTokens(w http.ResponseWriter, r *http.Request, decode func(fields) error, tokens func() int, work func(context.Context, Engine) (any, error)) error {
	if err := s.api.Serving(); err != nil {
		return err
	}
	body, held, err := s.read(w, r, Cost)
	if err != nil {
		return err
	}
	m := &memory{held: held}
	defer m.release()
	var whole []byte
	err = s.inTurn(r.Context(), body, held, func() (model string, err error) {
		f, err := object(body)
		if err != nil {
			return "", err
		}
		if err := f.take("model", &model); err != nil {
			return "", err
		}
		if all := s.Models.Models(); model == "" && len(all) == 1 {
			model = all[0]
		}
		if err := decode(f); err != nil {
			return "", err
		}
		return model, f.none()
	}, func(ctx context.Context, session Session) error {
		if err := m.grow(tokenCost * int64(tokens())); err != nil {
			return err
		}
		answer, err := work(ctx, session.Engine)
		if err == nil {
			whole, err = json.Marshal(answer)
		}
		return err
	})
	if err != nil {
		return err
	}
	m.keep(len(whole))
	localapi.WriteBody(w, http.StatusOK, whole)
	return nil
}
