package rounds

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// errCrash is what everything returns after the broker's process ended.
var errCrash = errors.New("the process ended")

// process is a broker's process that ends before or after its n-th durable step:
// after means that the step was done and nobody heard of it.
type process struct {
	n    int
	dead bool
}

// point is a place where the process may end.
func (p *process) point() error {
	if p.dead = p.dead || p.n == 0; p.dead {
		return errCrash
	}
	p.n--
	return nil
}

// step does f between two points.
func (p *process) step(f func() error) error {
	if err := p.point(); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return p.point()
}

// mortal is a store and a machine as a process that may end sees them.
type mortal struct {
	Store
	p *process
}

func (s mortal) Create(ctx context.Context, r Record) error {
	return s.p.step(func() error { return s.Store.Create(ctx, r) })
}

func (s mortal) Update(ctx context.Context, r Record, c *Charge) error {
	return s.p.step(func() error { return s.Store.Update(ctx, r, c) })
}

func (s mortal) Admit(ctx context.Context, id digest.RoundID, some []Member, p Places) (refused []error, err error) {
	err = s.p.step(func() error { refused, err = s.Store.Admit(ctx, id, some, p); return err })
	return refused, err
}

type mortalSecrets struct {
	*machine
	p *process
}

func (s mortalSecrets) Put(ctx context.Context, name string, subject digest.Digest, secret *keybuf.Buffer) error {
	return s.p.step(func() error { return s.machine.Put(ctx, name, subject, secret) })
}

func (s mortalSecrets) Destroy(ctx context.Context, name string) error {
	return s.p.step(func() error { return s.machine.Destroy(ctx, name) })
}

type mortalLog struct {
	*machine
	p *process
}

func (l mortalLog) Append(ctx context.Context, events ...Event) error {
	return l.p.step(func() error { return l.machine.Append(ctx, events...) })
}

func (l mortalLog) Keep(ctx context.Context) error {
	return l.p.step(func() error { return l.machine.Keep(ctx) })
}

// campaign is one round whose broker may end anywhere, with what the world outside
// has heard of it.
type campaign struct {
	*machine
	t       *testing.T
	guests  []*federationtest.Agent
	id      digest.RoundID
	signed  map[string][]byte // contributions, by guest: each signs once
	tickets [][]byte          // all that anybody ever got
	ledger  map[string][]Charge
}

func (c *campaign) begin(store Store, p *process) *Service {
	return c.service(c.t, mortal{store, p}, func(cfg *Config) {
		cfg.Secrets = mortalSecrets{c.machine, p}
		cfg.Log = mortalLog{c.machine, p}
	})
}

// play takes the round as far as the process lives: whatever was done before is
// asked for again, as those outside do who heard no answer.
func (c *campaign) play(s *Service) error {
	ctx := c.t.Context()
	if c.id == (digest.RoundID{}) {
		list, err := s.List(ctx)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			if _, _, err := s.Open(ctx, plain); err != nil {
				return err
			}
			if list, err = s.List(ctx); err != nil {
				return err
			}
		}
		c.id = list[0].Round.ID
	}
	st, err := s.Status(ctx, c.id)
	if err != nil {
		return err
	}
	var cohort []digest.Digest
	for _, g := range c.guests {
		cohort = append(cohort, digest.Of(contributionOf(c, g, st)))
	}
	if st.State == Open {
		for _, g := range c.guests {
			if _, err := s.Admit(ctx, c.id, [][]byte{contributionOf(c, g, st)}); err != nil {
				return err
			}
		}
	}
	ticket, err := s.Close(ctx, c.id, Closing{Cohort: cohort})
	if ticket != nil {
		c.tickets = append(c.tickets, ticket)
	}
	if err != nil {
		return err
	}
	_, err = s.Finish(ctx, c.id, published(c.t, c.decryptor(c.t, st.Round, st.Signed, nil), st.Round, st.Signed, ticket, nil))
	return err
}

// contributionOf is what a guest signed, once.
func contributionOf(c *campaign, g *federationtest.Agent, st Status) []byte {
	if c.signed[string(g.Chain)] == nil {
		c.signed[string(g.Chain)] = contribute(c.t, g, st.Round, st.Signed, nil)
	}
	return c.signed[string(g.Chain)]
}

// check is the oracle of a crash: the store's own, and that there is one ticket,
// and no key without it.
func (c *campaign) check(store Store) (err error) {
	ctx := c.t.Context()
	if c.ledger, err = consistent(ctx, store, c.ledger); err != nil {
		return err
	}
	s := c.service(c.t, store, nil)
	list, err := s.List(ctx)
	if err != nil || len(list) > 1 {
		return fmt.Errorf("%d rounds, %w", len(list), err)
	}
	for _, listed := range list {
		st, err := s.Status(ctx, listed.Round.ID)
		if err != nil {
			return err
		}
		for _, ticket := range c.tickets {
			if !bytes.Equal(ticket, st.Ticket) {
				return errors.New("a ticket that somebody has is not the round's")
			}
		}
		released := mayRelease(ctx, s, federation.ResourceOf(st.Round.ID)) == nil
		if charged := len(c.ledger[ledgerOf(federation.BrokerAccount)]) == 1; (released || st.Ticket != nil) && !charged || released && st.Ticket == nil {
			return errors.New("a key or ticket without a charge")
		}
		if st.State != Published && st.State != Abandoned && !c.readable(st.Round.ID) {
			return errors.New("the key of a round that is not over is gone")
		}
	}
	return nil
}

// everyCrash plays the round with an end at every point, opens the store again and
// plays on. It returns how many points there are and what the oracle found.
func everyCrash(t *testing.T, at func() place, split func(Store, *process) Store) (points int, found error) {
	for n := 0; ; n++ {
		c := &campaign{machine: newMachine(t), t: t, signed: map[string][]byte{}}
		for range 2 {
			c.guests = append(c.guests, c.guest(t, nil))
		}
		p, process := at(), &process{n: n}
		store := p.open(t)
		err := c.play(c.begin(split(store, process), process))
		if closeErr := store.Close(); closeErr != nil {
			t.Fatal(closeErr)
		}
		if err == nil {
			return n, nil // it came to the end: there are no further points
		}
		if !errors.Is(err, errCrash) {
			return n, fmt.Errorf("point %d: %w", n, err)
		}
		store = p.open(t)
		found := c.check(store)
		if found == nil {
			found = c.play(c.service(t, store, nil))
		}
		if found == nil {
			found = c.check(store)
		}
		if found == nil && (c.readable(c.id) || len(c.ledger[ledgerOf(federation.BrokerAccount)]) != 1) {
			found = errors.New("the round is not over")
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		if found != nil {
			return n, fmt.Errorf("point %d: %w", n, found)
		}
	}
}

func crashAnywhere(t *testing.T, at func(testing.TB) place) {
	points, err := everyCrash(t, func() place { return at(t) }, func(s Store, _ *process) Store { return s })
	if err != nil || points < 18 {
		t.Errorf("%d points: %v", points, err)
	}
}

// halves is a store as it must not be: the charge and the round's record are two
// steps, and a charge asks nobody what was charged before.
type halves struct {
	rounds  map[digest.RoundID]Record
	charges []Charge
	p       *process
}

func (h *halves) Create(_ context.Context, r Record) error { h.rounds[r.ID] = r; return nil }
func (h *halves) Get(_ context.Context, id digest.RoundID) (Record, error) {
	return h.rounds[id], nil
}
func (h *halves) Head(ctx context.Context, id digest.RoundID) (Record, error) { return h.Get(ctx, id) }
func (h *halves) Members(_ context.Context, id digest.RoundID, contributions []digest.Digest) (map[digest.Digest]Member, error) {
	return ofRecord(h.rounds[id], contributions), nil
}
func (h *halves) Admit(_ context.Context, id digest.RoundID, some []Member, p Places) ([]error, error) {
	r := h.rounds[id]
	refused, err := enlistIn(&r, some, p)
	h.rounds[id] = r
	return refused, err
}
func (h *halves) Each(_ context.Context, visit func(Record) error) error {
	for _, r := range h.rounds {
		if err := visit(r); err != nil {
			return err
		}
	}
	return nil
}
func (h *halves) Charges(context.Context, string) ([]Charge, error) {
	return slices.Clone(h.charges), nil
}
func (h *halves) Ledgers(context.Context) ([]Head, error) { return nil, nil }
func (h *halves) Close() error                            { return nil }
func (h *halves) Update(_ context.Context, r Record, c *Charge) error {
	if c != nil {
		h.charges = append(h.charges, *c)
		if h.p != nil {
			if err := h.p.point(); err != nil {
				return err
			}
		}
	}
	r.Version++
	h.rounds[r.ID] = r
	return nil
}

// The control: with a store that charges and closes in two steps, the oracle of
// TestBolt and TestPostgres finds the charge that is too much.
func TestControlFindsTheDoubleCharge(t *testing.T) {
	_, err := everyCrash(t, func() place {
		h := &halves{rounds: map[digest.RoundID]Record{}}
		return place{open: func(testing.TB) Store { h.p = nil; return h }}
	}, func(s Store, p *process) Store {
		s.(*halves).p = p
		return s
	})
	if err == nil || !strings.Contains(err.Error(), "was charged 1 times") {
		t.Errorf("the oracle found %v", err)
	}
	_, err = doubleCharge(t)
	if err == nil || !strings.Contains(err.Error(), "was charged 2 times") {
		t.Errorf("the oracle found %v", err)
	}
}

// doubleCharge plays on after the crash between the halves.
func doubleCharge(t *testing.T) (*halves, error) {
	h := &halves{rounds: map[digest.RoundID]Record{}}
	m := newMachine(t)
	s := m.service(t, h, nil)
	r, signed := opened(t, s, nil)
	closing := Closing{Cohort: admitted(t, m, s, r, signed, 2)}
	h.p = &process{}
	if _, err := s.Close(t.Context(), r.ID, closing); !errors.Is(err, errCrash) {
		return h, err
	}
	h.p = nil
	if _, err := s.Close(t.Context(), r.ID, closing); err != nil {
		return h, err
	}
	_, err := consistent(t.Context(), h, nil)
	return h, err
}

// closerDir tells a copy of this test binary to close rounds until it is killed.
const closerDir = "ANCHORHOLD_TEST_ROUNDS"

// TestCloserProcess is the process that TestBoltSurvivesKill kills.
func TestCloserProcess(t *testing.T) {
	path := os.Getenv(closerDir)
	if path == "" {
		t.Skip("it runs as a process of TestBoltSurvivesKill")
	}
	m := newMachine(t)
	store, err := OpenBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	s := m.service(t, store, func(c *Config) { c.Privacy.MaxEpsilon = 1e9 })
	for {
		r, signed := opened(t, s, nil)
		ticket, err := s.Close(t.Context(), r.ID, Closing{Cohort: admitted(t, m, s, r, signed, 2)})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("ticket %s %s\n", r.ID, digest.Of(ticket))
	}
}

// What a killed process acknowledged is there, whole, and the ledger only grew.
func TestBoltSurvivesKill(t *testing.T) {
	path := t.TempDir() + "/rounds"
	var ledger map[string][]Charge
	tickets := map[string]string{}
	for kill := range 3 {
		child := exec.Command(os.Args[0], "-test.run=^TestCloserProcess$")
		child.Env = append(os.Environ(), closerDir+"="+path)
		out, err := child.StdoutPipe()
		if err == nil {
			err = child.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); {
			f := strings.Fields(lines.Text())
			if len(f) != 3 || f[0] != "ticket" {
				continue
			}
			tickets[f[1]] = f[2]
			if n++; n == 4+3*kill { // and further ones until the signal arrives
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := child.Wait(); err == nil {
			t.Fatal("it ended by itself")
		}
		store, err := OpenBolt(path)
		if err != nil {
			t.Fatal(err)
		}
		if ledger, err = consistent(t.Context(), store, ledger); err != nil {
			t.Error(err)
		}
		acknowledged(t, store, tickets)
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(ledger[ledgerOf(federation.BrokerAccount)]) < 4+7+10 {
		t.Errorf("%d charges", len(ledger[ledgerOf(federation.BrokerAccount)]))
	}
}

// acknowledged checks that every ticket that somebody got is stored.
func acknowledged(t *testing.T, store Store, tickets map[string]string) {
	t.Helper()
	for name, want := range tickets {
		id, err := digest.ParseID[digest.Round](name)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := store.Get(t.Context(), id)
		if err != nil || digest.Of(rec.Ticket).String() != want {
			t.Errorf("round %s: its ticket was acknowledged and is lost: %v", name, err)
		}
	}
}
