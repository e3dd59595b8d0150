package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/canary"
)

// clean is an audit that found its controls and nothing else.
func clean(controls []control) map[string][]trace {
	all := map[string][]trace{}
	for _, m := range moments {
		all[m] = []trace{}
		for _, c := range controls {
			for _, p := range c.places {
				if m != afterShutdown || !inGuest(p) {
					all[m] = append(all[m], trace{Hit: canary.Hit{Canary: c.name, Form: "raw"}, Place: p})
				}
			}
		}
	}
	return all
}

func TestWhatNoClaimAllowsFails(t *testing.T) {
	some := []claim{
		{[]string{assetPrompt}, []string{placeClient}, []string{during}, false, "a client has its prompt"},
		{[]string{assetModelKey}, []string{placeMemory}, []string{during}, true, "it is in use"},
	}
	planted := []control{{"control-a", []string{placeSwap}}, {"control-b", []string{placeNetwork}}}
	at := func(asset, place string) trace {
		return trace{Hit: canary.Hit{Canary: asset, Form: "hex"}, Place: place, In: "x"}
	}
	for name, tc := range map[string]struct {
		change func(map[string][]trace)
		want   string // nothing: it passes
	}{
		"clean":                           {func(map[string][]trace) {}, ""},
		"as claimed":                      {func(m map[string][]trace) { m[during] = append(m[during], at(assetPrompt, placeClient)) }, ""},
		"at another moment":               {func(m map[string][]trace) { m[afterStop] = append(m[afterStop], at(assetPrompt, placeClient)) }, "FAIL  prompt, guest: client, stopped: 1 times as hex in x"},
		"in another place":                {func(m map[string][]trace) { m[during] = append(m[during], at(assetPrompt, placeSwap)) }, "FAIL  prompt, guest: swap, during"},
		"another asset":                   {func(m map[string][]trace) { m[during] = append(m[during], at(assetKEK, placeClient)) }, "FAIL  broker.kek, guest: client, during"},
		"a control is not found":          {func(m map[string][]trace) { m[before] = m[before][1:] }, "BLIND guest: swap, before: control-a was planted and not found"},
		"nor in the end, at the host":     {func(m map[string][]trace) { m[afterShutdown] = nil }, "BLIND host: network, shut down: control-b was planted and not found"},
		"what must be there is not found": {func(m map[string][]trace) { m[during] = m[during][:2] }, "BLIND model key, guest's RAM, during"},
		"a moment was left out":           {func(m map[string][]trace) { delete(m, afterCrash) }, "not searched: killed"},
	} {
		all := clean(planted)
		all[during] = append(all[during], at(assetModelKey, placeMemory))
		tc.change(all)
		err := weigh(some, planted, all).err()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	all := clean(planted)
	all[during] = append(all[during], at(assetPrompt, placeClient), at(assetKEK, placeDisk))
	table := weigh(some, planted, all).table()
	for _, row := range []string{"| prompt | guest: client | - | - | plaintext (1) | - | - | - | - | - |", "| broker.kek | host: disk image | - | - | FAIL | - | - | - | - | - |"} {
		if !strings.Contains(table, row+"\n") {
			t.Errorf("the table lacks %s:\n%s", row, table)
		}
	}
}

// TestEveryPlaceHasAControl: a place that nothing is planted in may as well not be searched. Memory of our own daemons
// is read as that of any process is.
func TestEveryPlaceHasAControl(t *testing.T) {
	reached := map[string]bool{placeAgent: true, placeWorkers: true, placeClient: true, placeBrokerLog: true}
	for _, c := range controls {
		for _, p := range c.places {
			reached[p] = true
		}
	}
	if got := slices.Sorted(maps.Keys(reached)); !slices.Equal(got, slices.Sorted(slices.Values(places))) {
		t.Errorf("controls reach %q, want %q", got, places)
	}
}

func TestClaimsNameWhatThereIs(t *testing.T) {
	for i, k := range claims {
		for _, list := range []struct{ names, known []string }{{k.assets, assets}, {k.places, places}, {k.moments, moments}} {
			if len(list.names) == 0 {
				t.Errorf("claim %d says nothing", i+1)
			}
			for _, name := range list.names {
				if !slices.Contains(list.known, name) {
					t.Errorf("claim %d: there is no %q", i+1, name)
				}
			}
		}
		if k.why == "" {
			t.Errorf("claim %d has no reason", i+1)
		}
	}
}

// TestThreatModelHasTheClaims: the page's table is that of the audit. UPDATE=1 writes it.
func TestThreatModelHasTheClaims(t *testing.T) {
	const begin, end = "<!-- exposure: written by UPDATE=1 go test ./packaging/boottest -run TestThreatModelHasTheClaims -->\n", "<!-- end of exposure -->\n"
	page := filepath.Join("..", "..", "docs", "threat-model.md")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(text), begin)
	have, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatal("docs/threat-model.md has no place for the table")
	}
	if want := claimed(claims); have != want && os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(page, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if have != want {
		t.Errorf("docs/threat-model.md is stale: UPDATE=1 go test ./packaging/boottest -run TestThreatModelHasTheClaims\n%s", want)
	}
}
