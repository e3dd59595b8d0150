package weights

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/anchorhold/anchorhold/runtime/arena"
)

// loaders is how many goroutines fill memory: twice the workers, so that some
// read while others decrypt.
func loaders(workers int) int { return min(2*workers, 16) }

// loadCost is what filling takes from the budget while it lasts.
func loadCost(workers, slot int) int64 { return arena.Cost(int64(loaders(workers)) * int64(slot)) }

// fill decrypts everything that is kept in memory straight into its place.
func (w *Weights) fill(budget *arena.Budget, workers int) error {
	n, slot := loaders(workers), w.layout.largestSlot
	staging, err := budget.Map("load buffers", int64(n)*int64(slot))
	if err != nil {
		return err
	}
	jobs := loadJobs(w.layout.filled())
	var next atomic.Int64
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		buf := staging.Bytes()[i*slot : (i+1)*slot]
		wg.Go(func() {
			for {
				at := int(next.Add(1)) - 1
				if at >= len(jobs) || errs[i] != nil {
					return
				}
				if errs[i] = w.loadChunk(jobs[at], buf); errs[i] != nil {
					next.Store(int64(len(jobs))) // the others may stop too
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errors.Join(errs...), staging.Release())
}

// loadJob is one chunk and the memory that it opens into.
type loadJob struct {
	chunk int
	dst   []byte
}

func loadJobs(runs []chunkRun) []loadJob {
	var jobs []loadJob
	for _, run := range runs {
		for i := range run.chunks {
			begin := i * run.chunkBytes
			end := min(begin+run.chunkBytes, run.size)
			jobs = append(jobs, loadJob{run.first + i, run.data[begin:end:end]})
		}
	}
	return jobs
}

func (w *Weights) loadChunk(job loadJob, buf []byte) error {
	offset, size := w.reader.Slot(job.chunk)
	if err := w.file.read(buf[:size], offset); err != nil {
		return w.reader.Locate(err, job.chunk)
	}
	_, err := w.reader.OpenSlot(job.dst, buf[:size], job.chunk)
	return err
}
