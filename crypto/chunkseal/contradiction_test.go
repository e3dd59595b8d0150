package chunkseal

import (
	"encoding/binary"
	"testing"
)

// reseal rebuilds a file as its own publisher would who holds both keys and
// writes parts that contradict each other.
func reseal(t *testing.T, change func(public []byte, list []Section)) []byte {
	t.Helper()
	return resign(t, testFile(t), func(_, public, _, sealed []byte) {
		keys, err := deriveKeys(fixedKey(t, 1), fixedID(2))
		if err != nil {
			t.Fatal(err)
		}
		list := testSections()
		change(public, list)
		plain := binary.LittleEndian.AppendUint32(nil, uint32(len(list)))
		for _, s := range list {
			plain = s.appendTo(plain)
		}
		keys.manifest.Seal(sealed[:0], make([]byte, 12), plain, manifestAAD(fixedID(2), public))
	})
}

// TestContradictingPartsAreMalformed: sizes from the sealed directory must be
// those of the index, or a reader would overrun what it mapped.
func TestContradictingPartsAreMalformed(t *testing.T) {
	cases := map[string]func(public []byte, list []Section){
		"chunk larger than its slot": func(_ []byte, l []Section) { l[1].ChunkBytes++ },
		"last chunk smaller":         func(_ []byte, l []Section) { l[1].LastBytes-- },
		"fewer chunks":               func(_ []byte, l []Section) { l[3].Chunks, l[3].LastBytes = 1, l[3].ChunkBytes },
		"more chunks":                func(_ []byte, l []Section) { l[3].Chunks = MaxChunks },
		"number of sections":         func(p []byte, _ []Section) { p[len(p)-12]++ },
		"name":                       func(_ []byte, l []Section) { l[2].Name = "no m" },
		"unknown kind":               func(_ []byte, l []Section) { l[2].Kind = 9 },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			wantReason(t, readAll(t, reseal(t, change)), ReasonMalformed)
		})
	}
	if err := readAll(t, reseal(t, func([]byte, []Section) {})); err != nil {
		t.Errorf("without a change: %v", err)
	}
}
