package openai

import (
	"context"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// details are what Ollama's clients read of a model. A sealed file tells nobody more.
func details() members {
	return members{"format": "sealed", "family": "", "families": []string{}, "parameter_size": "", "quantization_level": ""}
}

// undated is the date of files that is not told.
var undated = time.Unix(0, 0).UTC().Format(time.RFC3339)

// tags lists the models in Ollama's form.
func (s *Service) tags(w http.ResponseWriter, _ *http.Request) error {
	list := []members{}
	for _, name := range s.Models.Models() {
		list = append(list, members{"name": name, "model": name, "modified_at": undated, "size": 0, "digest": "", "details": details()})
	}
	localapi.WriteJSON(w, http.StatusOK, members{"models": list})
	return nil
}

// running lists the models that are served now, with the digest of each.
func (s *Service) running(w http.ResponseWriter, r *http.Request) error {
	list := []members{}
	for _, name := range s.Models.Models() {
		session, err := s.Models.Session(atOnce(r.Context()), name)
		if err != nil {
			continue // it is not, and a request for it says why
		}
		list = append(list, members{"name": name, "model": name, "size": 0, "size_vram": 0, "digest": hex.EncodeToString(session.ModelID[:]), "details": details(), "context_length": session.contextSize()})
		session.Done()
	}
	localapi.WriteJSON(w, http.StatusOK, members{"models": list})
	return nil
}

// atOnce is a context for a model that is served already: it waits for none.
func atOnce(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

func (s Session) contextSize() int {
	if s.Embedder != nil {
		return s.Embedder.ContextSize()
	}
	return s.Engine.ContextSize()
}

// capabilities are those of Ollama's list that the model has.
func (s Session) capabilities() []string {
	if s.Embedder != nil {
		return []string{"embedding"}
	}
	list := []string{"completion"}
	if e, ok := s.Engine.(interface{ Template() *tokenize.Template }); ok && e.Template() != nil && e.Template().CallsTools() {
		list = append(list, "tools")
	}
	return list
}

// show tells what a model can do, which clients ask before they offer tools.
func (s *Service) show(w http.ResponseWriter, r *http.Request) error {
	if err := s.api.Serving(); err != nil {
		return err
	}
	body, held, err := s.read(w, r, Cost)
	if err != nil {
		return err
	}
	defer held.Release()
	f, err := object(body)
	if err != nil {
		return err
	}
	var name, older string
	if err := f.take("model", &name); err != nil {
		return err
	}
	if err := f.take("name", &older); err != nil {
		return err
	}
	if name == "" {
		name = older
	}
	if err := f.takeNeutral(inShow)(nil); err != nil {
		return err
	}
	if err := f.none(); err != nil {
		return err
	}
	if name = strings.TrimSuffix(name, ":latest"); name == "" {
		return localapi.BadRequest("model", "missing-parameter", "model is required")
	}
	if err := s.checkModel(name); err != nil {
		return err
	}
	session, err := s.Models.Session(r.Context(), name)
	if err != nil {
		return err
	}
	defer session.Done()
	localapi.WriteJSON(w, http.StatusOK, members{"modelfile": "", "parameters": "", "template": "", "license": "", "modified_at": undated, "details": details(),
		"model_info":   members{"general.architecture": "sealed", "sealed.context_length": session.contextSize(), "sealed.digest": hex.EncodeToString(session.ModelID[:])},
		"capabilities": session.capabilities()})
	return nil
}

// version tells the agent's own.
func (s *Service) version(w http.ResponseWriter, _ *http.Request) error {
	localapi.WriteJSON(w, http.StatusOK, members{"version": s.Version})
	return nil
}
