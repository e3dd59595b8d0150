package jobs

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// records are one of each state.
func records(t testing.TB) (list []*Info) {
	q, _ := newQueue(t)
	for i := range 5 {
		submit(t, q, job(i))
	}
	l := try(t, q)
	ok(t, l.Heartbeat(Progress{Phase: "add"}))
	ok(t, try(t, q).Complete(json.RawMessage(`[1, 2]`)))
	ok(t, try(t, q).Fail(BadInput, "vector-invalid", "why"))
	_, err := q.Cancel(q.List(nil)[0].ID)
	ok(t, err)
	for _, info := range q.List(nil) {
		list = append(list, &info)
	}
	return list
}

// FuzzDecodeRecord: what decodes is a job that could have been written, and writing it
// gives a record that decodes to the same.
func FuzzDecodeRecord(f *testing.F) {
	for _, info := range records(f) {
		b, err := info.encode()
		ok(f, err)
		f.Add(b)
	}
	f.Add([]byte(`{}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := decode(b)
		if err != nil {
			wantReason(t, err, ReasonDamaged)
			return
		}
		if info.id() != info.ID || info.Tries < 0 || info.Tries > MaxTries || info.check() != nil || len(info.Result) > MaxResultBytes {
			t.Fatalf("%s decoded to %+v", b, info)
		}
		again, err := info.encode()
		if err != nil {
			t.Fatalf("%s does not encode: %v", b, err)
		}
		back, err := decode(again)
		if err != nil || !reflect.DeepEqual(info, back) {
			t.Fatalf("%s became %s (%v)", b, again, err)
		}
	})
}

// FuzzOpenRecord: sealed bytes that were not sealed under this name do not open.
func FuzzOpenRecord(f *testing.F) {
	q, _ := newQueue(f)
	info := submit(f, q, job(1))
	sealed, err := q.seal(&info)
	ok(f, err)
	f.Add(info.ID[:], sealed)
	f.Add(make([]byte, 32), sealed)
	f.Add(info.ID[:], sealed[:chunkseal.KeySize])
	f.Fuzz(func(t *testing.T, id, b []byte) {
		got, err := q.open(id, b)
		if err != nil {
			wantReason(t, err, ReasonDamaged)
			return
		}
		if got.ID != info.ID || ID(id) != info.ID {
			t.Fatalf("%x opened as %s", id, got.ID)
		}
	})
}

func FuzzParseID(f *testing.F) {
	f.Add(ID{1, 2}.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			if _, named := refusal.ReasonOf(err); !named {
				t.Fatal(err)
			}
			return
		}
		if id.String() != s {
			t.Fatalf("%q is another spelling of %s", s, id)
		}
	})
}

// TestRecordsThatContradictThemselves: each is refused for one reason only.
func TestRecordsThatContradictThemselves(t *testing.T) {
	for _, info := range records(t) {
		b, err := info.encode()
		ok(t, err)
		if _, err := decode(b); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		for name, change := range map[string]func(*Info){
			"name":       func(i *Info) { i.ID[0] ^= 1 },
			"owner":      func(i *Info) { i.Owner++ },
			"class":      func(i *Info) { i.Class = "A"; i.ID = i.id() },
			"memory":     func(i *Info) { i.Memory = -1 },
			"state":      func(i *Info) { i.State = "" },
			"exit":       func(i *Info) { i.Exit = "done" },
			"order":      func(i *Info) { i.Seq = 0 },
			"tries":      func(i *Info) { i.Tries = MaxTries + 1 },
			"minus":      func(i *Info) { i.Tries = -1 },
			"ok":         func(i *Info) { i.State, i.Exit, i.Result = Dead, Ok, nil },
			"done":       func(i *Info) { i.State, i.Exit, i.Result = Done, Crash, []byte(`1`) },
			"no result":  func(i *Info) { i.State, i.Exit, i.Result = Done, Ok, nil },
			"bad result": func(i *Info) { i.State, i.Exit, i.Result = Done, Ok, []byte(`{`) },
			"large": func(i *Info) {
				i.State, i.Exit, i.Result = Done, Ok, append(bytes.Repeat([]byte(" "), MaxResultBytes), '1')
			},
			"a result": func(i *Info) { i.State, i.Exit, i.Result = Dead, Crash, []byte(`1`) },
			"dead":     func(i *Info) { i.State, i.Exit, i.Result = Dead, "", nil },
			"leased":   func(i *Info) { i.State, i.Exit, i.Result, i.Tries = Leased, "", nil, 0 },
			"unleased": func(i *Info) { i.State, i.Exit, i.Result, i.Tries, i.Lease = Leased, "", nil, 1, 0 },
		} {
			c := info.clone()
			change(&c)
			b, err := c.encode()
			ok(t, err)
			if _, err := decode(b); err == nil {
				t.Errorf("%s of a job that is %s: accepted %s", name, info.State, b)
			}
		}
		for _, bad := range []string{string(b) + " {}", string(b[:len(b)-1]) + `,"more":1}`, string(b[:len(b)-1]) + `,"progress":{}}`,
			string(b[:len(b)-1]) + `,"expires":"2030-01-02T03:04:05Z"}`, string(b[:len(b)-1])} {
			if _, err := decode([]byte(bad)); err == nil {
				t.Errorf("accepted %s", bad)
			}
		}
	}
	large := job(1)
	large.Spec = append(append([]byte(`"`), make([]byte, MaxSpecBytes-2)...), '"')
	for i := range MaxSpecBytes - 2 {
		large.Spec[1+i] = 'x'
	}
	i := Info{ID: large.id(), Job: large, Seq: 1, State: Done, Exit: Ok, Result: json.RawMessage(large.Spec), Tries: 1, Lease: 1, Created: time.Unix(0, 0).UTC()}
	b, err := i.encode()
	ok(t, err)
	if _, err := decode(b); err != nil {
		t.Errorf("the largest record: %v", err)
	}
	if _, err := decode(append(b, bytes.Repeat([]byte(" "), maxRecordBytes)...)); err == nil {
		t.Error("a record above its limit")
	}
}
