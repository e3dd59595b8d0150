package localapi

import (
	"net/http"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi/problem"
)

// readRate is what a reader takes a second at least, beyond the time that each write has.
const readRate = 1 << 20

// recorder writes the response of one request, of every route. Each write has a deadline,
// which also holds for what the server sends after the handler: a client that does not read
// loses its connection. It remembers the status, and whether the response is a stream already.
type recorder struct {
	http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
	status  int
	stream  *stream
}

// newRecorder begins a response to a request that may take so long. The deadline of the
// connection's last response is over.
func newRecorder(w http.ResponseWriter, request, limit time.Duration) *recorder {
	r := &recorder{ResponseWriter: w, control: http.NewResponseController(w), limit: limit, status: http.StatusOK}
	_ = r.control.SetWriteDeadline(time.Now().Add(request + limit))
	return r
}

// WriteHeader notes the status.
func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.renew(0)
	r.ResponseWriter.WriteHeader(status)
}

// Write gives the client time to read, more for a long answer.
func (r *recorder) Write(p []byte) (int, error) {
	r.renew(len(p))
	return r.ResponseWriter.Write(p)
}

func (r *recorder) renew(n int) {
	_ = r.control.SetWriteDeadline(time.Now().Add(r.limit + time.Duration(n)*time.Second/readRate))
}

// Unwrap serves http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// fail ends the response with an error: an object, or an event in a stream.
func (r *recorder) fail(p *problem.Error) {
	if r.stream == nil || !r.stream.begun {
		problem.Write(r, p)
		return
	}
	r.status = p.Status // for the metrics; the client has seen 200
	_ = r.stream.send(p)
}
