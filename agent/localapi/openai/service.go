package openai

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/runtime/infer"
)

// Session is one model under one lease.
type Session struct {
	// Engine answers, or, of an embedding model, Embedder does; the other is nil.
	Engine   Engine
	Embedder Embedder
	ModelID  [32]byte
	Version  uint64 // of the sealed model
	// Lease ends when the lease does; its cause is the reason.
	Lease context.Context
	// Issue signs a receipt under the lease, or fails once it has ended.
	Issue func(receipt.Answer) (receipt.Issued, error)
	// Done ends the session: nothing of it is used any more. It may be called twice.
	Done func()
}

// Models are the language models of the agent. Refusals are *refusal.Error, whose reason is
// the client's error code.
type Models interface {
	// Models names the configured models, whether or not they can be served now.
	Models() []string
	// Session returns a model under the current lease. It may wait for a model that is
	// about to be served, until the context ends.
	Session(ctx context.Context, model string) (Session, error)
}

// Service answers completions on an API. Its fields are complete before Mount, and read only
// after.
type Service struct {
	Models       Models
	MaxBodyBytes int64            // 1 MiB
	Now          func() time.Time // broker time for "created"; time.Now
	Version      string           // of the agent, for /api/version
	// Decoding holds one while a request is decoded; Mount makes it, with room for one.
	Decoding chan struct{}

	api                *localapi.Server
	prompt, completion atomic.Uint64 // tokens
}

// Mount serves completions on an API whose memory has room for the longest request.
func (s *Service) Mount(api *localapi.Server) error {
	if s.MaxBodyBytes == 0 {
		s.MaxBodyBytes = 1 << 20
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	if memory := api.Intake().Budget.Limit(); Cost(s.MaxBodyBytes) > api.Largest() {
		return fmt.Errorf("local API: a request of socket.max_body_bytes (%d) needs %d bytes of memory, but one request gets at most 7/8 of socket.memory_mb (%d)", s.MaxBodyBytes, Cost(s.MaxBodyBytes), memory>>20)
	}
	s.api, s.Decoding = api, make(chan struct{}, 1)
	s.mountEmbeddings(api)
	api.Mount(localapi.Mount{Metrics: s.writeMetrics, Routes: []localapi.Route{
		{Method: "GET", Pattern: "/v1/models", Name: "models", Handle: s.listModels},
		{Method: "GET", Pattern: "/v1/models/{model}", Name: "models", Handle: s.showModel},
		{Method: "POST", Pattern: "/v1/chat/completions", Name: "chat", Handle: s.in(chats{})},
		{Method: "POST", Pattern: "/v1/completions", Name: "completions", Handle: s.in(chats{plain: true})},
		{Method: "POST", Pattern: "/v1/responses", Name: "responses", Handle: s.in(responses{})},
		{Method: "POST", Pattern: "/api/chat", Name: "ollama-chat", Handle: s.in(ollama{})},
		{Method: "POST", Pattern: "/api/generate", Name: "ollama-generate", Handle: s.in(ollama{generate: true})},
		{Method: "GET", Pattern: "/api/tags", Name: "ollama-tags", Handle: s.tags},
		{Method: "GET", Pattern: "/api/ps", Name: "ollama-ps", Handle: s.running},
		{Method: "POST", Pattern: "/api/show", Name: "ollama-show", Handle: s.show},
		{Method: "GET", Pattern: "/api/version", Name: "ollama-version", Handle: s.version},
		{Method: "POST", Pattern: "/tokenize", Name: "tokenize", Handle: s.tokenize},
		{Method: "POST", Pattern: "/detokenize", Name: "detokenize", Handle: s.detokenize},
	}})
	return nil
}

// in answers in a form.
func (s *Service) in(as form) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error { return s.complete(w, r, as) }
}

// count adds the tokens of an answer.
func (s *Service) count(r infer.Result) {
	s.prompt.Add(uint64(max(r.PromptTokens, 0)))
	s.completion.Add(uint64(max(r.CompletionTokens, 0)))
}

func (s *Service) writeMetrics(w io.Writer) {
	fmt.Fprintf(w, "# HELP anchorhold_tokens_total Tokens read and written.\n# TYPE anchorhold_tokens_total counter\n")
	fmt.Fprintf(w, "anchorhold_tokens_total{direction=\"prompt\"} %d\nanchorhold_tokens_total{direction=\"completion\"} %d\n", s.prompt.Load(), s.completion.Load())
}

type modelObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func (s *Service) listModels(w http.ResponseWriter, _ *http.Request) error {
	list := []modelObject{}
	for _, name := range s.Models.Models() {
		list = append(list, modelObject{ID: name, Object: "model", OwnedBy: "anchorhold"})
	}
	localapi.WriteJSON(w, http.StatusOK, map[string]any{"object": "list", "data": list})
	return nil
}

func (s *Service) showModel(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("model")
	if err := s.checkModel(name); err != nil {
		return err
	}
	localapi.WriteJSON(w, http.StatusOK, modelObject{ID: name, Object: "model", OwnedBy: "anchorhold"})
	return nil
}

func (s *Service) checkModel(name string) error {
	if slices.Contains(s.Models.Models(), name) {
		return nil
	}
	if name == "" {
		return localapi.BadRequest("model", "missing-parameter", "model is required: "+strings.Join(s.Models.Models(), ", "))
	}
	p := localapi.BadRequest("model", "model_not_found", fmt.Sprintf("this agent has no model %.64q; it has %s", name, strings.Join(s.Models.Models(), ", ")))
	p.Status = http.StatusNotFound
	return p
}
