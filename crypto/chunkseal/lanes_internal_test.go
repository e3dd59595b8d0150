package chunkseal

import (
	"crypto/sha256"
	"math/rand/v2"
	"testing"
	"time"
)

// TestLanesHashAsTheStandardLibrary compares every length around the ends of blocks, and mixtures
// of lengths in which lanes end one after another.
func TestLanesHashAsTheStandardLibrary(t *testing.T) {
	if !hasLanes() {
		t.Skip("NO AVX-512: the assembly cannot run here")
	}
	if !lanesAgree() {
		t.Fatal("the lanes disagree with the standard library, so they would never be used")
	}
	rng := rand.New(rand.NewPCG(5, 6))
	text := make([]byte, 4096)
	for i := range text {
		text[i] = byte(rng.Uint32())
	}
	check := func(messages [][]byte) {
		t.Helper()
		digests := make([][32]byte, len(messages))
		sumLanes(digests, messages)
		for i, m := range messages {
			if digests[i] != sha256.Sum256(m) {
				t.Fatalf("message %d of %d, %d bytes: another digest than the standard library's", i, len(messages), len(m))
			}
		}
	}
	for n := range 300 {
		check([][]byte{text[:n], text[1:][:n], text[n:][:n]})
	}
	for range 300 {
		messages := make([][]byte, 1+rng.IntN(lanes))
		for i := range messages {
			from := rng.IntN(len(text))
			messages[i] = text[from:][:rng.IntN(len(text)-from+1)]
		}
		check(messages)
	}
}

func TestDigestsAreTheSameHoweverTheyAreComputed(t *testing.T) {
	text := make([]byte, 4000)
	for count := range lanes + 3 {
		messages := make([][]byte, count)
		for i := range messages {
			messages[i] = text[i : 2900+10*i]
		}
		digests := make([][32]byte, count)
		sum256(digests, messages)
		for i, m := range messages {
			if digests[i] != sha256.Sum256(m) {
				t.Errorf("%d messages: number %d has another digest", count, i)
			}
		}
	}
}

// BenchmarkDigests compares sixteen digests in the lanes with sixteen one after another; the fastest
// round of each counts, because other work makes the rest slower.
func BenchmarkDigests(b *testing.B) {
	messages, digests := make([][]byte, lanes), make([][32]byte, lanes)
	for i := range messages {
		messages[i] = make([]byte, 192<<10)
	}
	if !lanesAgree() {
		b.Skip("NO AVX-512: the assembly cannot run here")
	}
	best := [2]time.Duration{time.Hour, time.Hour}
	for b.Loop() {
		for i, sum := range []func(){
			func() { sumLanes(digests, messages) },
			func() {
				for i, m := range messages {
					digests[i] = sha256.Sum256(m)
				}
			},
		} {
			start := time.Now()
			sum()
			best[i] = min(best[i], time.Since(start))
		}
	}
	rate := func(d time.Duration) float64 { return float64(lanes*192<<10) / float64(d) }
	b.ReportMetric(rate(best[0]), "GB/s-lanes")
	b.ReportMetric(rate(best[1]), "GB/s-one")
	b.ReportMetric(0, "ns/op")
}
