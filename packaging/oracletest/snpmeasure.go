package oracletest

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

//go:embed snp_measure.py
var snpMeasure string

// SNPMeasure is a running Python with virtee's sev-snp-measure. Its methods may be called by several
// goroutines.
type SNPMeasure struct{ process }

// StartSNPMeasure runs it until the test ends, which is skipped where `make peers` has not installed it.
func StartSNPMeasure(tb testing.TB) *SNPMeasure {
	tb.Helper()
	python := filepath.Join(os.Getenv("ANCHORHOLD_PEERS"), "measure/bin/python")
	if _, err := os.Stat(python); err != nil {
		tb.Skip("NOT COMPARED with sev-snp-measure: set ANCHORHOLD_PEERS to what `make peers` makes:", err)
	}
	return &SNPMeasure{start(tb, exec.Command(python, "-c", snpMeasure))}
}

// SNPMeasureRequest is a launch: Firmware, Kernel and Initrd are paths. Names asks for the names of processor
// models instead.
type SNPMeasureRequest struct {
	Firmware, Kernel, Initrd, Cmdline, VMM, Model string
	VCPUs                                         int
	Features                                      uint64
	Names                                         bool
}

// SNPMeasureAnswer is the digest in hexadecimal, the names of models, or an error.
type SNPMeasureAnswer struct {
	Digest, Err string
	Models      []string
}

// Ask is what sev-snp-measure says.
func (p *SNPMeasure) Ask(tb testing.TB, r SNPMeasureRequest) (a SNPMeasureAnswer) {
	tb.Helper()
	p.ask(tb, r, &a)
	return a
}
