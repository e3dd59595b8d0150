package weights

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/runtime/arena"
)

// loaders is how many goroutines fill memory: twice the workers, so that some
// read while others decrypt.
func loaders(workers int) int { return min(2*workers, 16) }

// loadCost is what filling takes from the budget while it lasts, at least.
func loadCost(workers, slot int) int64 { return arena.Cost(int64(loaders(workers)) * int64(slot)) }

// window is how many chunks a loader reads at once, at most: enough to find some of like sizes to check together, for
// chunks that lie one behind another in the file rarely are. Many loaders have fewer each, in stagingBytes together, but as many
// as are checked together.
const (
	window       = 4 * chunkseal.Together
	stagingBytes = 32 << 20
)

// fill decrypts everything that is kept in memory straight into its place. Each loader has room for
// a window, if the budget has, else for fewer chunks.
func (w *Weights) fill(budget *arena.Budget, workers int) error {
	n, slot := loaders(workers), w.layout.largestSlot
	each := max(chunkseal.Together, min(window, stagingBytes/(n*slot)))
	each = max(1, min(each, int(budget.Available()/loadCost(workers, slot))))
	staging, err := budget.Map("load buffers", int64(n)*int64(each)*int64(slot))
	if err != nil {
		return err
	}
	jobs := w.loadJobs()
	var next atomic.Int64
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		buf := staging.Bytes()[i*each*slot : (i+1)*each*slot]
		wg.Go(func() {
			for {
				at := int(next.Add(int64(each))) - each
				if at >= len(jobs) || errs[i] != nil {
					return
				}
				if errs[i] = w.loadChunks(jobs[at:min(at+each, len(jobs))], buf); errs[i] != nil {
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

// loadJobs lists the chunks to open as they lie in the file.
func (w *Weights) loadJobs() []loadJob {
	jobs := w.layout.header.jobs(nil)
	for _, v := range w.layout.vectors {
		jobs = v.jobs(jobs)
	}
	for i := range w.layout.tensors {
		jobs = w.layout.tensors[i].jobs(jobs)
	}
	return sorted(jobs, func(j loadJob) int { return j.chunk })
}

// sorted is the list by a key of less than 31 bits: sorting integers needs no code of its own.
func sorted[T any](list []T, key func(T) int) []T {
	keys := make([]int, len(list))
	for i, v := range list {
		keys[i] = key(v)<<32 | i
	}
	slices.Sort(keys)
	out := make([]T, len(list))
	for at, key := range keys {
		out[at] = list[uint32(key)]
	}
	return out
}

// jobs adds those of the chunks that are kept.
func (r *chunkRun) jobs(list []loadJob) []loadJob {
	for i := range r.kept {
		list = append(list, loadJob{r.first + i, r.part(i)})
	}
	return list
}

// loadChunks reads a window of chunks into buf and opens them, the largest first: digests of chunks of one size
// are computed together in the least time.
func (w *Weights) loadChunks(jobs []loadJob, buf []byte) error {
	list, err := w.readWindow(jobs, buf)
	if err != nil {
		return err
	}
	list = sorted(list, func(o chunkseal.Opening) int { return w.layout.largestSlot - len(o.Slot) })
	for at := 0; at < len(list) && err == nil; at += chunkseal.Together {
		err = w.reader.OpenSlots(list[at:min(at+chunkseal.Together, len(list))])
	}
	if !w.file.ended() {
		return err
	}
	for _, job := range jobs { // opened perhaps after the memory was wiped
		clear(job.dst)
	}
	return ErrClosed
}

// readWindow reads chunks into buf, those that lie one behind another with one request.
func (w *Weights) readWindow(jobs []loadJob, buf []byte) ([]chunkseal.Opening, error) {
	list := make([]chunkseal.Opening, len(jobs))
	for i := 0; i < len(jobs); {
		n, err := w.readRun(jobs[i:], list[i:], &buf)
		if err != nil {
			return nil, err
		}
		i += n
	}
	return list, nil
}

// readRun reads the first chunks of jobs that lie one behind another in the file, with one request,
// takes their room from buf and lists them. It returns their number.
func (w *Weights) readRun(jobs []loadJob, list []chunkseal.Opening, buf *[]byte) (n int, err error) {
	begin, _ := w.reader.Slot(jobs[0].chunk)
	end := begin
	for n < len(jobs) {
		offset, size := w.reader.Slot(jobs[n].chunk)
		if offset != end {
			break
		}
		list[n] = chunkseal.Opening{Chunk: jobs[n].chunk, Dst: jobs[n].dst, Slot: (*buf)[end-begin:][:size]}
		end += int64(size)
		n++
	}
	err = w.file.read((*buf)[:end-begin], begin)
	if err != nil && n > 1 { // which of them cannot be read?
		for _, o := range list[:n] {
			offset, _ := w.reader.Slot(o.Chunk)
			if err = w.file.read(o.Slot, offset); err != nil {
				return n, w.reader.Locate(err, o.Chunk)
			}
		}
	}
	if err != nil {
		return n, w.reader.Locate(err, jobs[0].chunk)
	}
	*buf = (*buf)[end-begin:]
	return n, nil
}
