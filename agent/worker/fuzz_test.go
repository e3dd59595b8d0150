package worker

import (
	"encoding/json"
	"testing"
)

func FuzzHeader(f *testing.F) {
	seed, err := encode(new(validHeader()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := parseHeader(data)
		if err != nil {
			if !refusedFor(err, ReasonHeader) && !refusedFor(err, ReasonVersion) {
				t.Fatalf("an error without its reason: %v", err)
			}
			return
		}
		if again, err := json.Marshal(h); err != nil || string(again) != string(data) {
			t.Fatalf("%q and %q mean the same: %v", data, again, err)
		}
	})
}

func FuzzReply(f *testing.F) {
	for _, seed := range []string{saysOk, `{"progress":{"phase":"a","done":1,"total":2}}`, `{"final":{"exit":"crash","detail":"x","result":""}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseReply(data)
		if err != nil {
			if !refusedFor(err, ReasonReply) {
				t.Fatalf("an error without its reason: %v", err)
			}
			return
		}
		if again, err := json.Marshal(r); err != nil || string(again) != string(data) {
			t.Fatalf("%q and %q mean the same: %v", data, again, err)
		}
	})
}
