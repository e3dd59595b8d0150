package gpt_test

import (
	"bytes"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/image/gpt"
	"github.com/anchorhold/anchorhold/image/gpt/gpttest"
)

func two() []byte {
	return gpttest.Disk(gpttest.Partition{Type: gpt.TypeRoot, ID: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}, First: 2048, Last: 4095},
		gpttest.Partition{Type: gpt.TypeSystem, ID: [16]byte{7}, First: 4096, Last: 4096})
}

func TestReadTable(t *testing.T) {
	table, err := gpt.Read(bytes.NewReader(two()))
	if err != nil || len(table.Entries) != 2 {
		t.Fatal(table, err)
	}
	for i, want := range []struct {
		number      int
		kind        gpt.ID
		id          string
		first, last uint64
	}{{1, gpt.TypeRoot, "01020304-0506-0708-0900-000000000000", 2048, 4095}, {3, gpt.TypeSystem, "07000000-0000-0000-0000-000000000000", 4096, 4096}} {
		e := table.Entries[i]
		if e.Number != want.number || e.Type != want.kind || e.ID.String() != want.id || e.First != want.first || e.Last != want.last {
			t.Errorf("got %+v, want %+v", e, want)
		}
	}
	const system = "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b" // as UEFI's specification has its bytes
	if raw := table.Entries[1].Raw; string(raw[:16]) != system {
		t.Errorf("got %x, want %x", raw[:16], system)
	}
}

func TestIDsOfARootHash(t *testing.T) {
	var hash [32]byte
	for i := range hash {
		hash[i] = byte(i)
	}
	root, verity := gpt.RootIDs(hash)
	if root.String() != "00010203-0405-0607-0809-0a0b0c0d0e0f" || verity.String() != "10111213-1415-1617-1819-1a1b1c1d1e1f" {
		t.Error(root, verity)
	}
}

func TestWrongTablesAreRefused(t *testing.T) {
	const header, entries = gpttest.Header, gpttest.Entries
	for what, change := range map[string]func([]byte) []byte{
		"no table":             func(b []byte) []byte { b[header] = 'e'; return gpttest.Sum(b) },
		"a longer header":      func(b []byte) []byte { b[header+12] = 96; return gpttest.Sum(b) },
		"larger entries":       func(b []byte) []byte { b[header+85] = 1; return gpttest.Sum(b) },
		"no entries":           func(b []byte) []byte { b[header+80] = 0; return gpttest.Sum(b) },
		"too many entries":     func(b []byte) []byte { b[header+81] = 5; return gpttest.Sum(b) },
		"entries in block 1":   func(b []byte) []byte { b[header+72] = 1; return gpttest.Sum(b) },
		"entries far away":     func(b []byte) []byte { b[header+79] = 1; return gpttest.Sum(b) },
		"entries outside":      func(b []byte) []byte { b[header+72] = 8; return gpttest.Sum(b) },
		"another entry":        func(b []byte) []byte { b[entries] ^= 1; return b },
		"another header":       func(b []byte) []byte { b[header+40] ^= 1; return b },
		"a disk of half a kiB": func(b []byte) []byte { return b[:header] },
		"a disk cut short":     func(b []byte) []byte { return b[:entries+3] },
	} {
		_, err := gpt.Read(bytes.NewReader(change(two())))
		refusaltest.Want(t, what, err, gpt.ReasonTable)
	}
}

func FuzzPartitionTable(f *testing.F) {
	f.Add(two())
	f.Fuzz(func(t *testing.T, raw []byte) {
		table, err := gpt.Read(bytes.NewReader(raw))
		if err != nil {
			return
		}
		for _, e := range table.Entries {
			if e.Type == (gpt.ID{}) || e.Number < 1 || len(e.Raw) != gpttest.EntryBytes {
				t.Errorf("%+v", e)
			}
		}
	})
}
