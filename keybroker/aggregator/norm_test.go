package aggregator_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

const normLength = 5

// coordinates are inside the bounds of the default round: L2 1, each value 0.5, 8 bits.
var coordinates = []int16{10, -20, 127, -127, 0}

// normSite is an aggregator that holds one round which wants proofs.
type normSite struct {
	*site
	keys   *federationtest.NormKeys
	dir    string
	r      federation.Round
	signed []byte
}

func newNormSite(t *testing.T, change func(*aggregator.Config)) *normSite {
	t.Helper()
	s := &normSite{keys: federationtest.SharedNormKeys(t, normLength, 8), dir: t.TempDir()}
	s.start(t, federationtest.New(t), change)
	s.r, s.signed, _ = s.Round(t, normLength, func(r *federation.Round) {
		s.keys.Demand(r)
		r.Maximum = 32
	})
	if err := s.public.AddRound(t.Context(), s.signed); err != nil {
		t.Fatal(err)
	}
	return s
}

// start opens the aggregator, again if it was open.
func (s *normSite) start(t *testing.T, w *federationtest.World, change func(*aggregator.Config)) {
	t.Helper()
	if s.site != nil {
		s.stop()
	}
	s.site = open(t, w, s.dir, func(c *aggregator.Config) {
		c.NormKeys = s.keys.Ring(t, 0, nil)
		if change != nil {
			change(c)
		}
	})
}

// contribute makes a contribution with a proof of coordinates; change alters what is
// signed after the proof was made.
func (s *normSite) contribute(t *testing.T, a *federationtest.Agent, change func(*federation.Contribution)) (manifest, blocks, proof []byte) {
	t.Helper()
	manifest, blocks = a.ContributeWith(t, s.r, s.signed, vector(normLength, 1), func(c *federation.Contribution) {
		proof = s.keys.Prove(t, s.r, c, coordinates, nil)
		c.ProofDigest = sha256.Sum256(proof)
		if change != nil {
			change(c)
		}
	})
	return manifest, blocks, proof
}

func (s *normSite) send(t *testing.T, manifest, proof, blocks []byte) (uplink.Upload, error) {
	t.Helper()
	return s.public.Send(t.Context(), s.r.ID, manifest, proof, bytes.NewReader(blocks), rlwe.BlockBytes, nil)
}

func (s *normSite) admitted(t *testing.T) int {
	t.Helper()
	list, err := s.agg.Complete(s.r.ID)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestProvenUpdatesAreAdmitted(t *testing.T) {
	s := newNormSite(t, nil)
	for range 2 {
		m, b, proof := s.contribute(t, s.Agent(t, nil), nil)
		for range 2 { // the same again is fine
			if u, err := s.send(t, m, proof, b); err != nil || !u.Complete {
				t.Fatalf("%+v, %v", u, err)
			}
		}
	}
	if n := s.admitted(t); n != 2 {
		t.Errorf("%d are admitted", n)
	}
}

func TestNoBlockIsTakenBeforeItsProof(t *testing.T) {
	s := newNormSite(t, nil)
	m, b, proof := s.contribute(t, s.Agent(t, nil), nil)
	u, err := s.send(t, m, nil, b)
	wantReason(t, err, aggregator.ReasonNormMissing)
	if u.Next != 0 || s.admitted(t) != 0 {
		t.Errorf("%+v was taken", u)
	}
	if u, err := s.send(t, m, proof, b); err != nil || !u.Complete {
		t.Fatalf("with the proof: %+v, %v", u, err)
	}
}

// Each contribution is well signed and has a proof that somebody could have; none is the
// proof that the round wants of it.
func TestEveryOtherProofIsRefused(t *testing.T) {
	longtest.Run(t, "it makes keys of another circuit and proves with them")
	s := newNormSite(t, nil)
	other, otherSigned, _ := s.Round(t, normLength, s.keys.Demand)
	strange := federationtest.NewNormKeys(t, circuits.Gradient{Coordinates: normLength, Bits: 8}) // the same circuit, another set-up
	wide := federationtest.SharedNormKeys(t, normLength, 16)
	short := federationtest.SharedNormKeys(t, normLength-1, 8)
	alter := func(change func(g *statement.Gradient)) func(*testing.T, *federation.Contribution) []byte {
		return func(t *testing.T, c *federation.Contribution) []byte {
			return s.keys.Prove(t, s.r, c, coordinates, func(st *statement.Statement) { change(st.Gradient) })
		}
	}
	// envelope changes a good proof's envelope.
	envelope := func(change func(e *statement.Envelope)) func(*testing.T, *federation.Contribution) []byte {
		return func(t *testing.T, c *federation.Contribution) []byte {
			e, err := statement.ParseEnvelope(s.keys.Prove(t, s.r, c, coordinates, nil))
			if err != nil {
				t.Fatal(err)
			}
			change(e)
			raw, err := e.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}
	}
	for name, prove := range map[string]func(*testing.T, *federation.Contribution) []byte{
		"of another round": func(t *testing.T, c *federation.Contribution) []byte {
			d := *c
			d.RoundDigest = digest.Of(otherSigned)
			raw := s.keys.Prove(t, other, &d, coordinates, nil)
			c.Commitment = d.Commitment
			return raw
		},
		"of another participant": alter(func(g *statement.Gradient) { g.Participant[0]++ }),
		"of another upload":      alter(func(g *statement.Gradient) { g.Ciphertext[0]++ }),
		"of a larger sum":        alter(func(g *statement.Gradient) { g.SquaredL2++ }),
		"of a smaller sum":       alter(func(g *statement.Gradient) { g.SquaredL2-- }),
		"of another commitment": func(t *testing.T, c *federation.Contribution) []byte {
			raw := s.keys.Prove(t, s.r, c, coordinates, nil)
			c.Commitment[31] ^= 1
			return raw
		},
		"of a commitment that is none": func(t *testing.T, c *federation.Contribution) []byte {
			raw := s.keys.Prove(t, s.r, c, coordinates, nil)
			c.Commitment[0] = 0xff
			return raw
		},
		"by another set-up": func(t *testing.T, c *federation.Contribution) []byte {
			return strange.Prove(t, s.r, c, coordinates, nil)
		},
		"by another set-up, under the key's name": func(t *testing.T, c *federation.Contribution) []byte {
			e, err := statement.ParseEnvelope(strange.Prove(t, s.r, c, coordinates, nil))
			if err != nil {
				t.Fatal(err)
			}
			e.Key = s.keys.Record.VerifyingKey
			raw, err := e.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			return raw
		},
		"of other bits": func(t *testing.T, c *federation.Contribution) []byte { return wide.Prove(t, s.r, c, coordinates, nil) },
		"of fewer values": func(t *testing.T, c *federation.Contribution) []byte {
			return short.Prove(t, s.r, c, coordinates[:normLength-1], func(st *statement.Statement) { st.Gradient.Coordinates-- })
		},
		"of fewer values, stated as all": func(t *testing.T, c *federation.Contribution) []byte {
			return short.Prove(t, s.r, c, coordinates[:normLength-1], func(st *statement.Statement) { st.Circuit = s.keys.Record.Circuit })
		},
		"by no key":          envelope(func(e *statement.Envelope) { e.Key[0]++ }),
		"with a changed bit": envelope(func(e *statement.Envelope) { e.Proof[40] ^= 1 }),
		"of PLONK":           envelope(func(e *statement.Envelope) { e.Statement.System = statement.PLONK }),
		"that is nothing":    func(*testing.T, *federation.Contribution) []byte { return []byte("no envelope") },
	} {
		t.Run(name, func(t *testing.T) {
			var proof []byte
			m, b := s.Agent(t, nil).ContributeWith(t, s.r, s.signed, vector(normLength, 1), func(c *federation.Contribution) {
				proof = prove(t, c)
				c.ProofDigest = sha256.Sum256(proof)
				if c.Commitment == (digest.Digest{}) {
					c.Commitment[31] = 1
				}
			})
			_, err := s.send(t, m, proof, b)
			wantReason(t, err, aggregator.ReasonNormInvalid)
			_, err = s.send(t, m, nil, b)
			wantReason(t, err, aggregator.ReasonNormMissing)
		})
	}
	if n := s.admitted(t); n != 0 {
		t.Errorf("%d are admitted", n)
	}
}

// A proof counts for the contribution whose signature names it, before and after that one
// was proven.
func TestAnotherProofOfTheSameUploadIsRefused(t *testing.T) {
	s := newNormSite(t, nil)
	var second []byte
	m, b, proof := s.contribute(t, s.Agent(t, nil), func(c *federation.Contribution) {
		d := *c
		second = s.keys.Prove(t, s.r, &d, coordinates, nil) // verifies, with another salt
	})
	_, err := s.send(t, m, second, b)
	wantReason(t, err, aggregator.ReasonNormInvalid)
	if _, err := s.send(t, m, proof, nil); err == nil {
		t.Error("complete without blocks")
	}
	_, err = s.send(t, m, second, b)
	wantReason(t, err, aggregator.ReasonNormInvalid)
	if u, err := s.send(t, m, proof, b); err != nil || !u.Complete {
		t.Fatalf("%+v, %v", u, err)
	}
}

// The aggregator ends between the proof and the first block, and between two tries.
func TestAProofSurvivesTheAggregatorsEnd(t *testing.T) {
	s := newNormSite(t, nil)
	m, b, proof := s.contribute(t, s.Agent(t, nil), nil)
	if _, err := s.send(t, m, proof, b[:100]); err == nil {
		t.Fatal("part of a block was enough")
	}
	s.start(t, s.World, nil)
	if u, err := s.send(t, m, nil, b); err != nil || !u.Complete { // without it: it is there
		t.Fatalf("%+v, %v", u, err)
	}
	// Before the proof was durable, nothing of it counts.
	m, b, proof = s.contribute(t, s.Agent(t, nil), nil)
	if _, err := s.send(t, m, proof, b[:100]); err == nil {
		t.Fatal("part of a block was enough")
	}
	name := filepath.Join(s.dir, "rounds", s.r.ID.String(), "uploads", digestOf(t, m).String(), "proof")
	s.stop()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	s.start(t, s.World, nil)
	_, err := s.send(t, m, nil, b)
	wantReason(t, err, aggregator.ReasonNormMissing)
	if u, err := s.send(t, m, proof, b); err != nil || !u.Complete {
		t.Fatalf("%+v, %v", u, err)
	}
}

func digestOf(t *testing.T, manifest []byte) digest.Digest {
	t.Helper()
	m, err := federation.ParseManifest(manifest)
	if err != nil {
		t.Fatal(err)
	}
	return digest.Of(m.Signed)
}

// A round whose key is not here, or is of something else, is refused when it comes; in one
// that was taken with other keys no proof is.
func TestRoundsWithoutTheirKeyAreRefused(t *testing.T) {
	keys := federationtest.SharedNormKeys(t, normLength, 8)
	rings := map[string]*keyset.Ring{
		"no keys":      nil,
		"fewer values": keys.Ring(t, 0, func(r *statement.Record) { r.Gradient.Coordinates-- }),
		"other bits":   keys.Ring(t, 0, func(r *statement.Record) { r.Gradient.Bits = 16 }),
		"of answers": keys.Ring(t, 0, func(r *statement.Record) {
			r.Gradient, r.Inference = nil, &statement.InferenceCircuit{Items: 1, Outputs: 1}
		}),
	}
	if longtest.All() { // it takes keys of another circuit
		rings["another key"] = federationtest.SharedNormKeys(t, normLength, 16).Ring(t, 0, nil)
	}
	for name, ring := range rings {
		s := newNormSite(t, nil)
		m, b, proof := s.contribute(t, s.Agent(t, nil), nil)
		s.start(t, s.World, func(c *aggregator.Config) { c.NormKeys = ring })
		_, err := s.send(t, m, proof, b)
		wantReason(t, err, aggregator.ReasonNormKey)
		_, signed, _ := s.Round(t, normLength, keys.Demand)
		_, err = s.agg.AddRound(signed)
		if wantReason(t, err, aggregator.ReasonNormKey); t.Failed() {
			t.Fatal(name)
		}
	}
}

// Time that ran out says nothing about a proof: the participant comes back.
func TestAVerificationThatTakesTooLongIsTriedAgain(t *testing.T) {
	s := newNormSite(t, nil)
	m, b, proof := s.contribute(t, s.Agent(t, nil), nil)
	s.start(t, s.World, func(c *aggregator.Config) { c.NormKeys = s.keys.Ring(t, time.Nanosecond, nil) })
	_, err := s.send(t, m, proof, b)
	wantReason(t, err, aggregator.ReasonBusy)
	_, err = s.send(t, m, nil, b)
	wantReason(t, err, aggregator.ReasonNormMissing)
	s.start(t, s.World, nil)
	if u, err := s.send(t, m, proof, b); err != nil || !u.Complete {
		t.Fatalf("%+v, %v", u, err)
	}
}

func TestProofsThatNobodyAskedFor(t *testing.T) {
	s := newNormSite(t, nil)
	plain, signed, _ := s.Round(t, normLength, nil)
	if err := s.public.AddRound(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	m, b := s.Agent(t, nil).Contribute(t, plain, signed, vector(normLength, 1))
	_, err := s.public.Send(t.Context(), plain.ID, m, []byte("a proof"), bytes.NewReader(b), rlwe.BlockBytes, nil)
	wantReason(t, err, aggregator.ReasonNormInvalid)

	// After the round there is nothing to prove any more.
	m, _, proof := s.contribute(t, s.Agent(t, nil), nil)
	if _, err := s.agg.Begin(s.r.ID, m); err != nil {
		t.Fatal(err)
	}
	s.setNow(s.r.Closes.Time())
	for path, want := range map[string]refusal.Reason{digestOf(t, m).String(): aggregator.ReasonRoundOver, digest.Digest{}.String(): aggregator.ReasonUnknown, "x": aggregator.ReasonUnknown} {
		if got := s.putProof(t, path, proof); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// putProof sends a proof alone, over the administrator's socket, and returns the reason
// of its refusal.
func (s *normSite) putProof(t *testing.T, upload string, proof []byte) refusal.Reason {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.socket)
	}}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://aggregator/v1/rounds/"+s.r.ID.String()+"/uploads/"+upload+"/proof", bytes.NewReader(proof))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Error struct {
			Code refusal.Reason `json:"code"`
		} `json:"error"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Error.Code
}

// TestAProofIsVerifiedForOneConnectionAtATime: whoever signed the digest of one that does not
// hold takes one place with it, and once, on as many connections as it has.
func TestAProofIsVerifiedForOneConnectionAtATime(t *testing.T) {
	s := newNormSite(t, nil)
	var bad []byte
	m, _ := s.Agent(t, nil).ContributeWith(t, s.r, s.signed, vector(normLength, 1), func(c *federation.Contribution) {
		bad = s.keys.Prove(t, s.r, c, coordinates, func(st *statement.Statement) { st.Gradient.SquaredL2++ })
		c.ProofDigest = sha256.Sum256(bad)
	})
	if _, err := s.agg.Begin(s.r.ID, m); err != nil {
		t.Fatal(err)
	}
	const connections = 8
	empty := s.agg.FillProving()
	reasons := make(chan refusal.Reason, connections)
	for range connections {
		go func() { reasons <- s.putProof(t, digestOf(t, m).String(), bad) }()
	}
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	got := map[refusal.Reason]int{}
	for waiting := true; waiting && got[aggregator.ReasonBusy] < connections-1; { // though no place is free
		select {
		case reason := <-reasons:
			got[reason]++
		case <-limit.C:
			t.Errorf("more than one waits to be verified: %v", got)
			waiting = false
		}
	}
	empty()
	for range connections - got[aggregator.ReasonBusy] {
		got[<-reasons]++
	}
	if got[aggregator.ReasonBusy] != connections-1 || got[aggregator.ReasonNormInvalid] != 1 {
		t.Errorf("%v", got)
	}
}

// TestAProofThatDoesNotHoldIsVerifiedOnce: whoever signed the digest of one may send it again
// and again, on every connection that it has.
func TestAProofThatDoesNotHoldIsVerifiedOnce(t *testing.T) {
	s := newNormSite(t, nil)
	var bad []byte
	m, b := s.Agent(t, nil).ContributeWith(t, s.r, s.signed, vector(normLength, 1), func(c *federation.Contribution) {
		bad = s.keys.Prove(t, s.r, c, coordinates, func(st *statement.Statement) { st.Gradient.SquaredL2++ })
		c.ProofDigest = sha256.Sum256(bad)
	})
	_, err := s.send(t, m, bad, b)
	wantReason(t, err, aggregator.ReasonNormInvalid)
	empty := s.agg.FillProving()
	_, err = s.send(t, m, bad, b) // it would wait if it were verified again
	wantReason(t, err, aggregator.ReasonNormInvalid)
	good, blocks, proof := s.contribute(t, s.Agent(t, nil), nil)
	sent := make(chan error, 1)
	go func() {
		_, err := s.send(t, good, proof, blocks)
		sent <- err
	}()
	select {
	case err := <-sent:
		t.Errorf("more proofs are verified at a time than there are places: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	empty()
	if err := <-sent; err != nil {
		t.Error(err)
	}
}
