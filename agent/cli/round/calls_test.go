package round

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
)

// shard is an aggregator's answers about a round: contributions that it has whole, and its part of
// their sum.
func shard(t *testing.T, id digest.RoundID, first uint64, hashes int, contributions ...string) *clitest.Server {
	t.Helper()
	signed := [][]byte{}
	for _, c := range contributions {
		signed = append(signed, []byte(c))
	}
	path := "/v1/rounds/" + id.String()
	return clitest.Serve(t, map[string]any{
		"GET " + path + "/contributions": map[string]any{"contributions": signed},
		"POST " + path + "/sum":          map[string]any{"first": first, "hashes": make([]digest.Digest, hashes)},
		"PUT " + path + "/ticket":        map[string]any{},
		"GET " + path + "/result":        "a signed result",
		"POST /v1/rounds":                map[string]any{},
	})
}

// digests are those of contributions.
func digests(contributions ...string) (list []digest.Digest) {
	for _, c := range contributions {
		list = append(list, digest.Of([]byte(c)))
	}
	return list
}

// TestARoundIsClosedOverWhatEveryShardHasAndTheBrokerAdmits: the cohort that is added, closed
// over and printed is the same, and every shard gets the ticket.
func TestARoundIsClosedOverWhatEveryShardHasAndTheBrokerAdmits(t *testing.T) {
	r, signed, _ := federationtest.New(t).Round(t, 3, nil)
	path := "/v1/rounds/" + r.ID.String()
	broker := clitest.Serve(t, map[string]any{
		"GET " + path:                     rounds.Status{Round: r, State: rounds.Open, Signed: signed},
		"POST " + path + "/contributions": []rounds.Admission{{Contribution: digests("a")[0]}, {Contribution: digests("b")[0], Reason: "a-code", Detail: "twice from one guest"}},
		"POST " + path + "/close":         map[string][]byte{"signed": []byte("ticket")},
	})
	first, second := shard(t, r.ID, 0, 1, "a", "b", "only here"), shard(t, r.ID, 1, 0, "b", "a")
	o := closeOptions{sockets: []string{first.Socket, second.Socket}}
	clitest.Call{Run: o.run, Args: []string{r.ID.String()}, Broker: broker.Socket,
		Says: "is closed over 1 contributions, sum " + federation.UploadDigest(r.ID, make([]digest.Digest, 1)).String() + "\n  refused " + digests("b")[0].String() + ": twice from one guest\n"}.Expect(t, "closed")
	var closing rounds.Closing
	if err := json.Unmarshal([]byte(broker.Last().Body), &closing); err != nil || fmt.Sprint(closing.Cohort) != fmt.Sprint(digests("a")) {
		t.Errorf("closed over %s, %v", broker.Last().Body, err)
	}
	for _, s := range []*clitest.Server{first, second} {
		asked := s.Asked()
		if n := len(asked); asked[n-1].Body != "ticket" || !strings.Contains(asked[n-2].Body, digests("a")[0].String()) || strings.Contains(asked[n-2].Body, digests("b")[0].String()) {
			t.Errorf("asked %+v", asked)
		}
	}
	clitest.Calls(t, map[string]clitest.Call{
		"shards out of order": {Run: (&closeOptions{sockets: []string{second.Socket, first.Socket}}).run, Args: []string{r.ID.String()}, Broker: broker.Socket, Status: cli.StatusFailed, Says: "name the shards in order"},
		"a shard is missing":  {Run: (&closeOptions{sockets: []string{shard(t, r.ID, 0, 0, "a").Socket}}).run, Args: []string{r.ID.String()}, Broker: broker.Socket, Status: cli.StatusRefused, Reason: "sum-mismatch", Says: "the aggregators' sum has 0 blocks, the round's vector 1"},
		"as JSON":             {Run: o.run, Args: []string{r.ID.String()}, Broker: broker.Socket, JSON: true, Says: `"reason": "a-code"`},
		"a full disk":         {Run: o.run, Args: []string{r.ID.String()}, Broker: broker.Socket, Out: clitest.Full{}, Status: cli.StatusFailed, Says: io.ErrShortWrite.Error()},
	})
}

// TestSumsAndResultsComeFromAggregators: added without closing, and handed to the broker.
func TestSumsAndResultsComeFromAggregators(t *testing.T) {
	r, signed, _ := federationtest.New(t).Round(t, 3, nil)
	id, away := r.ID.String(), filepath.Join(t.TempDir(), "away.sock")
	one := shard(t, r.ID, 0, 1, "a", "b")
	broker := clitest.Serve(t, map[string]any{
		"POST /v1/rounds/" + id + "/finish":  federation.Result{Round: r.ID, Length: 3, Sigma: 2.5},
		"POST /v1/rounds/" + id + "/abandon": rounds.Status{Round: r, State: rounds.Abandoned, Signed: signed},
		"GET /v1/rounds/" + id:               rounds.Status{Round: r, State: rounds.Open, Signed: signed},
		"GET /v1/rounds":                     []rounds.Status{{Round: r, State: rounds.Open, Contributors: 2}},
	})
	aggregate, finish := &aggregateOptions{sockets: []string{one.Socket}}, &finishOptions{sockets: []string{one.Socket}}
	clitest.Calls(t, map[string]clitest.Call{
		"aggregate":          {Run: aggregate.run, Args: []string{id}, Says: "2 contributions added, 1 blocks, sum "},
		"aggregate JSON":     {Run: aggregate.run, Args: []string{id}, JSON: true, Says: `"count": 2`},
		"aggregate x":        {Run: aggregate.run, Args: []string{"x"}, Status: cli.StatusUsage},
		"aggregate nowhere":  {Run: (&aggregateOptions{sockets: []string{one.Socket, away}}).run, Args: []string{id}, Status: cli.StatusRefused, Reason: "aggregator-unreachable", Says: away},
		"aggregate another":  {Run: aggregate.run, Args: []string{digest.RoundID{9}.String()}, Status: cli.StatusRefused, Reason: "not-now"},
		"aggregate, stopped": {Run: aggregate.run, Args: []string{id}, Cancelled: true, Status: cli.StatusRefused, Reason: "interrupted"},
		"finish nowhere":     {Run: (&finishOptions{}).run, Args: []string{id}, Status: cli.StatusUsage, Says: "--aggregator is required"},
		"finish, no result":  {Run: (&finishOptions{sockets: []string{away}}).run, Args: []string{id}, Broker: broker.Socket, Status: cli.StatusRefused, Reason: "aggregator-unreachable"},
		"finish, no broker":  {Run: finish.run, Args: []string{id}, Broker: away, Status: cli.StatusFailed, Reason: "broker-unreachable"},
		"finish":             {Run: finish.run, Args: []string{id}, Broker: broker.Socket, Says: "noise 2.5 steps; its key is destroyed\n"},
		"status of all":      {Run: runStatus, Broker: broker.Socket, Says: id + "  open       test             2 of "},
		"status":             {Run: runStatus, Args: []string{id}, Broker: broker.Socket, Says: "privacy  no noise\n"},
		"status JSON":        {Run: runStatus, Args: []string{id}, Broker: broker.Socket, JSON: true, Says: `"state": "open"`},
		"status of none":     {Run: runStatus, Args: []string{"x"}, Broker: broker.Socket, Status: cli.StatusUsage},
		"abandon":            {Run: runAbandon, Args: []string{id}, Broker: broker.Socket, Says: "(abandoned)"},
		"abandon none":       {Run: runAbandon, Args: []string{"x"}, Broker: broker.Socket, Status: cli.StatusUsage},
		"abandon too late":   {Run: runAbandon, Args: []string{digest.RoundID{9}.String()}, Broker: broker.Socket, Status: cli.StatusRefused, Reason: "not-now"},
	})
}

// TestWhoMayIsSaidInFull: every kind of guest, nobody by default, and no word but everyone.
func TestWhoMayIsSaidInFull(t *testing.T) {
	image, policy := "sha256:"+strings.Repeat("0c", 32), strings.Repeat("0d", 32)
	named := func(change func(*guestFlags)) guestFlags {
		g := guestFlags{flag: "contributor", verb: "contribute"}
		change(&g)
		return g
	}
	for name, c := range map[string]struct {
		flags guestFlags
		text  string
		says  string
	}{
		"tenants": {named(func(g *guestFlags) { g.tenants = []string{"b", "a"} }), "guests of tenant a or b", ""},
		"all kinds": {named(func(g *guestFlags) {
			g.tenants, g.images, g.policies = []string{"a"}, []string{image}, []string{policy}
		}), "guests of tenant a, image " + image + ", policy " + policy, ""},
		"everyone":       {named(func(g *guestFlags) { g.all = "everyone" }), "all guests with the role", ""},
		"nobody":         {named(func(*guestFlags) {}), "", "say who may contribute: --contributor-tenant, --contributor-image or --contributor-policy"},
		"another word":   {named(func(g *guestFlags) { g.all = "all" }), "", "--contributors accepts only the word everyone"},
		"half an image":  {named(func(g *guestFlags) { g.images = []string{image[:20]} }), "", "--contributor-image " + image[:20]},
		"half a policy":  {named(func(g *guestFlags) { g.policies = []string{policy[:20]} }), "", "--contributor-policy " + policy[:20]},
		"everyone and a": {named(func(g *guestFlags) { g.all, g.tenants = "everyone", []string{"a"} }), "", "who may contribute: "},
	} {
		a, err := c.flags.audience()
		if c.says == "" && (err != nil || audienceText(a) != c.text) {
			t.Errorf("%s: %q, %v", name, audienceText(a), err)
		}
		if c.says != "" && (cli.StatusOf(err) != cli.StatusUsage || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %s", name, err, c.says)
		}
	}
	// Parties that hold the key decrypt, and nobody else is named.
	everyone := roundGuests{guestFlags{all: everyone}, guestFlags{}}
	if _, decryptors, err := everyone.read(true); err != nil || decryptors.Everyone {
		t.Errorf("%+v, %v", decryptors, err)
	}
	everyone.decryptors.tenants = []string{"a"}
	if _, _, err := everyone.read(true); cli.StatusOf(err) != cli.StatusUsage || !strings.Contains(err.Error(), "leave out the flags that say who may decrypt") {
		t.Errorf("with --key: %v", err)
	}
	if text := decryptorsText(federation.Round{Parties: &federation.Parties{Threshold: 2, Agents: make([]digest.Digest, 3)}}); text != "2 of 3 parties decrypt" {
		t.Error(text)
	}
}

// TestOpeningIsRefusedBeforeTheBrokerIsAsked: what a file or a flag has wrong; and a round that an
// aggregator does not take stays open, which is said.
func TestOpeningIsRefusedBeforeTheBrokerIsAsked(t *testing.T) {
	r, signed, _ := federationtest.New(t).Round(t, 3, nil)
	none := filepath.Join(t.TempDir(), "none")
	broker := clitest.Serve(t, map[string]any{"POST /v1/rounds": rounds.Status{Round: r, State: rounds.Open, Signed: signed}})
	taking := shard(t, r.ID, 0, 0)
	open := func(change func(*openOptions)) cli.Run {
		o := &openOptions{guests: &roundGuests{guestFlags{all: everyone}, guestFlags{all: everyone}}}
		o.spec.Model, o.spec.Length, o.spec.ClipL2 = "m", 3, 1
		change(o)
		return o.run
	}
	clitest.Calls(t, map[string]clitest.Call{
		"no sealed model": {Run: open(func(o *openOptions) { o.model = none }), Broker: none, Status: cli.StatusFailed, Says: none, Silent: "socket"},
		"no dataset":      {Run: open(func(o *openOptions) { o.dataset = none }), Broker: none, Status: cli.StatusFailed, Says: none, Silent: "socket"},
		"no keys":         {Run: open(func(o *openOptions) { o.normKeys = none }), Broker: none, Status: cli.StatusRefused, Says: none},
		"a key's round":   {Run: open(func(o *openOptions) { o.key, o.guests.decryptors = "x", guestFlags{} }), Broker: none, Status: cli.StatusUsage, Says: `"x" is not a round's id`},
		"no root":         {Run: open(func(o *openOptions) { o.key, o.guests.decryptors = r.ID.String(), guestFlags{} }), Broker: none, Status: cli.StatusUsage, Says: "--key needs --root, the trusted root, and --aggregator"},
		"no broker":       {Run: open(func(*openOptions) {}), Broker: none, Status: cli.StatusFailed, Reason: "broker-unreachable"},
		"an aggregator":   {Run: open(func(o *openOptions) { o.aggregators = []string{taking.Socket, none} }), Broker: broker.Socket, Status: cli.StatusRefused, Reason: "aggregator-unreachable", Says: "is open at the broker, but the aggregator at " + none + " did not take it"},
		"opened":          {Run: open(func(o *openOptions) { o.aggregators = []string{taking.Socket} }), Broker: broker.Socket, Says: "round    " + r.ID.String() + " (open)"},
		"interrupted":     {Run: open(func(*openOptions) {}), Broker: broker.Socket, Cancelled: true, Status: cli.StatusFailed, Reason: "interrupted"},
	})
	if got := taking.Last(); got.Line != "POST /v1/rounds" || got.Body != string(signed) {
		t.Errorf("the aggregator got %+v", got)
	}
}

// TestAnAccountShowsItsCharges, and one that is none is not asked for.
func TestAnAccountShowsItsCharges(t *testing.T) {
	broker := clitest.Serve(t, map[string]any{"GET /v1/ledger/broker": `{"account":"broker","epsilon":0.5,"max_epsilon":10,"delta":1e-5,"charges":[{"round":"` + digest.RoundID{1}.String() + `","mechanism":"discrete-gaussian","multiplier":4,"rate":0.5}]}`})
	clitest.Calls(t, map[string]clitest.Call{
		"the broker's":  {Run: (&ledgerOptions{}).run, Broker: broker.Socket, Says: "account broker: epsilon 0.5000 of 10 at delta 1e-05"},
		"its charges":   {Run: (&ledgerOptions{}).run, Args: []string{"broker"}, Broker: broker.Socket, Says: digest.RoundID{1}.String() + "  discrete-gaussian  multiplier 4.0000  rate 0.5\n"},
		"as JSON":       {Run: (&ledgerOptions{}).run, Broker: broker.Socket, JSON: true, Says: `"max_epsilon": 10`},
		"no account":    {Run: (&ledgerOptions{}).run, Args: []string{"nobody's"}, Broker: broker.Socket, Status: cli.StatusUsage},
		"two of them":   {Run: (&ledgerOptions{model: "m.ahm"}).run, Args: []string{"broker"}, Broker: broker.Socket, Status: cli.StatusUsage, Says: "give an account or --sealed, not both"},
		"another's":     {Run: (&ledgerOptions{}).run, Args: []string{"dataset:" + strings.Repeat("0a", 32)}, Broker: broker.Socket, Status: cli.StatusRefused, Reason: "not-now"},
		"no such model": {Run: (&ledgerOptions{model: "none.ahm"}).run, Broker: broker.Socket, Status: cli.StatusFailed, Says: "none.ahm"},
	})
}
