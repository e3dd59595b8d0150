package rounds

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// full is a record with everything in it.
func full() Record {
	r, _ := closed(record(1))
	r.Members = []Member{{Contribution: digest.Digest{3}, Weight: 2}, {Contribution: digest.Digest{4}, Weight: 1}}
	r.State, r.Ticket, r.Result, r.Version = Published, []byte("ticket"), []byte("result"), 7
	return r
}

// Each thing that a broker would not write, alone.
func TestStoredTextIsStrict(t *testing.T) {
	good, err := encodeRecord(full())
	if err != nil {
		t.Fatal(err)
	}
	if r, err := decodeRound(good, digest.RoundID{1}); err != nil || r.Version != 7 {
		t.Fatalf("%+v, %v", r, err)
	}
	swap := func(old, new string) []byte {
		out := strings.Replace(string(good), old, new, 1)
		if out == string(good) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return []byte(out)
	}
	for name, raw := range map[string][]byte{
		"nothing":           nil,
		"half":              good[:len(good)/2],
		"bytes after":       append(bytes.Clone(good), '1'),
		"a space after":     append(bytes.Clone(good), ' '),
		"an unknown field":  swap(`{`, `{"extra":1,`),
		"a field twice":     swap(`"version":7`, `"version":7,"version":7`),
		"an unknown state":  swap(`"published"`, `"lost"`),
		"open with a sum":   swap(`"published"`, `"open"`),
		"without a ticket":  swap(`"ticket":"dGlja2V0",`, ``),
		"without a result":  swap(`"result":"cmVzdWx0",`, ``),
		"closed, published": swap(`"published"`, `"closed"`),
		"without a model":   swap(`"test"`, `""`),
		"a large number":    swap(`"version":7`, `"version":18446744073709551616`),
		"too long":          append(bytes.Clone(good), make([]byte, maxRecordBytes)...),
	} {
		_, err := decodeRecord(raw)
		wantReason(t, name, err, ReasonStore)
	}
	_, err = decodeRound(good, digest.RoundID{2})
	wantReason(t, "another round's", err, ReasonStore)
	long := record(1)
	long.Members = make([]Member, maxRecordBytes/300)
	_, err = encodeRecord(long)
	wantReason(t, "too long to store", err, ReasonStore)
	for name, change := range map[string]func(*Charge){
		"mechanism":           func(c *Charge) { c.Mechanism = "gaussian" },
		"noise without noise": func(c *Charge) { c.Mechanism = federation.NoNoise },
		"no multiplier":       func(c *Charge) { c.Multiplier = 0 },
		"a huge multiplier":   func(c *Charge) { c.Multiplier = 1e300 },
		"no rate":             func(c *Charge) { c.Rate = 0 },
		"a rate above 1":      func(c *Charge) { c.Rate = 1.01 },
	} {
		_, c := closed(record(1))
		change(c)
		_, err := encodeCharge(*c)
		wantReason(t, name, err, ReasonStore)
		if _, err := c.digest(); err == nil {
			t.Errorf("%s: has a digest", name)
		}
	}
}

// What a store may put in a record's place: each rule, alone.
func TestRecordsFollowEachOther(t *testing.T) {
	_, charge := closed(record(1))
	at := func(s State) Record {
		r := full()
		switch r.State = s; s {
		case Open, Abandoned:
			r.Cohort, r.Sum, r.Ticket, r.Result = digest.Digest{}, digest.Digest{}, nil, nil
		case Closed:
			r.Result = nil
		}
		return r
	}
	states := []State{Open, Closed, Published, Abandoned}
	allowed := map[[2]State]bool{{Open, Closed}: true, {Open, Abandoned}: true, {Closed, Published}: true}
	for _, from := range states {
		for _, to := range states {
			var c *Charge
			if from == Open && to == Closed {
				c = charge
			}
			err := at(to).follows(at(from), c)
			if want := from == to || allowed[[2]State{from, to}]; want != (err == nil) {
				t.Errorf("from %s to %s: %v", from, to, err)
			}
		}
	}
	for name, change := range map[string]func(*Record){
		"another round":     func(r *Record) { r.ID[0] ^= 1 },
		"another model":     func(r *Record) { r.Model = "other" },
		"another statement": func(r *Record) { r.Signed = []byte("x") },
		"another cohort":    func(r *Record) { r.Cohort[0] ^= 1 },
		"another sum":       func(r *Record) { r.Sum[0] ^= 1 },
		"another ticket":    func(r *Record) { r.Ticket = []byte("x") },
		"another result":    func(r *Record) { r.Result = []byte("x") },
	} {
		r := at(Published)
		change(&r)
		wantReason(t, name, r.follows(at(Published), nil), ReasonStore)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for _, r := range []Record{record(1), full()} {
		raw, err := encodeRecord(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(`{"id":"00","state":"open"}`))
	f.Fuzz(func(t *testing.T, raw []byte) { canonical(t, raw, decodeRecord, encodeRecord) })
}

func FuzzDecodeCharge(f *testing.F) {
	_, c := closed(record(1))
	raw, err := encodeCharge(*c)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"rate":1e-400}`))
	f.Fuzz(func(t *testing.T, raw []byte) { canonical(t, raw, decodeCharge, encodeCharge) })
}

// canonical holds the property of both: what is read is written as the same bytes,
// so that a digest over a value is a digest over what is stored.
func canonical[T any](t *testing.T, raw []byte, decode func([]byte) (T, error), encode func(T) ([]byte, error)) {
	v, err := decode(raw)
	if err != nil {
		return
	}
	again, err := encode(v)
	if err != nil || !bytes.Equal(again, raw) {
		t.Fatalf("read %q, written %q, %v", raw, again, err)
	}
	if !json.Valid(raw) {
		t.Fatalf("%q is no JSON", raw)
	}
}
