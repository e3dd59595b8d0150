package aggregator_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// vector is a small pattern; its sum over participants is known.
func vector(n, participant int) []int32 {
	v := make([]int32, n)
	for i := range v {
		v[i] = int32(100_000*participant + i%1000)
	}
	return v
}

const length = rlwe.BlockValues*2 + 5 // three blocks, the last nearly empty

// A whole round, from the signed terms to the published values, over real TLS.
func TestRoundFromUploadsToResult(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), func(c *aggregator.Config) { c.Workers = 2 })
	r, signed, seed := s.Round(t, length, nil)
	sk, _, err := rlwe.Generate(seed)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.public.AddRound(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	got, raw, err := s.public.Round(t.Context(), s.Broker(), s.Floor(), r.ID)
	if err != nil || !bytes.Equal(raw, signed) || got.ID != r.ID {
		t.Fatalf("the round does not come back: %v", err)
	}
	const participants = 3
	for p := range participants {
		m, b := s.Agent(t, nil).Contribute(t, r, signed, vector(length, p+1))
		var told uint64
		u, err := s.public.Send(t.Context(), r.ID, m, nil, bytes.NewReader(b), rlwe.BlockBytes, func(done, total uint64) { told = done*100 + total })
		if err != nil || !u.Complete || told != 303 {
			t.Fatalf("upload %d: %+v, progress %d, %v", p, u, told, err)
		}
		if again, err := s.send(t, r, m, b); err != nil || again != u {
			t.Errorf("the same upload again: %+v, %v", again, err)
		}
	}
	if _, err := s.public.Contributions(t.Context(), r.ID); err == nil {
		t.Error("participants may list contributions")
	}
	cohort := s.cohort(t, r)
	if len(cohort) != participants {
		t.Fatalf("%d complete", len(cohort))
	}
	if _, err := s.public.SumBlocks(t.Context(), r.ID); err == nil {
		t.Error("a sum before the ticket")
	}
	sum, err := s.admin.MakeSum(t.Context(), r.ID, cohort)
	if err != nil {
		t.Fatal(err)
	}
	ticket := s.ticket(t, r, signed, sum)
	if err := s.public.SetTicket(t.Context(), r.ID, ticket); err != nil {
		t.Fatal(err)
	}
	m, b := s.Agent(t, nil).Contribute(t, r, signed, vector(length, 9))
	_, err = s.send(t, r, m, b)
	wantReason(t, err, aggregator.ReasonRoundOver)

	verified, _, err := s.public.Ticket(t.Context(), s.Floor(), r, digest.Of(signed))
	if err != nil || verified.Cohort != sum.Cohort {
		t.Fatalf("ticket: %v", err)
	}
	if sum, err = s.public.SumManifest(t.Context(), r); err != nil || federation.UploadDigest(r.ID, sum.Hashes) != verified.Sum {
		t.Fatalf("sum manifest: %v", err)
	}
	body, err := s.public.SumBlocks(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	values := decrypt(t, r, sk, sum, body)
	for i, v := range values[:length] {
		want := int32(100_000*(1+2+3) + participants*(i%1000))
		if d := float64(v - want); d > 8*rlwe.NoiseSD(participants) || d < -8*rlwe.NoiseSD(participants) {
			t.Fatalf("value %d is %d, want about %d", i, v, want)
		}
	}
	publish(t, s, r, signed, ticket, verified)
}

// publish goes on with the round: result and values, right and wrong.
func publish(t *testing.T, s *site, r federation.Round, signed, ticket []byte, verified federation.Ticket) {
	t.Helper()
	guest := s.Agent(t, nil).GrantRound(t, r, signed)
	values := make([]byte, 8*length)
	for i := range length {
		binary.LittleEndian.PutUint64(values[8*i:], uint64(i))
	}
	result, err := federation.SignResult(guest.Key, guest.Chain, federation.Result{Round: r.ID, RoundDigest: digest.Of(signed), TicketDigest: digest.Of(ticket),
		Agent: guest.Key.Public().ID(), Length: length, Values: sha256.Sum256(values), Step: 1, Divisor: 3, Time: federationtest.Begin.Add(6 * time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	for name, wrong := range map[string][]byte{"short": values[8:], "long": append(values[:len(values):len(values)], 0), "changed": append([]byte{1}, values[1:]...)} {
		if err := s.public.Publish(t.Context(), r.ID, result, bytes.NewReader(wrong)); err == nil {
			t.Errorf("%s values were taken", name)
		} else {
			wantReason(t, err, federation.ReasonUpload)
		}
	}
	if _, err := s.public.Values(t.Context(), r.ID); err == nil {
		t.Error("values that were refused are handed out")
	}
	if err := s.public.Publish(t.Context(), r.ID, result, bytes.NewReader(values)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.public.Result(t.Context(), s.Floor(), r, verified, digest.Of(ticket)); err != nil {
		t.Error(err)
	}
	body, err := s.public.Values(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	back, err := io.ReadAll(body)
	if err != nil || !bytes.Equal(back, values) {
		t.Errorf("values do not come back: %v", err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
}

// Half an upload is not in any sum; it goes on where it stopped, also in another
// run of the aggregator.
func TestUploadGoesOnAfterAnInterruption(t *testing.T) {
	w, dir := federationtest.New(t), t.TempDir()
	s := open(t, w, dir, nil)
	r, signed, _ := s.Round(t, length, nil)
	if err := s.public.AddRound(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	agent := s.Agent(t, nil)
	m, b := agent.Contribute(t, r, signed, vector(length, 1))
	if _, err := s.send(t, r, m, b[:rlwe.BlockBytes+1000]); err == nil {
		t.Fatal("half an upload is complete")
	}
	if n := len(s.cohort(t, r)); n != 0 {
		t.Fatalf("%d complete", n)
	}
	sum := digest.Of(manifestOf(t, m).Signed)
	_, err := s.agg.Sum(t.Context(), r.ID, []digest.Digest{sum, sum}, nil)
	wantReason(t, err, aggregator.ReasonIncomplete)
	s.stop()
	// A torn write of a crash: the file is longer than its whole blocks, and the
	// second block is damaged.
	path := filepath.Join(dir, "rounds", r.ID.String(), "uploads", sum.String(), "blocks")
	if err := os.WriteFile(path, append(b[:rlwe.BlockBytes:rlwe.BlockBytes], make([]byte, rlwe.BlockBytes+77)...), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, w, dir, nil)
	if st := s.agg.Rounds(); len(st) != 1 || st[0].Incomplete != 1 || st[0].Bytes != rlwe.BlockBytes {
		t.Fatalf("after the crash: %+v", st)
	}
	var sent uint64
	u, err := s.public.Send(t.Context(), r.ID, m, nil, bytes.NewReader(b), rlwe.BlockBytes, func(done, _ uint64) {
		if sent == 0 {
			sent = done
		}
	})
	if err != nil || !u.Complete {
		t.Fatalf("%+v, %v", u, err)
	}
	if sent != 2 {
		t.Errorf("went on after block %d, want 1", sent-1)
	}
	s.stop()
	if s = open(t, w, dir, nil); len(s.cohort(t, r)) != 1 {
		t.Error("a complete upload is lost after a restart")
	}
}

func manifestOf(t *testing.T, raw []byte) federation.Manifest {
	t.Helper()
	m, err := federation.ParseManifest(raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Shards hold parts of every vector; their sums together are the whole sum.
func TestShardsMakeOneSum(t *testing.T) {
	w := federationtest.New(t)
	whole := open(t, w, t.TempDir(), nil)
	shards := []*site{
		open(t, w, t.TempDir(), func(c *aggregator.Config) { c.Shard, c.Shards = 0, 2 }),
		open(t, w, t.TempDir(), func(c *aggregator.Config) { c.Shard, c.Shards = 1, 2 }),
	}
	r, signed, _ := w.Round(t, length, nil)
	agents := []*federationtest.Agent{w.Agent(t, nil), w.Agent(t, nil)}
	for _, s := range append(shards, whole) {
		if err := s.public.AddRound(t.Context(), signed); err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range agents {
		m, b := a.Contribute(t, r, signed, vector(length, i))
		for _, s := range append(shards, whole) {
			if u, err := s.send(t, r, m, b); err != nil || !u.Complete {
				t.Fatalf("%+v, %v", u, err)
			}
		}
	}
	cohort := whole.cohort(t, r)
	sum, err := whole.admin.MakeSum(t.Context(), r.ID, cohort)
	if err != nil {
		t.Fatal(err)
	}
	var parts []digest.Digest
	for _, s := range shards {
		part, err := s.admin.MakeSum(t.Context(), r.ID, cohort)
		if err != nil || part.First != uint64(len(parts)) || part.Cohort != sum.Cohort {
			t.Fatalf("%+v, %v", part, err)
		}
		parts = append(parts, part.Hashes...)
	}
	if federation.UploadDigest(r.ID, parts) != federation.UploadDigest(r.ID, sum.Hashes) {
		t.Error("the shards' sums are not the whole sum")
	}
}

// Each refusal that a participant can cause, alone.
func TestRefusals(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), func(c *aggregator.Config) { c.Rounds = 2 })
	r, signed, _ := s.Round(t, 100, func(r *federation.Round) { r.Maximum = 2 })
	other, otherSigned, _ := s.Round(t, 100, nil)
	for _, x := range [][]byte{signed, otherSigned, signed} {
		if err := s.public.AddRound(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	_, third, _ := s.Round(t, 100, nil)
	wantReason(t, s.public.AddRound(t.Context(), third), aggregator.ReasonBusy)
	wantReason(t, s.public.AddRound(t.Context(), signed[:len(signed)-1]), federation.ReasonMalformed)
	stranger := federationtest.New(t)
	_, foreign, _ := stranger.Round(t, 100, nil)
	if err := s.public.AddRound(t.Context(), foreign); err == nil {
		t.Error("a round of another broker was taken")
	}
	_, _, err := s.public.Round(t.Context(), s.Broker(), s.Floor(), digest.RoundID{1})
	wantReason(t, err, aggregator.ReasonUnknownRound)

	agent := s.Agent(t, nil)
	m, b := agent.Contribute(t, r, signed, vector(100, 1))
	_, err = s.send(t, other, m, b)
	wantReason(t, err, federation.ReasonWrongRound)
	fm, fb := stranger.Agent(t, nil).Contribute(t, r, signed, vector(100, 1))
	if _, err := s.send(t, r, fm, fb); err == nil {
		t.Error("a stranger's contribution was taken")
	}
	changed := bytes.Clone(b)
	changed[5] ^= 1
	_, err = s.send(t, r, m, changed)
	wantReason(t, err, federation.ReasonUpload)
	sum := digest.Of(manifestOf(t, m).Signed)
	_, err = s.agg.Receive(r.ID, sum, 1, bytes.NewReader(b))
	wantReason(t, err, aggregator.ReasonGap)
	_, err = s.agg.Receive(r.ID, sum, 0, bytes.NewReader(append(bytes.Clone(b), 0)))
	wantReason(t, err, aggregator.ReasonSurplus)
	_, err = s.agg.Receive(r.ID, digest.Digest{1}, 0, bytes.NewReader(b))
	wantReason(t, err, aggregator.ReasonUnknown)

	m2, b2 := agent.Contribute(t, r, signed, vector(100, 2))
	_, err = s.send(t, r, m2, b2)
	wantReason(t, err, aggregator.ReasonDuplicate)
	m3, b3 := s.Agent(t, nil).Contribute(t, r, signed, vector(100, 2))
	if _, err := s.send(t, r, m3, b3); err != nil {
		t.Fatal(err)
	}
	if _, err := s.send(t, r, m, b); err != nil { // an incomplete one would give way
		t.Fatal(err)
	}
	m4, b4 := s.Agent(t, nil).Contribute(t, r, signed, vector(100, 2))
	_, err = s.send(t, r, m4, b4)
	wantReason(t, err, aggregator.ReasonFull)
	s.setNow(r.Closes.Time())
	m5, b5 := s.Agent(t, nil).Contribute(t, other, otherSigned, vector(100, 2))
	_, err = s.send(t, other, m5, b5)
	wantReason(t, err, aggregator.ReasonRoundOver)
	if err := s.agg.Remove(t.Context(), other.ID); err != nil {
		t.Error(err)
	}
	wantReason(t, s.agg.Remove(t.Context(), other.ID), aggregator.ReasonUnknownRound)
}

// Residues that are not canonical are refused even when they were signed.
func TestSignedButNotCanonical(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	r, signed, _ := s.Round(t, 100, nil)
	if err := s.public.AddRound(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	agent := s.Agent(t, nil)
	block := bytes.Repeat([]byte{0xFF}, rlwe.BlockBytes)
	m := federation.Manifest{Hashes: []digest.Digest{federation.BlockHash(r.ID, 0, block)}}
	var err error
	m.Signed, err = federation.SignContribution(agent.Key, agent.Chain, federation.Contribution{Round: r.ID, RoundDigest: digest.Of(signed),
		Agent: agent.Key.Public().ID(), Weight: 1, Blocks: 1, Upload: federation.UploadDigest(r.ID, m.Hashes), Time: federationtest.Begin.Add(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.send(t, r, raw, block)
	wantReason(t, err, aggregator.ReasonResidue)
	if len(s.cohort(t, r)) != 0 {
		t.Error("it counts as complete")
	}
}

// Single contributions are handed out only where the round says so, and only after
// it closed.
func TestContributionsAreReleasedByTheRuleAlone(t *testing.T) {
	for rule, trim := range map[federation.Rule]uint32{federation.WeightedMean: 0, federation.Median: 0} {
		s := open(t, federationtest.New(t), t.TempDir(), nil)
		r, signed, _ := s.Round(t, 100, func(r *federation.Round) { r.Rule, r.Trim = rule, trim })
		if err := s.public.AddRound(t.Context(), signed); err != nil {
			t.Fatal(err)
		}
		var first []byte
		for i := range 2 {
			m, b := s.Agent(t, nil).Contribute(t, r, signed, vector(100, i))
			if _, err := s.send(t, r, m, b); err != nil {
				t.Fatal(err)
			}
			first = b
		}
		cohort := s.cohort(t, r)
		if _, err := s.public.UploadBlocks(t.Context(), r.ID, cohort[0]); err == nil {
			t.Errorf("%s: released before the round closed", rule)
		}
		sum, err := s.admin.MakeSum(t.Context(), r.ID, cohort)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.public.SetTicket(t.Context(), r.ID, s.ticket(t, r, signed, sum)); err != nil {
			t.Fatal(err)
		}
		body, err := s.public.UploadBlocks(t.Context(), r.ID, cohort[0])
		if rule == federation.WeightedMean {
			wantReason(t, err, aggregator.ReasonNotReleased)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(body); err != nil || len(data) != len(first) {
			t.Errorf("%d bytes, %v", len(data), err)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Only a ticket for a sum that is here is taken, and only one.
func TestOneTicket(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	r, signed, _ := s.Round(t, 100, nil)
	if err := s.public.AddRound(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		m, b := s.Agent(t, nil).Contribute(t, r, signed, vector(100, i))
		if _, err := s.send(t, r, m, b); err != nil {
			t.Fatal(err)
		}
	}
	cohort := s.cohort(t, r)
	wantReason(t, s.public.SetTicket(t.Context(), r.ID, s.ticket(t, r, signed, uplink.Sum{Cohort: federation.CohortDigest(cohort), Count: 3})), aggregator.ReasonNoSum)
	all, err := s.admin.MakeSum(t.Context(), r.ID, cohort)
	if err != nil {
		t.Fatal(err)
	}
	part, err := s.admin.MakeSum(t.Context(), r.ID, cohort[:2])
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.admin.MakeSum(t.Context(), r.ID, cohort[:1])
	wantReason(t, err, aggregator.ReasonIncomplete)
	first := s.ticket(t, r, signed, all)
	for range 2 {
		if err := s.public.SetTicket(t.Context(), r.ID, first); err != nil {
			t.Fatal(err)
		}
	}
	wantReason(t, s.public.SetTicket(t.Context(), r.ID, s.ticket(t, r, signed, part)), aggregator.ReasonRoundOver)
}
