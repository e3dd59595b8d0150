package openmodel

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
)

// TestThePagesOfTheProgramLeave: fewer pages of files are in memory afterwards, and the program goes on.
func TestThePagesOfTheProgramLeave(t *testing.T) {
	touchProgram(t) // an earlier test may have released them
	before := filePages(t)
	if err := releaseProgram(); err != nil {
		t.Fatal(err)
	}
	if after := filePages(t); after >= before*3/4 {
		t.Errorf("%d KiB of files were in memory, and %d are", before, after)
	}
}

// TestInstructionsAreReadInPieces: no mapping of the program's instructions is longer than what may be read at once, however
// often its pages left.
func TestInstructionsAreReadInPieces(t *testing.T) {
	for range 2 {
		if err := releaseProgram(); err != nil {
			t.Fatal(err)
		}
		program, err := os.Readlink("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		maps, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		pieces := 0
		for line := range strings.Lines(string(maps)) {
			var from, to int
			if n, _ := fmt.Sscanf(line, "%x-%x r-xp", &from, &to); n == 2 && strings.Contains(line, " r-xp ") && strings.HasSuffix(line, " "+program+"\n") {
				if pieces++; to-from > programPiece {
					t.Errorf("a mapping of %d bytes", to-from)
				}
			}
		}
		if pieces < 50 {
			t.Errorf("%d mappings of instructions", pieces)
		}
	}
}

// touchProgram has all of the program's instructions in memory.
func touchProgram(t *testing.T) {
	t.Helper()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x r-xp", &from, &to); n == 2 && strings.Contains(line, " r-xp ") && strings.HasSuffix(line, " "+program+"\n") {
			if err := advise(from, to, unix.MADV_POPULATE_READ); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// filePages is how much of files this process has mapped and present, in KiB.
func filePages(t *testing.T) (kib int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\nRssFile:")
	if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

// TestALargeVocabularyCountsAgainstTheLimit: what the reserve has no room for is left out of what the arena gets.
func TestALargeVocabularyCountsAgainstTheLimit(t *testing.T) {
	for tokens, want := range map[int]int64{49_152: 0, tokensInReserve: 0, tokensInReserve + 1: bytesPerToken, 262_144: 163_840 * bytesPerToken} {
		m := gguftest.New(1)
		m.Set("tokenizer.ggml.tokens", make([]string, tokens))
		file, err := m.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		header, err := gguf.Parse(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		if got := vocabularyBeyondReserve(header); got != want {
			t.Errorf("%d tokens take %d bytes beyond the reserve, want %d", tokens, got, want)
		}
	}
}
