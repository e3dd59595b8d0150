package authority

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/generation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

const minute = federationtest.Begin + 60_000

var (
	model  = [32]byte{5}
	ticket = digest.Digest{7}
)

// world is a broker with one round, whose key agents are granted, and another broker, whose
// root is configured beside the first one's.
type world struct {
	*federationtest.World
	second *federationtest.World
	// speaks is the broker that says what a broker says; the first, unless a test changes it.
	speaks  *federationtest.World
	round   federation.Round
	signed  []byte // the round
	another federation.Round
	other   []byte
}

func newWorld(t *testing.T) *world {
	w := &world{World: federationtest.New(t), second: federationtest.New(t)}
	w.speaks = w.World
	w.round, w.signed, _ = w.World.Round(t, 100, nil)
	w.another, w.other, _ = w.World.Round(t, 100, nil)
	return w
}

// Roots are those of both brokers.
func (w *world) Roots() []identity.Public { return append(w.World.Roots(), w.second.Roots()...) }

// row is one line of the table.
type row struct {
	// says is the statement, as the document calls it.
	says string
	// role is what the certificate must give; 0 if no guest's does: the broker says it.
	role protocol.Role
	// resource says that the certificate must name a key; audience that the statement names
	// the guests that may say it.
	resource, audience bool
	// whose broker must vouch, as the document calls it. "any root's" is heard from each.
	whose string
	// hear has the agent say it, and returns what a verifier makes of it above an epoch.
	hear func(t *testing.T, w *world, a *federationtest.Agent, lowest uint64) error
}

var table = []row{
	{"receipt", protocol.RoleServe, true, false, "any root's, which the report names", hearReceipt},
	{"contribution", protocol.RoleContribute, false, true, "the round's", hearContribution},
	{"result", protocol.RoleDecrypt, true, true, "the round's", hearResult},
	{"party message", protocol.RoleParty, false, false, "the setup's", hearParty},
	{"share", protocol.RoleParty, false, false, "the round's", hearShare},
	{"result of parties", protocol.RoleParty, false, false, "the round's", hearPartyResult},
	{"introduction", protocol.RoleServe, false, false, "the registry's", hearIntroduction},
	{"round", 0, false, false, "the lease's; aggregator: any root's", func(t *testing.T, w *world, a *federationtest.Agent, lowest uint64) error {
		return heard(federation.SignRound(a.Key, w.speaks.EpochSigned, w.round))(func(raw []byte) error {
			_, err := federation.VerifyRound(raw, w.Roots(), w.Broker(), protocol.Live(protocol.AtLeast(lowest), minute))
			return err
		})
	}},
	{"setup", 0, false, false, "the lease's; aggregator: any root's", func(t *testing.T, w *world, a *federationtest.Agent, lowest uint64) error {
		s, err := federation.Preparation{Threshold: 2, Agents: []digest.Digest{{1}, {2}}}.Setup(w.speaks.Epoch.Broker, 1, federationtest.Begin)
		if err != nil {
			t.Fatal(err)
		}
		return heard(federation.SignSetup(a.Key, w.speaks.EpochSigned, s))(func(raw []byte) error {
			_, err := federation.VerifySetup(raw, w.Roots(), w.Broker(), protocol.Live(protocol.AtLeast(lowest), minute))
			return err
		})
	}},
	{"ticket", 0, false, false, "the round's", func(t *testing.T, w *world, a *federationtest.Agent, lowest uint64) error {
		return heard(federation.SignTicket(a.Key, w.speaks.EpochSigned, federation.Ticket{Round: w.round.ID, RoundDigest: digest.Of(w.signed), Broker: w.speaks.Epoch.Broker, Epoch: 1, Count: 2, TotalWeight: 2, Time: minute}))(func(raw []byte) error {
			_, err := federation.VerifyTicket(raw, w.Roots(), protocol.Live(protocol.AtLeast(lowest), minute), w.round, digest.Of(w.signed))
			return err
		})
	}},
	{"record of a key", 0, false, false, "the lease's", func(t *testing.T, w *world, a *federationtest.Agent, lowest uint64) error {
		return heard(wire.SignRecord(a.Key, w.speaks.EpochSigned, wire.Record{Broker: w.speaks.Epoch.Broker, Epoch: 1, Registered: minute, Record: statement.Record{
			System: statement.Groth16, Circuit: digest.Digest{1}, VerifyingKey: digest.Digest{2}, ProvingKey: digest.Digest{3}, Library: "a test",
			Ceremony: digest.Digest{4}, Inference: &statement.InferenceCircuit{Architecture: digest.Digest{5}, Items: 1, Outputs: 2}}}))(func(raw []byte) error {
			_, err := wire.VerifyRecord(raw, w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(lowest)))
			return err
		})
	}},
	{"current state of a volume", 0, false, false, "the lease's", func(t *testing.T, w *world, a *federationtest.Agent, lowest uint64) error {
		signed := []byte("an opening")
		return heard(generation.SignCurrent(a.Key, w.speaks.EpochSigned, generation.Current{Broker: w.speaks.Epoch.Broker, Epoch: 1, Answers: digest.Of(signed), Volume: volume, Time: minute}))(func(raw []byte) error {
			_, err := generation.VerifyCurrent(raw, w.Roots(), w.Broker(), protocol.Live(protocol.AtLeast(lowest), minute), signed, volume)
			return err
		})
	}},
	{"challenge", 0, false, false, "the lease's", func(t *testing.T, w *world, a *federationtest.Agent, lowest uint64) error {
		return heard(wire.SignChallenge(a.Key, w.speaks.EpochSigned, wire.Challenge{Broker: w.speaks.Epoch.Broker, Epoch: 1, Nonce: digest.Digest{1}, Agent: digest.Digest{2},
			Receipts: []digest.ReceiptID{{1}}, Time: minute, Deadline: minute + 1}))(func(raw []byte) error {
			_, err := wire.VerifyChallenge(raw, w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(lowest)))
			return err
		})
	}},
}

// heard hands on what was signed.
func heard(raw []byte, err error) func(func([]byte) error) error {
	return func(verify func([]byte) error) error {
		if err != nil {
			return fmt.Errorf("could not be said at all: %w", err)
		}
		return verify(raw)
	}
}

func hearReceipt(t *testing.T, w *world, a *federationtest.Agent, lowest uint64) error {
	issued, err := receipt.Issue(a.Key, receipt.Lease{ID: a.Lease.Lease, EvidenceDigest: a.Lease.EvidenceDigest, Chain: a.Chain, Now: minute},
		receipt.Answer{ID: digest.ReceiptID{1}, ModelID: model, ModelName: "m", ModelVersion: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = receipt.Verify(issued.Receipt, w.Roots(), receipt.Options{Expect: receipt.Expect{MinEpoch: lowest}})
	return err
}

func hearContribution(t *testing.T, w *world, a *federationtest.Agent, lowest uint64) error {
	c := federation.Contribution{Round: w.round.ID, RoundDigest: digest.Of(w.signed), Agent: a.Key.Public().ID(), Weight: 1, Blocks: 1, Upload: digest.Digest{1}, Time: minute}
	return heard(federation.SignContribution(a.Key, a.Chain, c))(func(raw []byte) error {
		_, _, err := federation.VerifyContribution(raw, w.Roots(), protocol.Live(protocol.AtLeast(lowest), minute), w.round)
		return err
	})
}

func hearResult(t *testing.T, w *world, a *federationtest.Agent, lowest uint64) error {
	return w.hearResultOf(t, w.round, a, lowest, federation.VerifyResult)
}

// hearPartyResult: the agent is among those that hold the round's key in parts.
func hearPartyResult(t *testing.T, w *world, a *federationtest.Agent, lowest uint64) error {
	return w.hearResultOf(t, w.ofParties(a), a, lowest, federation.VerifyPartyResult)
}

// verifier of a result, or of one party's word on it.
type verifier func([]byte, []identity.Public, protocol.Floor, federation.Round, federation.Ticket, digest.Digest) (federation.Result, protocol.Authority, error)

func (w *world) hearResultOf(t *testing.T, r federation.Round, a *federationtest.Agent, lowest uint64, verify verifier) error {
	closed := federation.Ticket{Round: r.ID, RoundDigest: digest.Of(w.signed)}
	res := federation.Result{Round: r.ID, RoundDigest: closed.RoundDigest, TicketDigest: ticket, Agent: a.Key.Public().ID(), Length: 100, Step: 1, Divisor: 1, Time: minute}
	return heard(federation.SignResult(a.Key, a.Chain, res))(func(raw []byte) error {
		_, _, err := verify(raw, w.Roots(), protocol.Live(protocol.AtLeast(lowest), minute), r, closed, ticket)
		return err
	})
}

// ofParties is the round, with the agent as the first of two parties.
func (w *world) ofParties(a *federationtest.Agent) federation.Round {
	r := w.round
	r.Parties = &federation.Parties{Threshold: 2, Agents: []digest.Digest{digest.Digest(a.Key.Public().ID()), {1}}}
	return r
}

func hearParty(t *testing.T, w *world, a *federationtest.Agent, lowest uint64) error {
	s := federation.Setup{Round: w.round.ID, Broker: w.Epoch.Broker, Agents: w.ofParties(a).Parties.Agents, Opened: federationtest.Begin, Closes: minute + 1}
	m := federation.PartyMessage{Round: s.Round, Setup: digest.Digest{3}, Kind: federation.PartyCommit, From: 1, Agent: a.Key.Public().ID(), Payload: make([]byte, federation.CommitBytes), Time: minute}
	return heard(federation.SignPartyMessage(a.Key, a.Chain, m))(func(raw []byte) error {
		_, err := federation.VerifyPartyMessage(raw, w.Roots(), protocol.Live(protocol.AtLeast(lowest), minute), s, digest.Digest{3})
		return err
	})
}

func hearShare(t *testing.T, w *world, a *federationtest.Agent, lowest uint64) error {
	s := federation.Share{Round: w.round.ID, TicketDigest: ticket, Agent: a.Key.Public().ID(), From: 1, Active: []uint32{1, 2}, Blocks: 1,
		Upload: federation.UploadDigest(w.round.ID, []digest.Digest{{1}}), Time: minute}
	return heard(federation.SignShare(a.Key, a.Chain, s))(func(raw []byte) error {
		_, err := federation.VerifyShare(raw, w.Roots(), protocol.Live(protocol.AtLeast(lowest), minute), w.ofParties(a), ticket)
		return err
	})
}

func hearIntroduction(t *testing.T, w *world, a *federationtest.Agent, lowest uint64) error {
	connection := wire.ConnectionOf([]byte("exporter"))
	return heard(wire.SignIntroduction(a.Key, a.Chain, wire.Introduction{Connection: connection, Agent: a.Key.Public().ID(), Time: minute}))(func(raw []byte) error {
		_, err := wire.VerifyIntroduction(raw, w.Roots(), w.Broker(), protocol.Live(protocol.AtLeast(lowest), minute), connection)
		return err
	})
}

const volume = "volumes/var"

// hearOpening: the one statement whose certificate needs no role, but exactly one key.
func hearOpening(t *testing.T, w *world, a *federationtest.Agent, lowest uint64) error {
	connection := generation.ConnectionOf([]byte("exporter"))
	return heard(generation.SignOpening(a.Key, a.Chain, generation.Opening{Connection: connection, Agent: a.Key.Public().ID(), Time: minute, Volume: volume}))(func(raw []byte) error {
		_, _, err := generation.VerifyOpening(raw, w.Roots(), w.Broker(), protocol.Live(protocol.AtLeast(lowest), minute), connection)
		return err
	})
}

// TestOpeningsNeedTheVolumesKey: with it alone an opening is heard, and with every role and no such key it is
// not; and with it alone nothing else is.
func TestOpeningsNeedTheVolumesKey(t *testing.T) {
	w := newWorld(t)
	holder := func(broker *federationtest.World, resource string) *federationtest.Agent {
		return broker.Agent(t, func(c *protocol.LeaseCertificate) { c.Grants = []protocol.Granted{{Resource: resource, Version: 1}} })
	}
	right := holder(w.World, volume)
	if err := hearOpening(t, w, right, 1); err != nil {
		t.Fatalf("the right certificate: %v", err)
	}
	wantReason(t, hearOpening(t, w, right, 2), protocol.ReasonEpochRetired)
	wantReason(t, hearOpening(t, w, w.agent(t, everyRole, nil), 1), protocol.ReasonNotGranted)
	wantReason(t, hearOpening(t, w, holder(w.World, "volumes/var2"), 1), protocol.ReasonNotGranted)
	wantReason(t, hearOpening(t, w, holder(w.second, volume), 1), protocol.ReasonAnotherBroker)
	for _, r := range table {
		if r.role == 0 {
			continue
		}
		if err := r.hear(t, w, right, 1); err == nil {
			t.Errorf("who may open a volume said a %s", r.says)
		}
	}
}

// agent is one with these roles, the model's key and the round's.
func (w *world) agent(t *testing.T, roles protocol.Role, change func(*protocol.LeaseCertificate)) *federationtest.Agent {
	t.Helper()
	return w.agentOf(t, w.World, roles, change)
}

// agentOf is one that a broker vouches for.
func (w *world) agentOf(t *testing.T, broker *federationtest.World, roles protocol.Role, change func(*protocol.LeaseCertificate)) *federationtest.Agent {
	t.Helper()
	a := broker.Agent(t, func(c *protocol.LeaseCertificate) {
		federationtest.SetRoles(c, roles)
		if change != nil {
			change(c)
		}
	})
	a.Grant(t, model)
	return a.GrantRound(t, w.round, w.signed)
}

func wantReason(t *testing.T, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); err == nil || got != want {
		t.Errorf("got %v, want the reason %s", err, want)
	}
}

const everyRole = protocol.RoleServe | protocol.RoleContribute | protocol.RoleDecrypt | protocol.RoleParty

var single = []protocol.Role{protocol.RoleServe, protocol.RoleContribute, protocol.RoleDecrypt, protocol.RoleParty}

// TestTable: in each row, the right certificate is heard, and every other is refused.
func TestTable(t *testing.T) {
	for _, r := range table {
		t.Run(r.says, func(t *testing.T) {
			w := newWorld(t)
			if r.role == 0 {
				testBroker(t, w, r)
				return
			}
			right := w.agent(t, r.role, nil)
			if err := r.hear(t, w, right, 1); err != nil {
				t.Fatalf("the right certificate: %v", err)
			}
			wantReason(t, r.hear(t, w, right, 2), protocol.ReasonEpochRetired)
			wantReason(t, r.hear(t, w, w.agent(t, 0, nil), 1), protocol.ReasonRole)
			wantReason(t, r.hear(t, w, w.agent(t, everyRole&^r.role, nil), 1), protocol.ReasonRole)
			for _, role := range single {
				if role != r.role {
					wantReason(t, r.hear(t, w, w.agent(t, role, nil), 1), protocol.ReasonRole)
				}
			}
			if r.resource {
				a := w.Agent(t, func(c *protocol.LeaseCertificate) { federationtest.SetRoles(c, everyRole) })
				a.Grant(t, [32]byte{6})
				wantReason(t, r.hear(t, w, a.GrantRound(t, w.another, w.other), 1), protocol.ReasonNotGranted)
			}
			if r.audience {
				for _, tenant := range []string{"another", ""} {
					wantReason(t, r.hear(t, w, w.agent(t, everyRole, func(c *protocol.LeaseCertificate) { c.Tenant = tenant }), 1), protocol.ReasonAudience)
				}
			}
			r.hearSecond(t, w, w.agentOf(t, w.second, everyRole, nil))
			imposter := *right
			imposter.Key = w.EpochKey // the broker's own key is no agent's either
			if err := r.hear(t, w, &imposter, 1); err == nil {
				t.Error("said by a key that the certificate does not name")
			}
		})
	}
}

// hearSecond has the other root's broker, or a guest by its word, say it: with every role,
// key and audience, it is refused where one broker alone is to be heard.
func (r row) hearSecond(t *testing.T, w *world, a *federationtest.Agent) {
	t.Helper()
	err := r.hear(t, w, a, 1)
	if !strings.HasPrefix(r.whose, "any root's") {
		wantReason(t, err, protocol.ReasonAnotherBroker)
	} else if err != nil {
		t.Errorf("by the word of the other root's broker: %v", err)
	}
}

// testBroker: no certificate of a guest says it, whatever its roles and resources.
func testBroker(t *testing.T, w *world, r row) {
	broker := &federationtest.Agent{Key: w.EpochKey}
	if err := r.hear(t, w, broker, 1); err != nil {
		t.Fatalf("the epoch's key: %v", err)
	}
	wantReason(t, r.hear(t, w, broker, 2), protocol.ReasonEpochRetired)
	w.speaks = w.second
	r.hearSecond(t, w, &federationtest.Agent{Key: w.second.EpochKey})
	w.speaks = w.World
	for _, roles := range append(single, 0, everyRole) {
		if err := r.hear(t, w, w.agent(t, roles, nil), 1); err == nil {
			t.Errorf("an agent with the roles %s said it", roles)
		}
	}
	stranger, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stranger.Wipe)
	if err := r.hear(t, w, &federationtest.Agent{Key: stranger}, 1); err == nil {
		t.Error("a stranger said it")
	}
}

// TestReading: who says who it is at an aggregator needs a role in rounds, and what it may
// read is what the round lets it say.
func TestReading(t *testing.T) {
	w := newWorld(t)
	binding := federation.BindingOf([]byte("this connection"))
	read := func(a *federationtest.Agent, binding digest.Digest, lowest uint64) (federation.Reading, error) {
		raw, err := federation.SignAccess(a.Key, a.Chain, federation.Access{Binding: federation.BindingOf([]byte("this connection")), Agent: a.Key.Public().ID(), Time: minute})
		if err != nil {
			t.Fatal(err)
		}
		floor := protocol.Live(protocol.AtLeast(lowest), minute)
		reader, err := federation.VerifyAccess(raw, w.Roots(), floor, binding)
		if err != nil {
			return federation.ReadNothing, err
		}
		have, _ := w.round.Reading(reader, w.Roots(), floor) // the reason why nothing may be read
		return have, nil
	}
	for _, tc := range []struct {
		role protocol.Role
		want federation.Reading
	}{{protocol.RoleContribute, federation.ReadTerms}, {protocol.RoleDecrypt, federation.ReadSums}, {protocol.RoleParty, federation.ReadNothing}, {everyRole, federation.ReadSums}} {
		if have, err := read(w.agent(t, tc.role, nil), binding, 1); err != nil || have != tc.want {
			t.Errorf("%s reads %d, want %d: %v", tc.role, have, tc.want, err)
		}
	}
	if have, err := read(w.agent(t, everyRole, func(c *protocol.LeaseCertificate) { c.Tenant = "another" }), binding, 1); err != nil || have != federation.ReadNothing {
		t.Errorf("another tenant reads %d: %v", have, err)
	}
	if have, err := read(w.agentOf(t, w.second, everyRole, nil), binding, 1); err != nil || have != federation.ReadNothing {
		t.Errorf("a guest of another root's broker reads %d: %v", have, err)
	}
	for _, role := range []protocol.Role{0, protocol.RoleServe} {
		_, err := read(w.agent(t, role, nil), binding, 1)
		wantReason(t, err, protocol.ReasonRole)
	}
	right := w.agent(t, everyRole, nil)
	_, err := read(right, binding, 2)
	wantReason(t, err, protocol.ReasonEpochRetired)
	_, err = read(right, federation.BindingOf([]byte("another connection")), 1)
	wantReason(t, err, federation.ReasonSignature)
}

// TestDocumentHasTheTable: each row stands in the document, with its role, and no other.
func TestDocumentHasTheTable(t *testing.T) {
	raw, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(raw), "\n## 15. Authority\n")
	section, _, _ = strings.Cut(section, "\n## ")
	type vouched struct{ by, whose string }
	said := map[string]vouched{}
	for _, line := range strings.Split(section, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) > 4 && !strings.HasPrefix(strings.TrimSpace(cells[1]), "-") {
			said[strings.TrimSpace(cells[1])] = vouched{strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3])}
		}
	}
	delete(said, "what")
	// Its certificate needs no role: TestOpeningsNeedTheVolumesKey.
	if want := (vouched{"any: its grant has no role", "the answering broker's"}); said["opening of a volume"] != want {
		t.Errorf("the document says %q of an opening, want %q", said["opening of a volume"], want)
	}
	delete(said, "opening of a volume")
	for _, r := range table {
		want := "the broker's epoch key"
		if r.role != 0 {
			want = "`" + r.role.String() + "`"
		}
		if want := (vouched{want, r.whose}); said[r.says] != want {
			t.Errorf("the document says %q of %s, the table %q", said[r.says], r.says, want)
		}
		delete(said, r.says)
	}
	for name := range said {
		t.Errorf("the document's row %q is not tested", name)
	}
}
