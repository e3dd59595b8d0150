package rounds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// The brokers of a fleet share a store and no audit log. What each saw that others had
// charged it keeps in its own log, by name: a store that was put back, and lacks one of
// these charges, is not charged before it has it again.

// seenTogether is how many charges one record names: it has to hold their text.
const seenTogether = 16

// logged is what the audit log says was charged to an account.
type logged struct {
	own  []Charge // of this broker's rounds
	seen []Charge // of rounds of other brokers, as the store had them
	// away is how many of own were archived and taken away, and cannot be read.
	away int
	// count is the most charges that the store was seen to have; only logs of earlier
	// versions count, later ones name.
	count int
}

// loggedCharge is a charge in the log. Earlier versions wrote how many its account had with it.
type loggedCharge struct {
	Charge
	Seen int `json:"seen,omitempty"`
}

// chargesOf are the charges of an account in the log.
func (s *Service) chargesOf(ctx context.Context, a federation.Account) (l logged, err error) {
	sights, err := s.cfg.Log.Find(ctx, actionSeen, aboutAccount(a))
	if err != nil {
		return l, err
	}
	for _, e := range sights {
		if e.Away {
			continue // Remember names again what it named
		}
		if err := l.sight(e.Detail); err != nil {
			return l, damaged("charges of %s that were seen, in the audit log: %v", a, err)
		}
	}
	events, err := s.cfg.Log.Find(ctx, actionCharge, aboutAccount(a))
	if err != nil {
		return l, err
	}
	for _, e := range events {
		if e.Away {
			l.away++
			continue
		}
		var c loggedCharge
		if err := json.Unmarshal([]byte(e.Detail), &c); err != nil {
			return l, damaged("a charge of %s in the audit log: %v", a, err)
		}
		if err := c.check(); err != nil {
			return l, err
		}
		l.own, l.count = append(l.own, c.Charge), max(l.count, c.Seen)
	}
	return l, nil
}

// sight reads what one record says was seen: charges, or their number as earlier versions
// wrote it.
func (l *logged) sight(detail string) error {
	if !strings.HasPrefix(detail, "[") {
		n, err := strconv.Atoi(detail)
		l.count = max(l.count, n)
		return err
	}
	var charges []Charge
	if err := json.Unmarshal([]byte(detail), &charges); err != nil {
		return err
	}
	for _, c := range charges {
		if err := c.check(); err != nil {
			return err
		}
	}
	l.seen = append(l.seen, charges...)
	return nil
}

// see records the charges of an account that the store has and the audit log does not: other
// brokers made them, whose logs are not asked.
func (s *Service) see(ctx context.Context, a federation.Account, unseen []Charge) error {
	for some := range slices.Chunk(unseen, seenTogether) {
		named := make([]Charge, len(some))
		for i, c := range some {
			named[i] = c.placeless()
		}
		raw, err := json.Marshal(named)
		if err != nil {
			return err
		}
		if err := s.cfg.Log.Append(ctx, Event{Action: actionSeen, About: aboutAccount(a), Detail: string(raw)}); err != nil {
			return err
		}
		s.unkept.Store(true)
	}
	return nil
}

// lookAgain is how long a ledger that nobody charges is not read: what its log was told
// may have been archived and taken away meanwhile, and is told again.
const lookAgain = time.Hour

// looks are the ledgers as Remember last found them sound.
type looks struct {
	mu sync.Mutex
	at map[string]look
}

type look struct {
	last digest.Digest
	time time.Time
}

// Remember records of every account the charges that the store has, and has the checkpoint
// kept elsewhere cover them: a store that lacks one later is refused, though another broker
// made it and the log was put back, too. It reads the ledgers that were charged
// since it was called before, and all of them every hour; the daemon calls it every minute.
// An error names each account whose ledger lacks a charge, of this broker's or another's.
func (s *Service) Remember(ctx context.Context) error {
	s.looks.mu.Lock()
	defer s.looks.mu.Unlock()
	ledgers, err := s.cfg.Store.Ledgers(ctx)
	if err != nil {
		return err
	}
	now := s.cfg.Now()
	before := s.looks.at
	s.looks.at = map[string]look{}
	var errs []error
	for _, l := range ledgers {
		account, ok := strings.CutPrefix(l.Name, accountPrefix)
		if !ok {
			continue
		}
		at, looked := before[l.Name]
		delete(before, l.Name)
		if !looked || at.last != l.Last || !now.Before(at.time.Add(lookAgain)) {
			at = look{l.Last, now}
			if err := s.look(ctx, federation.Account(account)); err != nil {
				errs, at = append(errs, err), look{} // it is read again the next time
			}
		}
		s.looks.at[l.Name] = at
	}
	for name := range before { // ledgers that are gone
		s.looks.at[name] = look{}
		account, _ := strings.CutPrefix(name, accountPrefix)
		errs = append(errs, s.look(ctx, federation.Account(account)))
	}
	if s.unkept.Swap(false) {
		if err := s.cfg.Log.Keep(ctx); err != nil {
			s.unkept.Store(true)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// look records what an account's ledger has, and says what it lacks.
func (s *Service) look(ctx context.Context, a federation.Account) error {
	sp, err := s.charged(ctx, a)
	if err == nil {
		err = s.see(ctx, a, sp.unseen)
	}
	if err == nil && len(sp.lost) > 0 {
		err = refusal.New(ReasonLedger, "the store lacks charges to %s that this broker made; they count here, but no other broker knows them: close these rounds again: %s", a, roundsOf(sp.lost))
	}
	return err
}

// roundsOf names the rounds of charges, the first few of many.
func roundsOf(charges []Charge) string {
	const most = 8
	names := make([]string, 0, most)
	for _, c := range charges[:min(most, len(charges))] {
		names = append(names, c.Round.String())
	}
	text := strings.Join(names, ", ")
	if more := len(charges) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
