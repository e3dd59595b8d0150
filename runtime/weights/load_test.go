package weights

import (
	"bytes"
	"errors"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
)

// TestChunksOpenedBesideAWipeAreCleared: the memory may be wiped while chunks that were read before
// are opened into it.
func TestChunksOpenedBesideAWipeAreCleared(t *testing.T) {
	w := open(t, sealed(t, synthetic(t)), 64<<20, Options{Mode: Streamed})
	tn, _ := w.Tensor("token_embd.weight")
	run := &w.layout.tensors[tn.ID].chunkRun
	run.keep(make([]byte, run.size), run.chunks) // as if it were resident
	var jobs []loadJob
	for _, job := range w.loadJobs() {
		if job.chunk >= run.first && job.chunk < run.first+run.chunks && len(jobs) < chunkseal.Together {
			jobs = append(jobs, job)
		}
	}
	buf := w.ring.region.Bytes()
	if len(jobs)*w.layout.largestSlot > len(buf) {
		jobs = jobs[:len(buf)/w.layout.largestSlot]
	}
	questions, asked := 0, 0
	w.file.ended = func() bool { questions++; return false }
	if err := w.loadChunks(jobs, buf); err != nil || bytes.Equal(run.data, make([]byte, run.size)) {
		t.Fatalf("%d chunks open to nothing: %v", len(jobs), err)
	}
	w.file.ended = func() bool { asked++; return asked == questions } // after all were read
	if err := w.loadChunks(jobs, buf); !errors.Is(err, ErrClosed) {
		t.Errorf("opened beside a wipe: %v", err)
	}
	if !bytes.Equal(run.data, make([]byte, run.size)) {
		t.Error("plaintext stays in memory that was wiped")
	}
}

// TestLoadsWithRoomForOneChunkEach: the budget that is enough for resident weights may leave no
// room to check several digests together.
func TestLoadsWithRoomForOneChunkEach(t *testing.T) {
	path := sealed(t, synthetic(t))
	w := open(t, path, 64<<20, Options{Mode: Resident})
	_, peak := w.Memory(Resident, 2)
	if digest(t, open(t, path, peak, Options{Mode: Resident}), 2) != digest(t, w, 2) {
		t.Error("other bytes")
	}
}
