package tokenize

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/jinja"
)

// Message is one turn of a conversation.
type Message struct {
	Role    string
	Content string
	// Calls are those of an assistant's turn.
	Calls []Call
	// Name is that of the tool whose answer a turn is.
	Name string
}

// Template is a model's compiled chat template. It is immutable and safe for
// concurrent use.
type Template struct {
	program          *jinja.Template
	tools            bool
	switched, thinks bool
	markers          map[string]string // texts of tokens by the names that templates know them by
}

// RaisedError is a template's own refusal of a conversation, for example of two user turns in a
// row.
type RaisedError = jinja.RaisedError

// NewTemplate compiles the file's chat template. A construct outside the
// supported part of the language is an error that names it and its line.
func NewTemplate(f *gguf.File) (*Template, error) {
	source, ok := f.String("tokenizer.chat_template")
	if !ok {
		return nil, errors.New("chat template: the file has none (tokenizer.chat_template is missing)")
	}
	program, err := jinja.Compile(source)
	if err != nil {
		return nil, fmt.Errorf("chat template: %w", err)
	}
	t := &Template{program: program, tools: knowsTools(source), markers: map[string]string{"bos_token": "", "eos_token": ""}}
	for name, key := range markerKeys {
		if text := markerText(f, "tokenizer.ggml."+key); text != "" {
			t.markers[name] = text
		}
	}
	t.probe(source)
	return t, nil
}

// probe finds out whether the template's text depends on enable_thinking, and whether its model
// thinks where nothing is said: without a switch it does if the template speaks of thinking at all.
func (t *Template) probe(source string) {
	says := func(thinking *bool) (string, bool) {
		c := Conversation{Messages: []Message{{Role: "user", Content: "x"}}, Thinking: thinking}
		o := jinja.Options{Now: func() time.Time { return time.Unix(0, 0) }}
		text, err := t.render(context.Background(), c, func(text string) string { return text }, o, true)
		return text, err == nil
	}
	on, off := true, false
	usual, ok := says(nil)
	silent, okOff := says(&off)
	thinking, okOn := says(&on)
	t.switched = ok && okOff && okOn && silent != thinking
	if t.switched {
		t.thinks = usual != silent
	} else {
		t.thinks = strings.Contains(strings.ToLower(source), "think")
	}
}

// ThinkingSwitch says whether the template heeds [Conversation.Thinking].
func (t *Template) ThinkingSwitch() bool { return t.switched }

// Thinks says whether the model thinks before it answers where nothing is said about it. Without
// a switch it may say so of one that does not: models that always think and models that never do
// are published with templates that only take thoughts out of earlier turns.
func (t *Template) Thinks() bool { return t.thinks }

// markerKeys are the tokens that Hugging Face's apply_chat_template hands to a template, and
// the keys that name them.
var markerKeys = map[string]string{"bos_token": "bos_token_id", "eos_token": "eos_token_id", "unk_token": "unknown_token_id",
	"sep_token": "seperator_token_id", "pad_token": "padding_token_id", "cls_token": "cls_token_id", "mask_token": "mask_token_id"}

// markerText returns the text of the token that a key names, empty if none.
func markerText(f *gguf.File, key string) string {
	id, ok := f.Uint(key)
	tokens, has := f.Strings("tokenizer.ggml.tokens")
	if !ok || !has || id >= uint64(tokens.Len()) {
		return ""
	}
	return string(tokens.At(int(id)))
}

// Render returns the text that the model continues, unless ctx ends. Contents are included as
// they are; use Encode if they may come from somebody who must not be able to forge turns.
func (t *Template) Render(ctx context.Context, messages []Message, addGenerationPrompt bool) (string, error) {
	return t.render(ctx, Conversation{Messages: messages}, func(text string) string { return text }, jinja.Options{}, addGenerationPrompt)
}

func (t *Template) render(ctx context.Context, c Conversation, guard func(string) string, o jinja.Options, addGenerationPrompt bool) (string, error) {
	list, tools, err := c.values(guard)
	if err != nil {
		return "", fmt.Errorf("chat template: %w", err)
	}
	variables := map[string]any{
		"messages":              list,
		"add_generation_prompt": addGenerationPrompt,
		// As Hugging Face's apply_chat_template hands them over where there are none.
		"tools":     tools,
		"documents": nil,
	}
	for name, text := range t.markers {
		variables[name] = text
	}
	if c.Thinking != nil {
		variables["enable_thinking"] = *c.Thinking
	}
	text, err := t.program.RenderWith(ctx, variables, o)
	if err != nil {
		return "", fmt.Errorf("chat template: %w", err)
	}
	return text, nil
}

// Encode renders a conversation and returns its tokens. Roles and contents never
// become control tokens, whatever they spell: only the template's own text does.
func (t *Template) Encode(tok *Tokenizer, messages []Message, addGenerationPrompt bool) ([]int32, error) {
	return t.EncodeAtMost(context.Background(), tok, Conversation{Messages: messages}, addGenerationPrompt, math.MaxInt)
}

// EncodeAtMost is Encode of a conversation with tools, for a context of limited size, like [Tokenizer.EncodeAtMost].
func (t *Template) EncodeAtMost(ctx context.Context, tok *Tokenizer, c Conversation, addGenerationPrompt bool, limit int) ([]int32, error) {
	guard := func(text string) string {
		if ctx.Err() != nil {
			return "" // rendering ends, too
		}
		return tok.Guard(text)
	}
	text, err := t.render(ctx, c, guard, jinja.Options{Guard: tok.rejoined}, addGenerationPrompt)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	ids, err := tok.EncodeAtMost(ctx, text, true, limit)
	if err != nil {
		return nil, err
	}
	if tok.AddBOS() && (len(ids) == 0 || ids[0] != tok.BOS()) {
		ids = append([]int32{tok.BOS()}, ids...)
	}
	return ids, nil
}
