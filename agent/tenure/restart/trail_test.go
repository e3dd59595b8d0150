//go:build !release

package restart

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/vtpm"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/packaging/model"
)

// trailReasons are the codes with which the code refuses what a rule of the model refuses. An agent that a broker answered
// has no word for it: it stays without keys, for the reason for which it has no lease.
var trailReasons = map[string]refusal.Reason{
	"permit_runs": ReasonExpired, "permit_began": ReasonExpired, "opening_counted": vtpm.ReasonCount, "sealed_last": vtpm.ReasonCount, "refusal_forgets": vtpm.ReasonCount,
	"refusal_ends": protocol.ReasonConnectionFailed, "start_alone": protocol.ReasonConnectionFailed, "guest_not_ended": protocol.ReasonEnded, "permit_floor": protocol.ReasonEpochRetired,
}

// TestTrailsOfRestarts takes the trails of packaging/model/restart.pml to a broker, an agent and a TPM: each step must succeed,
// but for the one that only a mutant takes.
func TestTrailsOfRestarts(t *testing.T) {
	names, err := model.RestartNames()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			trail, err := model.ReadRestart(name)
			if err != nil {
				t.Fatal(err)
			}
			newRestartTrail(t).replay(trail)
		})
	}
}

// restartTrail is a world whose broker permits one restart at a time.
type restartTrail struct {
	*world
	b     *boot
	ended bool
	files map[int][]byte // what was sealed, by the number of its permit
}

func newRestartTrail(t *testing.T) *restartTrail {
	r := &restartTrail{files: map[int][]byte{}}
	f := brokertest.New(t, brokertest.WithPolicy(permitting(strings.Replace(rule, "max_restarts: 3", "max_restarts: 1", 1))), brokertest.WithConfig(func(c *keybroker.Config) {
		c.Limits.Kept = 4
		c.Ended = func(digest.Digest, digest.Digest) (func(), error) {
			if r.ended {
				return nil, refusal.New(protocol.ReasonEnded, "ended")
			}
			return func() {}, nil
		}
	}))
	r.world = &world{T: t, f: f, dir: t.TempDir(), tpm: newTPM(t), clock: 1, floor: 1}
	r.b = r.boot(nil)
	return r
}

func (r *restartTrail) replay(trail model.Trail) {
	for i, s := range trail.Steps {
		err := r.do(s)
		switch {
		case len(s.RefusedBy) == 0 && err != nil:
			r.Fatalf("step %d, %s, of honest parties: %v", i+1, s, err)
		case len(s.RefusedBy) > 0 && err == nil:
			r.Fatalf("step %d, %s: nothing refused it; %q should have", i+1, s, s.RefusedBy)
		case len(s.RefusedBy) > 0:
			if got := reasonsIn(err); !slices.ContainsFunc(s.RefusedBy, func(rule string) bool { return slices.Contains(got, trailReasons[rule]) }) {
				r.Fatalf("step %d, %s: refused with %q, %q was to refuse it: %v", i+1, s, got, s.RefusedBy, err)
			}
			return // what follows would need what was refused
		}
	}
}

func reasonsIn(err error) (all []refusal.Reason) {
	for _, e := range flatten(err) {
		if reason, ok := refusal.ReasonOf(e); ok {
			all = append(all, reason)
		} else if answer, ok := errors.AsType[*client.Error](e); ok {
			all = append(all, answer.Reason)
		}
	}
	return all
}

// trailTick is half of what a permit lasts.
const trailTick = 4 * time.Hour

func (r *restartTrail) do(s model.Step) error {
	switch s.Verb {
	case "tick":
		r.offset += trailTick
		if run := r.b.running; run != nil {
			run.end = run.end.Add(-trailTick) // on a clock that nobody sets
		}
		return nil
	case "attest":
		return r.attest(s)
	case "end":
		r.ended = true
		return nil
	case "retire":
		return nil // the guest learns it with its next lease
	case "refuse":
		if _, err := r.lease(r.b, r.b.broker); !slices.Contains(reasonsIn(err), protocol.ReasonEnded) {
			return errors.Join(errors.New("the broker refuses nobody"), err)
		}
		r.b.sealing.Wait()
		return nil
	case "restart":
		r.b.Close()
		r.b = r.boot(nil)
		return nil
	case "put-back":
		n, err := s.Number("file")
		return errors.Join(err, os.WriteFile(r.b.file(), r.files[n], 0o600))
	case "open", "answer":
		_, err := r.lease(r.b, r.b.Around(away{gone}))
		return err
	}
	return errors.New("no such step")
}

// attest gets a lease, and has the keys of a new permit sealed; or, of a new epoch, a lease alone.
func (r *restartTrail) attest(s model.Step) error {
	n, err := s.Number("permit")
	if err != nil {
		return err
	}
	if n == 0 {
		r.floor = 2
		r.b.mu.Lock()
		r.b.answered = true
		r.b.mu.Unlock()
		return nil
	}
	r.b.mu.Lock()
	r.b.held = nil // the permit before has aged
	r.b.mu.Unlock()
	if _, err := r.lease(r.b, r.b.broker); err != nil {
		return err
	}
	r.b.sealing.Wait()
	r.files[n], err = os.ReadFile(r.b.file())
	return err
}
