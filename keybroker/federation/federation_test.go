package federation_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

const begin = federationtest.Begin

func wantReason(t *testing.T, what string, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); got != want {
		t.Errorf("%s: reason %q, want %q: %v", what, got, want, err)
	}
}

func TestRoundVerifiesWithTheRootAlone(t *testing.T) {
	w := federationtest.New(t)
	r, signed, _ := w.Round(t, 1000, nil)
	got, err := federation.VerifyRound(signed, w.Roots(), w.Broker(), w.Floor())
	if err != nil || got.ID != r.ID || !bytes.Equal(got.PublicKey, r.PublicKey) {
		t.Fatalf("%v", err)
	}
	if _, err := federation.VerifyRound(signed, federationtest.New(t).Roots(), w.Broker(), w.Floor()); err == nil {
		t.Error("another root vouched for it")
	}
	if _, err := federation.VerifyRound(signed, nil, w.Broker(), w.Floor()); err == nil {
		t.Error("verified without roots")
	}
	for i := 0; i < len(signed); i += 61 {
		bad := bytes.Clone(signed)
		bad[i] ^= 1
		if _, err := federation.VerifyRound(bad, w.Roots(), w.Broker(), w.Floor()); err == nil {
			t.Errorf("byte %d changed: verified", i)
		}
	}
	for _, bad := range [][]byte{nil, signed[:len(signed)-1], append(bytes.Clone(signed), 0), make([]byte, federation.MaxStatementBytes+1)} {
		_, err := federation.VerifyRound(bad, w.Roots(), w.Broker(), w.Floor())
		wantReason(t, "damaged", err, federation.ReasonMalformed)
	}
}

// Each limit of a round, alone.
func TestRoundLimits(t *testing.T) {
	w := federationtest.New(t)
	gauss := federation.Noise{Mechanism: federation.DiscreteGaussian, Multiplier: 1}
	for name, change := range map[string]func(*federation.Round){
		"no model":           func(r *federation.Round) { r.Model = "" },
		"control characters": func(r *federation.Round) { r.Model = "a\nb" },
		"long model":         func(r *federation.Round) { r.Model = strings.Repeat("m", 129) },
		"no values":          func(r *federation.Round) { r.Length = 0 },
		"too many values":    func(r *federation.Round) { r.Length = federation.MaxLength + 1 },
		"no norm":            func(r *federation.Round) { r.ClipL2 = 0 },
		"no bound":           func(r *federation.Round) { r.ClipLinf = -1 },
		"weight":             func(r *federation.Round) { r.MaxWeight = 0 },
		"cohort of one":      func(r *federation.Round) { r.Minimum = 1 },
		"empty cohort":       func(r *federation.Round) { r.Maximum = 1 },
		"per guest":          func(r *federation.Round) { r.PerGuest = 0 },
		"closes first":       func(r *federation.Round) { r.Closes = r.Opened },
		"runs too long":      func(r *federation.Round) { r.Closes = r.Opened.Add(federation.MaxDuration) + 1 },
		"no contributors":    func(r *federation.Round) { r.Contributors = protocol.Audience{} },
		"no decryptors":      func(r *federation.Round) { r.Decryptors = protocol.Audience{} },
		"no account":         func(r *federation.Round) { r.Account = "" },
		"typed account":      func(r *federation.Round) { r.Account = "digits" },
		"half an account":    func(r *federation.Round) { r.Account = "model:00" },
		"rate":               func(r *federation.Round) { r.Rate = 1.5 },
		"rule":               func(r *federation.Round) { r.Rule = "max" },
		"trim of a sum":      func(r *federation.Round) { r.Trim = 1 },
		"trim everything":    func(r *federation.Round) { r.Rule, r.Trim = federation.TrimmedMean, 1 },
		"mechanism":          func(r *federation.Round) { r.Noise.Mechanism = "gaussian" },
		"epsilon for free":   func(r *federation.Round) { r.Epsilon = 1 },
		"negative noise":     func(r *federation.Round) { r.Noise = gauss; r.Noise.Multiplier = -1; r.Epsilon, r.Delta = 1, 1e-5 },
		"no multiplier":      func(r *federation.Round) { r.Noise = gauss; r.Noise.Multiplier = 0; r.Epsilon, r.Delta = 1, 1e-5 },
		"no delta":           func(r *federation.Round) { r.Noise = gauss; r.Epsilon = 1 },
		"noise on a median": func(r *federation.Round) {
			r.Noise, r.Epsilon, r.Delta, r.Rule = gauss, 1, 1e-5, federation.Median
		},
	} {
		r, _, _ := w.Round(t, 100, nil)
		change(&r)
		_, err := federation.SignRound(w.EpochKey, w.EpochSigned, r)
		wantReason(t, name, err, federation.ReasonRound)
	}
	r, _, _ := w.Round(t, 100, nil)
	r.ClipL2 = math.Inf(1)
	if _, err := federation.SignRound(w.EpochKey, w.EpochSigned, r); err == nil {
		t.Error("an infinite norm was signed")
	}
}

// A set that is unknown, changed, or leaves too few bits ends at verification.
func TestRoundNamesAnAcceptedSet(t *testing.T) {
	w := federationtest.New(t)
	for name, change := range map[string]func(*federation.Round){
		"unknown set":    func(r *federation.Round) { r.Set = "sum-1024" },
		"another digest": func(r *federation.Round) { r.SetDigest[3] ^= 1 },
		"noise budget":   func(r *federation.Round) { r.NoiseBits = 30 },
		"too many":       func(r *federation.Round) { r.Maximum = 5000 },
	} {
		_, signed, _ := w.Round(t, 100, change)
		_, err := federation.VerifyRound(signed, w.Roots(), w.Broker(), w.Floor())
		wantReason(t, name, err, federation.ReasonSet)
	}
	for name, change := range map[string]func(*federation.Round){
		"another broker": func(r *federation.Round) { r.Broker[0] ^= 1 },
		"another epoch":  func(r *federation.Round) { r.Epoch = 2 },
		"another time":   func(r *federation.Round) { r.Opened = begin - 100_000 },
		"outlives its epoch": func(r *federation.Round) {
			r.Opened = begin.Add(365*24*time.Hour - time.Minute)
			r.Closes = r.Opened.Add(time.Hour)
		},
	} {
		_, signed, _ := w.Round(t, 100, change)
		_, err := federation.VerifyRound(signed, w.Roots(), w.Broker(), w.Floor())
		wantReason(t, name, err, federation.ReasonSignature)
	}
}

// The sum of the largest contributions stays inside the modulus, and the noise is
// at least what the multiplier says of the true sensitivity.
func TestGridBoundsTheSum(t *testing.T) {
	w := federationtest.New(t)
	for _, id := range []string{params.Default, params.Template} {
		set, err := params.Lookup(id)
		if err != nil {
			t.Fatal(err)
		}
		r, _, _ := w.Round(t, 10_000, func(r *federation.Round) {
			r.Set, r.SetDigest, r.Maximum = set.ID, set.Digest(), 100
			r.Noise = federation.Noise{Mechanism: federation.DiscreteGaussian, Multiplier: 2, Share: 1}
			r.Epsilon, r.Delta = 3, 1e-5
		})
		g, err := r.Grid()
		if err != nil {
			t.Fatal(err)
		}
		if room := g.Step * float64(g.Limit); float64(g.Top)*g.Step < r.ClipLinf || math.Abs(room-r.ClipLinf-6/math.Sqrt2) > 1e-9 {
			t.Errorf("%s: %d steps of %g, %d with the noise", id, g.Top, g.Step, g.Limit)
		}
		flood, err := r.Flood(100)
		if b, _ := set.Budget(100); err != nil || id == params.Default && flood < 8*b.NoiseSD {
			t.Errorf("%s: flood %g, %v", id, flood, err)
		}
		sigma, err := r.Sigma()
		if err != nil || sigma < 2*r.ClipL2/g.Step {
			t.Errorf("%s: sigma %g is less than twice the sensitivity %g", id, sigma, r.ClipL2/g.Step)
		}
		share, err := r.ShareSigma()
		if err != nil || math.Abs(share*math.Sqrt(2)-g.L2) > 1e-6*g.L2 {
			t.Errorf("%s: two shares of %g are not %g", id, share, g.L2)
		}
		r.Noise.Mechanism = federation.DiscreteLaplace
		if scale, err := r.Sigma(); err != nil || scale < sigma {
			t.Errorf("%s: Laplace scale %g", id, scale)
		}
	}
}

func contribution(w *federationtest.World, a *federationtest.Agent, r federation.Round, signed []byte) federation.Contribution {
	return federation.Contribution{Round: r.ID, RoundDigest: digest.Of(signed), Agent: a.Key.Public().ID(), Weight: 1, Blocks: 1,
		Upload: digest.Digest{1}, Time: begin.Add(time.Minute)}
}

func TestContributionIsOfAnAttestedAgent(t *testing.T) {
	w := federationtest.New(t)
	r, signedRound, _ := w.Round(t, 100, nil)
	a := w.Agent(t, nil)
	c := contribution(w, a, r, signedRound)
	c.Answers = []digest.ReceiptID{{1}, {2}}
	signed, err := federation.SignContribution(a.Key, a.Chain, c)
	if err != nil {
		t.Fatal(err)
	}
	got, authority, err := federation.VerifyContribution(signed, w.Roots(), w.Floor(), r)
	if err != nil || !reflect.DeepEqual(got, c) || authority.Lease.Lease != a.Lease.Lease {
		t.Fatalf("%v", err)
	}
	if err := got.Follows(r, digest.Of(signedRound)); err != nil {
		t.Error(err)
	}
	other := w.Agent(t, nil)
	stolen, err := federation.SignContribution(other.Key, a.Chain, c)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = federation.VerifyContribution(stolen, w.Roots(), w.Floor(), r)
	wantReason(t, "another key behind the chain", err, federation.ReasonSignature)
	posing := c
	posing.Agent = other.Key.Public().ID()
	signed, err = federation.SignContribution(a.Key, a.Chain, posing)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = federation.VerifyContribution(signed, w.Roots(), w.Floor(), r)
	wantReason(t, "in another's name", err, federation.ReasonSignature)
	late := c
	late.Time = a.Lease.NotAfter
	signed, err = federation.SignContribution(a.Key, a.Chain, late)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = federation.VerifyContribution(signed, w.Roots(), w.Floor(), r)
	wantReason(t, "after the lease", err, federation.ReasonOutsideLease)
}

func TestAnswersOfAContribution(t *testing.T) {
	w := federationtest.New(t)
	r, signed, _ := w.Round(t, 100, nil)
	a := w.Agent(t, nil)
	many := make([]digest.ReceiptID, federation.MaxAnswers+1)
	for i := range many {
		many[i] = digest.ReceiptID{byte(i)}
	}
	for name, tc := range map[string]struct {
		answers []digest.ReceiptID
		want    refusal.Reason
	}{
		"none":      {nil, ""},
		"the most":  {many[1:], ""},
		"one more":  {many, federation.ReasonMalformed},
		"one twice": {[]digest.ReceiptID{{1}, {2}, {1}}, federation.ReasonMalformed},
	} {
		c := contribution(w, a, r, signed)
		c.Answers = tc.answers
		_, err := federation.SignContribution(a.Key, a.Chain, c)
		wantReason(t, name, err, tc.want)
	}
}

// What a stranger sends is not decoded before its signature is verified, and never more of
// it than a statement can have: hundreds of thousands of empty entries would hold many times
// the bytes that the listener accounts for.
func TestManyEntriesAreNotDecoded(t *testing.T) {
	w := federationtest.New(t)
	r, _, _ := w.Round(t, 100, nil)
	a := w.Agent(t, nil)
	round := `{"round":"` + r.ID.String() + `","parties":{"threshold":2,"agents":[],"setup":"` + strings.Repeat("0", 64) + `","ready":[` + strings.TrimSuffix(strings.Repeat(`"",`, 250_000), ",") + `]}}`
	answers := `{"round":"` + r.ID.String() + `","answers":[` + strings.TrimSuffix(strings.Repeat("null,", 150_000), ",") + `]}`
	verifyRound := func(signed []byte) error {
		_, err := federation.VerifyRound(signed, w.Roots(), w.Broker(), w.Floor())
		return err
	}
	verifyContribution := func(signed []byte) error {
		_, _, err := federation.VerifyContribution(signed, w.Roots(), w.Floor(), r)
		return err
	}
	for name, tc := range map[string]struct {
		kind, body string
		key        *identity.Private // nil is none
		chain      []byte
		verify     func([]byte) error
		want       refusal.Reason
	}{
		"nobody's round":           {"round", round, nil, w.EpochSigned, verifyRound, federation.ReasonSignature},
		"the broker's own":         {"round", round, w.EpochKey, w.EpochSigned, verifyRound, federation.ReasonMalformed},
		"nobody's contribution":    {"contribution", answers, nil, a.Chain, verifyContribution, federation.ReasonSignature},
		"an attested contribution": {"contribution", answers, a.Key, a.Chain, verifyContribution, federation.ReasonMalformed},
	} {
		label := "anchorhold/fed/" + tc.kind + "/2"
		var sig []byte
		if tc.key != nil {
			var err error
			if sig, err = tc.key.Sign(label, protocol.Join(label, []byte(tc.body), tc.chain)); err != nil {
				t.Fatal(err)
			}
		}
		var b cryptobyte.Builder
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(label)) })
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(tc.body)) })
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(tc.chain) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(sig) })
		signed := b.BytesOrPanic()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := tc.verify(signed)
		runtime.ReadMemStats(&after)
		wantReason(t, name, err, tc.want)
		if n := after.TotalAlloc - before.TotalAlloc; n > 2*uint64(len(signed)) {
			t.Errorf("%s: %d bytes were allocated for %d", name, n, len(signed))
		}
	}
}

// A round that names as many guests as it may is inside the limits of what is decoded.
func TestLargestAudiencesFit(t *testing.T) {
	w := federationtest.New(t)
	_, signed, _ := w.Round(t, 100, func(r *federation.Round) {
		var all protocol.Audience
		for i := range protocol.MaxAudience {
			all.Tenants = append(all.Tenants, fmt.Sprintf("tenant-%03d", i))
			all.Images = append(all.Images, evidence.ImageDigest{Algorithm: evidence.ImageSHA256, Sum: [32]byte{byte(i)}})
			all.Policies = append(all.Policies, protocol.PolicyDigest{byte(i)})
		}
		r.Contributors, r.Decryptors = all, all
	})
	if _, err := federation.VerifyRound(signed, w.Roots(), w.Broker(), w.Floor()); err != nil {
		t.Error(err)
	}
}

func TestContributionFollowsItsRound(t *testing.T) {
	w := federationtest.New(t)
	r, signed, _ := w.Round(t, 100, nil)
	sum := digest.Of(signed)
	a := w.Agent(t, nil)
	for name, tc := range map[string]struct {
		change func(*federation.Round, *federation.Contribution)
		want   refusal.Reason
	}{
		"another round":     {func(_ *federation.Round, c *federation.Contribution) { c.Round[0] ^= 1 }, federation.ReasonWrongRound},
		"another statement": {func(_ *federation.Round, c *federation.Contribution) { c.RoundDigest[0] ^= 1 }, federation.ReasonWrongRound},
		"too heavy":         {func(_ *federation.Round, c *federation.Contribution) { c.Weight = 2 }, federation.ReasonRound},
		"too long":          {func(_ *federation.Round, c *federation.Contribution) { c.Blocks = 2 }, federation.ReasonUpload},
		"too early":         {func(_ *federation.Round, c *federation.Contribution) { c.Time = begin - 1 }, federation.ReasonRound},
		"too late":          {func(r *federation.Round, c *federation.Contribution) { c.Time = r.Closes }, federation.ReasonRound},
		"no proof":          {func(r *federation.Round, _ *federation.Contribution) { r.NormProof = true }, federation.ReasonRound},
	} {
		round, c := r, contribution(w, a, r, signed)
		tc.change(&round, &c)
		wantReason(t, name, c.Follows(round, sum), tc.want)
	}
}

func TestTicketAndResult(t *testing.T) {
	w := federationtest.New(t)
	r, signed, _ := w.Round(t, 100, nil)
	ticket := federation.Ticket{Round: r.ID, RoundDigest: digest.Of(signed), Broker: w.Epoch.Broker, Epoch: 1, Count: 2, TotalWeight: 2, Time: begin + 5}
	sign := func(change func(*federation.Ticket)) []byte {
		tk := ticket
		change(&tk)
		out, err := federation.SignTicket(w.EpochKey, w.EpochSigned, tk)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	good := sign(func(*federation.Ticket) {})
	if _, err := federation.VerifyTicket(good, w.Roots(), w.Floor(), r, digest.Of(signed)); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*federation.Ticket)
		want   refusal.Reason
	}{
		"another round": {func(tk *federation.Ticket) { tk.Round[0] ^= 1 }, federation.ReasonWrongRound},
		"another epoch": {func(tk *federation.Ticket) { tk.Epoch = 9 }, federation.ReasonSignature},
		"too many":      {func(tk *federation.Ticket) { tk.Count, tk.TotalWeight = 9, 9 }, federation.ReasonRound},
	} {
		_, err := federation.VerifyTicket(sign(tc.change), w.Roots(), w.Floor(), r, digest.Of(signed))
		wantReason(t, name, err, tc.want)
	}
	few := r
	few.Minimum = 3
	_, err := federation.VerifyTicket(good, w.Roots(), w.Floor(), few, digest.Of(signed))
	wantReason(t, "fewer than the minimum", err, federation.ReasonRound)
	agentSigned, err := federation.SignTicket(w.Agent(t, nil).Key, w.EpochSigned, ticket)
	if err != nil {
		t.Fatal(err)
	}
	_, err = federation.VerifyTicket(agentSigned, w.Roots(), w.Floor(), r, digest.Of(signed))
	wantReason(t, "signed by an agent", err, federation.ReasonSignature)

	a := w.Agent(t, nil).GrantRound(t, r, signed)
	result := federation.Result{Round: r.ID, RoundDigest: ticket.RoundDigest, TicketDigest: digest.Of(good), Agent: a.Key.Public().ID(),
		Length: 100, Step: 0.1, Divisor: 2, Time: begin + 6}
	verify := func(change func(*federation.Result)) error {
		res := result
		change(&res)
		out, err := federation.SignResult(a.Key, a.Chain, res)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = federation.VerifyResult(out, w.Roots(), w.Floor(), r, ticket, digest.Of(good))
		return err
	}
	if err := verify(func(*federation.Result) {}); err != nil {
		t.Error(err)
	}
	wantReason(t, "another ticket", verify(func(x *federation.Result) { x.TicketDigest[0] ^= 1 }), federation.ReasonWrongRound)
	wantReason(t, "another agent", verify(func(x *federation.Result) { x.Agent[0] ^= 1 }), federation.ReasonSignature)
	wantReason(t, "after the lease", verify(func(x *federation.Result) { x.Time = a.Lease.NotAfter }), federation.ReasonOutsideLease)
}

// One kind of statement is never another.
func TestStatementsAreNotMistakenForEachOther(t *testing.T) {
	w := federationtest.New(t)
	r, round, _ := w.Round(t, 100, nil)
	if _, err := federation.VerifyTicket(round, w.Roots(), w.Floor(), r, digest.Of(round)); err == nil {
		t.Error("a round is a ticket")
	}
	if _, _, err := federation.VerifyContribution(round, w.Roots(), w.Floor(), r); err == nil {
		t.Error("a round is a contribution")
	}
}

func TestManifestBindsBlocksToTheirPlaces(t *testing.T) {
	id := digest.RoundID{1}
	blocks := [][]byte{[]byte("first"), []byte("second")}
	m := federation.Manifest{Signed: []byte("signed")}
	for i, b := range blocks {
		m.Hashes = append(m.Hashes, federation.BlockHash(id, uint64(i), b))
	}
	raw, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := federation.ParseManifest(raw)
	if err != nil || !bytes.Equal(back.Signed, m.Signed) || len(back.Hashes) != 2 {
		t.Fatalf("%v", err)
	}
	if err := back.CheckBlock(id, 1, blocks[1]); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"swapped":       back.CheckBlock(id, 0, blocks[1]),
		"another round": back.CheckBlock(digest.RoundID{2}, 1, blocks[1]),
		"beyond":        back.CheckBlock(id, 2, blocks[1]),
		"changed list":  back.Matches(federation.Contribution{Round: id, Blocks: 2, Upload: digest.Digest{1}}),
		"short list":    back.Matches(federation.Contribution{Round: id, Blocks: 3, Upload: federation.UploadDigest(id, back.Hashes)}),
	} {
		wantReason(t, name, err, federation.ReasonUpload)
	}
	for _, bad := range [][]byte{nil, raw[:len(raw)-1], append(bytes.Clone(raw), 0), raw[5:]} {
		_, err := federation.ParseManifest(bad)
		wantReason(t, "damaged", err, federation.ReasonMalformed)
	}
}

func TestShardsCoverEveryBlockOnce(t *testing.T) {
	for _, blocks := range []uint64{1, 2, 7, 1000} {
		for shards := 1; shards < 9; shards++ {
			next := uint64(0)
			for i := range shards {
				c, err := federation.Shard(blocks, i, shards)
				if err != nil || c.First != next {
					t.Fatalf("%d blocks, shard %d of %d: %+v, %v", blocks, i, shards, c, err)
				}
				next += c.Count
			}
			if next != blocks {
				t.Fatalf("%d blocks in %d shards: %d", blocks, shards, next)
			}
		}
	}
	if _, err := federation.Shard(5, 2, 2); err == nil {
		t.Error("shard 2 of 2")
	}
}

func TestNamesHaveOneText(t *testing.T) {
	d := digest.Digest{0xAB}
	for _, bad := range []string{"", strings.ToUpper(d.String()), d.String() + "\n", d.String()[2:]} {
		if _, err := digest.Parse(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	if _, err := digest.ParseID[digest.Round](hex.EncodeToString(make([]byte, 15))); err == nil {
		t.Error("a short ID")
	}
	a, b := digest.Digest{1}, digest.Digest{2}
	if federation.CohortDigest([]digest.Digest{a, b}) != federation.CohortDigest([]digest.Digest{b, a}) {
		t.Error("the cohort's digest depends on the order")
	}
	if federation.CohortDigest([]digest.Digest{a}) == federation.CohortDigest([]digest.Digest{a, a}) {
		t.Error("twice is once")
	}
	if got := federation.ResourceOf(digest.RoundID{}); !protocol.ValidResource(got) {
		t.Errorf("%q is no resource name", got)
	}
}
