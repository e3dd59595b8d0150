// Package classify serves sealed classifiers: it opens them with released keys,
// answers, and gives each answer a receipt that a proof can be bound to.
//
// An answer is the integer network's, bit for bit. Its receipt is signed under a running
// lease, commits to the quantized input with a fresh salt, and names the one digest that
// covers architecture, quantization, sealed file and weights. No classifier outlives the
// lease that released its key: after that, as for an input of the wrong shape, [Service.Classify]
// refuses with a reason. The package trusts the broker's keys and the publisher that the
// configuration names.
//
// The agent gives it keys ([Service.Adopt]) and takes them away ([Service.Wipe]); the local
// API calls it. Package prove makes proofs of its answers.
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
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/classifier"
)

// Reasons of this package.
const (
	// ReasonUnknown: no classifier of this name is configured.
	ReasonUnknown refusal.Reason = "model-not-found"
	// ReasonUnavailable: it is configured but did not open.
	ReasonUnavailable refusal.Reason = "model-unavailable"
	// ReasonNotGranted: the key that the lease was granted is for another model.
	ReasonNotGranted refusal.Reason = "model-not-granted"
	// ReasonInput: the input has another shape, or a value that is not a number.
	ReasonInput refusal.Reason = "input-invalid"
)

// Config is what the service needs.
type Config struct {
	// Memory bounds all classifiers together, in bytes.
	Memory int64
	// AgentKey signs receipts.
	AgentKey *identity.Private
	// Lease is the lease that grants a version of a key now, or why there is none.
	Lease  func(Grant) (receipt.Lease, error)
	Logger *slog.Logger
}

// Grant names what a lease gives: a version of a resource's key, and what that opens.
type Grant struct {
	Resource string
	Version  uint64
	Subject  digest.Digest
}

// Key is a released key. It stays the caller's; the service copies it.
type Key struct {
	Secret  *keybuf.Buffer
	Version uint64
	// Subject is the id of the model that the key opens, as the broker says. If it does
	// not say, which is zero, the model is served, and its receipts do not verify.
	Subject digest.Digest
	// Next says that the key was asked for a file that is not open. Else one that does not
	// open what is served means that what is served is not granted any more.
	Next bool
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
	inputs  clipCount
}

// closeGrace is how long a classifier's users have to let go of it when it is dropped, at
// the lease's end or before.
// A request takes microseconds; only one that hangs, as a worker that reads the weights
// through a pipe, takes longer.
const closeGrace = 2 * time.Second

// Service holds the classifiers. It is safe for concurrent use. Adopt is called by one
// goroutine at a time, Wipe by any at any time.
type Service struct {
	cfg   Config
	grace time.Duration // closeGrace, but in tests

	mu      sync.RWMutex
	budget  *arena.Budget  // of the classifiers opened since the last Wipe
	wipes   int            // how many there were
	opening *keybuf.Buffer // key of the classifier that is being opened
	open    map[string]*served
	why     map[string]error // configured, and not open
	inputs  clipCount        // of all classifiers since the start
}

// New makes a service without classifiers.
func New(cfg Config) *Service {
	return &Service{cfg: cfg, grace: closeGrace, budget: arena.NewBudget(cfg.Memory), open: map[string]*served{}, why: map[string]error{}}
}

// Unopened is a classifier that did not open.
type Unopened struct {
	Name, Path string
	// Kept says that its version before goes on, as long as the lease that granted it.
	Kept bool
	Err  error
}

// Adopt opens the classifiers of a configuration with the keys of a lease, by
// resource. Those that are open under the same key stay; one under another key, or of another
// configuration, is served until the next is open in its place. One that does not open is not served, and says why;
// the others are. It reads files without holding the lock: a disk that hangs must not keep
// Wipe waiting.
func (s *Service) Adopt(list []settings.Classifier, keys map[string]Key) (unopened []Unopened) {
	s.mu.Lock()
	wipes, budget := s.wipes, s.budget
	var dropped []*served
	for name, o := range s.open {
		if !slices.ContainsFunc(list, func(c settings.Classifier) bool { return c.Name == o.Name }) {
			dropped = append(dropped, s.take(name))
		}
	}
	clear(s.why)
	var missing []settings.Classifier
	for _, c := range list {
		k, ok := keys[c.Resource]
		held := s.open[c.Name]
		if ok && held != nil && held.Classifier == c && held.key.Version == k.Version && held.key.Subject == k.Subject && held.key.Secret.Equal(k.Secret) {
			continue
		}
		if !ok {
			dropped = append(dropped, s.take(c.Name))
			s.why[c.Name] = refusal.New(ReasonUnavailable, "the broker granted a lease without the key of %s", c.Resource)
			unopened = append(unopened, Unopened{c.Name, c.Path, false, s.why[c.Name]})
			continue
		}
		if held != nil && !k.Next && !(held.key.Secret.Equal(k.Secret) && (k.Subject == digest.Digest{} || k.Subject == held.id.ID())) {
			dropped = append(dropped, s.take(c.Name))
		}
		s.why[c.Name] = refusal.New(ReasonUnavailable, "the classifier is still being opened")
		missing = append(missing, c)
	}
	s.mu.Unlock()
	s.tell(s.close(dropped))
	for _, c := range missing {
		o, err := s.openOne(c, keys[c.Resource], budget, wipes)
		if full, ok := errors.AsType[*arena.DoesNotFit](err); ok && full.Need <= full.Limit {
			if damage := s.verify(c, keys[c.Resource], wipes); damage != nil {
				err = damage
			} else if s.vacate(c.Name) {
				o, err = s.openOne(c, keys[c.Resource], budget, wipes)
			}
		}
		current, kept := s.settle(c, o, err, wipes)
		if !current {
			return unopened
		}
		if err != nil {
			unopened = append(unopened, Unopened{c.Name, c.Path, kept, err})
		}
	}
	return unopened
}

// verify checks all of a classifier's file, and that the key opens it, in no more memory than
// a chunk takes: what is served is closed only for a file that will open.
func (s *Service) verify(c settings.Classifier, k Key, wipes int) error {
	publisher, err := settings.Identity(c.Publisher)
	if err != nil {
		return fmt.Errorf("publisher: %w", err)
	}
	key, err := s.copyKey(k.Secret, wipes)
	if err != nil {
		return err
	}
	defer key.Wipe()
	return chunkseal.VerifyFile(context.Background(), c.Path, key, chunkseal.OpenOptions{Publisher: publisher, Name: c.SealedName, MinVersion: c.MinimumVersion})
}

// vacate closes a classifier that has no room beside its next version. It returns whether
// one was open.
func (s *Service) vacate(name string) bool {
	s.mu.Lock()
	o := s.take(name)
	s.mu.Unlock()
	s.tell(s.close([]*served{o}))
	return o != nil
}

// grant is what the classifier is served under.
func (o *served) grant() Grant { return Grant{o.Resource, o.key.Version, o.key.Subject} }

// Lapse closes the classifiers whose key no lease grants any more: their next version has
// not opened in time. It returns within closeGrace.
func (s *Service) Lapse() {
	s.mu.RLock()
	var list []*served
	for _, o := range s.open {
		list = append(list, o)
	}
	s.mu.RUnlock()
	var over []*served
	for _, o := range list {
		if _, err := s.cfg.Lease(o.grant()); err != nil {
			s.mu.Lock()
			if s.open[o.Name] == o {
				over = append(over, s.take(o.Name))
				if s.why[o.Name] == nil {
					s.why[o.Name] = err
				}
			}
			s.mu.Unlock()
		}
	}
	s.tell(s.close(over))
}

// File is the sealed file of a classifier that is served.
type File struct {
	Resource       string
	ID, Commitment [32]byte      // as the file's first block says
	Model          digest.Digest // the model's id
}

// Files returns the files of all classifiers that are served.
func (s *Service) Files() []File {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]File, 0, len(s.open))
	for _, o := range s.open {
		lock := o.model.Public().Lock()
		list = append(list, File{o.Resource, lock.FileID, lock.Commitment, o.id.ID()})
	}
	return list
}

// settle serves a classifier that was opened, in the place of its version before, or says
// why it is not, and whether that one goes on. current is false if the lease ended meanwhile;
// then nothing of it is kept.
func (s *Service) settle(c settings.Classifier, o *served, err error, wipes int) (current, kept bool) {
	s.mu.Lock()
	s.opening = nil
	current = s.wipes == wipes
	var before *served
	switch {
	case !current:
	case err != nil:
		reason := ReasonUnavailable
		if why, _ := refusal.ReasonOf(err); why == ReasonNotGranted {
			reason = why
		}
		s.why[c.Name] = refusal.New(reason, "%v", err)
	default:
		delete(s.why, c.Name)
		before = s.take(c.Name)
		s.open[c.Name] = o
	}
	kept = s.open[c.Name] != nil
	s.mu.Unlock()
	switch {
	case !current:
		s.tell(s.close([]*served{o}))
	case err != nil:
		s.cfg.Logger.Error("classifier not opened", "model", c.Name, "version_before_goes_on", kept, "err", err)
	default:
		s.tell(s.close([]*served{before}))
		id := o.id.ID()
		s.cfg.Logger.Info("classifier opened", "model", c.Name, "model_id", id.String(), "key_version", o.key.Version)
		if o.key.Subject == (digest.Digest{}) {
			s.cfg.Logger.Warn("receipts for this model's answers will not verify: the broker's store does not say which model the key is for (set it with anchorhold secret put --model)", "model", c.Name, "resource", c.Resource)
		}
	}
	return current, kept
}

// copyKey copies the key of a classifier that is about to be opened, to where Wipe finds it:
// a disk may hang from here on. After a Wipe there is nothing to copy.
func (s *Service) copyKey(k *keybuf.Buffer, wipes int) (*keybuf.Buffer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wipes != wipes {
		return nil, refusal.New(ReasonUnavailable, "the lease that released its key has ended")
	}
	own, err := k.Clone()
	if err == nil {
		s.opening = own
	}
	return own, err
}

// openOne opens one classifier with a copy of its key, unless there was another Wipe since.
func (s *Service) openOne(c settings.Classifier, k Key, budget *arena.Budget, wipes int) (_ *served, err error) {
	publisher, err := settings.Identity(c.Publisher)
	if err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	o := &served{Classifier: c, key: Key{Version: k.Version, Subject: k.Subject}, runners: make(chan *classifier.Runner, maxRunners)}
	if o.key.Secret, err = s.copyKey(k.Secret, wipes); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			o.key.Secret.Wipe()
		}
	}()
	o.model, err = classifier.Open(c.Path, o.key.Secret, budget, classifier.Options{Publisher: publisher, Name: c.SealedName, MinVersion: c.MinimumVersion})
	if err != nil {
		return nil, err
	}
	d := o.model.Description()
	err = o.model.WithParameters(func(p intnet.Parameters) error {
		var err error
		o.id, err = statement.ModelOf(&intnet.Network{Architecture: d.Architecture, Parameters: p}, d.QuantizationDigest(), o.model.Public().Root)
		return err
	})
	if id := o.id.ID(); err == nil && k.Subject != (digest.Digest{}) && k.Subject != id {
		err = refusal.New(ReasonNotGranted, "the broker's store says that key %s is for model %s, but %s holds model %s: install the right file, or store a key for this one (anchorhold secret put %s --file KEY --model %s)",
			c.Resource, k.Subject, c.Path, id, c.Resource, c.Path)
	}
	if err != nil {
		return nil, errors.Join(err, o.model.Close())
	}
	return o, nil
}

// take takes a classifier out of those that are served, and wipes its key: from here on
// no Wipe finds it. nil if it is not among them. mu is held.
func (s *Service) take(name string) *served {
	o := s.open[name]
	delete(s.open, name)
	if o != nil {
		o.key.Secret.Wipe()
	}
	return o
}

// close closes classifiers that are served no more, whose runners refuse from then on. It
// returns within closeGrace, with those that somebody still uses: their weights are wiped
// under the user, and their memory comes back when the user lets go.
func (s *Service) close(list []*served) (late []*served) {
	closed := map[*served]chan struct{}{}
	for _, o := range list {
		if o != nil {
			o.key.Secret.Wipe()
			closed[o] = make(chan struct{})
			go s.closeOne(o, closed[o]) // one that hangs keeps no other waiting
		}
	}
	grace, end := context.WithTimeout(context.Background(), s.grace)
	defer end()
	for o, done := range closed {
		select {
		case <-done:
		case <-grace.Done():
			o.model.Wipe()
			late = append(late, o)
		}
	}
	return late
}

// closeOne waits for the users of one classifier.
func (s *Service) closeOne(o *served, done chan<- struct{}) {
	err := o.model.Close()
	for idle := true; idle; {
		select {
		case r := <-o.runners:
			err = errors.Join(err, r.Close())
		default:
			idle = false
		}
	}
	close(done)
	if err != nil {
		s.cfg.Logger.Error("classifier not closed", "model", o.Name, "err", err)
	}
}

// tell logs whose weights were wiped under a user.
func (s *Service) tell(late []*served) {
	for _, o := range late {
		s.cfg.Logger.Error("a classifier was still in use after it was dropped or its lease ended; its weights were wiped regardless", "model", o.Name, "after", s.grace)
	}
}

// Wipe closes every classifier: the lease has ended. It returns after keys and weights
// are wiped, within closeGrace: under whoever has not let go by then.
func (s *Service) Wipe() {
	s.mu.Lock()
	s.wipes++
	budget := s.budget
	s.budget = arena.NewBudget(s.cfg.Memory)
	s.opening.Wipe()
	var all []*served
	for name := range s.open {
		all = append(all, s.take(name))
	}
	for _, o := range all {
		s.why[o.Name] = refusal.New(ReasonUnavailable, "the lease that released its key has ended")
	}
	s.mu.Unlock()
	late := s.close(all)
	budget.Wipe() // also what is being opened
	s.tell(late)  // a log may hang as well: it comes last
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
	return nil, refusal.New(ReasonUnknown, "this agent serves no classifier %q", name)
}

// Model describes a classifier that is served.
type Model struct {
	Name        string
	Version     uint64
	ID          digest.Digest
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
		return a, refusal.New(ReasonInput, "got %d values, the model takes %d", len(input), d.Architecture.Input.Size())
	}
	a.Outputs = make([]int32, d.Classes())
	if err := s.infer(o, input, a.Outputs); err != nil {
		return a, err
	}
	if a.Salt, err = statement.NewSalt(); err != nil {
		return a, err
	}
	lease, err := s.cfg.Lease(o.grant())
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
		if r, err = o.model.NewRunner(); errors.Is(err, arena.ErrWiped) {
			return refusal.New(ReasonUnavailable, "the lease has ended")
		} else if err != nil {
			return err
		}
	}
	if err = r.Infer(in, out); errors.Is(err, classifier.ErrClosed) {
		return errors.Join(refusal.New(ReasonUnavailable, "the lease has ended"), r.Close())
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
func (s *Service) WithParameters(name string, model digest.Digest, use func(intnet.Architecture, intnet.Parameters) error) error {
	o, err := s.find(name)
	if err != nil {
		return err
	}
	if o.id.ID() != model {
		return refusal.New(ReasonUnavailable, "%s is now served in another version: model %s", name, hex.EncodeToString(model[:8]))
	}
	err = o.model.WithParameters(func(p intnet.Parameters) error { return use(o.model.Description().Architecture, p) })
	if errors.Is(err, classifier.ErrClosed) {
		err = refusal.New(ReasonUnavailable, "the lease has ended")
	}
	return err
}
