package chunkseal

import (
	"bytes"
	"fmt"
	"testing"
)

// together makes the openings of all chunks of a file of as many equal chunks as are checked together.
func together(t *testing.T) (*Reader, []Opening) {
	t.Helper()
	sections := []Section{{Name: "x", Kind: KindTiles, Rows: 16 * Together, Cols: 64, RowsPerChunk: 16, Chunks: Together, ChunkBytes: 5000, LastBytes: 4990}}
	b, _ := writeFile(t, fixedKey(t, 1), fixedID(2), testManifest, sections, newSigner(3).sign)
	r, err := openFile(t, b)
	if err != nil {
		t.Fatal(err)
	}
	var list []Opening
	for i := range r.Public().Chunks {
		offset, size := r.Slot(i)
		list = append(list, Opening{i, make([]byte, r.ChunkSize(i)), b[offset : offset+int64(size)]})
	}
	return r, list
}

func TestChunksOpenTogether(t *testing.T) {
	r, list := together(t)
	for range 2 { // first with digests, then without
		if err := r.OpenSlots(list); err != nil {
			t.Fatal(err)
		}
		for _, o := range list {
			if !bytes.Equal(o.Dst, plaintext(o.Chunk, len(o.Dst))) {
				t.Errorf("chunk %d opens to other bytes", o.Chunk)
			}
			clear(o.Dst)
		}
	}
	if err := r.OpenSlots(append(list, list[0])); err == nil {
		t.Error("more chunks than are checked together were taken")
	}
}

// TestForgeryUnderTheKeyIsRefusedBeforeAnyChunkOpens: whoever has the key can make a chunk that
// authenticates, which only the publisher's digest tells from the real one.
func TestForgeryUnderTheKeyIsRefusedBeforeAnyChunkOpens(t *testing.T) {
	for forged := range lanes {
		r, list := together(t)
		o := &list[forged]
		section, inner := r.find(o.Chunk)
		var c sealingContext
		c.set(&r.digests[section], o.Chunk, inner, len(o.Dst))
		slot := make([]byte, len(o.Slot))
		r.chunks.chunks.Seal(slot[:0], c.nonce[:], bytes.Repeat([]byte{1}, len(o.Dst)), c.aad[:])
		o.Slot = slot

		err := r.OpenSlots(list)
		wantReason(t, err, ReasonDigest)
		if f, ok := err.(*Failure); !ok || f.Chunk != forged || f.Tensor != "x" {
			t.Errorf("chunk %d was forged: %v", forged, err)
		}
		for _, o := range list {
			if !bytes.Equal(o.Dst, make([]byte, len(o.Dst))) {
				t.Errorf("chunk %d was opened beside the forged chunk %d", o.Chunk, forged)
			}
		}
		// None of them counts as seen: each still needs its digest.
		list[forged].Slot = slot
		wantReason(t, func() error { _, err := r.OpenSlot(o.Dst, slot, forged); return err }(), ReasonDigest)
	}
}

// TestChangedChunkOfManyIsNamed: after the first use the tag tells; the padding always.
func TestChangedChunkOfManyIsNamed(t *testing.T) {
	for i := range lanes {
		r, list := together(t)
		if err := r.OpenSlots(list); err != nil {
			t.Fatal(err)
		}
		list[i].Slot = bytes.Clone(list[i].Slot)
		list[i].Slot[100] ^= 1
		err := r.OpenSlots(list)
		wantReason(t, err, ReasonTag)
		list[i].Slot[100] ^= 1
		list[i].Slot[len(list[i].Slot)-1] = 1
		padded := r.OpenSlots(list)
		wantReason(t, padded, ReasonPadding)
		for _, err := range []error{err, padded} {
			if want := fmt.Sprintf("chunk %d of x", i); err == nil || !bytes.Contains([]byte(err.Error()), []byte(want)) {
				t.Errorf("%v; want %s", err, want)
			}
		}
	}
}
