package aggregator

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

const scaleVariable = "ANCHORHOLD_SCALE_CHILD"

// sumFiles adds so many uploads of so many blocks. Few files stand for many clients:
// their names are links, and each is opened and read by itself.
func sumFiles(dir string, clients, blocks int) error {
	set, err := params.Lookup(params.Default)
	if err != nil {
		return err
	}
	a := &Aggregator{cfg: Config{Workers: 1}}
	r := &round{dir: dir, set: set, columns: federation.Columns{Count: uint64(blocks)}}
	var sources []*os.File
	for i := range clients {
		f, err := os.Open(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return err
		}
		defer f.Close()
		sources = append(sources, f)
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		return err
	}
	defer out.Close()
	return a.addColumns(context.Background(), r, sources, out, make([]digest.Digest, blocks), nil)
}

// TestScaleChild is the process that the next test and the benchmark measure.
func TestScaleChild(t *testing.T) {
	fields := strings.Split(os.Getenv(scaleVariable), "|")
	if len(fields) != 3 {
		t.Skip("runs only as a child of TestMemoryIsFlat and BenchmarkSum")
	}
	clients, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := strconv.Atoi(fields[2])
	if err != nil {
		t.Fatal(err)
	}
	if err := sumFiles(fields[0], clients, blocks); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.HasPrefix(s.Text(), "VmHWM:") {
			fmt.Println("peak", strings.Fields(s.Text())[1])
		}
	}
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	fmt.Println("cpu", time.Duration(use.Utime.Nano()+use.Stime.Nano()).Nanoseconds())
}

// measureSum runs the child and returns its peak memory in KiB and its CPU time.
func measureSum(t testing.TB, clients, blocks int) (peak int64, cpu time.Duration) {
	t.Helper()
	dir := t.TempDir()
	upload := make([]byte, rlwe.BlockBytes)
	for i := range 2 {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		upload[i] = 1
		for range blocks {
			if _, err := f.Write(upload); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := 2; i < clients; i++ {
		if err := os.Link(filepath.Join(dir, fmt.Sprint(i%2)), filepath.Join(dir, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestScaleChild$", "-test.v")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d|%d", scaleVariable, dir, clients, blocks))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if _, err := fmt.Sscanf(line, "peak %d", &peak); err == nil {
			continue
		}
		var ns int64
		if _, err := fmt.Sscanf(line, "cpu %d", &ns); err == nil {
			cpu = time.Duration(ns)
		}
	}
	if peak == 0 || cpu == 0 {
		t.Fatalf("no figures in\n%s", out)
	}
	return peak, cpu
}

// The memory of a sum does not grow with clients or length: whole vectors in memory
// are what made others' aggregators fail.
func TestMemoryIsFlat(t *testing.T) {
	small, _ := measureSum(t, 2, 1)
	for _, c := range []struct{ clients, blocks int }{{200, 1}, {2, 100}, {50, 20}} {
		if peak, _ := measureSum(t, c.clients, c.blocks); peak > small+8<<10 {
			t.Errorf("%d clients of %d blocks: %d KiB, 2 of 1: %d KiB", c.clients, c.blocks, peak, small)
		}
	}
}

// BenchmarkSum reports CPU time for each value of each client, and peak memory.
func BenchmarkSum(b *testing.B) {
	for _, c := range []struct{ clients, blocks int }{{10, 61}, {100, 61}, {1000, 61}, {10, 610}, {100, 610}, {1000, 610}} {
		b.Run(fmt.Sprintf("clients=%d/values=%d", c.clients, c.blocks*rlwe.BlockValues), func(b *testing.B) {
			for b.Loop() {
				peak, cpu := measureSum(b, c.clients, c.blocks)
				b.ReportMetric(float64(cpu.Nanoseconds())/float64(c.clients)/float64(c.blocks)/rlwe.BlockValues, "cpu-ns/value")
				b.ReportMetric(float64(peak)/1024, "peak-MiB")
			}
		})
	}
}
