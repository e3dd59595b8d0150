package roundkey

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

// TestRoundKeysAreAskedForAtAPace: local users cause each request, and have decryptions tried
// again as often as they like. The broker hears of a quarter of the guest's pace at most, the
// rest being for renewals, and a round that it refused does not keep another's key away.
func TestRoundKeysAreAskedForAtAPace(t *testing.T) {
	const perGuest = 120 // of the broker, by default, in window
	denied := &client.Error{Reason: "resource-not-granted", ID: "the record of it"}
	synctest.Test(t, func(t *testing.T) {
		var p pace
		try := func(resource string, answer error) bool {
			err := p.ask(resource, time.Now())
			if later, ok := errors.AsType[*jobs.Postponed](err); err != nil && (!ok || later.Pause <= 0) {
				t.Fatalf("%v, want a pause", err)
			}
			if reason, _ := refusal.ReasonOf(err); err != nil && reason != ReasonPaced {
				t.Fatal(err)
			}
			if err == nil {
				p.told(resource, answer, time.Now())
			}
			return err == nil
		}
		count := func(resources int, answer error) (asked int) {
			for range int(window / time.Second) {
				for i := range resources {
					if try(fmt.Sprint("fed/", i), answer) {
						asked++
					}
				}
				time.Sleep(time.Second)
			}
			return asked
		}
		if n := count(1, denied); n < 8 || n > 16 {
			t.Errorf("a round whose key is refused was asked for %d times in %s", n, window)
		}
		if n := count(50, denied); n < burst/2 || n > perGuest/2 { // the burst, and as many in the window
			t.Errorf("%d requests for refused rounds in %s, of %d that the guest has", n, window, perGuest)
		}
		if n := count(50, denied); n > perGuest/2 {
			t.Errorf("%d more in the next %s", n, window)
		}
		for i := range burst/2 - 1 { // a user's 50 dead decryptions leave half to others
			if !try(fmt.Sprint("fed/other", i), nil) {
				t.Fatalf("after refusals of other rounds, %d keys of a round were not asked for", i)
			}
		}
		time.Sleep(window)
		if n := count(1, nil); n < burst || n > perGuest/2 {
			t.Errorf("%d keys that were given, in %s", n, window)
		}
		time.Sleep(window)
		for i := range maxRefused + 10 {
			p.told(fmt.Sprint("fed/many", i), denied, time.Now())
		}
		if len(p.refused) > maxRefused {
			t.Errorf("%d refused rounds are remembered", len(p.refused))
		}
		p.told("fed/x", denied, time.Now())
		p.told("fed/x", errors.New("the network is gone"), time.Now())
		if p.refused["fed/x"].pause != refusedFirst {
			t.Error("a connection that failed is taken for the broker's word")
		}
		if p.told("fed/x", nil, time.Now()); !try("fed/x", nil) {
			t.Error("a round whose key was given is paused")
		}
	})
}

// A network that is away makes no round wait for longer than it must.
func TestOnlyTheBrokersWordPausesARound(t *testing.T) {
	var p pace
	now := time.Unix(1_000_000, 0)
	for range 8 {
		p.told("fed/1", &client.Error{Reason: "connection-failed", Err: errors.New("no route")}, now)
	}
	if err := p.ask("fed/1", now); err != nil {
		t.Error(err)
	}
	p.told("fed/1", &client.Error{Reason: "resource-not-granted", ID: "the record of it"}, now)
	if err := p.ask("fed/1", now); err == nil {
		t.Error("a round that was just refused is asked for at once")
	}
}
