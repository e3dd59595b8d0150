// Package classify serves sealed classifiers: it opens them with released keys,
// answers, and gives each answer a receipt that a proof can be bound to.
//
// It guarantees that an answer is the integer network's, bit for bit; that its receipt
// is signed under a running lease, commits to the quantized input with a fresh salt and
// names the one digest that covers architecture, quantization, sealed file and weights;
// and that no classifier outlives the lease whose key opened it. It trusts the broker's
// keys and the publisher named in the configuration. It refuses inputs of another shape
// and everything after the lease's end, each with a reason.
//
// The local API calls it; the agent gives it keys and takes them away. What is to be
// proven goes to package proofs.
package classify

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/intnet"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/classifier"
)

// Reasons of this package.
const (
	// ReasonUnknown: no classifier of this name is configured.
	ReasonUnknown evidence.Reason = "model-not-found"
	// ReasonUnavailable: it is configured but did not open.
	ReasonUnavailable evidence.Reason = "model-unavailable"
	// ReasonInput: the input has another shape, or a value that is not a number.
	ReasonInput evidence.Reason = "input-invalid"
)

// Config is what the service needs.
type Config struct {
	// Memory bounds all classifiers together, in bytes.
	Memory int64
	// AgentKey signs receipts.
	AgentKey *identity.Private
	// Lease is the lease that runs now, or why there is none.
	Lease  func() (receipt.Lease, error)
	Logger *slog.Logger
}

// Key is a released key. It stays the caller's; the service copies it.
type Key struct {
	Secret  *keybuf.Buffer
	Version uint64
}

// maxRunners is how many runners of a classifier are kept for the next requests.
const maxRunners = 8

// served is one classifier that is open.
type served struct {
	settings.Classifier
	key     Key
	model   *classifier.Model
	id      statement.Model
	runners chan *classifier.Runner // that nobody uses
}

// Service holds the classifiers. It is safe for concurrent use.
type Service struct {
	cfg    Config
	budget *arena.Budget

	mu   sync.RWMutex
	open map[string]*served
	why  map[string]error // configured, and not open
}

// New makes a service without classifiers.
func New(cfg Config) *Service {
	return &Service{cfg: cfg, budget: arena.NewBudget(cfg.Memory), open: map[string]*served{}, why: map[string]error{}}
}

// Adopt opens the classifiers of a configuration with the keys of a lease, by
// resource. Those that are open under the same key stay. One that does not open is not
// served, and says why; the others are.
func (s *Service) Adopt(list []settings.Classifier, keys map[string]Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.open {
		if !slices.ContainsFunc(list, func(c settings.Classifier) bool { return c == s.open[name].Classifier }) {
			s.drop(name)
		}
	}
	clear(s.why)
	for _, c := range list {
		k, ok := keys[c.Resource]
		if !ok {
			s.drop(c.Name)
			s.why[c.Name] = evidence.Refuse(ReasonUnavailable, "the broker granted a lease without the key of %s", c.Name)
			continue
		}
		if held := s.open[c.Name]; held != nil && held.key.Version == k.Version && held.key.Secret.Equal(k.Secret) {
			continue
		}
		s.drop(c.Name)
		o, err := s.openOne(c, k)
		if err != nil {
			s.why[c.Name] = evidence.Refuse(ReasonUnavailable, "%v", err)
			s.cfg.Logger.Error("classifier not opened", "model", c.Name, "err", err)
			continue
		}
		s.open[c.Name] = o
		id := o.id.ID()
		s.cfg.Logger.Info("classifier opened", "model", c.Name, "model_id", id.String(), "key_version", k.Version)
	}
}

// openOne opens one classifier with a copy of its key.
func (s *Service) openOne(c settings.Classifier, k Key) (_ *served, err error) {
	publisher, err := settings.Identity(c.Publisher)
	if err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	o := &served{Classifier: c, key: Key{Version: k.Version}, runners: make(chan *classifier.Runner, maxRunners)}
	if o.key.Secret, err = keybuf.New(k.Secret.Len()); err != nil {
		return nil, err
	}
	copy(o.key.Secret.Bytes(), k.Secret.Bytes())
	defer func() {
		if err != nil {
			o.key.Secret.Wipe()
		}
	}()
	o.model, err = classifier.Open(c.Path, o.key.Secret, s.budget, classifier.Options{Publisher: publisher, Name: c.SealedName, MinVersion: c.MinimumVersion})
	if err != nil {
		return nil, err
	}
	d := o.model.Description()
	o.id = statement.Model{Quantization: d.QuantizationDigest(), Chunks: o.model.Public().Root}
	err = o.model.WithParameters(func(p intnet.Parameters) error {
		n := &intnet.Network{Architecture: d.Architecture, Parameters: p}
		var err error
		o.id.Architecture, err = d.Architecture.Digest()
		o.id.Weights = statement.WeightsCommitment(n)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, o.model.Close())
	}
	return o, nil
}

// drop closes a classifier, whose runners refuse from then on.
func (s *Service) drop(name string) {
	o := s.open[name]
	if o == nil {
		return
	}
	delete(s.open, name)
	err := o.model.Close()
	for idle := true; idle; {
		select {
		case r := <-o.runners:
			err = errors.Join(err, r.Close())
		default:
			idle = false
		}
	}
	if err != nil {
		s.cfg.Logger.Error("classifier not closed", "model", name, "err", err)
	}
	o.key.Secret.Wipe()
}

// Wipe closes every classifier: the lease has ended.
func (s *Service) Wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.open {
		s.drop(name)
		s.why[name] = evidence.Refuse(ReasonUnavailable, "the lease whose key opened it has ended")
	}
}

func (s *Service) find(name string) (*served, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if o := s.open[name]; o != nil {
		return o, nil
	}
	if err := s.why[name]; err != nil {
		return nil, err
	}
	return nil, evidence.Refuse(ReasonUnknown, "no classifier %q is served here", name)
}

// Model describes a classifier that is served.
type Model struct {
	Name        string
	Version     uint64
	ID          statement.Digest
	Description *classifier.Description
}

// Models lists what is served, by name.
func (s *Service) Models() []Model {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []Model
	for _, o := range s.open {
		list = append(list, o.describe())
	}
	slices.SortFunc(list, func(a, b Model) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (o *served) describe() Model {
	return Model{Name: o.Name, Version: o.model.Public().Version, ID: o.id.ID(), Description: o.model.Description()}
}

// Model describes one classifier.
func (s *Service) Model(name string) (Model, error) {
	o, err := s.find(name)
	if err != nil {
		return Model{}, err
	}
	return o.describe(), nil
}

// Answer is one classified input, with what a proof of it needs.
type Answer struct {
	Receipt receipt.Issued
	Name    string
	Model   statement.Model
	Salt    statement.Salt
	Input   []int8 // quantized
	Outputs []int32
}

// Classify answers one quantized input and issues its receipt.
func (s *Service) Classify(ctx context.Context, name string, input []int8) (Answer, error) {
	a := Answer{Name: name, Input: input}
	if err := ctx.Err(); err != nil {
		return a, err
	}
	o, err := s.find(name)
	if err != nil {
		return a, err
	}
	d := o.model.Description()
	if len(input) != d.Architecture.Input.Size() {
		return a, evidence.Refuse(ReasonInput, "%d values, the model takes %d", len(input), d.Architecture.Input.Size())
	}
	a.Outputs = make([]int32, d.Classes())
	if err := s.infer(o, input, a.Outputs); err != nil {
		return a, err
	}
	if a.Salt, err = statement.NewSalt(); err != nil {
		return a, err
	}
	lease, err := s.cfg.Lease()
	if err != nil {
		return a, err
	}
	a.Model = o.id
	id, err := receipt.NewID()
	if err != nil {
		return a, err
	}
	a.Receipt, err = receipt.IssueProvable(s.cfg.AgentKey, lease, receipt.Answer{ID: id, ModelID: o.id.ID(), ModelName: name, ModelVersion: o.model.Public().Version},
		statement.InputCommitment(a.Salt, input), a.Salt, a.Outputs)
	return a, err
}

// infer runs one runner of the classifier's own.
func (s *Service) infer(o *served, in []int8, out []int32) (err error) {
	var r *classifier.Runner
	select {
	case r = <-o.runners:
	default:
		if r, err = o.model.NewRunner(); err != nil {
			return err
		}
	}
	if err = r.Infer(in, out); errors.Is(err, classifier.ErrClosed) {
		return errors.Join(evidence.Refuse(ReasonUnavailable, "the lease has ended"), r.Close())
	}
	return errors.Join(err, s.park(o, r))
}

// park keeps a runner for the next request, unless its classifier was dropped meanwhile:
// nobody would close it then, and it holds the last input.
func (s *Service) park(o *served, r *classifier.Runner) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.open[o.Name] == o {
		select {
		case o.runners <- r:
			return nil
		default:
		}
	}
	return r.Close()
}

// WithParameters lends the constants of the version of a model that a proof is about.
func (s *Service) WithParameters(name string, model statement.Digest, use func(intnet.Architecture, intnet.Parameters) error) error {
	o, err := s.find(name)
	if err != nil {
		return err
	}
	if o.id.ID() != model {
		return evidence.Refuse(ReasonUnavailable, "another version of %s is served now: model %s", name, hex.EncodeToString(model[:8]))
	}
	err = o.model.WithParameters(func(p intnet.Parameters) error { return use(o.model.Description().Architecture, p) })
	if errors.Is(err, classifier.ErrClosed) {
		err = evidence.Refuse(ReasonUnavailable, "the lease has ended")
	}
	return err
}
