package serving

import (
	"context"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/openai"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// ReasonUnknownModel is the refusal of a request that names a model that is not
// configured.
const ReasonUnknownModel refusal.Reason = "model-not-found"

// gate is what the local API sees of the agent: what may be served now, and
// receipts under the lease.
type gate struct {
	tenure *tenure.Tenure // of the first model, and of all that is no model
	of     func(name string) *tenure.Tenure
	all    func() []*tenure.Tenure
	guest  *attested.Guest // whose key signs receipts
	// inForce is the configuration in force.
	inForce func() *settings.Config
}

// Models names the configured models.
func (g gate) Models() []string {
	models := g.inForce().Models
	names := make([]string, len(models))
	for i := range models {
		names[i] = models[i].Name
	}
	return names
}

// slots are those of each model, for the line of requests, in which classifiers count as one more.
func (g gate) slots() []localapi.Slots {
	cfg := g.inForce()
	n := len(cfg.Models)
	list := make([]localapi.Slots, n+1) // the last is that of classifiers
	for i := range cfg.Models {
		name := cfg.Models[i].Name
		list[i] = localapi.Slots{Model: name, N: max(1, cfg.Models[i].Sequences, g.of(name).AtOnce(name))}
	}
	if len(cfg.Classifiers) == 0 {
		list = list[:n]
	}
	return list
}

// Serving returns nil if a model is served, or why the first is not.
func (g gate) Serving() error {
	why := g.tenure.Serving()
	if why == nil {
		return nil
	}
	for _, t := range g.all() {
		if t.Serving() == nil {
			return nil
		}
	}
	return why
}

// gauge counts the models that are served.
func (g gate) gauge() localapi.Gauge {
	n := 0
	for _, t := range append(g.all(), g.tenure) {
		if t.Serving() == nil {
			n++
		}
	}
	return localapi.Gauge{Name: "anchorhold_models_serving", Help: "Models that are served, each under a lease of its own.", Value: float64(n)}
}

// Classifying returns nil, or why no classifier is served.
func (g gate) Classifying() error { return g.tenure.Classifying() }

// Session returns a model under the lease that grants it. While the next one takes its place
// and there is no room for both, it waits for that, as long as the context lasts.
func (g gate) Session(ctx context.Context, name string) (openai.Session, error) {
	held := g.of(name)
	model, done, err := held.Use(ctx)
	if err != nil {
		return openai.Session{}, err
	}
	if model == nil || model.Name != name {
		done()
		return openai.Session{}, refusal.New(ReasonUnknownModel, "the model %q is not served here", name)
	}
	session := openai.Session{
		ModelID: model.Weights.ModelID(), Version: model.Weights.Public().Version,
		Lease: model.Context(), Issue: held.Issue(model, g.guest.Key()), Done: done,
	}
	if model.Embedder != nil {
		session.Embedder = model.Embedder
	} else {
		session.Engine = openai.Inference{Engine: model.Engine}
	}
	return session, nil
}
