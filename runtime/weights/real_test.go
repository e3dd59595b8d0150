package weights

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/chunkseal/chunksealtest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
)

func TestRealModelIsTheSameResidentAndStreamed(t *testing.T) {
	path := sealed(t, realModel(t))
	r := open(t, path, 104<<20, Options{Mode: Resident})
	s := open(t, path, 12<<20, Options{Mode: Streamed})
	if digest(t, r, 2) != digest(t, s, 2) {
		t.Error("streamed tiles are not the resident ones")
	}
	if !bytes.Equal(r.Header(), s.Header()) || r.ModelID() != s.ModelID() {
		t.Error("header or id differ")
	}
	f, err := gguf.ParseHeader(s.Header())
	if err != nil {
		t.Fatal(err)
	}
	for _, tn := range f.Tensors {
		if len(tn.Dims) == 1 {
			if _, err := s.Vector(tn.Name); err != nil {
				t.Error(err)
			}
		} else if _, ok := s.Tensor(tn.Name); !ok {
			t.Errorf("no tensor %s", tn.Name)
		}
	}
	t.Logf("resident %d MiB, streamed %d MiB of the budget", used(r)>>20, used(s)>>20)
}

func used(w *Weights) int64 {
	n := int64(len(w.header.Bytes())) + int64(len(w.vectors.Bytes())) + int64(len(w.pinned.Bytes()))
	if w.ring != nil {
		n += int64(len(w.ring.region.Bytes()))
	}
	return n
}

const childEnv = "ANCHORHOLD_TEST_STREAM"

// TestStreamingKeepsPeakMemoryBelowTheBudget guards against plaintext or
// ciphertext piling up on the Go heap: a process that streams the real model
// twice peaks, from outside, under its budget and the size of a small Go process.
func TestStreamingKeepsPeakMemoryBelowTheBudget(t *testing.T) {
	if path := os.Getenv(childEnv); path != "" {
		debug.SetMemoryLimit(8 << 20)
		w := open(t, path, 8<<20, Options{Mode: Streamed})
		for range 2 {
			digest(t, w, 2)
		}
		fmt.Println(peakLine(t))
		return
	}
	longtest.WithoutRace(t, "its own memory is larger than the limit")
	path := sealed(t, realModel(t))
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var kib int
	for line := range strings.Lines(string(out)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			break
		}
	}
	t.Logf("peak %d KiB streaming a model of 94 MiB in a budget of 8 MiB", kib)
	if kib == 0 || kib > 24<<10 {
		t.Errorf("peak memory %d KiB, want at most 24 MiB", kib)
	}
}

func peakLine(t *testing.T) string {
	t.Helper()
	f, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if strings.HasPrefix(sc.Text(), "VmHWM:") {
			return sc.Text()
		}
	}
	t.Fatal("no VmHWM")
	return ""
}

// BenchmarkOpenResident opens the model from memory and from disk and, in each round, one chunk whose digest was
// checked before: the cipher alone. Rates are by the processor time of this process, kernel time
// included, so that other work makes them little worse. They are medians of the rounds: a round in
// which the hypervisor gives the guest memory that it did not have takes ten times as long.
func BenchmarkOpenResident(b *testing.B) {
	disk := sealed(b, realModel(b))
	for _, c := range []struct {
		path, where string
		workers     int
	}{{inMemory(b, disk), "memory", 1}, {inMemory(b, disk), "memory", 2}, {disk, "disk", 1}} {
		path, workers := c.path, c.workers
		b.Run(fmt.Sprintf("%s/workers=%d", c.where, workers), func(b *testing.B) {
			var load, cipher rate
			for b.Loop() {
				var w *Weights
				load.add(b, func() int64 {
					w = open(b, path, 2<<30, Options{Mode: Resident, Workers: workers})
					return w.Public().PlainBytes
				})
				cipher.addChunk(b, w, path)
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(load.perSecond(), "GB/cpu-s")
			b.ReportMetric(cipher.perSecond(), "GB/cpu-s-one-chunk")
			b.ReportMetric(load.perSecond()/cipher.perSecond(), "of-one-chunk")
		})
	}
}

// BenchmarkLoadParts tells what each part of opening a resident model with one worker takes, in seconds of the
// processor for 1 GB. Digests and decryption are differences: chunks opened once more have no digest
// computed. Medians of the rounds; ANCHORHOLD_MODEL=FILE opens another model.
func BenchmarkLoadParts(b *testing.B) {
	disk := sealed(b, realModel(b))
	for _, c := range [][2]string{{"memory", inMemory(b, disk)}, {"disk", disk}} {
		b.Run(c[0], func(b *testing.B) {
			var whole, memory, read, digests, decrypt rate
			for b.Loop() {
				loadParts(b, c[1], &whole, &memory, &read, &digests, &decrypt)
			}
			for name, r := range map[string]rate{"whole": whole, "memory": memory, "read": read, "digests": digests, "decrypt": decrypt} {
				b.ReportMetric(r.perSecond(), name+"-s/GB")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func loadParts(b *testing.B, path string, whole, memory, read, digests, decrypt *rate) {
	b.Helper()
	seconds := func(w *Weights, work func() error) float64 {
		begin := processorTime(b)
		if err := work(); err != nil {
			b.Fatal(err)
		}
		return (processorTime(b) - begin).Seconds() / float64(w.Public().PlainBytes) * 1e9
	}
	begin := processorTime(b)
	w := open(b, path, 4<<30, Options{Mode: Resident, Workers: 1})
	*whole = append(*whole, (processorTime(b)-begin).Seconds()/float64(w.Public().PlainBytes)*1e9)

	fill := func() error { return w.fill(arena.NewBudget(64<<20), 1) }
	again := seconds(w, fill)
	reading := seconds(w, func() error { return readJobs(w) })
	w.reader.Wipe()
	manifest, err := openSource(path, w.file.ended)
	if err != nil {
		b.Fatal(err)
	}
	w.reader, err = chunkseal.Open(manifest, w.file.size, testKey(b), chunkseal.OpenOptions{Publisher: chunksealtest.NewPublisher(1)})
	if err := errors.Join(err, manifest.close()); err != nil {
		b.Fatal(err)
	}
	*digests = append(*digests, seconds(w, fill)-again)
	*read = append(*read, reading)
	*decrypt = append(*decrypt, again-reading)
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	budget := arena.NewBudget(4 << 30)
	var r *arena.Region
	*memory = append(*memory, seconds(w, func() (err error) {
		r, err = budget.Map("weights", w.layout.pin(math.MaxInt64).bytes)
		return err
	}))
	if err := r.Release(); err != nil {
		b.Fatal(err)
	}
}

// readJobs reads what fill does, in the same requests, and opens nothing.
func readJobs(w *Weights) error {
	buf, err := arena.NewBudget(64<<20).Map("load buffers", window*int64(w.layout.largestSlot))
	if err != nil {
		return err
	}
	for jobs := range slices.Chunk(w.loadJobs(), window) {
		if _, err := w.readWindow(jobs, buf.Bytes()); err != nil {
			return err
		}
	}
	return buf.Release()
}

// rate is bytes by processor time, of each round.
type rate []float64

// perSecond is the median, in GB/s.
func (r rate) perSecond() float64 {
	slices.Sort(r)
	return r[len(r)/2]
}

func (r *rate) add(b *testing.B, work func() int64) {
	b.Helper()
	begin := processorTime(b)
	n := work()
	*r = append(*r, float64(n)/float64(processorTime(b)-begin))
}

// addChunk opens one chunk some hundred times.
func (r *rate) addChunk(b *testing.B, w *Weights, path string) {
	b.Helper()
	c := w.layout.tensors[0].first
	offset, size := w.reader.Slot(c)
	slot, dst := make([]byte, size), make([]byte, w.reader.ChunkSize(c))
	f, err := os.Open(path)
	if err == nil {
		_, err = f.ReadAt(slot, offset)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		b.Fatal(err)
	}
	r.add(b, func() int64 {
		const rounds = 200
		for range rounds {
			if _, err := w.reader.OpenSlot(dst, slot, c); err != nil {
				b.Fatal(err)
			}
		}
		return rounds * int64(len(dst))
	})
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

func BenchmarkStreamedPass(b *testing.B) {
	path := sealed(b, realModel(b))
	for _, where := range []string{"disk", "memory"} {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/workers=%d", where, workers), func(b *testing.B) {
				from := path
				if where == "memory" {
					from = inMemory(b, path)
				}
				w := open(b, from, 12<<20, Options{Mode: Streamed, Workers: workers})
				b.SetBytes(w.Public().PlainBytes)
				touch(b, w, workers) // the first use compares digests as well
				var pass rate
				for b.Loop() {
					pass.add(b, func() int64 { touch(b, w, workers); return w.Public().PlainBytes })
				}
				b.ReportMetric(pass.perSecond(), "GB/cpu-s")
			})
		}
	}
}

// BenchmarkOpenSlot is decryption alone: a later use of one chunk, one core.
func BenchmarkOpenSlot(b *testing.B) {
	w := open(b, sealed(b, realModel(b)), 12<<20, Options{Mode: Streamed, Workers: 1})
	c := w.layout.tensors[0].first
	offset, size := w.reader.Slot(c)
	src, dst := w.ring.slots[0].buf[:size], make([]byte, w.reader.ChunkSize(c))
	if err := w.file.read(src, offset); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(dst)))
	for b.Loop() {
		if _, err := w.reader.OpenSlot(dst, src, c); err != nil {
			b.Fatal(err)
		}
	}
}

// inMemory copies a file to a memory file system.
func inMemory(b *testing.B, path string) string {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "anchorhold-bench-")
	if err != nil {
		b.Skipf("no memory file system: %v", err)
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	})
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(dir+"/model", data, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	return dir + "/model"
}

// touch takes every chunk once.
func touch(b *testing.B, w *Weights, workers int) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	jobs := w.ring.order
	owner := map[int32][2]int{}
	for i, t := range w.layout.tensors {
		for c := range t.Chunks {
			owner[int32(t.first+c)] = [2]int{i, c}
		}
	}
	for worker := range workers {
		wg.Go(func() {
			for {
				at := int(next.Add(1)) - 1
				if at >= len(jobs) {
					return
				}
				o := owner[jobs[at]]
				if _, err := w.Chunk(worker, o[0], o[1]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
