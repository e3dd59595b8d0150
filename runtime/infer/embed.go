package infer

import (
	"context"
	"errors"
	"fmt"

	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/model"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// Embeds reports whether a model with this header is an embedding model, which an Embedder serves;
// others an Engine does.
func Embeds(f *gguf.File) bool {
	architecture, _ := f.String("general.architecture")
	return model.IsEncoder(architecture)
}

// Embedder computes vectors of texts. Embed may be called by several goroutines, which take turns
// pass by pass.
type Embedder struct {
	encoder   *model.Encoder
	tokenizer *tokenize.Tokenizer
	turn      chan struct{} // holds one while a pass runs, and for ever after Close
	closed    chan struct{}
}

// NewEmbedder checks the model and takes all memory. Of cfg, MaxSequences is not used: a pass holds
// as many texts as fit into Context tokens.
func NewEmbedder(cfg Config) (*Embedder, error) {
	if cfg.Context < 16 {
		return nil, fmt.Errorf("infer: got a context of %d, want at least 16 tokens", cfg.Context)
	}
	h, err := readHeader(cfg)
	if err != nil {
		return nil, err
	}
	e := &Embedder{tokenizer: h.tokenizer, turn: make(chan struct{}, 1), closed: make(chan struct{})}
	e.encoder, err = model.NewEncoder(model.Config{Source: cfg.Source, Params: h.params, Kernels: h.kernels, Threads: cfg.Threads,
		Budget: cfg.Budget, Context: min(cfg.Context, h.params.Context)})
	if err != nil {
		return nil, tensorsRefused(err)
	}
	if err := h.sameVocabulary(e.encoder.Params()); err != nil {
		return nil, errors.Join(err, e.encoder.Close())
	}
	return e, nil
}

// Tokenizer is the model's tokenizer.
func (e *Embedder) Tokenizer() *tokenize.Tokenizer { return e.tokenizer }

// ContextSize is the limit on a text, in tokens, those that enclose it included.
func (e *Embedder) ContextSize() int { return e.encoder.Batch() }

// Width is the number of values of a vector.
func (e *Embedder) Width() int { return e.encoder.Params().Width }

// Tokens returns the tokens of a text between those that enclose it. Of a text that is longer than
// the context it returns more than fit, and not all. It ends with an error when ctx does.
func (e *Embedder) Tokens(ctx context.Context, text string) ([]int32, error) {
	ids, err := e.tokenizer.EncodeAtMost(ctx, text, false, e.ContextSize())
	if err != nil {
		return nil, err
	}
	begin, end, _ := e.tokenizer.Enclosed()
	return append(append([]int32{begin}, ids...), end), nil
}

// Check refuses, as ErrPrompt, a text that is empty or longer than the context, or that has a token
// that the model does not know.
func (e *Embedder) Check(tokens []int32) error {
	if len(tokens) == 0 || len(tokens) > e.ContextSize() {
		return fmt.Errorf("%w: %d tokens, want 1 to %d", ErrPrompt, len(tokens), e.ContextSize())
	}
	for i, id := range tokens {
		if id < 0 || int(id) >= e.tokenizer.Size() {
			return fmt.Errorf("%w: token %d at position %d, the vocabulary has %d", ErrPrompt, id, i, e.tokenizer.Size())
		}
	}
	return nil
}

// Embed calls emit with the vector of each text, of length 1, in their order; it is valid until emit
// returns. As many texts as fit go through the weights at once. It ends with an error when ctx does,
// emit fails, the weights fail or the embedder closes.
func (e *Embedder) Embed(ctx context.Context, texts [][]int32, emit func(vector []float32) error) error {
	for _, text := range texts {
		if err := e.Check(text); err != nil {
			return err
		}
	}
	for len(texts) > 0 {
		n, tokens := 0, 0
		for n < len(texts) && tokens+len(texts[n]) <= e.encoder.Batch() {
			tokens += len(texts[n])
			n++
		}
		if err := e.pass(ctx, texts[:n], emit); err != nil {
			return err
		}
		texts = texts[n:]
	}
	return nil
}

// pass computes one batch in its turn.
func (e *Embedder) pass(ctx context.Context, texts [][]int32, emit func([]float32) error) error {
	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-e.closed:
		return ErrClosed
	}
	defer func() { <-e.turn }()
	select {
	case <-e.closed: // while it waited as well
		return ErrClosed
	default:
	}
	rows, err := e.encoder.Encode(texts)
	if errors.Is(err, model.ErrVector) {
		return ErrLogits
	}
	if err != nil {
		return fmt.Errorf("infer: %w", err)
	}
	for _, row := range rows {
		err := emit(row)
		clear(row)
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Close ends waiting calls with ErrClosed, waits for the pass under way and wipes the scratch memory.
// It may be called more than once, but not at the same time.
func (e *Embedder) Close() error {
	select {
	case <-e.closed:
		return nil
	default:
	}
	close(e.closed)
	e.turn <- struct{}{}
	return e.encoder.Close()
}
