package restart

import (
	"errors"
	"io/fs"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// The report: a label, the permit's chain, and the signed restarts that the broker has not been told of.
const (
	reportLabel    = "anchorhold/local-restart/1/report"
	maxReportBytes = 192 << 10
)

// report is what the next broker that answers is told. Nothing in it is secret, and whoever deletes it hides
// restarts from the broker until a later one shows by its number that some are missing.
type report struct {
	chain    []byte
	restarts [][]byte
}

func (r report) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(reportLabel)) })
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(r.chain) })
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, s := range r.restarts {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(s) })
		}
	})
	out, err := b.Bytes()
	if err == nil && len(out) > maxReportBytes {
		return nil, refusal.New(ReasonFile, "a report of %d bytes, the limit is %d", len(out), maxReportBytes)
	}
	return out, err
}

func parseReport(raw []byte) (r report, err error) {
	s := cryptobyte.String(raw)
	var label, chain, list cryptobyte.String
	bad := refusal.New(ReasonFile, "the report is truncated, has trailing bytes, is over a limit or of another version")
	if len(raw) > maxReportBytes || !s.ReadUint8LengthPrefixed(&label) || string(label) != reportLabel || !s.ReadUint24LengthPrefixed(&chain) || len(chain) == 0 ||
		!s.ReadUint24LengthPrefixed(&list) || !s.Empty() {
		return r, bad
	}
	r.chain = chain
	for !list.Empty() {
		var one cryptobyte.String
		if len(r.restarts) == protocol.MaxRestarts || !list.ReadUint16LengthPrefixed(&one) || len(one) == 0 {
			return report{}, bad
		}
		r.restarts = append(r.restarts, one)
	}
	if len(r.restarts) == 0 {
		return report{}, bad
	}
	return r, nil
}

// readReport returns nil if there is none.
func readReport(path string) (*report, error) {
	raw, err := readLimited(path, maxReportBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := parseReport(raw)
	return &r, err
}

// record adds a restart to the report, durably. Of more than a report can have, which only uncounted
// restarts reach, the oldest goes. A report of another permit, or one that is damaged, gives way.
func record(path string, chain, restart []byte) error {
	r, err := readReport(path)
	if err != nil || r == nil || string(r.chain) != string(chain) {
		r = &report{chain: chain}
	}
	r.restarts = append(r.restarts, restart)
	if over := len(r.restarts) - protocol.MaxRestarts; over > 0 {
		r.restarts = r.restarts[over:]
	}
	raw, err := r.marshal()
	if err != nil {
		return err
	}
	return disk.Write(path, raw)
}
