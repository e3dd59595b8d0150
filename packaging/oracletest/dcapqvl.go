package oracletest

import (
	_ "embed"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed dcap_qvl.py
var dcapQVL string

// DCAPQVL is a running Python with Phala's verifier. Its methods may be called by several
// goroutines.
type DCAPQVL struct{ process }

// StartDCAPQVL runs it until the test ends, which is skipped where `make peers` has not installed
// it.
func StartDCAPQVL(tb testing.TB) *DCAPQVL {
	tb.Helper()
	python := filepath.Join(os.Getenv("ANCHORHOLD_PEERS"), "dcap/bin/python")
	if _, err := os.Stat(python); err != nil {
		tb.Skip("NOT COMPARED with dcap-qvl: set ANCHORHOLD_PEERS to what `make peers` makes:", err)
	}
	return &DCAPQVL{start(tb, exec.Command(python, "-c", dcapQVL))}
}

// DCAPQVLAnswer is the status of the whole and of its parts, as dcap-qvl names them, or its error.
type DCAPQVLAnswer struct {
	Err, Status, Platform, QE string
	Advisories                []string
	Nanoseconds               int64 // see Cost
}

// DCAPQVLRequest is a quote with its documents, judged at a time. Unless RootDER is nil, chains must
// end at that root instead of Intel's.
type DCAPQVLRequest struct {
	Quote, RootDER []byte
	Documents      TDXDocuments
	Unix           int64
	Repeat         int
}

// TDX is what dcap-qvl says.
func (p *DCAPQVL) TDX(tb testing.TB, r DCAPQVLRequest) (a DCAPQVLAnswer) {
	tb.Helper()
	for _, chain := range []*[]byte{&r.Documents.TCBInfoChain, &r.Documents.QEIdentityChain, &r.Documents.PCKCRLChain} {
		*chain = plain(tb, *chain)
	}
	p.ask(tb, r, &a)
	return a
}

// plain is a chain's PEM text, which a header has escaped.
func plain(tb testing.TB, chain []byte) []byte {
	tb.Helper()
	if strings.HasPrefix(string(chain), "-----BEGIN ") {
		return chain
	}
	text, err := url.QueryUnescape(string(chain))
	if err != nil {
		tb.Fatal(err)
	}
	return []byte(text)
}
