package round

import (
	"errors"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
)

// A round is not closed, and nothing charged, over a sum that no agent would decrypt.
func TestARoundIsClosedOverAWholeSumAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		a    aggregated
		want refusal.Reason
	}{
		"whole":                 {aggregated{Blocks: 2, Count: 2, members: []digest.Digest{{1}, {2}}}, ""},
		"a block too many":      {aggregated{Blocks: 3, Count: 2, members: []digest.Digest{{1}, {2}}}, reasonSum},
		"a block too few":       {aggregated{Blocks: 1, Count: 2, members: []digest.Digest{{1}, {2}}}, reasonSum},
		"a contribution, twice": {aggregated{Blocks: 2, Count: 2, members: []digest.Digest{{1}, {1}}}, reasonSum},
	} {
		err := wholeSum(tc.a, 2)
		if got, _ := refusal.ReasonOf(err); got != tc.want || (err != nil) != errors.Is(err, cli.ErrRefused) {
			t.Errorf("%s: %q, want %q: %v", name, got, tc.want, err)
		}
	}
}

// An aggregator that cannot be reached is named, and the broker, which answered, is not blamed:
// for a round that is open, and for one that an earlier run closed.
func TestAnUnreachableAggregatorIsNotTheBrokersFault(t *testing.T) {
	r, signed, _ := federationtest.New(t).Round(t, 3, nil)
	id, path := r.ID.String(), "GET /v1/rounds/"+r.ID.String()
	away := filepath.Join(t.TempDir(), "away.sock")
	open := clitest.Serve(t, map[string]any{path: rounds.Status{Round: r, State: rounds.Open, Signed: signed}}).Socket
	closed := clitest.Serve(t, map[string]any{path: rounds.Status{Round: r, State: "closed", Signed: signed, Ticket: []byte("ticket")}}).Socket
	taking := clitest.ServeUnix(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	run := (&closeOptions{sockets: []string{away}}).run
	clitest.Calls(t, map[string]clitest.Call{
		"open":              {Run: run, Args: []string{id}, Broker: open, Status: cli.StatusRefused, Reason: "aggregator-unreachable", Says: away, Silent: "anchorhold-broker"},
		"closed":            {Run: run, Args: []string{id}, Broker: closed, Status: cli.StatusRefused, Reason: "aggregator-unreachable", Says: "closed at the broker, but the aggregator at " + away, Silent: "anchorhold-broker"},
		"the second shard":  {Run: (&closeOptions{sockets: []string{taking, away}}).run, Args: []string{id}, Broker: closed, Status: cli.StatusRefused, Reason: "aggregator-unreachable", Says: away},
		"the broker":        {Run: run, Args: []string{id}, Broker: away, Status: cli.StatusFailed, Reason: "broker-unreachable", Says: "anchorhold-broker"},
		"the broker's word": {Run: run, Args: []string{digest.RoundID{9}.String()}, Broker: open, Status: cli.StatusRefused, Reason: "not-now"},
		"no round":          {Run: run, Args: []string{"x"}, Broker: open, Status: cli.StatusUsage, Reason: "command-line-invalid"},
		"interrupted":       {Run: run, Args: []string{id}, Broker: open, Cancelled: true, Status: cli.StatusFailed, Reason: "interrupted"},
		"closed, at last":   {Run: (&closeOptions{sockets: []string{taking}}).run, Args: []string{id}, Broker: closed, JSON: true, Says: id},
	})
}
