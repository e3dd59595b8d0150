package tenure

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/packaging/model"
)

// trailTick is the model's unit of time: a lease lives for two.
const trailTick = 5 * time.Minute

// trailReasons are the codes with which an agent refuses what a rule of the model refuses. An
// answer goes on under the lease that granted its model, and ends with that one: never under
// a renewal for another model.
var trailReasons = map[string]refusal.Reason{
	"lease_running": ReasonLeaseExpired,
	"same_model":    ReasonLeaseExpired,
}

// TestTrailsInsideAnAgent takes those trails of packaging/model to the keeper whose steps
// happen inside an agent: an answer, and a renewal while one is under way. What happens
// elsewhere is left out. After the leases that the trail grants, the device hangs.
func TestTrailsInsideAnAgent(t *testing.T) {
	g := tenuretest.New(t)
	for _, name := range []string{"lease-end-not-enforced", "renewal-continues-any", "story-rotation"} {
		t.Run(name, func(t *testing.T) {
			trail, err := model.Read(name)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) { replayTrail(t, g, trail) })
		})
	}
}

func replayTrail(t *testing.T, g tenuretest.Guest, trail model.Trail) {
	s, device := &script{t: t}, make(chan struct{})
	for _, step := range trail.Steps {
		if step.Arg("agent") == "alice" && (step.Verb == "attest" || step.Verb == "renew") {
			version, err := step.Number("model")
			if err != nil {
				t.Fatal(err)
			}
			// A model of another key is another model.
			s.steps = append(s.steps, s.grant(2*trailTick, tenuretest.ModelKey, uint64(version)))
		}
	}
	leases := len(s.steps)
	s.steps = append(s.steps, func(context.Context) (*client.Lease, error) {
		<-device
		return nil, errors.New("too late")
	})
	k := s.keeper(g)
	run(t, k, func() {
		defer close(device)
		if leases == 0 || reasonOf(t, k) != "serving" {
			t.Fatalf("%d leases: %s", leases, reasonOf(t, k))
		}
		m, done, err := k.tenure.Use(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		answering := m.serving
		began := time.Now()
		for i, step := range trail.Steps {
			var refusal error
			switch {
			case step.Verb == "tick":
				time.Sleep(trailTick)
			case step.Verb == "renew":
				time.Sleep(time.Until(began.Add(8 * time.Minute))) // it is due at seven, or half a minute later
				synctest.Wait()
				if _, calls := s.key(0); calls != leases {
					t.Fatalf("step %d: %d exchanges, %d leases", i+1, calls, leases)
				}
				if refusal = context.Cause(answering); refusal == nil {
					time.Sleep(time.Until(began.Add(2*trailTick + time.Minute))) // past the first lease's end
					refusal = context.Cause(answering)
				}
			case step.Verb == "answer":
				_, _, refusal = k.tenure.snapshot()
				if key, _ := s.key(0); key.Len() != 0 {
					t.Errorf("step %d: %d bytes of the key are left", i+1, key.Len())
				}
			}
			synctest.Wait()
			checkTrail(t, i, step, refusal)
		}
	})
}

// checkTrail wants a refusal where, and only where, the trail says that one rule gives it.
func checkTrail(t *testing.T, i int, step model.Step, err error) {
	t.Helper()
	reason, _ := refusal.ReasonOf(err)
	if len(step.RefusedBy) == 0 && err != nil || len(step.RefusedBy) > 0 && !slices.ContainsFunc(step.RefusedBy, func(rule string) bool { return trailReasons[rule] == reason }) {
		t.Errorf("step %d, %s: %q, refused by %q: %v", i+1, step, reason, step.RefusedBy, err)
	}
}
