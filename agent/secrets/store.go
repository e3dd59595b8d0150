package secrets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Reason codes of refusals.
const (
	// ReasonNotAllowed: the configuration does not name who asks for this secret, or there is
	// no such secret, which is the same to somebody who is not named.
	ReasonNotAllowed refusal.Reason = "secret-not-allowed"
	// ReasonNotHeld: no lease brought the secret within the time that was waited.
	ReasonNotHeld refusal.Reason = "secret-not-held"
)

// Asker is who asks for a secret: one of the three. The zero value is nobody.
type Asker struct {
	// Unit loads Credential.
	Unit, Credential string
	// Volume is to be unlocked.
	Volume string
	// Peer asks for the secret called Name.
	Peer *Peer
	Name string
}

// Peer is a process of this guest as the kernel reports it.
type Peer struct {
	UID uint32
	// In says whether it is a member of a group.
	In func(gid uint32) bool
}

// rule is a secret and who may have it.
type rule struct {
	settings.Secret
	uids, gids []uint32
}

func (r rule) allows(a Asker) bool {
	switch {
	case a.Peer != nil:
		return r.Name == a.Name && (slices.Contains(r.uids, a.Peer.UID) || slices.ContainsFunc(r.gids, a.Peer.In))
	case a.Unit != "":
		return r.CredentialID() == a.Credential && slices.Contains(r.Units, a.Unit)
	case a.Volume != "":
		return slices.Contains(r.Volumes, a.Volume)
	}
	return false
}

// Store is what a guest may hand on while a lease lasts.
type Store struct {
	why func() error

	mu      sync.Mutex // guards the rest
	rules   []rule
	held    map[string]client.Key // by resource
	ends    time.Time             // of the lease that brought them
	changed chan struct{}         // closed when rules or keys are others
}

// New makes a store that holds nothing and allows nobody. why says why no lease is held, for
// whoever waited in vain.
func New(why func() error) *Store {
	return &Store{why: why, changed: make(chan struct{})}
}

// Allow has these secrets handed on from now on, and no others.
func (s *Store) Allow(list []settings.Secret) error {
	rules := make([]rule, 0, len(list))
	for _, secret := range list {
		uids, gids, err := secret.Accounts()
		if err != nil {
			return fmt.Errorf("secrets: %s: %w", secret.Name, err)
		}
		rules = append(rules, rule{secret, uids, gids})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = rules
	s.change()
	return nil
}

// change wakes those who wait; mu is held.
func (s *Store) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Take copies what a lease brought for other services, in the place of all that was held. What
// the lease does not bring is not held any more.
func (s *Store) Take(lease *client.Lease) error {
	held := map[string]client.Key{}
	var errs []error
	for name, k := range lease.Keys {
		if !protocol.ForServices(name) {
			continue
		}
		own, err := k.Key.Clone()
		if err != nil {
			errs = append(errs, fmt.Errorf("keep %s: %w", name, err))
			continue
		}
		held[name] = client.Key{Version: k.Version, Key: own}
	}
	s.mu.Lock()
	before := s.held
	s.held, s.ends = held, lease.Expires
	s.change()
	s.mu.Unlock()
	wipe(before)
	return errors.Join(errs...)
}

// Wipe wipes all secrets: their lease is over.
func (s *Store) Wipe() {
	s.mu.Lock()
	before := s.held
	s.held = nil
	s.mu.Unlock()
	wipe(before)
}

func wipe(keys map[string]client.Key) {
	for _, k := range keys {
		k.Key.Wipe()
	}
}

// Ready waits until a lease brought secrets, or until there is nothing to wait for because none
// is configured. When ctx ends it says why there is none.
func (s *Store) Ready(ctx context.Context) error {
	return s.wait(ctx, func() bool { return len(s.rules) == 0 || len(s.held) > 0 && time.Until(s.ends) > 0 })
}

// wait waits until something is so, which is asked with mu held.
func (s *Store) wait(ctx context.Context, so func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := so(), s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s.notHeld()
		}
	}
}

// notHeld says why no lease brought what was asked for.
func (s *Store) notHeld() error {
	if err := s.why(); err != nil {
		return refusal.New(ReasonNotHeld, "no lease is held: %w", err)
	}
	return refusal.New(ReasonNotHeld, "the lease did not bring it")
}

// Await waits until somebody can be given what he asks for. Who may not have it is refused at once;
// who may waits for a lease until ctx ends.
func (s *Store) Await(ctx context.Context, a Asker) error {
	var refused error
	waited := s.wait(ctx, func() bool {
		_, ok, err := s.find(a)
		refused = err
		return ok || err != nil
	})
	return cmp.Or(refused, waited)
}

// Given is a secret that was handed out, without its value.
type Given struct {
	// Name is the secret's, Version that of the broker's store.
	Name    string
	Version uint64
}

// Lend calls f with the secret that somebody may have. The end of the lease waits for f, which is
// short and keeps nothing. It does not wait for a lease: see [Store.Await].
func (s *Store) Lend(a Asker, f func(g Given, secret []byte) error) error {
	s.mu.Lock()
	r, ok, err := s.find(a)
	k := s.held[r.Resource]
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if !ok {
		return s.notHeld()
	}
	err = k.Key.Use(func(secret []byte) error { return f(Given{r.Name, k.Version}, secret) })
	if errors.Is(err, keybuf.ErrWiped) {
		return s.notHeld()
	}
	return err
}

// find returns the rule under which somebody may have a secret, and whether that is held; mu is
// held.
func (s *Store) find(a Asker) (r rule, held bool, err error) {
	i := slices.IndexFunc(s.rules, func(r rule) bool { return r.allows(a) })
	if i < 0 {
		return rule{}, false, refusal.New(ReasonNotAllowed, "the configuration does not name %s for such a secret", a)
	}
	_, held = s.held[s.rules[i].Resource]
	return s.rules[i], held && time.Until(s.ends) > 0, nil
}

// String names who asks, for a log.
func (a Asker) String() string {
	switch {
	case a.Peer != nil:
		return fmt.Sprintf("user %d", a.Peer.UID)
	case a.Unit != "":
		return fmt.Sprintf("unit %s with credential %s", a.Unit, a.Credential)
	case a.Volume != "":
		return "volume " + a.Volume
	}
	return "nobody"
}

// Held are the names of secrets that are held now, and the versions that the broker sent.
func (s *Store) Held() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]uint64{}
	for _, r := range s.rules {
		if k, ok := s.held[r.Resource]; ok && time.Until(s.ends) > 0 {
			out[r.Name] = k.Version
		}
	}
	return out
}
