package aggregator

import (
	"io"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// ReceiveFrom is Receive of a body that comes from a source.
func (a *Aggregator) ReceiveFrom(source string, id digest.RoundID, sum digest.Digest, from uint64, body io.Reader) (UploadStatus, error) {
	return a.receiveFrom(id, sum, from, &patient{r: body, source: source, idle: a.cfg.Idle})
}

// BeginFrom is Begin of a manifest that comes from a source.
func (a *Aggregator) BeginFrom(source string, id digest.RoundID, raw []byte) (UploadStatus, error) {
	return a.take(id, raw, peer{source: source})
}

// Sending is how many uploads send blocks now.
func (a *Aggregator) Sending() int {
	a.sending.mu.Lock()
	defer a.sending.mu.Unlock()
	return len(a.sending.held)
}

// FillProving takes every place for the verification of proofs; empty gives them back.
func (a *Aggregator) FillProving() (empty func()) {
	for range cap(a.proving) {
		a.proving <- struct{}{}
	}
	return func() {
		for range cap(a.proving) {
			<-a.proving
		}
	}
}

// SetFree has the disk have so much free.
func (a *Aggregator) SetFree(bytes int64) {
	a.disk.mu.Lock()
	defer a.disk.mu.Unlock()
	a.disk.free = func(string) (int64, error) { return bytes, nil }
}

// SpokenFor is how much of the disk is held for what is being written.
func (a *Aggregator) SpokenFor() int64 {
	a.disk.mu.Lock()
	defer a.disk.mu.Unlock()
	return a.disk.held
}

// LoseDisk asks for room on a disk that is not there.
func (a *Aggregator) LoseDisk() error {
	_, err := newFloor(a.cfg.StateDir+"/none", 0).claim(0)
	return err
}

// MayRestate decides whether what was signed under a lease counts now, from a connection
// that showed a guest.
func (a *Aggregator) MayRestate(by *protocol.Authority, shown *federation.Reader) error {
	return a.mayRestate(by, shown)
}
