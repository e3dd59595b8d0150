package generation

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

const (
	volume = "volumes/var"
	minute = federationtest.Begin + 60_000
)

func ExampleAfter() {
	first, _ := After()
	second, err := After(first)
	fmt.Println(first.Generation, second.Generation, first.Mark == second.Mark, err)
	// Output: 1 2 false <nil>
}

var connection = ConnectionOf([]byte("exporter"))

func holder(t *testing.T, w *federationtest.World) *federationtest.Agent {
	t.Helper()
	return w.Agent(t, func(c *protocol.LeaseCertificate) { c.Grants = []protocol.Granted{{Resource: volume, Version: 1}} })
}

func opening(a *federationtest.Agent) Opening {
	return Opening{Connection: connection, Agent: a.Key.Public().ID(), Time: minute, Volume: volume,
		Confirmed: State{3, digest.Digest{1}}, Next: State{4, digest.Digest{2}}}
}

func verify(w *federationtest.World, raw []byte) error {
	_, _, err := VerifyOpening(raw, w.Roots(), w.Broker(), w.Floor(), connection)
	return err
}

func TestOpenings(t *testing.T) {
	w := federationtest.New(t)
	a := holder(t, w)
	for name, tc := range map[string]struct {
		change func(*Opening)
		want   refusal.Reason
	}{
		"as it is":             {func(*Opening) {}, ""},
		"a question":           {func(o *Opening) { o.Next, o.Unconfirmed = State{}, o.Next }, ""},
		"the first question":   {func(o *Opening) { o.Next, o.Confirmed = State{}, State{} }, ""},
		"the last generation":  {func(o *Opening) { o.Next.Generation = MaxGeneration }, ""},
		"another connection":   {func(o *Opening) { o.Connection[0]++ }, ReasonSignature},
		"another agent":        {func(o *Opening) { o.Agent[0]++ }, ReasonSignature},
		"before the lease":     {func(o *Opening) { o.Time = federationtest.Begin - 1 }, ReasonSignature},
		"another volume":       {func(o *Opening) { o.Volume = "volumes/other" }, protocol.ReasonNotGranted},
		"no connection":        {func(o *Opening) { o.Connection = digest.Digest{} }, ReasonMalformed},
		"no time":              {func(o *Opening) { o.Time = 0 }, ReasonMalformed},
		"a model":              {func(o *Opening) { o.Volume = "models/var" }, ReasonMalformed},
		"the class":            {func(o *Opening) { o.Volume = Class }, ReasonMalformed},
		"no name":              {func(o *Opening) { o.Volume = "volumes/../var" }, ReasonMalformed},
		"no mark":              {func(o *Opening) { o.Next.Mark = digest.Digest{} }, ReasonMalformed},
		"no confirmed mark":    {func(o *Opening) { o.Confirmed.Mark = digest.Digest{} }, ReasonMalformed},
		"no unconfirmed mark":  {func(o *Opening) { o.Next, o.Unconfirmed = State{}, State{Generation: 4} }, ReasonMalformed},
		"no generation":        {func(o *Opening) { o.Next.Generation = 0 }, ReasonMalformed},
		"beyond the last":      {func(o *Opening) { o.Next.Generation = MaxGeneration + 1 }, ReasonMalformed},
		"the same generation":  {func(o *Opening) { o.Next.Generation = 3 }, ReasonMalformed},
		"the same mark":        {func(o *Opening) { o.Next.Mark = o.Confirmed.Mark }, ReasonMalformed},
		"next and unconfirmed": {func(o *Opening) { o.Unconfirmed = State{4, digest.Digest{3}} }, ReasonMalformed},
	} {
		o := opening(a)
		tc.change(&o)
		raw, err := form.Seal(a.Key, ContextOpening, &o, a.Chain) // without SignOpening's own check
		if err != nil {
			t.Fatal(err)
		}
		refusaltest.Want(t, name, verify(w, raw), tc.want)
		if _, err := SignOpening(a.Key, a.Chain, o); (tc.want == ReasonMalformed) != (err != nil) {
			t.Errorf("%s: signed: %v", name, err)
		}
	}
}

func TestWhoMaySayIt(t *testing.T) {
	w, other := federationtest.New(t), federationtest.New(t)
	a := holder(t, w)
	say := func(a *federationtest.Agent) []byte {
		raw, err := SignOpening(a.Key, a.Chain, opening(a))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	server := w.Agent(t, nil) // every role, and not this key
	refusaltest.Want(t, "another key", verify(w, say(server)), protocol.ReasonNotGranted)
	model := w.Agent(t, func(c *protocol.LeaseCertificate) { c.Grants[0].Resource = "models/var" })
	refusaltest.Want(t, "a model's key", verify(w, say(model)), protocol.ReasonNotGranted)
	refusaltest.Want(t, "another root", verify(w, say(holder(t, other))), protocol.ReasonBrokerUnknown)
	_, _, err := VerifyOpening(say(holder(t, other)), append(w.Roots(), other.Roots()...), w.Broker(), w.Floor(), connection)
	refusaltest.Want(t, "another broker", err, protocol.ReasonAnotherBroker)
	_, _, err = VerifyOpening(say(a), w.Roots(), w.Broker(), protocol.Live(protocol.AtLeast(2), minute), connection)
	refusaltest.Want(t, "a retired epoch", err, protocol.ReasonEpochRetired)
	imposter := *a
	imposter.Key = server.Key
	refusaltest.Want(t, "another's key", verify(w, say(&imposter)), ReasonSignature)
	raw := say(a)
	for i := range raw {
		if i%97 == 0 { // each verification takes a while
			bad := bytes.Clone(raw)
			bad[i] ^= 1
			if verify(w, bad) == nil {
				t.Errorf("byte %d may be another", i)
			}
		}
	}
}

// A key whose grant gives a role is for VerifyAuthority to judge.
func TestHoldersOfOtherKeysAreNone(t *testing.T) {
	w := federationtest.New(t)
	a := w.Agent(t, func(c *protocol.LeaseCertificate) { c.Grants[0].Resource = "models/var" })
	_, err := protocol.VerifyHolder(a.Chain, w.Roots(), w.Broker(), w.Floor(), func(*protocol.LeaseCertificate) (string, error) { return "models/var", nil })
	refusaltest.Want(t, "a model's key", err, protocol.ReasonNotGranted)
}

func TestAnswers(t *testing.T) {
	w := federationtest.New(t)
	signed := []byte("a signed opening")
	right := Current{Broker: w.Epoch.Broker, Epoch: 1, Answers: digest.Of(signed), Volume: volume, State: State{4, digest.Digest{2}}, Time: minute}
	for name, tc := range map[string]struct {
		change func(*Current)
		want   refusal.Reason
	}{
		"as it is":       {func(*Current) {}, ""},
		"no state":       {func(c *Current) { c.State = State{} }, ""},
		"another broker": {func(c *Current) { c.Broker[0]++ }, ReasonSignature},
		"another epoch":  {func(c *Current) { c.Epoch = 2 }, ReasonSignature},
		"another time":   {func(c *Current) { c.Time = 1 }, ReasonSignature},
		"another answer": {func(c *Current) { c.Answers[0]++ }, ReasonSignature},
		"another volume": {func(c *Current) { c.Volume = "volumes/other" }, ReasonSignature},
		"no volume":      {func(c *Current) { c.Volume = "" }, ReasonMalformed},
		"no time":        {func(c *Current) { c.Time = 0 }, ReasonMalformed},
		"no opening":     {func(c *Current) { c.Answers = digest.Digest{} }, ReasonMalformed},
		"no mark":        {func(c *Current) { c.State.Mark = digest.Digest{} }, ReasonMalformed},
	} {
		c := right
		tc.change(&c)
		raw, err := form.Seal(w.EpochKey, ContextCurrent, &c, w.EpochSigned)
		if err != nil {
			t.Fatal(err)
		}
		_, err = VerifyCurrent(raw, w.Roots(), w.Broker(), w.Floor(), signed, volume)
		refusaltest.Want(t, name, err, tc.want)
		if _, err := SignCurrent(w.EpochKey, w.EpochSigned, c); (tc.want == ReasonMalformed) != (err != nil) {
			t.Errorf("%s: signed: %v", name, err)
		}
	}
	a := holder(t, w)
	raw, err := SignCurrent(a.Key, w.EpochSigned, right)
	if err != nil {
		t.Fatal(err)
	}
	_, err = VerifyCurrent(raw, w.Roots(), w.Broker(), w.Floor(), signed, volume)
	refusaltest.Want(t, "signed by an agent", err, ReasonSignature)
	asOpening, err := SignOpening(a.Key, a.Chain, opening(a))
	if err != nil {
		t.Fatal(err)
	}
	_, err = VerifyCurrent(asOpening, w.Roots(), w.Broker(), w.Floor(), signed, volume)
	refusaltest.Want(t, "an opening", err, ReasonMalformed)
	_, err = VerifyCurrent(raw, w.Roots(), w.Broker(), protocol.Live(protocol.AtLeast(2), minute), signed, volume)
	refusaltest.Want(t, "a retired epoch", err, protocol.ReasonEpochRetired)
}

func TestTheLastGenerationHasNoNext(t *testing.T) {
	_, err := After(State{MaxGeneration, digest.Digest{1}})
	refusaltest.Want(t, "the last", err, ReasonMalformed)
	s, err := After(State{7, digest.Digest{1}}, State{}, State{9, digest.Digest{2}}, State{8, digest.Digest{3}})
	if err != nil || s.Generation != 10 || !s.valid() {
		t.Errorf("%+v, %v", s, err)
	}
}

// What verifies is whole; nothing else does, and nothing panics.
func FuzzVerifyOpening(f *testing.F) {
	f.Add([]byte{}, []byte("{}"))
	f.Add([]byte{1}, []byte(`{"connection":"00"}`))
	w := federationtest.New(f)
	f.Fuzz(func(t *testing.T, head, body []byte) {
		raw := append(bytes.Clone(head), body...)
		if verify(w, raw) == nil {
			t.Fatal("verified")
		}
		_, err := VerifyCurrent(raw, w.Roots(), w.Broker(), w.Floor(), raw, volume)
		if err == nil {
			t.Fatal("verified")
		}
	})
}
