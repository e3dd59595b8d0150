package eventlog

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
)

// moduleDir is where go-eventlog lies, with real logs of many systems.
func moduleDir(tb testing.TB) string {
	tb.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-eventlog").Output()
	if dir := strings.TrimSpace(string(out)); err == nil && dir != "" {
		return filepath.Join(dir, "testdata")
	}
	tb.Skip("go-eventlog is not in the module cache; `go mod download github.com/google/go-eventlog` gets it")
	return ""
}

func readFile(tb testing.TB, elem ...string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// realLog is a log of a real machine.
type realLog struct {
	name   string
	format Format
	data   []byte
}

// moduleLogs are the crypto-agile logs that go-eventlog carries.
func moduleLogs(tb testing.TB) (logs []realLog) {
	dir := moduleDir(tb)
	for format, folders := range map[Format][]string{TCG: {"eventlogs/tpm", "legacydata"}, CCEL: {"eventlogs/ccel"}} {
		for _, folder := range folders {
			entries, err := os.ReadDir(filepath.Join(dir, folder))
			if err != nil {
				tb.Fatal(err)
			}
			for _, e := range entries {
				data := readFile(tb, dir, folder, e.Name())
				if !strings.HasSuffix(e.Name(), ".json") && strings.Contains(string(data[:min(len(data), 64)]), specSignature[:15]) {
					logs = append(logs, realLog{folder + "/" + e.Name(), format, data})
				}
			}
		}
	}
	if len(logs) < 20 {
		tb.Fatalf("only %d logs", len(logs))
	}
	return logs
}

// sharedLogs are those of the shared directory.
func sharedLogs(tb testing.TB) []realLog {
	dir := evidencetest.Dir(tb)
	return []realLog{
		{"ccel-ovmf-trustee", CCEL, readFile(tb, dir, "eventlog", "ccel-ovmf-trustee.bin")},
		{"cos-101-amd-sev", TCG, readFile(tb, dir, "eventlog", "cos-101-amd-sev.bin")},
		{"gcp-cos113", CCEL, readFile(tb, dir, "tdx", "03-v4-gcp-cos113", "ccel.bin")},
	}
}

// replayed are the registers of the best bank of a log: what a quote would have said.
func replayed(tb testing.TB, l realLog) (Registers, Bank) {
	tb.Helper()
	for _, bank := range []Bank{SHA384, SHA256} {
		if values, err := Replay(l.data, l.format, bank); err == nil {
			return values, bank
		} else if reason, _ := refusal.ReasonOf(err); reason != ReasonBank {
			tb.Fatalf("%s: %v", l.name, err)
		}
	}
	tb.Fatalf("%s has no bank", l.name)
	return nil, ""
}

func wantReason(tb testing.TB, err error, reason refusal.Reason) {
	tb.Helper()
	if got, _ := refusal.ReasonOf(err); got != reason {
		tb.Errorf("got %v, want a refusal %q", err, reason)
	}
}

func show(c evidence.EventLogClaims) string {
	text, _ := json.Marshal(c) // only hex and strings
	return string(text)
}
