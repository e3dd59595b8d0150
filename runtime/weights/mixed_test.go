package weights

import (
	"sync"
	"sync/atomic"
	"testing"
)

// kept returns how many chunks of a tensor are in memory, of how many.
func kept(t *testing.T, w *Weights, name string) (n, of int) {
	t.Helper()
	tn, ok := w.Tensor(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	return w.layout.tensors[tn.ID].kept, tn.Chunks
}

// TestEmbeddingIsPinnedLast: of an embedding beside an output matrix, a pass reads rows, so that its
// place is better used for what each pass reads whole. Where it is the output, too, it counts as
// any other.
func TestEmbeddingIsPinnedLast(t *testing.T) {
	const pin = 700 << 10
	w := open(t, sealed(t, synthetic(t)), 64<<20, Options{Mode: Streamed, Pin: pin})
	if n, of := kept(t, w, embeddingName); n != of {
		t.Errorf("tied: %d of %d chunks of the embedding are kept", n, of)
	}
	w = open(t, sealed(t, synthetic(t, outputName)), 64<<20, Options{Mode: Streamed, Pin: pin})
	if n, _ := kept(t, w, embeddingName); n != 0 {
		t.Errorf("beside an output: %d chunks of the embedding are kept", n)
	}
	if n, of := kept(t, w, outputName); n == 0 || n == of {
		t.Errorf("%d of %d chunks are kept of the tensor that fits in part", n, of)
	}
	if w.Pinned() > pin || w.Pinned() < pin-int64(w.layout.largestSlot) {
		t.Errorf("%d bytes are pinned of the %d that may be", w.Pinned(), pin)
	}
}

// TestMixedResidencyServesTheSameBytes at every size, page by page of the least and by larger steps.
func TestMixedResidencyServesTheSameBytes(t *testing.T) {
	path := sealed(t, synthetic(t, outputName))
	whole := open(t, path, 64<<20, Options{Mode: Resident})
	want, all := digest(t, whole, 2), whole.Pinned()
	for pin := int64(0); pin <= all+(100<<10); pin += 97 << 10 {
		w := open(t, path, 64<<20, Options{Mode: Streamed, Pin: pin})
		if digest(t, w, 2) != want {
			t.Errorf("%d bytes pinned: other bytes than resident", pin)
		}
		if w.Resident() != (pin >= all+4095) && (pin < all || pin > all+4095) {
			t.Errorf("%d of %d bytes pinned: resident %t", pin, all, w.Resident())
		}
	}
}

// passes reads a model as forward passes do: one chunk of the embedding, then all others in file
// order, shared among workers.
func passes(t *testing.T, w *Weights, workers, n int) {
	t.Helper()
	embedding, _ := w.Tensor(embeddingName)
	_, other := w.Tensor(outputName)
	type job struct{ tensor, chunk int }
	var jobs []job
	for i := range w.layout.tensors {
		if i == embedding.ID {
			continue
		}
		for c := range w.layout.tensors[i].chunks {
			jobs = append(jobs, job{i, c})
		}
	}
	if !other {
		for c := range embedding.Chunks {
			jobs = append(jobs, job{embedding.ID, c})
		}
	}
	for pass := range n {
		if _, err := w.Chunk(0, embedding.ID, pass%embedding.Chunks); err != nil {
			t.Fatal(err)
		}
		var next atomic.Int64
		var wg sync.WaitGroup
		for worker := range workers {
			wg.Go(func() {
				for at := int(next.Add(1)) - 1; at < len(jobs); at = int(next.Add(1)) - 1 {
					if _, err := w.Chunk(worker, jobs[at].tensor, jobs[at].chunk); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

// TestEachPassReadsEachByteOnce: what is not kept in memory, and a chunk of the embedding. What was
// read ahead at the end is counted once.
func TestEachPassReadsEachByteOnce(t *testing.T) {
	const rounds = 40
	for _, more := range [][]string{nil, {outputName}} {
		path := sealed(t, synthetic(t, more...))
		for _, workers := range []int{1, 2, 3} {
			for _, pin := range []int64{0, 300 << 10, 600 << 10} {
				w := open(t, path, 64<<20, Options{Mode: Streamed, Workers: workers, Pin: pin})
				passes(t, w, workers, 2)
				before := w.BytesRead()
				passes(t, w, workers, rounds)
				got, slot := w.BytesRead()-before, int64(w.layout.largestSlot)
				want := rounds * w.PassBytes()
				if most := want + rounds*slot + int64(ahead(workers)+workers)*slot; got < want-int64(ahead(workers))*slot || got > most {
					t.Errorf("%v, %d workers, %d pinned: %d bytes read in %d passes, computed %d, and at most %d with the embedding's",
						more, workers, pin, got, rounds, want, most)
				}
			}
		}
	}
}
