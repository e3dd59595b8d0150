package aggregator

import (
	"io"

	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// ReceiveFrom is Receive of a body that comes from a source.
func (a *Aggregator) ReceiveFrom(source string, id federation.ID, digest federation.Digest, from uint64, body io.Reader) (UploadStatus, error) {
	return a.receiveFrom(id, digest, from, &patient{r: body, source: source, idle: a.cfg.Idle})
}

// Sending is how many uploads send blocks now.
func (a *Aggregator) Sending() int {
	a.sending.mu.Lock()
	defer a.sending.mu.Unlock()
	return len(a.sending.held)
}
