package openai

import (
	"context"
	"errors"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/runtime/infer"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// Engine is one model at work. Its errors never quote a prompt or an answer:
// they are logged. Inference is the real one.
type Engine interface {
	// Chat returns the tokens of a conversation, up to where the model answers. Of one that
	// is longer than the context it need not return all. It ends with an error when ctx does.
	Chat(ctx context.Context, c tokenize.Conversation) ([]int32, error)
	// Text returns the tokens of a plain prompt, in which control tokens' text
	// is text.
	Text(ctx context.Context, prompt string) ([]int32, error)
	// Generate answers, calling emit with each piece of text, which is complete
	// UTF-8. It ends with an error when ctx does or emit fails.
	Generate(ctx context.Context, r infer.Request, emit func(text string) error) (infer.Result, error)
	// Tokens returns the tokens of a text, at most about limit of them: behind BOS if the model
	// wants one and begin is set, and with control tokens where special is.
	Tokens(ctx context.Context, text string, begin, special bool, limit int) ([]int32, error)
	// Piece returns the bytes of a token, which may be part of a character; nil if there is no
	// such token.
	Piece(id int32) []byte
	// ContextSize is the limit on prompt and answer together, in tokens.
	ContextSize() int
}

// thinkingUnsupported is the code of a refusal that concerns [tokenize.Conversation.Thinking],
// whichever of its parameters the client sent.
const thinkingUnsupported = "thinking-unsupported"

// Inference makes an engine answer conversations through its model's template.
type Inference struct{ *infer.Engine }

// Chat renders the conversation. What the template itself refuses, as two user
// turns in a row, is the client's mistake.
func (e Inference) Chat(ctx context.Context, c tokenize.Conversation) ([]int32, error) {
	template := e.Template()
	if template == nil {
		return nil, localapi.BadRequest("messages", "no-chat-template", "this model has no chat template; use /v1/completions")
	}
	if !template.CallsTools() {
		if c.Tools != nil {
			return nil, localapi.BadRequest("tools", "tools-unsupported", "this model's chat template has no tools, or calls of another form than this version reads")
		}
		for _, m := range c.Messages {
			if m.Calls != nil || m.Role == "tool" {
				return nil, localapi.BadRequest("messages", "tools-unsupported", "this model's chat template has no calls of tools")
			}
		}
	}
	switch {
	case c.Thinking == nil, template.ThinkingSwitch():
	case *c.Thinking:
		return nil, localapi.BadRequest("enable_thinking", thinkingUnsupported, "this model's chat template has no switch that makes it think")
	case template.Thinks():
		return nil, localapi.BadRequest("enable_thinking", thinkingUnsupported, "this model's chat template speaks of thinking, and has no switch against it; leave the parameter out")
	}
	ids, err := template.EncodeAtMost(ctx, e.Tokenizer(), c, true, e.ContextSize())
	if errors.Is(err, tokenize.ErrTools) {
		return nil, localapi.BadRequest("tools", "invalid-value", err.Error())
	}
	var raised *tokenize.RaisedError
	if errors.As(err, &raised) {
		return nil, localapi.BadRequest("messages", "template-refused", "the model's chat template refused: "+raised.Message)
	}
	return ids, err
}

// Piece returns the bytes of a token.
func (e Inference) Piece(id int32) []byte { return e.Tokenizer().Piece(id) }

// Text tokenizes a prompt as plain text, behind the model's BOS if it has one.
func (e Inference) Text(ctx context.Context, prompt string) ([]int32, error) {
	return e.Tokens(ctx, prompt, true, false, e.ContextSize())
}

// Tokens tokenizes a text.
func (e Inference) Tokens(ctx context.Context, text string, begin, special bool, limit int) ([]int32, error) {
	ids, err := e.Tokenizer().EncodeAtMost(ctx, text, special, limit)
	if err != nil {
		return nil, err
	}
	if begin && e.Tokenizer().AddBOS() {
		ids = append([]int32{e.Tokenizer().BOS()}, ids...)
	}
	return ids, nil
}
