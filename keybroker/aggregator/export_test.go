package aggregator

import (
	"io"

	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// ReceiveFrom is Receive of a body that comes from a source.
func (a *Aggregator) ReceiveFrom(source string, id federation.ID, digest federation.Digest, from uint64, body io.Reader) (UploadStatus, error) {
	return a.receiveFrom(id, digest, from, &patient{r: body, source: source, idle: a.cfg.Idle})
}

// BeginFrom is Begin of a manifest that comes from a source.
func (a *Aggregator) BeginFrom(source string, id federation.ID, raw []byte) (UploadStatus, error) {
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
