// Package infer answers prompts: it schedules sequences over one model, samples their tokens, and
// finds where an answer ends.
//
// One pass over the weights serves every active sequence. A sequence's tokens do not depend on
// what runs beside it, and a seed gives the same answer every time. A sequence's keys and values
// are wiped when it ends; if it has an owner, they stay for this owner's next requests until
// another sequence takes their place or the engine closes. It begins once there is room for all that it may become, so
// that none runs out of it; others wait behind it, but for a number of those that leave it room. Owners take turns, and the requests of each are taken in the order in which they came. An error in the weights (a changed chunk) ends every answer under way,
// and nothing more is served. All large memory comes from the budget at the start.
//
// The [Engine] trusts its source for the authenticity of the weights. It refuses models that it
// would not compute exactly as their files mean, prompts that do not fit the context or contain
// unknown tokens, and outputs that are not numbers. The agent's local API calls it.
package infer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/grammar"
	"github.com/anchorhold/anchorhold/runtime/model"
	"github.com/anchorhold/anchorhold/runtime/servable"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// Errors that callers can branch on.
var (
	// ErrClosed: the engine was closed, for example at a lease's end.
	ErrClosed = errors.New("infer: the engine is closed")
	// ErrPrompt: the prompt is empty, does not fit the context, or contains a token that the
	// model does not know.
	ErrPrompt = errors.New("infer: prompt refused")
	// ErrStop: too many stop sequences, or one that is too long.
	ErrStop = errors.New("infer: stop sequences refused")
	// ErrOption: an option of the choice is out of its range.
	ErrOption = errors.New("infer: option refused")
	// ErrBias: a bias is out of range, or of a token that the model does not know.
	ErrBias = errors.New("infer: bias refused")
	// ErrLogits: the model's outputs are not numbers, so no token can be chosen.
	ErrLogits = errors.New("infer: the model's outputs are not finite numbers")
)

// Limits on stop texts: each is looked for after every token.
const (
	// MaxStops is the largest number of stop texts.
	MaxStops = 16
	// MaxStopBytes is the longest stop text.
	MaxStopBytes = 512
)

// Config is everything that an engine computes with.
type Config struct {
	// Source gives the weights.
	Source model.Source
	// File is the model's header. The engine copies the parts it needs.
	File *gguf.File
	// Budget gives the cache and all scratch memory.
	Budget *arena.Budget
	// Threads is the number of compute threads, each a worker of Source.
	Threads int
	// Context is the longest sequence; MaxSequences run at the same time.
	Context, MaxSequences int
	// Positions is how many tokens all sequences have room for together, with the most that they may answer, at least Context: a
	// sequence for which there is no room waits until others end. 0 stands for MaxSequences whole contexts.
	Positions int
	// Cache is how keys and values are kept: "f16", which "" is, too, or "q8".
	Cache string
	// Kernel is "auto", "amx", "avx512", "avx2", "dotprod", "neon" or "generic".
	Kernel string
}

// Engine runs sequences. Generate may be called by several goroutines.
type Engine struct {
	model     *model.Model
	cache     *model.Cache
	tokenizer *tokenize.Tokenizer
	template  *tokenize.Template
	context   int
	size      model.CacheSize

	submit chan *sequence
	quit   chan struct{}
	done   chan struct{}
	once   sync.Once

	sort  sync.Once
	words *words // once it is done

	slots    []*sequence // by cache slot; nil where free. The scheduler's own, as are prefixes, line, served and clock.
	prefixes *prefixes
	line     []*sequence       // that wait for a slot or pages, as they came
	served   map[string]uint64 // clock at which an owner's was last taken from the line
	clock    uint64
	first    int // slot whose prompt has the next pass first
	batch    []model.Input
	pick     *sampler
	drafts   int   // guessed at once, at most
	fatal    error // of the weights; valid after done

	ready           chan struct{}  // of one, once something of beside is done
	beside          sync.WaitGroup // goroutines that compute masks and clear slots
	compute         func(*constraint)
	patience, grace time.Duration // with masks: of each step, and what is left of it
}

// Memory is the amount that an engine takes from its budget for a model with this header, in
// bytes: the cache and the scratch memory; of an embedding model, what an Embedder takes. For a header whose model the engine cannot serve
// exactly, Memory and New return a *servable.Error. Of cfg, it takes File, Threads, Context, MaxSequences, Positions and Cache.
func Memory(cfg Config) (int64, error) {
	f, threads, sequences := cfg.File, cfg.Threads, cfg.MaxSequences
	if err := servable.Refuse(servable.Header(f)); err != nil {
		return 0, err
	}
	p, err := model.ParseParams(f)
	if err != nil {
		return 0, err
	}
	if t, ok := f.Tensor("token_embd.weight"); ok {
		p.Vocabulary = t.Rows()
	}
	size := cfg.cacheSize(p)
	if p.Encoder() {
		return model.EncoderBytes(p, threads, size.Length), nil
	}
	if err := keep(&p, cfg.Cache); err != nil {
		return 0, err
	}
	return model.CacheBytes(p, size) + prefixBytes(sequences, size.Length) + model.ScratchBytes(p, threads, size.Batch, outputs(sequences), size.Length), nil
}

// cacheSize is what the cache of a model has room for.
func (cfg Config) cacheSize(p model.Params) model.CacheSize {
	length := min(cfg.Context, p.Context)
	return model.CacheSize{Slots: cfg.MaxSequences, Length: length, Batch: batchSize(cfg.MaxSequences), Positions: cfg.Positions}
}

// batchSize is the number of tokens of a pass: six tiles of 16, or as many as there are sequences. More would make
// prompts hardly faster, and take memory of each.
func batchSize(sequences int) int { return max(96, sequences) }

// keep sets how keys and values are kept.
func keep(p *model.Params, cache string) (err error) {
	if p.Cache, err = model.ParseCacheType(cache); err == nil {
		err = p.CanKeep()
	}
	return err
}

// New checks the model, takes all memory and starts the scheduler.
func New(cfg Config) (*Engine, error) {
	if cfg.MaxSequences < 1 || cfg.MaxSequences > model.MaxBatch || cfg.Context < 16 {
		return nil, fmt.Errorf("infer: got %d sequences of context %d, want 1 to %d sequences of at least 16 tokens", cfg.MaxSequences, cfg.Context, model.MaxBatch)
	}
	h, err := readHeader(cfg)
	if err != nil {
		return nil, err
	}
	size := cfg.cacheSize(h.params)
	cfg.Context = size.Length
	if err := keep(&h.params, cfg.Cache); err != nil {
		return nil, err
	}
	e := &Engine{tokenizer: h.tokenizer, template: h.template, context: size.Length, size: size, submit: make(chan *sequence), quit: make(chan struct{}), done: make(chan struct{}),
		slots: make([]*sequence, cfg.MaxSequences), batch: make([]model.Input, 0, batchSize(cfg.MaxSequences)), drafts: maxDrafts, ready: make(chan struct{}, 1), served: map[string]uint64{}, compute: (*constraint).mask, patience: maskGrace}
	e.model, err = model.New(model.Config{Source: cfg.Source, Params: h.params, Kernels: h.kernels, Threads: cfg.Threads,
		Budget: cfg.Budget, Batch: batchSize(cfg.MaxSequences), Outputs: outputs(cfg.MaxSequences), Context: cfg.Context})
	if err != nil {
		return nil, tensorsRefused(err)
	}
	if err := h.sameVocabulary(e.model.Params()); err != nil {
		return nil, errors.Join(err, e.model.Close())
	}
	if e.cache, err = model.NewCache(cfg.Budget, e.model.Params(), size); err != nil {
		return nil, errors.Join(err, e.model.Close())
	}
	if e.prefixes, err = newPrefixes(cfg.Budget, cfg.MaxSequences, cfg.Context); err != nil {
		return nil, errors.Join(err, e.model.Close(), e.cache.Release())
	}
	e.pick = newSampler(e.model.Params().Vocabulary, h.kernels)
	go e.schedule()
	return e, nil
}

// Tokenizer is the model's tokenizer.
func (e *Engine) Tokenizer() *tokenize.Tokenizer { return e.tokenizer }

// Template is the model's chat template; nil if it has none.
func (e *Engine) Template() *tokenize.Template { return e.template }

// ContextSize is the limit on prompt and answer together, in tokens.
func (e *Engine) ContextSize() int { return e.context }

// CacheBytes is the memory of keys and values, and by how much it is less than if layers with a window kept all positions.
func (e *Engine) CacheBytes() (taken, saved int64) {
	p := e.model.Params()
	return model.CacheBytes(p, e.size), model.WindowSaving(p, e.size)
}

// Close ends every answer under way with ErrClosed, waits for the scheduler and
// wipes cache and scratch memory. It may be called more than once.
func (e *Engine) Close() error {
	var err error
	e.once.Do(func() {
		close(e.quit)
		<-e.done
		err = errors.Join(e.model.Close(), e.cache.Release(), e.prefixes.region.Release())
	})
	return err
}

// Request is one answer to compute.
type Request struct {
	// Prompt is the tokens to continue.
	Prompt []int32
	// MaxTokens bounds the answer; it is reduced to the room that the context leaves.
	MaxTokens int
	// Bias changes logits before anything else, then Penalties do.
	Bias      []Bias
	Penalties Penalties
	// TopK keeps this many likeliest tokens; 0 keeps all.
	TopK int
	// TopP keeps the likeliest of them up to this probability; 0 or 1 keeps all.
	TopP float64
	// MinP keeps those that have at least this part of the likeliest's probability.
	MinP float64
	// Temperature is applied to what is left; 0 always takes the likeliest token.
	Temperature float64
	// Seed makes the choices repeatable; nil means a random seed.
	Seed *uint64
	// Grammar, if there is one, has the answer among its texts, unless the answer ends at
	// MaxTokens or a stop text.
	Grammar *grammar.Grammar
	// Stop ends the answer before any of these texts.
	Stop []string
	// Observe, if there is one, is called before each emit, and at the end, with the tokens
	// whose text comes next, each with the Top likeliest at its place.
	Observe func([]Scored) error
	Top     int
	// Given, if there is any, is the answer: nothing is chosen, and Observe learns how likely the
	// model finds each of these tokens behind those before it. MaxTokens and what shapes a choice
	// are without meaning then.
	Given []int32
	// Owner is the user or tenant who asks. Requests with the same owner share the work on what
	// their prompts begin with alike; an empty one shares with nobody.
	Owner string
}

// Result is the outcome of a request.
type Result struct {
	// PromptTokens and CompletionTokens are numbers of tokens, including the end token.
	PromptTokens, CompletionTokens int
	// ReusedTokens is how many of the prompt's tokens were not computed again.
	ReusedTokens int
	// FinishReason is "stop" or "length".
	FinishReason string
}

// Generate computes one answer and calls emit, on the caller's goroutine, with
// each piece of text as it becomes certain: complete UTF-8, and no part of a
// stop text. It ends with an error when ctx does, emit fails, the weights fail
// or the engine closes.
func (e *Engine) Generate(ctx context.Context, req Request, emit func(text string) error) (Result, error) {
	result := Result{PromptTokens: len(req.Prompt)}
	if len(req.Given) > 0 {
		req.MaxTokens = len(req.Given)
	}
	if err := e.check(req); err != nil {
		return result, err
	}
	limit := min(req.MaxTokens, e.context-len(req.Prompt))
	seq := newSequence(req, limit)
	var err error
	if seq.choose.constraint, err = e.constrain(req.Grammar); err != nil {
		return result, err
	}
	select {
	case e.submit <- seq:
	case <-ctx.Done():
		return result, context.Cause(ctx)
	case <-e.done:
		return result, e.why()
	}
	defer seq.cancelled.Store(true)
	select {
	case <-seq.begun:
	case <-ctx.Done():
		return result, context.Cause(ctx)
	}
	out := output{tokenizer: e.tokenizer, text: newTextStream(req.Stop), emit: emit, observe: req.Observe}
	for {
		select {
		case <-ctx.Done():
			return result, context.Cause(ctx)
		case token, more := <-seq.tokens:
			if !more {
				if seq.err != nil {
					return result, seq.err
				}
				result.FinishReason = seq.reason
				return result, out.finish()
			}
			result.CompletionTokens++
			result.ReusedTokens = seq.reused
			if e.tokenizer.IsEnd(token.id) && len(req.Given) == 0 {
				continue // the scheduler closes the channel after it
			}
			stopped, err := out.add(token)
			if err != nil {
				return result, err
			}
			if stopped {
				result.FinishReason = "stop"
				return result, nil
			}
		}
	}
}

// check refuses a request that could not run, so that a step never fails for
// what one of its requests asks.
func (e *Engine) check(req Request) error {
	if len(req.Prompt) == 0 || len(req.Prompt) >= e.context || req.MaxTokens < 1 {
		return fmt.Errorf("%w: %d prompt tokens and %d answer tokens do not fit a context of %d", ErrPrompt, len(req.Prompt), req.MaxTokens, e.context)
	}
	if len(req.Given) > e.context-len(req.Prompt) {
		return fmt.Errorf("%w: %d prompt tokens and %d given tokens do not fit a context of %d", ErrPrompt, len(req.Prompt), len(req.Given), e.context)
	}
	for i, id := range slices.Concat(req.Prompt, req.Given) {
		if id < 0 || int(id) >= e.tokenizer.Size() {
			return fmt.Errorf("%w: token %d at position %d, the vocabulary has %d", ErrPrompt, id, i, e.tokenizer.Size())
		}
	}
	if len(req.Stop) > MaxStops {
		return fmt.Errorf("%w: got %d, want at most %d", ErrStop, len(req.Stop), MaxStops)
	}
	for i, stop := range req.Stop {
		if len(stop) > MaxStopBytes {
			return fmt.Errorf("%w: number %d has %d bytes, want at most %d", ErrStop, i+1, len(stop), MaxStopBytes)
		}
	}
	return e.checkChoice(req)
}

// why is the reason that the scheduler has ended.
func (e *Engine) why() error {
	if e.fatal != nil {
		return e.fatal
	}
	return ErrClosed
}
