// Package rounds fetches the rounds that an agent takes part in from an aggregator, verifies that
// the broker of the agent's lease opened them, and remembers them.
//
// A round that takes contributions must have been opened in an epoch that is running, by the
// broker's time; a round that may be over is accepted as something that the broker once said.
// Rounds of another broker are refused, and so are rounds of an epoch that has been retired:
// what is remembered is checked against the current lease every time.
//
// Packages fed and decrypt share one [Verifier].
package rounds

import (
	"context"
	"encoding/json"
	"os"
	"sync"

	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Aggregator tells a round and verifies it; *uplink.Client does. It returns the round as it was
// signed too, and a refusal with the verification's reason.
type Aggregator interface {
	Round(ctx context.Context, broker protocol.Broker, floor protocol.Floor, id digest.RoundID) (federation.Round, []byte, error)
}

// Standing is what the agent's lease says about the broker's word.
type Standing struct {
	Broker [32]byte // of the root whose broker granted the lease
	Lowest protocol.Lowest
	Now    protocol.Time
}

// Live is the floor for what is said now.
func (s Standing) Live() protocol.Floor { return protocol.Live(s.Lowest, s.Now) }

// Round is a round that was verified.
type Round struct {
	federation.Round
	Digest digest.Digest // of the round as it was signed

	live bool // its epoch ran when it was verified
}

// Sealed is the round as a worker reads it.
func (r Round) Sealed() (*os.File, error) {
	data, err := json.Marshal(r.Round)
	if err != nil {
		return nil, err
	}
	return worker.Sealed("round", data)
}

// maxRounds bounds the rounds that are remembered.
const maxRounds = 64

// Verifier verifies rounds and remembers them. It may be used by any goroutine.
type Verifier struct {
	aggregator Aggregator
	standing   func() (Standing, error)

	mu     sync.Mutex
	rounds map[digest.RoundID]Round // mu's
}

// New makes a verifier that asks one aggregator. standing is how the agent stands now, or why it
// has no lease.
func New(aggregator Aggregator, standing func() (Standing, error)) *Verifier {
	return &Verifier{aggregator: aggregator, standing: standing, rounds: map[digest.RoundID]Round{}}
}

// Live is the floor for what the broker says now.
func (v *Verifier) Live() (protocol.Floor, error) {
	s, err := v.standing()
	return s.Live(), err
}

// Open is a round that takes contributions: its epoch runs by the broker's time.
func (v *Verifier) Open(ctx context.Context, id digest.RoundID) (Round, error) {
	return v.round(ctx, id, true)
}

// Past is a round that may be over, and its epoch with it.
func (v *Verifier) Past(ctx context.Context, id digest.RoundID) (Round, error) {
	return v.round(ctx, id, false)
}

func (v *Verifier) round(ctx context.Context, id digest.RoundID, live bool) (Round, error) {
	s, err := v.standing()
	if err != nil {
		return Round{}, err
	}
	v.mu.Lock()
	r, ok := v.rounds[id]
	v.mu.Unlock()
	if ok && (r.live || !live) && r.Broker == s.Broker && r.Epoch >= s.Lowest.Of(r.Broker) {
		return r, nil
	}
	r, err = fetch(ctx, v.aggregator, s, id, true)
	if reason, _ := refusal.ReasonOf(err); !live && reason == protocol.ReasonEpochNotValid {
		r, err = fetch(ctx, v.aggregator, s, id, false)
	}
	if err != nil {
		return Round{}, err
	}
	v.remember(r)
	return r, nil
}

// Ask has an aggregator tell a round that takes contributions, whatever is remembered. It may be
// another than the verifier's own.
func (v *Verifier) Ask(ctx context.Context, id digest.RoundID, from Aggregator) (Round, error) {
	s, err := v.standing()
	if err != nil {
		return Round{}, err
	}
	r, err := fetch(ctx, from, s, id, true)
	if err == nil && from == v.aggregator {
		v.remember(r) // what follows need not ask again
	}
	return r, err
}

// fetch has an aggregator tell a round, and verifies it.
func fetch(ctx context.Context, from Aggregator, s Standing, id digest.RoundID, live bool) (Round, error) {
	floor := s.Live()
	if !live {
		floor = floor.Kept()
	}
	r, signed, err := from.Round(ctx, protocol.Of(s.Broker), floor, id)
	if err != nil {
		return Round{}, err
	}
	return Round{r, digest.Of(signed), live}, nil
}

func (v *Verifier) remember(r Round) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.rounds) >= maxRounds {
		clear(v.rounds)
	}
	v.rounds[r.ID] = r
}
